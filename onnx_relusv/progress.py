"""How long work tells somebody that it goes on; silent unless told otherwise."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol

Advance = Callable[[int], None]


class Progress(Protocol):
    """Shows the stages of a run."""

    def stage(self, name: str, total: int) -> AbstractContextManager[Advance]:
        """Begins a stage of `total` steps; what it yields is told how many are done.

        What an earlier run has done already is told at once, before anything else.
        """
        ...


def unseen(steps: int) -> None:
    """An `Advance` that nobody sees."""


class Silent:
    """Shows nothing."""

    @contextmanager
    def stage(self, name: str, total: int) -> Iterator[Advance]:
        """A stage that nobody sees."""
        yield unseen
