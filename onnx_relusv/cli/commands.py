"""The commands: options in, API calls, tables out."""

from pathlib import Path
from typing import Any

import click

from onnx_relusv.checking.limits import ComparisonLimits, check_limits
from onnx_relusv.cli.group import Commands, progress_bars
from onnx_relusv.cli.options import (
    FILE,
    cache_option,
    drop_options,
    force_option,
    input_shape_option,
    json_option,
    max_samples_option,
    measuring,
    memory_option,
    metric_of,
    metric_option,
    planning_options,
    planning_options_group,
    provider_option,
    report_option,
    samples_option,
    seed_option,
    test_option,
    together,
)
from onnx_relusv.cli.sweep import sweep, trace
from onnx_relusv.cli.terminal import (
    check_config,
    check_places,
    command_line,
    damage_words,
    existing,
    json_file,
    show,
)
from onnx_relusv.commands.compare import compare as run_compare
from onnx_relusv.commands.compress import apply as run_apply
from onnx_relusv.commands.compress import compress as run_compress
from onnx_relusv.commands.compress import plan as run_plan
from onnx_relusv.commands.inspect import inspect as run_inspect
from onnx_relusv.core.options import ProviderName
from onnx_relusv.planning.plan_file import plan_text
from onnx_relusv.report.data import comparison_data, compression_data, inspection_data
from onnx_relusv.report.html import write_comparison, write_inspection
from onnx_relusv.report.tables import (
    comparison_table,
    compression_table,
    inspection_table,
    plan_table,
)
from onnx_relusv.work.publishing import write_text


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="onnx-relusv")
def cli() -> None:
    """Make a trained ONNX model smaller without training, and know what it costs.

    Exit codes: 0 done; 2 usage; 3 an input cannot be read or does not fit; 4 the budget cannot be
    reached; 5 the result failed validation; 6 a limit of compare is exceeded; 130 interrupted, 143
    terminated; 1 anything else. Unless it is 0 or 6, no output is written and none is overwritten.
    """


@cli.command()
@click.argument("model", type=FILE)
@together(
    samples_option,
    max_samples_option,
    input_shape_option,
    json_option,
    report_option,
    provider_option,
    seed_option,
    memory_option,
    cache_option,
    force_option,
)
def inspect(
    model: Path,
    samples: Path | None,
    max_samples: int | None,
    input_shape: tuple[str, ...],
    json_path: Path | None,
    report: Path | None,
    provider: str,
    seed: int,
    memory: int,
    cache: Path | None,
    force: bool,
) -> None:
    """Measure every block of MODEL: ReLU singular values, mean width, and what they would save."""
    check_places(
        {"--json": json_file(json_path)},
        report,
        models=[model],
        read=existing(samples),
        cache=cache,
        force=force,
    )
    with progress_bars() as progress:
        found = run_inspect(
            model,
            samples=samples,
            measuring=measuring(provider, seed, memory, cache, max_samples, input_shape),
            command=command_line(),
            progress=progress,
        )
    write_inspection(found, report, json_file(json_path), force=force)
    show(inspection_table(found), json_path, inspection_data(found))


