"""Latency of models, measured in turn so that a busy machine slows all of them alike."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
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


_INTERLEAVED, _BRIEF = _Pace(3, 10, 2000, 2.0), _Pace(1, 3, 200, 0.5)
# Many short runs, of which the fastest counts: on a busy machine, most of them are disturbed. They
# come in turns of several.
_FASTEST, _TURN = _Pace(1, 5, 200, 0.0), 5


def interleaved_latency(
    before: Session, after: Session, feeds: dict[str, np.ndarray], *, brief: bool = False
) -> tuple[float, float]:
    """Median seconds of one run of each of two models on the same feeds.

    The runs go A B B A A B ..., after a warm-up, for about two seconds: each model is as often
    behind itself as behind the other one. `brief` is for models that have both run before: half a
    second, or three runs each where they take longer, after one more run for these feeds.
    """
    runs = [partial(_seconds, partial(each.run, feeds)) for each in (before, after)]
    rounds = _rounds(runs, _BRIEF if brief else _INTERLEAVED, alternating=True)
    first, second = zip(*rounds, strict=True)
    return median(first), median(second)


def undisturbed_latencies(
    sessions: Sequence[Session], feeds: dict[str, np.ndarray], seconds: float = 0.5
) -> tuple[float, ...]:
    """Seconds of the fastest run of each of several models on the same feeds.

    The models take turns, each with several runs, since threads of one that ran a moment ago still
    wait busily: for some seconds a model, and five turns at least, after a warm-up. On a GPU,
    inputs and outputs stay there.
    """
    runs = [_turn_of(_run_of(session, feeds)) for session in sessions]
    pace = replace(_FASTEST, seconds=seconds * len(sessions))
    return tuple(map(min, zip(*_rounds(runs, pace), strict=True)))


def _turn_of(run: Callable[[], object]) -> Callable[[], float]:
    """Several runs, of which the fastest counts."""

    def turn() -> float:
        return min(_seconds(run) for _ in range(_TURN))

    return turn


def _rounds(
    runs: Sequence[Callable[[], float]], pace: _Pace, *, alternating: bool = False
) -> list[list[float]]:
    """Seconds that all runs say, round by round; alternating, every second one goes backwards."""
    for run in runs:
        for _ in range(pace.warm_up):
            run()
    rounds: list[list[float]] = []
    end = perf_counter() + pace.seconds
    while len(rounds) < pace.fewest or (perf_counter() < end and len(rounds) < pace.most):
        step = -1 if alternating and len(rounds) % 2 else 1
        rounds.append([run() for run in runs[::step]][::step])
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
