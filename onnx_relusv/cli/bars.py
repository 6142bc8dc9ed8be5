"""Progress on standard error: bars on a terminal, and lines in a log."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)

from onnx_relusv.work.executors import Advance

# Seconds. The end of a shorter stage is not worth a line.
LONG = 10.0
# Seconds between the lines that say how far a stage is.
EVERY = 30.0
# Seconds that the time left is estimated from; steps of large blocks take minutes.
_ESTIMATED_FROM = 600.0


@dataclass
class _Stage:
    """A stage under way, in a log."""

    name: str
    total: int
    begun: float
    done: int = 0


class Bars:
    """The stages of a run as rich's progress bars, or where these are disabled as lines."""

    def __init__(self, bars: Progress) -> None:
        self._bars = bars
        self._tasks: dict[str, TaskID] = {}
        self._stages: list[_Stage] = []
        self._ended = time.monotonic()

    @contextmanager
    def stage(self, name: str, total: int) -> Iterator[Advance]:
        """A bar of its own for every stage; lines at its start and end in a log.

        One that comes again takes the place of the last. The steps that are told first, those of
        an earlier run, do not count for the time left: rich takes a pace from what follows its
        first step.
        """
        if name in self._tasks:
            self._bars.remove_task(self._tasks[name])
        task = self._tasks[name] = self._bars.add_task(name, total=total)
        own = _Stage(name, total, time.monotonic())
        self._stages.append(own)
        self._print(f"{name} ...")

        def advance(steps: int) -> None:
            own.done += steps
            self._bars.advance(task, steps)

        try:
            yield advance
        finally:
            self._stages.remove(own)
            self._ended = time.monotonic()
        taken = self._ended - own.begun
        if taken >= LONG:
            self._print(f"{name}: {taken:.0f} s")

    def tell(self) -> None:
        """Writes a line about how far the innermost stage is; only where there are no bars."""
        now = time.monotonic()
        if not self._stages:
            # Between two stages there is always a moment; only a long one is worth a line.
            if now - self._ended >= LONG:
                self._print(f"still at work, {now - self._ended:.0f} s after the last stage")
            return
        own = self._stages[-1]
        share = f"{min(own.done / own.total, 1.0):.0%}" if own.total else "0%"
        self._print(f"{own.name}: {share} done after {now - own.begun:.0f} s")

    def _print(self, line: str) -> None:
        if self._bars.disable:
            self._bars.console.print(line, markup=False, highlight=False, soft_wrap=True)


@contextmanager
def progress_bars(console: Console | None = None, every: float = EVERY) -> Iterator[Bars]:
    """Shows bars, with the time left, while the block runs; afterwards they are gone.

    Args:
        console: Standard error if None. Where it is no terminal it gets a line at the start of
            every stage, one whenever `every` seconds are over, with the share that is done, and one
            at the end of every stage that took `LONG` seconds or more.
        every: Seconds between two lines.
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
        shown = Bars(bars)
        with _told(shown, every if bars.disable else None):
            yield shown


@contextmanager
def _told(shown: Bars, every: float | None) -> Iterator[None]:
    """Lets a thread write lines, since a single step may take minutes."""
    if every is None:
        yield
        return
    ended = threading.Event()

    def tell() -> None:
        while not ended.wait(every):
            shown.tell()

    # A daemon does not keep an interrupted program from ending.
    thread = threading.Thread(target=tell, name="progress", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join(timeout=1.0)