@cli.command()
@click.argument("model", type=FILE)
@click.option("--output", type=FILE, required=True, help="The plan, a JSON file.")
@together(
    planning_options_group,
    drop_options(hidden=True),
    samples_option,
    max_samples_option,
    input_shape_option,
    provider_option,
    seed_option,
    memory_option,
    cache_option,
    force_option,
)
def plan(
    model: Path,
    output: Path,
    samples: Path | None,
    max_samples: int | None,
    input_shape: tuple[str, ...],
    provider: str,
    seed: int,
    memory: int,
    cache: Path | None,
    force: bool,
    **planning: Any,
) -> None:
    """Decide what becomes of every block of MODEL, and write it down to be read and edited."""
    options = planning_options(**planning)
    metric_file = None if options.metric is None else options.metric.path
    check_places(
        {"--output": output},
        None,
        models=[model],
        read=existing(samples, metric_file),
        cache=cache,
        force=force,
    )
    with progress_bars() as progress:
        decided = run_plan(
            model,
            samples=samples,
            planning=options,
            measuring=measuring(provider, seed, memory, cache, max_samples, input_shape),
            progress=progress,
        )
    write_text(plan_text(decided), output, force=force)
    changed = sum(choice.action != "keep" for choice in decided.choices)
    time = "" if decided.latency is None else f", about {decided.latency:.1%} of the time"
    show(
        [
            *plan_table(decided),
            f"{changed} of {len(decided.choices)} blocks change at a level of {decided.level:.4g}: "
            f"{decided.size:.1%} of the bytes, {decided.macs:.1%} of the MACs{time}.",
            *damage_words(decided),
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
@together(
    samples_option,
    max_samples_option,
    input_shape_option,
    test_option,
    json_option,
    report_option,
    provider_option,
    memory_option,
    cache_option,
    force_option,
)
def apply(
    model: Path,
    plan_path: Path,
    output: Path,
    seed: int | None,
    samples: Path | None,
    max_samples: int | None,
    input_shape: tuple[str, ...],
    test: Path | None,
    json_path: Path | None,
    report: Path | None,
    provider: ProviderName,
    memory: int,
    cache: Path | None,
    force: bool,
) -> None:
    """Carry PLAN out on MODEL, the one it was made for, and write the smaller model."""
    check_config(output, json_file(json_path), report=report)
    with progress_bars() as progress:
        done = run_apply(
            model,
            plan_path,
            output,
            samples=samples,
            test=test,
            provider=provider,
            seed=seed,
            max_samples=max_samples,
            memory=memory,
            cache=cache,
            report=report,
            json=json_file(json_path),
            force=force,
            command=command_line(),
            progress=progress,
        )
    show(compression_table(done), json_path, compression_data(done))


@cli.command()
@click.argument("model", type=FILE)
@click.option("--output", type=FILE, required=True, help="The smaller model.")
@together(
    planning_options_group,
    drop_options(),
    samples_option,
    max_samples_option,
    input_shape_option,
    test_option,
    json_option,
    report_option,
    provider_option,
    seed_option,
    memory_option,
    cache_option,
    force_option,
)
def compress(
    model: Path,
    output: Path,
    samples: Path | None,
    max_samples: int | None,
    input_shape: tuple[str, ...],
    test: Path | None,
    json_path: Path | None,
    report: Path | None,
    provider: str,
    seed: int,
    memory: int,
    cache: Path | None,
    force: bool,
    **planning: Any,
) -> None:
    """Make MODEL smaller: plan, rewrite, check, write.

    All budgets that are given hold together. With --size, --macs or --latency the least damage that
    keeps them is done, or without samples the smallest common level of double layers; --tolerance
    limits every block's. With --max-drop the smallest file within it is looked for, from --size
    down.
    """
    check_config(output, json_file(json_path), report=report)
    with progress_bars() as progress:
        done = run_compress(
            model,
            output,
            samples=samples,
            test=test,
            planning=planning_options(**planning),
            measuring=measuring(provider, seed, memory, cache, max_samples, input_shape),
            report=report,
            json=json_file(json_path),
            force=force,
            command=command_line(),
            progress=progress,
        )
    show(compression_table(done), json_path, compression_data(done))


@cli.command()
@click.argument("before", metavar="A", type=FILE)
@click.argument("after", metavar="B", type=FILE)
@click.option(
    "--samples",
    type=FILE,
    required=True,
    help="Inputs to compare on; with `labels` for accuracy.",
)
@click.option(
    "--fail-below-agreement",
    type=click.FloatRange(0, 1),
    metavar="SHARE",
    help="End with exit code 6 if less than this share of the answers is equal, from 0 to 1.",
)
@click.option(
    "--fail-above-change",
    type=click.FloatRange(min=0),
    metavar="X",
    help="End with exit code 6 if an output changes by more: of numbers the relative L2 error, of "
    "labels and text the share that differs. A NaN or a new infinity is more than any X.",
)
@click.option(
    "--fail-above-drop",
    type=click.FloatRange(min=0),
    metavar="POINTS",
    help="End with exit code 6 if more points of accuracy are lost; needs `labels`. With --metric "
    "in the metric's own units.",
)
@together(
    max_samples_option,
    input_shape_option,
    metric_option,
    json_option,
    report_option,
    provider_option,
    seed_option,
    force_option,
)
def compare(
    before: Path,
    after: Path,
    samples: Path,
    max_samples: int | None,
    input_shape: tuple[str, ...],
    metric: str | None,
    json_path: Path | None,
    report: Path | None,
    provider: str,
    seed: int,
    force: bool,
    fail_below_agreement: float | None,
    fail_above_change: float | None,
    fail_above_drop: float | None,
) -> None:
    """Put two models with the same inputs and outputs side by side on samples.

    The --fail options are for pipelines: what was found is printed and written all the same, and
    the exit code is 6.
    """
    limits = ComparisonLimits(
        agreement=fail_below_agreement, change=fail_above_change, drop=fail_above_drop
    )
    judge = metric_of(metric)
    metric_file = None if judge is None else judge.path
    check_places(
        {"--json": json_file(json_path)},
        report,
        models=[before, after],
        read=existing(samples, metric_file),
        force=force,
    )
    with progress_bars() as progress:
        found = run_compare(
            before,
            after,
            samples,
            measuring=measuring(provider, seed, max_samples=max_samples, input_shape=input_shape),
            metric=judge,
            limits=limits,
            command=command_line(),
            progress=progress,
        )
    write_comparison(found, report, json_file(json_path), force=force)
    show(comparison_table(found), json_path, comparison_data(found))
    check_limits(found, limits)


cli.add_command(trace)
cli.add_command(sweep)
