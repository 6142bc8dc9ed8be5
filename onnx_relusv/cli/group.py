"""The group of commands; turns every error into its message and its exit code."""

import errno
import signal
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from onnx_relusv.cli.config import config_option
from onnx_relusv.cli.streams import Streams, standard_streams
from onnx_relusv.core.errors import BudgetError, ReluSvError, UsageError
from onnx_relusv.report import words
from onnx_relusv.work.files import written_files
from onnx_relusv.work.interrupts import Terminated, termination_raised

_UNEXPECTED = 1
# Added to a signal's number, as shells do.
_SIGNALLED = 128
# There is no room: on the disk, by a quota, or by a limit on the length of files.
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def _warn(message: Warning | str, *_: object, **__: object) -> None:
    """Says a warning of Python's without a path and a line of source."""
    click.echo(f"warning: {words.printable(' '.join(str(message).split()))}", err=True)


class Commands(click.Group):
    """A click group that ends the process with the documented exit codes.

    Every command that is added gets the option --config.
    """

    def add_command(self, cmd: click.Command, name: str | None = None) -> None:
        """Adds a command, with --config."""
        cmd.params.append(config_option())
        super().add_command(cmd, name)

    def main(self, *args: Any, standalone_mode: bool = True, **extra: Any) -> Any:
        """Runs a command; ends the process with the documented exit code.

        0 done; 2 usage; 3 an input cannot be read or does not fit; 4 the budget cannot be reached;
        5 the result failed validation; 6 a limit of compare is exceeded; 130 interrupted, 143
        terminated; 1 anything else.

        SIGTERM and SIGHUP are heard as SIGINT is. What cannot be printed does not undo what was
        written: then the exit code is 0 and a note on standard error says so. Where nothing was
        written, a standard output that is full is an output that cannot be written (2), and one
        whose reader is gone is none.
        """
        with standard_streams() as streams, written_files() as written:
            with termination_raised():
                exit_code = self._ended(written, *args, **extra)
            exit_code = _after_printing(streams, exit_code, written)
        sys.exit(exit_code)

    def _ended(self, written: Sequence[Path], *args: Any, **extra: Any) -> int:
        """Runs a command, says what went wrong, and returns the exit code."""
        try:
            with warnings.catch_warnings():
                warnings.showwarning = _warn
                super().main(*args, standalone_mode=False, **extra)  # type: ignore[call-overload]
        except click.exceptions.Exit as leaving:
            return leaving.exit_code
        except click.ClickException as error:
            error.show()
            return error.exit_code
        except ReluSvError as error:
            if isinstance(error, BudgetError):
                _show_coverage(error)
            return _failed(str(error), error.exit_code)
        except (click.Abort, KeyboardInterrupt) as error:
            cause = error.__cause__ if isinstance(error, click.Abort) else error
            number = cause.number if isinstance(cause, Terminated) else signal.SIGINT
            return _failed(f"interrupted; {_outcome(written)}.", _SIGNALLED + number)
        except MemoryError:
            return _failed(f"not enough memory; {_outcome(written)}.", _UNEXPECTED)
        except Exception as error:  # a defect of ours: say so without a page of traceback
            if isinstance(error, OSError) and error.errno in _NO_ROOM:
                where = "" if error.filename is None else f" for {error.filename}"
                return _failed(
                    f"there is no room{where} ({error.strerror}); {_outcome(written)}. Make room, "
                    "or let TMPDIR name another folder.",
                    UsageError.exit_code,
                )
            kind, outcome = type(error).__name__, _outcome(written)
            return _failed(
                f"unexpected {kind}: {error}. {outcome[0].upper()}{outcome[1:]}; please report it.",
                _UNEXPECTED,
            )
        return 0


def _show_coverage(error: BudgetError) -> None:
    """Where the bytes are that keep a budget from being reached, above the message."""
    # Loaded by then, and by no command that only shows its help.
    from rich.console import Console

    from onnx_relusv.report.terminal import coverage_parts

    console = Console(stderr=True)
    for part in coverage_parts(error):
        console.print(part, markup=False, highlight=False)


def _outcome(written: Sequence[Path]) -> str:
    """What a run has written, whatever happened then."""
    if not written:
        return "nothing was written"
    return f"{_named(written)} had been written before, checked and whole"


def _named(written: Sequence[Path]) -> str:
    return " and ".join(words.printable(str(path)) for path in written)


def _after_printing(streams: Streams, exit_code: int, written: Sequence[Path]) -> int:
    """Says what could not be printed; the exit code that is true then."""
    streams.flush()
    failure = streams.failure
    if failure is None:
        return exit_code
    closed = isinstance(failure, BrokenPipeError)
    what = "was closed by its reader" if closed else f"cannot be written ({failure.strerror})"
    if exit_code == 0 and not written and not closed:
        return _failed(f"standard output {what}; nothing was written.", UsageError.exit_code)
    verb = "is" if len(written) == 1 else "are"
    kept = f" {_named(written)} {verb} written." if written else ""
    click.echo(f"note: standard output {what}; not everything was printed.{kept}", err=True)
    return exit_code


def _failed(message: str, exit_code: int) -> int:
    # Names that are quoted may hold anything; a message's own lines stay.
    shown = "\n".join(map(words.printable, message.split("\n")))
    click.echo(f"error: {shown}", err=True)
    return exit_code
