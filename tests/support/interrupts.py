"""Processes that are to be interrupted by the tests."""

import signal


def hear_sigint() -> None:
    """Lets a new process hear SIGINT even if whoever started the tests ignores it, as shells do."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
