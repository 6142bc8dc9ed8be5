"""What commands share besides options: the command line for the record, checks, and the screen.

The standard streams of a run, which may be closed, full, or gone while it works.
"""

import os
import shlex
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO, cast

from rich.console import Console, RenderableType

from onnx_relusv.cli.config import config_files
from onnx_relusv.core.codec import json_text
from onnx_relusv.core.errors import UsageError
from onnx_relusv.core.plans import Plan
from onnx_relusv.graph.model import data_files
from onnx_relusv.report.words import printable
from onnx_relusv.work.files import REPORT_FILES, check_outputs, same_place
from onnx_relusv.work.publishing import leftover_places
from onnx_relusv.work.temporary_files import remove_leftovers

_STANDARD = (0, 1, 2)


class Stream:
    """A standard stream that remembers why it could not be written, and swallows the rest.

    What a run prints is no reason to lose what it has found.

    Args:
        stream: The stream itself.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self.failure: OSError | None = None

    def write(self, text: str) -> int:
        """Writes text, if that is still possible."""
        if self.failure is None:
            try:
                self._write(text)
            except OSError as error:
                self._fail(error)
        return len(text)

    def _write(self, text: str) -> None:
        try:
            self._stream.write(text)
        except UnicodeEncodeError as error:  # a name of any kind in a stream of few characters
            spelled = text.encode(error.encoding, "backslashreplace")
            self._stream.write(spelled.decode(error.encoding))

    def flush(self) -> None:
        """Flushes what was written, if that is still possible."""
        if self.failure is None:
            try:
                self._stream.flush()
            except OSError as error:
                self._fail(error)

    def __getattr__(self, name: str) -> Any:
        """Everything else is the stream's own."""
        return getattr(self._stream, name)

    def _fail(self, error: OSError) -> None:
        self.failure = error
        # What is left in its buffer is written once more when the program ends.
        with suppress(OSError, ValueError):
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self._stream.fileno())
            os.close(nowhere)


@dataclass(frozen=True)
class Streams:
    """Standard output and standard error; None where they were closed from the start."""

    out: Stream | None
    err: Stream | None

    @property
    def failure(self) -> OSError | None:
        """Why something of the results could not be printed; None where everything was."""
        return None if self.out is None else self.out.failure

    def flush(self) -> None:
        """Prints what is still held back."""
        for stream in (self.out, self.err):
            if stream is not None:
                stream.flush()


@contextmanager
def standard_streams() -> Iterator[Streams]:
    """Guards the standard streams within the block.

    Those that are closed are opened to nowhere: otherwise the next file that is opened gets their
    number, and what libraries print is written into it.
    """
    for number in _STANDARD:
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
    before = sys.stdout, sys.stderr
    streams = Streams(*(None if stream is None else Stream(stream) for stream in before))
    if streams.out is not None:
        sys.stdout = cast(TextIO, streams.out)
    if streams.err is not None:
        sys.stderr = cast(TextIO, streams.err)
    try:
        yield streams
    finally:
        streams.flush()
        sys.stdout, sys.stderr = before


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
