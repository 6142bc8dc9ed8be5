"""The command `onnx-relusv`, also as `python -m onnx_relusv`."""

import signal
import sys

from onnx_relusv.work.interrupts import Terminated, termination_raised, uninterrupted


def main() -> None:
    """Runs the command line; signals are heard while its libraries are loaded, too.

    They wait until that is done: what a library makes of an interrupt on its way is anything.
    """
    with termination_raised():
        try:
            with uninterrupted():
                from onnx_relusv.cli.commands import cli
                from onnx_relusv.cli.streams import PROGRAM
        except KeyboardInterrupt as error:
            number = error.number if isinstance(error, Terminated) else signal.SIGINT
            print("error: interrupted; nothing was written.", file=sys.stderr)
            sys.exit(128 + number)
        cli(prog_name=PROGRAM)


if __name__ == "__main__":
    main()
