"""Progress on a terminal and in a log; time is a number that the tests move."""

import io

import pytest
from rich.console import Console
from rich.progress import Progress

from onnx_relusv.cli.bars import LONG, Bars, progress_bars


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr("onnx_relusv.cli.bars.time.monotonic", clock)
    return clock


def written(clock: Clock, seconds: float, *, terminal: bool) -> str:
    """What a stage that takes so long writes."""
    stream = io.StringIO()
    with (
        progress_bars(Console(file=stream, force_terminal=terminal)) as bars,
        bars.stage("Fit [of blocks]", 3) as advance,
    ):
        advance(3)
        clock.now += seconds
    return stream.getvalue()


def test_a_log_gets_a_line_for_every_long_stage(clock: Clock) -> None:
    assert written(clock, LONG, terminal=False) == "Fit [of blocks]: 10 s\n"
    assert written(clock, 213.4, terminal=False) == "Fit [of blocks]: 213 s\n"


def test_a_log_gets_nothing_for_a_short_stage(clock: Clock) -> None:
    assert written(clock, LONG - 0.1, terminal=False) == ""


def test_a_terminal_gets_bars_and_no_such_lines(clock: Clock) -> None:
    shown = written(clock, 213.4, terminal=True)
    assert "3/3" in shown
    assert "213 s" not in shown


def test_a_stage_that_fails_writes_no_time(clock: Clock) -> None:
    stream = io.StringIO()

    def fail() -> None:
        with progress_bars(Console(file=stream)) as bars, bars.stage("Fit", 3):
            clock.now += 100
            raise RuntimeError("on the way")

    with pytest.raises(RuntimeError, match="on the way"):
        fail()
    assert stream.getvalue() == ""


@pytest.mark.parametrize("known", [0, 90])
def test_what_is_known_does_not_shorten_the_time_left(known: int, clock: Clock) -> None:
    shown = Progress(console=Console(file=io.StringIO()), get_time=clock)
    with Bars(shown).stage("Fit", 100) as advance:
        advance(known)
        for _ in range(4):
            clock.now += 2.0
            advance(1)
        (task,) = shown.tasks
        assert task.completed == known + 4
        assert task.time_remaining == 2 * (100 - known - 4)


def test_a_stage_that_comes_again_takes_the_place_of_the_last() -> None:
    shown = Progress(disable=True)
    bars = Bars(shown)
    with bars.stage("Sweep", 3) as advance:
        for _ in range(3):
            with bars.stage("Fit", 10) as inner:
                inner(7)
            advance(1)
    assert [(task.description, task.completed) for task in shown.tasks] == [
        ("Sweep", 3),
        ("Fit", 7),
    ]
