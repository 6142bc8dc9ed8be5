"""What commands share besides options: the command line for the record, checks, and the screen."""

import shlex
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from rich.console import Console, RenderableType

from onnx_relusv.cli.config import config_files
from onnx_relusv.decisions import Plan
from onnx_relusv.errors import UsageError
from onnx_relusv.graph.model import data_files
from onnx_relusv.json_text import json_text
from onnx_relusv.outputs import REPORT_FILES, check_outputs, same_place
from onnx_relusv.publishing import leftover_places
from onnx_relusv.report.formatting import printable
from onnx_relusv.temporary_files import remove_leftovers

PROGRAM = "onnx-relusv"
# In place of a file's name: standard output.
STANDARD_OUTPUT = Path("-")


def command_line() -> str:
    """The command line of this run, quoted for a shell."""
    return shlex.join([PROGRAM, *sys.argv[1:]])


def existing(*paths: Path | None) -> list[Path]:
    """The paths that were given."""
    return [path for path in paths if path is not None]


def check_places(
    files: Mapping[str, Path | None],
    report: Path | None,
    *,
    models: Iterable[Path],
    read: Iterable[Path],
    cache: Path | None = None,
    force: bool,
) -> None:
    """Checks before any work that all outputs can be written and harm nothing.

    Args:
        files: By option, files that are written; None where there is none.
        report: The folder of a report.
        models: Models that are read; their external data is never overwritten either.
        read: What else is read, but for --config, which is known here.
        cache: The folder of the cache.
        force: Whether regular files that are there may be replaced.

    Raises:
        UsageError: With what to do.
    """
    models = list(models)
    data = [file for model in models for file in data_files(model)]
    inputs = [*models, *data, *read, *config_files()]
    check_outputs(files, report, force=force, inputs=inputs, cache=cache)
    # What a run that was killed left there is in the way.
    remove_leftovers(*leftover_places(*files.values(), report))


def check_config(*written: Path | None, report: Path | None) -> None:
    """Checks that no output is the file of --config; all else is checked by what is called.

    Raises:
        UsageError: One is.
    """
    names = () if report is None else REPORT_FILES
    within = [report / name for name in names if report is not None]
    for path in (*existing(*written), *within):
        if any(same_place(path, config) for config in config_files()):
            raise UsageError(f"{path}: the output is the --config too; choose another name.")


def damage_words(plan: Plan) -> list[str]:
    """What a plan's damages are, in a sentence; none where they were not measured."""
    if plan.damage_measure is None:
        return []
    return [f"Damage measured as {printable(plan.damage_measure)}."]


def json_file(json_path: Path | None) -> Path | None:
    """The file of --json; None where there is none, or it is standard output."""
    return None if json_path == STANDARD_OUTPUT else json_path


def show(lines: Iterable[RenderableType], json_path: Path | None = None, data: Any = None) -> None:
    """Prints tables and sentences; with `--json -` to standard error, and the data alone to output.

    Args:
        lines: What to print.
        json_path: That of --json.
        data: JSON-ready, printed where that is standard output.
    """
    alone = json_path == STANDARD_OUTPUT
    if alone:
        print(json_text(data))
    console = Console(stderr=alone)
    for line in lines:
        console.print(line, markup=False, highlight=False)
