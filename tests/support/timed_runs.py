"""Times that tests decide, in place of clocks; the sessions really run what they are fed."""

from collections.abc import Sequence

import numpy as np
import pytest

from onnx_relusv.planning.latency import blocks as block_latency
from onnx_relusv.planning.latency import models as model_latency
from onnx_relusv.runtime.session import Session

Feeds = dict[str, np.ndarray]


class TimedRuns:
    """A machine on which a block takes a second, and its forms what they are told to.

    Attributes:
        shares: Of the original's time, what smaller models take, one after the other; the last one
            from then on.
        layers: Seconds of a block's forms, the timed ranks of each increasing.
        raced: How many pairs of models ran.
    """

    def __init__(self, shares: Sequence[float], layers: tuple[float, float] = (0.1, 0.8)) -> None:
        self.shares = list(shares)
        self.layers = layers
        self.raced = 0

    def whole(self, sessions: Sequence[Session], feeds: Feeds) -> tuple[float, ...]:
        for session in sessions:
            session.run(feeds)
        return (4.0,) * len(sessions)

    def blocks(self, sessions: Sequence[Session], feeds: Feeds) -> tuple[float, ...]:
        for session in sessions:
            session.run(feeds)
        return (1.0, *np.linspace(*self.layers, max(len(sessions) - 1, 1))[: len(sessions) - 1])

    def race(self, before: Session, after: Session, feeds: Feeds) -> tuple[float, float]:
        for session in (before, after):
            session.run(feeds)
        self.raced += 1
        return 2.0, 2.0 * (self.shares.pop(0) if len(self.shares) > 1 else self.shares[0])


def timed_runs(
    monkeypatch: pytest.MonkeyPatch,
    shares: Sequence[float],
    layers: tuple[float, float] = (0.1, 0.8),
) -> TimedRuns:
    """Puts such a machine in the place of the real one."""
    made = TimedRuns(shares, layers)
    monkeypatch.setattr(model_latency, "undisturbed_latencies", made.whole)
    monkeypatch.setattr(model_latency, "interleaved_latency", made.race)
    monkeypatch.setattr(block_latency, "undisturbed_latencies", made.blocks)
    return made
