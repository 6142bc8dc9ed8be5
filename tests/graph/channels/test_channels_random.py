"""Random graphs and units: a cut equals the original with consumers' entries zeroed."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
from channel_graphs import ROUNDING, Followed, distance, follow
from graphs import normal
from random_channels import random_model

from onnx_relusv.graph.channels.walk import Channels
from onnx_relusv.graph.checks import operand_problems
from onnx_relusv.graph.reference import parameters
from onnx_relusv.rewrites.prune.cutting import Mask, cut, staying

GRAPHS = 500
FEEDS = {"x": normal(3, 3, 4, 4, seed=1)}


def test_random_graphs_are_cut_right(tmp_path: Path) -> None:
    smaller, worst = 0, 0.0
    for seed in range(GRAPHS):
        followed = follow(random_model(seed), tmp_path, FEEDS)
        removed = followed.random(np.random.default_rng(seed))
        result = cut(followed.model, followed.channels, removed)
        assert operand_problems(result) == [], seed
        worst = max(worst, distance(followed, removed, result))
        assert worst < ROUNDING, seed
        share = parameters(result) / parameters(followed.model.proto)
        assert (share < 1) == removed.any(), seed
        smaller += share < 0.9
    # Else there would be nothing to be wrong about.
    assert smaller > 0.8 * GRAPHS


def test_a_single_wrong_constant_is_noticed(tmp_path: Path) -> None:
    tried = noticed = 0
    for seed in range(60):
        followed = follow(random_model(seed), tmp_path, FEEDS)
        rng = np.random.default_rng(seed)
        removed = followed.random(rng)
        wrong = list(shifted(followed, removed))
        if wrong:
            tried += 1
            result = cut(followed.model, wrong[rng.integers(len(wrong))], removed)
            noticed += distance(followed, removed, result) > 100 * ROUNDING
    # A shared vector may be of equal numbers, and a Relu may hide what was wrong.
    assert tried > 40
    assert noticed > 0.95 * tried


def shifted(followed: Followed, removed: Mask) -> Iterator[Channels]:
    """The same channels with those of one constant a place further."""
    channels = followed.channels
    for role in ("produced", "consumed", "carried"):
        axes = getattr(channels, role)
        for place, axis in enumerate(axes):
            moved = replace(axis, units=np.roll(axis.units, 1))
            if not np.array_equal(staying(moved.units, removed), staying(axis.units, removed)):
                yield replace(channels, **{role: (*axes[:place], moved, *axes[place + 1 :])})
