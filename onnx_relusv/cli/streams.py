"""The standard streams of a run, which may be closed, full, or gone while it works."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, TextIO, cast

PROGRAM = "onnx-relusv"
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
