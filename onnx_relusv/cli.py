"""The command line: options in, API calls, tables out; the only place that prints or exits."""

import shlex
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

import click
from rich.console import Console, RenderableType
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from onnx_relusv import pipeline
from onnx_relusv.errors import ReluSvError
from onnx_relusv.options import MeasureOptions, PlanOptions, ProviderName
from onnx_relusv.outputs import check_output, check_report_folder
from onnx_relusv.plan_file import plan_text
from onnx_relusv.progress import Advance
from onnx_relusv.records import Budgets
from onnx_relusv.report.data import comparison_data, inspection_data, write_json
from onnx_relusv.report.files import write_text
from onnx_relusv.report.folder import write_comparison
from onnx_relusv.report.table import comparison_table, compression_table, inspection_table

_INTERRUPTED = 130
PROGRAM = "onnx-relusv"

Command = Callable[..., Any]
_FILE = click.Path(path_type=Path)


class Commands(click.Group):
    """The group of commands; turns every error into its message and its exit code."""

    def main(self, *args: Any, standalone_mode: bool = True, **extra: Any) -> Any:
        """Runs a command; ends the process with the documented exit code.

        0 done; 2 usage; 3 an input cannot be read or does not fit; 4 the budget cannot be reached;
        5 the result failed validation; 130 interrupted; 1 anything else.
        """
        try:
            super().main(*args, standalone_mode=False, **extra)  # type: ignore[call-overload]
        except click.exceptions.Exit as leaving:
            sys.exit(leaving.exit_code)
        except click.ClickException as error:
            error.show()
            sys.exit(error.exit_code)
        except ReluSvError as error:
            _fail(str(error), error.exit_code)
        except (click.Abort, KeyboardInterrupt):
            _fail("interrupted; nothing was written.", _INTERRUPTED)
        except MemoryError:
            _fail("not enough memory; nothing was written.", 1)
        except Exception as error:  # a defect of ours: say so without a page of traceback
            kind = type(error).__name__
            _fail(f"unexpected {kind}: {error}. Nothing was written; please report it.", 1)
        sys.exit(0)


def _fail(message: str, exit_code: int) -> NoReturn:
    click.echo(f"error: {message}", err=True)
    sys.exit(exit_code)


def _together(*options: Callable[[Command], Command]) -> Callable[[Command], Command]:
    """Several options as one decorator, in the order in which --help shows them."""

    def decorate(command: Command) -> Command:
        for option in reversed(options):
            command = option(command)
        return command

    return decorate


_samples = click.option(
    "--samples",
    type=_FILE,
    help="Inputs to measure on: .npz with the input names as keys, .npy, or a folder of "
    "test_data_set_*.",
)
_provider = click.option(
    "--provider",
    type=click.Choice(["auto", "cuda", "cpu"]),
    default="auto",
    show_default=True,
    help="Where graphs run; auto takes CUDA where it works.",
)
_seed = click.option(
    "--seed",
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
    help="Makes a run repeatable.",
)
_force = click.option("--force", is_flag=True, help="Overwrite outputs that exist.")
_json = click.option("--json", "json_path", type=_FILE, help="Write all figures to this file.")
_report = click.option("--report", type=_FILE, help="Write report.json and report.html here.")
_planning = _together(
    click.option("--size", type=float, help="Share of the bytes to keep, external data included."),
    click.option("--macs", type=float, help="Share of the multiply-accumulates to keep."),
    click.option(
        "--tolerance",
        type=float,
        help="The common level: largest relative error of any block.  [default without a budget: "
        "0.05, without samples 0.1]",
    ),
    click.option(
        "--method",
        type=click.Choice(["auto", "double-layer", "harmonic"]),
        default="auto",
        show_default=True,
        help="double-layer prunes ranks; harmonic, the removal of units, is not there yet.",
    ),
    click.option(
        "--include", multiple=True, help="Change only blocks whose key matches this glob."
    ),
    click.option("--exclude", multiple=True, help="Keep blocks whose key matches this glob."),
)


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="onnx-relusv")
def cli() -> None:
    """Make a trained ONNX model smaller without training, and know what it costs.

    Exit codes: 0 done; 2 usage; 3 an input cannot be read or does not fit; 4 the budget cannot be
    reached; 5 the result failed validation; 130 interrupted; 1 anything else. Unless it is 0, no
    output is written and none is overwritten.
    """


