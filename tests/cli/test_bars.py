"""Progress on a terminal and in a log; time is a number that the tests move."""

import io
import threading

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
    begun = "Fit [of blocks] ...\n"
    assert written(clock, LONG, terminal=False) == begun + "Fit [of blocks]: 10 s\n"
    assert written(clock, 213.4, terminal=False) == begun + "Fit [of blocks]: 213 s\n"


def test_a_log_gets_no_line_for_the_end_of_a_short_stage(clock: Clock) -> None:
    assert written(clock, LONG - 0.1, terminal=False) == "Fit [of blocks] ...\n"


def test_a_log_is_told_the_share_that_is_done(clock: Clock) -> None:
    stream = io.StringIO()
    with progress_bars(Console(file=stream)) as bars:
        with bars.stage("Sweep", 2), bars.stage("Fit", 8) as advance:
            clock.now += 31
            bars.tell()
            advance(3)
            clock.now += 30
            bars.tell()
        for seconds in (0, LONG - 1, 31):
            clock.now += seconds
            bars.tell()
    lines = stream.getvalue().splitlines()
    assert lines[:4] == [
        "Sweep ...",
        "Fit ...",
        "Fit: 0% done after 31 s",
        "Fit: 38% done after 61 s",
    ]
    # Soon after the end of a stage there is nothing to say.
    assert lines[4:] == ["Fit: 61 s", "Sweep: 61 s", "still at work, 40 s after the last stage"]


def test_a_log_gets_lines_inside_of_one_long_step() -> None:
    """Nothing advances: it is a thread that writes."""

    class Lines(io.StringIO):
        def write(self, text: str) -> int:
            if "done after" in text:
                come.set()
            return super().write(text)

    come, stream = threading.Event(), Lines()
    with progress_bars(Console(file=stream), every=0.01) as bars, bars.stage("Spectra", 4):
        assert come.wait(10)
    assert "Spectra: 0% done after 0 s" in stream.getvalue().splitlines()
    settled = stream.getvalue()
    # It ends with the run.
    assert not any(one.name == "progress" for one in threading.enumerate())
    assert stream.getvalue() == settled


def test_a_terminal_has_no_thread_of_lines() -> None:
    with progress_bars(Console(file=io.StringIO(), force_terminal=True), every=0.01):
        assert not any(one.name == "progress" for one in threading.enumerate())


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
    assert stream.getvalue() == "Fit ...\n"


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


def test_the_time_left_is_said_in_a_log_and_beside_the_last_bar(clock: Clock) -> None:
    stages, stream = {"Fit": 1.0, "Check": 1.0}, io.StringIO()
    with progress_bars(Console(file=stream), stages=stages) as bars:
        with bars.stage("Fit", 2) as advance:
            clock.now += 60
            advance(1)
            clock.now += 10
            bars.tell()
            clock.now += 50
            advance(1)
        with bars.stage("Check", 1):
            clock.now += 5
            # What is said stays for a while.
            assert bars.time_left() == "about 2 min left"
    assert stream.getvalue().splitlines() == [
        "Fit ...",
        "Fit: 50% done after 70 s (about 4 min left)",
        "Fit: 120 s",
        "Check ... (about 2 min left)",
    ]
    shown = io.StringIO()
    with (
        progress_bars(Console(file=shown, force_terminal=True, width=100), stages=stages) as bars,
        bars.stage("Fit", 2) as advance,
    ):
        clock.now += 60
        advance(1)
    # The stage is over, and the other one is left.
    assert "about a minute left" in shown.getvalue()


def test_every_stage_may_have_its_time(clock: Clock) -> None:
    stream = io.StringIO()
    with progress_bars(Console(file=stream), every_stage=True) as bars, bars.stage("Fit", 2):
        clock.now += 1.25
    assert stream.getvalue() == "Fit ...\nFit: 1.2 s\n"
