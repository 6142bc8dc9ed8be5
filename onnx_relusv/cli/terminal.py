"""What commands share besides options: the command line for the record, and the screen."""

import shlex
import sys
from collections.abc import Iterable
from pathlib import Path

from rich.console import Console, RenderableType

PROGRAM = "onnx-relusv"


def command_line() -> str:
    """The command line of this run, quoted for a shell."""
    return shlex.join([PROGRAM, *sys.argv[1:]])


def existing(*paths: Path | None) -> list[Path]:
    """The paths that were given."""
    return [path for path in paths if path is not None]


def show(lines: Iterable[RenderableType]) -> None:
    """Prints tables and sentences."""
    console = Console()
    for line in lines:
        console.print(line, markup=False, highlight=False)
