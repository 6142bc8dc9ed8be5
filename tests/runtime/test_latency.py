"""Interleaved latency with a clock that the sessions themselves move."""

import numpy as np
import pytest
from onnx_graphs import node, runnable

from onnx_relusv.runtime import latency
from onnx_relusv.runtime.latency import interleaved_latency, undisturbed_latencies
from onnx_relusv.runtime.session import CPU, Session

FEEDS = {"x": np.zeros(2, np.float32)}


class Clock:
    """Time that passes only when a session runs."""

    def __init__(self) -> None:
        self.now = 0.0
        self.ran: list[str] = []

    def __call__(self) -> float:
        return self.now


class Timed(Session):
    """A real session whose runs take the seconds that they are told to."""

    def __init__(self, name: str, clock: Clock, seconds: list[float]) -> None:
        super().__init__(runnable([node("Relu", ["x"], "y")], {"x": (2,)}, ["y"]), CPU)
        self._name, self._clock, self._left = name, clock, seconds

    def run(self, feeds: object, outputs: object = None) -> dict[str, np.ndarray]:
        answer = super().run(feeds, outputs)  # type: ignore[arg-type]
        self._clock.ran.append(self._name)
        self._clock.now += self._left.pop(0) if len(self._left) > 1 else self._left[0]
        return answer


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(latency, "perf_counter", made)
    return made


def test_the_models_run_in_turn_after_a_warm_up(clock: Clock) -> None:
    before, after = Timed("A", clock, [0.25]), Timed("B", clock, [0.5])
    assert interleaved_latency(before, after, FEEDS) == (0.25, 0.5)
    # Slow models: the least number of runs, though two seconds are long over.
    assert clock.ran == [*"AAABBB", *("ABBA" * 5)]


def test_the_median_ignores_what_interrupts_a_run(clock: Clock) -> None:
    warm_up = [9.0, 9.0, 9.0]
    before = Timed("A", clock, [*warm_up, 50.0, 0.25, 0.25, 50.0, 0.25])
    after = Timed("B", clock, [*warm_up, 0.125, 0.125, 50.0, 0.125])
    assert interleaved_latency(before, after, FEEDS) == (0.25, 0.125)


def test_fast_models_run_for_two_seconds(clock: Clock) -> None:
    before, after = Timed("A", clock, [0.015625]), Timed("B", clock, [0.015625])
    assert interleaved_latency(before, after, FEEDS) == (0.015625, 0.015625)
    # Powers of two add up without rounding: 64 pairs of 2/64 of a second.
    assert clock.ran[6:] == [*("ABBA" * 32)]


def test_very_fast_models_stop_at_the_most_runs(clock: Clock) -> None:
    interleaved_latency(Timed("A", clock, [2**-20]), Timed("B", clock, [2**-20]), FEEDS)
    assert clock.ran[6:] == [*("ABBA" * 1000)]


def test_several_models_run_in_turn_and_disturbances_do_not_count(clock: Clock) -> None:
    first = [9.0, 9.0, 9.0, 0.0625, 8.0, 0.03125, 8.0, 0.25]
    sessions = [Timed("A", clock, first), Timed("B", clock, [0.5]), Timed("C", clock, [0.0])]
    found = undisturbed_latencies(sessions, FEEDS)
    # Five rounds after the warm-up, though the time is long over, with five runs a turn.
    assert clock.ran == [*("AAAAABBBBBCCCCC" * 6)]
    assert found == (0.03125, 0.5, 0.0)


def test_fast_models_run_for_a_while(clock: Clock) -> None:
    undisturbed_latencies([Timed("A", clock, [2**-6])], FEEDS)
    # 32 times 2^-6 are half a second, and turns are not cut off.
    assert len(clock.ran) == 5 + 35
    undisturbed_latencies([Timed("B", clock, [2**-20])], FEEDS)
    assert clock.ran.count("B") == 5 + 5 * 200
