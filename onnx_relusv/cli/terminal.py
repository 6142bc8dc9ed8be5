"""What commands share besides options: the command line for the record, checks, and the screen."""

import shlex
import sys
from collections.abc import Iterable
from pathlib import Path

from rich.console import Console, RenderableType

from onnx_relusv.decisions import Plan
from onnx_relusv.outputs import check_output, check_report_folder
from onnx_relusv.report.formatting import printable

PROGRAM = "onnx-relusv"


def command_line() -> str:
    """The command line of this run, quoted for a shell."""
    return shlex.join([PROGRAM, *sys.argv[1:]])


def existing(*paths: Path | None) -> list[Path]:
    """The paths that were given."""
    return [path for path in paths if path is not None]


def check_figures(
    json_path: Path | None, report: Path | None, *, force: bool, inputs: Iterable[Path]
) -> None:
    """Checks before any work that --json and --report can be written.

    Raises:
        UsageError: One of them exists and is not to be overwritten, is an input, or cannot be
            written.
    """
    if json_path is not None:
        check_output(json_path, force=force, inputs=list(inputs))
    if report is not None:
        check_report_folder(report, force=force)


def damage_words(plan: Plan) -> list[str]:
    """What a plan's damages are, in a sentence; none where they were not measured."""
    if plan.damage_measure is None:
        return []
    return [f"Damage measured as {printable(plan.damage_measure)}."]


def show(lines: Iterable[RenderableType]) -> None:
    """Prints tables and sentences."""
    console = Console()
    for line in lines:
        console.print(line, markup=False, highlight=False)
