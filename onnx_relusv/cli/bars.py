"""Progress on standard error: bars on a terminal, and in a log a line for every long stage."""

import time
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

# Seconds. Of shorter stages a log says nothing.
LONG = 10.0
# Seconds that the time left is estimated from; steps of large blocks take minutes.
_ESTIMATED_FROM = 600.0


class Bars:
    """The stages of a run as rich's progress bars."""

    def __init__(self, bars: Progress) -> None:
        self._bars = bars
        self._tasks: dict[str, TaskID] = {}

    @contextmanager
    def stage(self, name: str, total: int) -> Iterator[Advance]:
        """A bar of its own for every stage; a line at its end where nobody sees bars.

        One that comes again takes the place of the last. The steps that are told first, those of
        an earlier run, do not count for the time left: rich takes a pace from what follows its
        first step.
        """
        if name in self._tasks:
            self._bars.remove_task(self._tasks[name])
        task = self._tasks[name] = self._bars.add_task(name, total=total)
        begun = time.monotonic()
        yield lambda steps: self._bars.advance(task, steps)
        taken = time.monotonic() - begun
        if self._bars.disable and taken >= LONG:
            self._bars.console.print(f"{name}: {taken:.0f} s", markup=False, highlight=False)


@contextmanager
def progress_bars(console: Console | None = None) -> Iterator[Bars]:
    """Shows bars, with the time left, while the block runs; afterwards they are gone.

    Args:
        console: Standard error if None. Where it is no terminal it gets a line for every stage
            that took `LONG` seconds or more.
    """
    console = console or Console(stderr=True)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    with Progress(
        *columns,
        console=console,
        transient=True,
        disable=not console.is_terminal,
        speed_estimate_period=_ESTIMATED_FROM,
    ) as bars:
        yield Bars(bars)
