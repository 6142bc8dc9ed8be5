"""Latency of models, measured in turn so that a busy machine slows all of them alike."""

from collections.abc import Callable, Sequence
from functools import partial
from statistics import median
from time import perf_counter

import numpy as np

from onnx_relusv.runtime.session import CPU, Session, on_device

_MOST_RUNS = 200
# Of interleaved runs, and of brief ones: of the warm-up, at least how many, for how many seconds.
_WARM_UP_RUNS, _LEAST_RUNS, _SECONDS = 3, 10, 2.0
_BRIEF = (1, 3, 0.5)
# Many short runs, of which the fastest counts: on a busy machine, most of them are disturbed.
_LEAST_ROUNDS, _MOST_ROUNDS, _ROUND_SECONDS = 15, 100, 0.5


def interleaved_latency(
    before: Session, after: Session, feeds: dict[str, np.ndarray], *, brief: bool = False
) -> tuple[float, float]:
    """Median seconds of one run of each model on the same feeds.

    The runs go A B B A A B ..., after a warm-up, for about two seconds: each model is as often
    behind itself as behind the other one.

    Args:
        before: A model.
        after: Another one.
        feeds: Of both.
        brief: Whether half a second is enough, of three runs each where they take longer; both
            have run before, and one more run of each warms them up for these feeds.
    """
    warm_up, least, seconds = _BRIEF if brief else (_WARM_UP_RUNS, _LEAST_RUNS, _SECONDS)
    runs = (partial(before.run, feeds), partial(after.run, feeds))
    for run in runs:
        for _ in range(warm_up):
            run()
    taken: tuple[list[float], list[float]] = ([], [])
    end = perf_counter() + seconds
    while len(taken[0]) < least or (perf_counter() < end and len(taken[0]) < _MOST_RUNS):
        first = len(taken[0]) % 2
        for place in (first, 1 - first):
            taken[place].append(_seconds(runs[place]))
    return median(taken[0]), median(taken[1])


def undisturbed_latencies(
    sessions: Sequence[Session], feeds: dict[str, np.ndarray]
) -> tuple[float, ...]:
    """Seconds of the fastest run of each of several models on the same feeds.

    The models run in turn after a warm-up, for about half a second altogether and fifteen times
    each at least. On a GPU, inputs and outputs stay there.
    """
    runs = [_run_of(session, feeds) for session in sessions]
    for run in runs:
        for _ in range(_WARM_UP_RUNS):
            run()
    rounds: list[list[float]] = []
    end = perf_counter() + _ROUND_SECONDS
    while len(rounds) < _LEAST_ROUNDS or (perf_counter() < end and len(rounds) < _MOST_ROUNDS):
        rounds.append([_seconds(run) for run in runs])
    return tuple(map(min, zip(*rounds, strict=True)))


def _run_of(session: Session, feeds: dict[str, np.ndarray]) -> Callable[[], object]:
    if session.provider == CPU:
        return partial(session.run, feeds)
    held = {name: on_device(values, session.provider) for name, values in feeds.items()}
    return partial(session.run_on_device, held, session.output_names)


def _seconds(run: Callable[[], object]) -> float:
    start = perf_counter()
    run()
    return perf_counter() - start
