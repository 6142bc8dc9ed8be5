"""Progress on standard error: bars on a terminal, and lines in a log."""

import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from onnx_relusv.cli.time_left import TimeLeft, words
from onnx_relusv.work.executors import Advance

# Seconds. The end of a shorter stage is not worth a line.
LONG = 10.0
# Seconds between the lines that say how far a stage is.
EVERY = 30.0
# Seconds for which what is said of the time left stays, so that it can be read.
_STAYS = 10.0
# Seconds that the time left of a stage is estimated from; steps of large blocks take minutes.
_ESTIMATED_FROM = 600.0


@dataclass
class _Stage:
    """A stage under way, in a log."""

    name: str
    total: int
    begun: float
    done: int = 0


class Bars:
    """The stages of a run as rich's progress bars, or where these are disabled as lines.

    Args:
        bars: Rich's.
        left: Estimates how long the whole run still takes; None for no estimate.
        every_stage: Whether the end of every stage is worth a line.
    """

    def __init__(
        self, bars: Progress, left: TimeLeft | None = None, *, every_stage: bool = False
    ) -> None:
        self._bars = bars
        self._left = left or TimeLeft({})
        self._every_stage = every_stage
        self._said = ("", 0.0)
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
        self._left.begin(name, total, own.begun)
        self._print(f"{name} ...{self._also_left()}")

        def advance(steps: int) -> None:
            own.done += steps
            self._left.advance(name, steps, time.monotonic())
            self._bars.advance(task, steps)

        try:
            yield advance
        finally:
            self._stages.remove(own)
            self._ended = time.monotonic()
            self._left.end(name)
        taken = self._ended - own.begun
        if self._every_stage:
            line = f"{name}: {taken:.1f} s"
            self._bars.console.print(line, markup=False, highlight=False, soft_wrap=True)
        elif taken >= LONG:
            self._print(f"{name}: {taken:.0f} s")

    def time_left(self) -> str:
        """How long the run still takes, roughly; what is said stays for a while."""
        now, (said, at) = time.monotonic(), self._said
        if not said or now - at >= _STAYS:
            said = words(self._left.left(now))
            self._said = (said, now)
        return said

    def _also_left(self) -> str:
        left = self.time_left()
        return f" ({left})" if left else ""

    def is_last(self, task: TaskID) -> bool:
        """Whether a bar is that of the last stage that began."""
        return task == max(self._tasks.values(), default=task)

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
        taken = f"{now - own.begun:.0f} s"
        self._print(f"{own.name}: {share} done after {taken}{self._also_left()}")

    def _print(self, line: str) -> None:
        if self._bars.disable:
            self._bars.console.print(line, markup=False, highlight=False, soft_wrap=True)


class _Left(ProgressColumn):
    """The time left of the run, beside the bar of its last stage; else that of the stage."""

    def __init__(self) -> None:
        super().__init__()
        self.bars: Bars | None = None
        self._of_stage = TimeRemainingColumn()

    def render(self, task: Task) -> Text:
        """What is said beside a bar."""
        said = "" if self.bars is None else self.bars.time_left()
        if not said:
            return self._of_stage.render(task)
        return Text(said if self.bars is not None and self.bars.is_last(task.id) else "")


@contextmanager
def progress_bars(
    console: Console | None = None,
    every: float = EVERY,
    *,
    stages: Mapping[str, float] | None = None,
    every_stage: bool = False,
) -> Iterator[Bars]:
    """Shows bars, with the time left, while the block runs; afterwards they are gone.

    Args:
        console: Standard error if None. Where it is no terminal it gets a line at the start of
            every stage, one whenever `every` seconds are over, with the share that is done, and one
            at the end of every stage that took `LONG` seconds or more.
        every: Seconds between two lines.
        stages: The stages that are expected, with their shares of the time, from which that left
            is estimated; None for no estimate.
        every_stage: Whether the end of every stage is worth a line.
    """
    console = console or Console(stderr=True)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        left := _Left(),
    )
    with Progress(
        *columns,
        console=console,
        transient=True,
        disable=not console.is_terminal,
        speed_estimate_period=_ESTIMATED_FROM,
    ) as bars:
        shown = Bars(bars, TimeLeft(stages or {}), every_stage=every_stage)
        left.bars = shown
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
