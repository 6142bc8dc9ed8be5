"""Signals that end a run, raised as exceptions, and pieces of work that they have to wait for."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

# A terminal's Ctrl-C; the signal of `timeout`, containers and schedulers; and a closed terminal.
_ENDING = [
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)
]


class Terminated(KeyboardInterrupt):
    """A signal other than SIGINT asked the program to end.

    It is an interrupt, so that code that lets interrupts pass lets it pass too.

    Args:
        number: The signal's.
    """

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


@contextmanager
def termination_raised() -> Iterator[None]:
    """Raises `Terminated` in the main thread on signals that would end the process at once.

    Those that are ignored, as SIGHUP is under nohup, stay so, and handlers of others stay.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    ours = [number for number in _ENDING if signal.getsignal(number) == signal.SIG_DFL]
    for number in ours:
        signal.signal(number, _raise)
    try:
        yield
    finally:
        for number in ours:
            if signal.getsignal(number) is _raise:
                signal.signal(number, signal.SIG_DFL)


def _raise(number: int, frame: FrameType | None) -> None:
    raise Terminated(number)


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Delays signals that would end the program until the end of the block.

    For short pieces of work that must not be done by halves. Only the main thread receives signals,
    so nothing has to be done in others.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    heard: list[int] = []

    def wait(number: int, frame: FrameType | None) -> None:
        heard.append(number)

    before = {
        number: handler
        for number in _ENDING
        # None: a handler that is not Python's, which cannot be put back.
        if (handler := signal.getsignal(number)) not in (None, signal.SIG_IGN)
    }
    try:
        for number in before:
            signal.signal(number, wait)
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        if heard:
            signal.raise_signal(heard[0])
