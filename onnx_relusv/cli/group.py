"""The group of commands; turns every error into its message and its exit code."""

import sys
from typing import Any, NoReturn

import click

from onnx_relusv.cli.config import config_option
from onnx_relusv.errors import ReluSvError

_INTERRUPTED = 130


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
        5 the result failed validation; 6 a limit of a comparison is exceeded; 130 interrupted;
        1 anything else.
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
