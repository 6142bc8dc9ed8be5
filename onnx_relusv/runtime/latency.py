"""Latency of models, measured in turn so that a busy machine slows all of them alike."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from statistics import median
from time import perf_counter

import numpy as np

from onnx_relusv.runtime.session import CUDA, Session, on_device


@dataclass(frozen=True)
class _Pace:
    """Runs to warm up, the fewest and the most rounds, and seconds for those between."""

    warm_up: int
    fewest: int
    most: int
    seconds: float


_INTERLEAVED, _BRIEF = _Pace(3, 10, 200, 2.0), _Pace(1, 3, 200, 0.5)
# Many short runs, of which the fastest counts: on a busy machine, most of them are disturbed.
_FASTEST = _Pace(3, 15, 100, 0.5)


def interleaved_latency(
    before: Session, after: Session, feeds: dict[str, np.ndarray], *, brief: bool = False
) -> tuple[float, float]:
    """Median seconds of one run of each of two models on the same feeds.

    The runs go A B B A A B ..., after a warm-up, for about two seconds: each model is as often
    behind itself as behind the other one. `brief` is for models that have both run before: half a
    second, or three runs each where they take longer, after one more run for these feeds.
    """
    runs = (partial(before.run, feeds), partial(after.run, feeds))
    rounds = _rounds(runs, _BRIEF if brief else _INTERLEAVED, alternating=True)
    first, second = zip(*rounds, strict=True)
    return median(first), median(second)


def undisturbed_latencies(
    sessions: Sequence[Session], feeds: dict[str, np.ndarray]
) -> tuple[float, ...]:
    """Seconds of the fastest run of each of several models on the same feeds.

    The models run in turn after a warm-up, for about half a second altogether and fifteen times
    each at least. On a GPU, inputs and outputs stay there.
    """
    rounds = _rounds([_run_of(session, feeds) for session in sessions], _FASTEST)
    return tuple(map(min, zip(*rounds, strict=True)))


def _rounds(
    runs: Sequence[Callable[[], object]], pace: _Pace, *, alternating: bool = False
) -> list[list[float]]:
    """Seconds of all runs, round by round; alternating, every second round goes backwards."""
    for run in runs:
        for _ in range(pace.warm_up):
            run()
    rounds: list[list[float]] = []
    end = perf_counter() + pace.seconds
    while len(rounds) < pace.fewest or (perf_counter() < end and len(rounds) < pace.most):
        step = -1 if alternating and len(rounds) % 2 else 1
        rounds.append([_seconds(run) for run in runs[::step]][::step])
    return rounds


def _run_of(session: Session, feeds: dict[str, np.ndarray]) -> Callable[[], object]:
    if session.provider != CUDA:
        return partial(session.run, feeds)
    held = {name: on_device(values, session.provider) for name, values in feeds.items()}
    return partial(session.run_on_device, held, session.output_names)


def _seconds(run: Callable[[], object]) -> float:
    start = perf_counter()
    run()
    return perf_counter() - start
