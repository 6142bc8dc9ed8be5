"""The five commands: options in, API calls, tables out."""

import shlex
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import click
from rich.console import Console, RenderableType

from onnx_relusv import pipeline
from onnx_relusv.cli.bars import progress_bars
from onnx_relusv.cli.group import Commands
from onnx_relusv.cli.options import (
    FILE,
    force_option,
    json_option,
    measuring,
    planning_options,
    planning_options_group,
    provider_option,
    report_option,
    samples_option,
    seed_option,
    together,
)
from onnx_relusv.options import ProviderName
from onnx_relusv.outputs import check_output, check_report_folder
from onnx_relusv.plan_file import plan_text
from onnx_relusv.report.data import comparison_data, inspection_data, write_json
from onnx_relusv.report.files import write_text
from onnx_relusv.report.folder import write_comparison, write_inspection
from onnx_relusv.report.table import comparison_table, compression_table, inspection_table

PROGRAM = "onnx-relusv"


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="onnx-relusv")
def cli() -> None:
    """Make a trained ONNX model smaller without training, and know what it costs.

    Exit codes: 0 done; 2 usage; 3 an input cannot be read or does not fit; 4 the budget cannot be
    reached; 5 the result failed validation; 130 interrupted; 1 anything else. Unless it is 0, no
    output is written and none is overwritten.
    """


@cli.command()
@click.argument("model", type=FILE)
@together(samples_option, json_option, report_option, provider_option, seed_option, force_option)
def inspect(
    model: Path,
    samples: Path | None,
    json_path: Path | None,
    report: Path | None,
    provider: str,
    seed: int,
    force: bool,
) -> None:
    """Measure every block of MODEL: ReLU singular values, mean width, and what they would save."""
    if json_path is not None:
        check_output(json_path, force=force, inputs=_existing(model, samples))
    if report is not None:
        check_report_folder(report, force=force)
    with progress_bars() as progress:
        found = pipeline.inspect(
            model,
            samples=samples,
            measuring=measuring(provider, seed),
            command=_command_line(),
            progress=progress,
        )
    if report is not None:
        write_inspection(found, report)
    if json_path is not None:
        write_json(inspection_data(found), json_path)
    _show(inspection_table(found))


@cli.command()
@click.argument("model", type=FILE)
@click.option("--output", type=FILE, required=True, help="The plan, a JSON file.")
@together(planning_options_group, samples_option, provider_option, seed_option, force_option)
def plan(
    model: Path,
    output: Path,
    samples: Path | None,
    provider: str,
    seed: int,
    force: bool,
    **planning: Any,
) -> None:
    """Decide what becomes of every block of MODEL, and write it down to be read and edited."""
    check_output(output, force=force, inputs=_existing(model, samples))
    with progress_bars() as progress:
        decided = pipeline.plan(
            model,
            samples=samples,
            planning=planning_options(**planning),
            measuring=measuring(provider, seed),
            progress=progress,
        )
    write_text(plan_text(decided), output)
    changed = sum(choice.action != "keep" for choice in decided.choices)
    _show(
        [
            f"{changed} of {len(decided.choices)} blocks change at a level of {decided.level:.4g}: "
            f"{decided.size:.1%} of the bytes, {decided.macs:.1%} of the MACs.",
            f"The plan is in {output}.",
        ]
    )


@cli.command()
@click.argument("model", type=FILE)
@click.argument("plan_path", metavar="PLAN", type=FILE)
@click.option("--output", type=FILE, required=True, help="The smaller model.")
@click.option(
    "--seed", type=click.IntRange(min=0), help="Makes a run repeatable.  [default: the plan's]"
)
@together(samples_option, report_option, provider_option, force_option)
def apply(
    model: Path,
    plan_path: Path,
    output: Path,
    seed: int | None,
    samples: Path | None,
    report: Path | None,
    provider: ProviderName,
    force: bool,
) -> None:
    """Carry PLAN out on MODEL, the one it was made for, and write the smaller model."""
    with progress_bars() as progress:
        done = pipeline.apply(
            model,
            plan_path,
            output,
            samples=samples,
            provider=provider,
            seed=seed,
            report=report,
            force=force,
            command=_command_line(),
            progress=progress,
        )
    _show(compression_table(done))


@cli.command()
@click.argument("model", type=FILE)
@click.option("--output", type=FILE, required=True, help="The smaller model.")
@together(
    planning_options_group,
    samples_option,
    report_option,
    provider_option,
    seed_option,
    force_option,
)
def compress(
    model: Path,
    output: Path,
    samples: Path | None,
    report: Path | None,
    provider: str,
    seed: int,
    force: bool,
    **planning: Any,
) -> None:
    """Make MODEL smaller: plan, rewrite, check, write.

    All budgets that are given hold together. With --size or --macs the smallest common level that
    keeps them is taken; --tolerance limits it.
    """
    with progress_bars() as progress:
        done = pipeline.compress(
            model,
            output,
            samples=samples,
            planning=planning_options(**planning),
            measuring=measuring(provider, seed),
            report=report,
            force=force,
            command=_command_line(),
            progress=progress,
        )
    _show(compression_table(done))


@cli.command()
@click.argument("before", metavar="A", type=FILE)
@click.argument("after", metavar="B", type=FILE)
@click.option(
    "--samples",
    type=FILE,
    required=True,
    help="Inputs to compare on; with `labels` for accuracy.",
)
@together(json_option, report_option, provider_option, force_option)
def compare(
    before: Path,
    after: Path,
    samples: Path,
    json_path: Path | None,
    report: Path | None,
    provider: str,
    force: bool,
) -> None:
    """Put two models with the same inputs and outputs side by side on samples."""
    if json_path is not None:
        check_output(json_path, force=force, inputs=_existing(before, after, samples))
    if report is not None:
        check_report_folder(report, force=force)
    with progress_bars() as progress:
        found = pipeline.compare(
            before,
            after,
            samples,
            measuring=measuring(provider, 0),
            command=_command_line(),
            progress=progress,
        )
    if report is not None:
        write_comparison(found, report)
    if json_path is not None:
        write_json(comparison_data(found), json_path)
    _show(comparison_table(found))


def _existing(*paths: Path | None) -> list[Path]:
    return [path for path in paths if path is not None]


def _command_line() -> str:
    return shlex.join([PROGRAM, *sys.argv[1:]])


def _show(lines: Iterable[RenderableType]) -> None:
    console = Console()
    for line in lines:
        console.print(line, markup=False, highlight=False)
