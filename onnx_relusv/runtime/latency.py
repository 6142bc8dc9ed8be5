"""Latency of two models, measured in turn so that a machine's mood hits both alike."""

from statistics import median
from time import perf_counter

import numpy as np

from onnx_relusv.runtime.session import Session

_WARM_UP_RUNS = 3
_LEAST_RUNS = 10
_SECONDS = 2.0
_MOST_RUNS = 200


def interleaved_latency(
    before: Session, after: Session, feeds: dict[str, np.ndarray]
) -> tuple[float, float]:
    """Median seconds of one run of each model on the same feeds.

    The runs alternate A B A B, after a warm-up, for about two seconds.
    """
    sessions = (before, after)
    for session in sessions:
        for _ in range(_WARM_UP_RUNS):
            session.run(feeds)
    seconds: tuple[list[float], list[float]] = ([], [])
    end = perf_counter() + _SECONDS
    while len(seconds[0]) < _LEAST_RUNS or (perf_counter() < end and len(seconds[0]) < _MOST_RUNS):
        for session, measured in zip(sessions, seconds, strict=True):
            start = perf_counter()
            session.run(feeds)
            measured.append(perf_counter() - start)
    return median(seconds[0]), median(seconds[1])