@cli.command()
@click.argument("model", type=_FILE)
@_together(_samples, _json, _provider, _seed, _force)
def inspect(
    model: Path, samples: Path | None, json_path: Path | None, provider: str, seed: int, force: bool
) -> None:
    """Measure every block of MODEL: ReLU singular values, mean width, and what they would save."""
    if json_path is not None:
        check_output(json_path, force=force, inputs=_existing(model, samples))
    with _progress() as progress:
        found = pipeline.inspect(
            model,
            samples=samples,
            measuring=_measuring(provider, seed),
            command=_command_line(),
            progress=progress,
        )
    if json_path is not None:
        write_json(inspection_data(found), json_path)
    _show(inspection_table(found))


@cli.command()
@click.argument("model", type=_FILE)
@click.option("--output", type=_FILE, required=True, help="The plan, a JSON file.")
@_together(_planning, _samples, _provider, _seed, _force)
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
    with _progress() as progress:
        decided = pipeline.plan(
            model,
            samples=samples,
            planning=_planning_options(**planning),
            measuring=_measuring(provider, seed),
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
@click.argument("model", type=_FILE)
@click.argument("plan_path", metavar="PLAN", type=_FILE)
@click.option("--output", type=_FILE, required=True, help="The smaller model.")
@click.option(
    "--seed", type=click.IntRange(min=0), help="Makes a run repeatable.  [default: the plan's]"
)
@_together(_samples, _report, _provider, _force)
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
    with _progress() as progress:
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
@click.argument("model", type=_FILE)
@click.option("--output", type=_FILE, required=True, help="The smaller model.")
@_together(_planning, _samples, _report, _provider, _seed, _force)
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
    with _progress() as progress:
        done = pipeline.compress(
            model,
            output,
            samples=samples,
            planning=_planning_options(**planning),
            measuring=_measuring(provider, seed),
            report=report,
            force=force,
            command=_command_line(),
            progress=progress,
        )
    _show(compression_table(done))


@cli.command()
@click.argument("before", metavar="A", type=_FILE)
@click.argument("after", metavar="B", type=_FILE)
@click.option(
    "--samples",
    type=_FILE,
    required=True,
    help="Inputs to compare on; with `labels` for accuracy.",
)
@_together(_json, _report, _provider, _force)
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
    with _progress() as progress:
        found = pipeline.compare(
            before,
            after,
            samples,
            measuring=_measuring(provider, 0),
            command=_command_line(),
            progress=progress,
        )
    if report is not None:
        write_comparison(found, report)
    if json_path is not None:
        write_json(comparison_data(found), json_path)
    _show(comparison_table(found))


def _measuring(provider: Any, seed: int) -> MeasureOptions:
    return MeasureOptions(provider=provider, seed=seed)


def _planning_options(
    size: float | None,
    macs: float | None,
    tolerance: float | None,
    method: Any,
    include: tuple[str, ...],
    exclude: tuple[str, ...],
) -> PlanOptions:
    budgets = Budgets(size=size, macs=macs, tolerance=tolerance)
    return PlanOptions(budgets=budgets, method=method, include=include, exclude=exclude)


def _existing(*paths: Path | None) -> list[Path]:
    return [path for path in paths if path is not None]


def _command_line() -> str:
    return shlex.join([PROGRAM, *sys.argv[1:]])


def _show(lines: Iterable[RenderableType]) -> None:
    console = Console()
    for line in lines:
        console.print(line, markup=False, highlight=False)


class _Bars:
    """Progress bars on standard error, which rich leaves out where it is no terminal."""

    def __init__(self, bars: Progress) -> None:
        self._bars = bars

    @contextmanager
    def stage(self, name: str, total: int) -> Iterator[Advance]:
        task = self._bars.add_task(name, total=total)
        yield lambda steps: self._bars.advance(task, steps)


@contextmanager
def _progress() -> Iterator[_Bars]:
    console = Console(stderr=True)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    with Progress(
        *columns, console=console, transient=True, disable=not console.is_terminal
    ) as bars:
        yield _Bars(bars)
