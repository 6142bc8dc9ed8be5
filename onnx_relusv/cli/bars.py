"""Progress bars on standard error, which stays silent where it is no terminal."""

from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)

from onnx_relusv.progress import Advance


class Bars:
    """The stages of a run as rich's progress bars."""

    def __init__(self, bars: Progress) -> None:
        self._bars = bars
        self._tasks: dict[str, TaskID] = {}

    @contextmanager
    def stage(self, name: str, total: int) -> Iterator[Advance]:
        """A bar of its own for every stage; one that comes again takes the place of the last."""
        if name in self._tasks:
            self._bars.remove_task(self._tasks[name])
        task = self._tasks[name] = self._bars.add_task(name, total=total)
        yield lambda steps: self._bars.advance(task, steps)


@contextmanager
def progress_bars() -> Iterator[Bars]:
    """Shows bars, with the time left, while the block runs; afterwards they are gone."""
    console = Console(stderr=True)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    with Progress(
        *columns, console=console, transient=True, disable=not console.is_terminal
    ) as bars:
        yield Bars(bars)
