"""The candidates of a block: every form at many ranks, with their level and cost."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import pairwise
from math import ceil

import numpy as np
from onnx import helper

from onnx_relusv import forms
from onnx_relusv.cost import block_cost, candidate_cost
from onnx_relusv.decisions import Candidate, Form
from onnx_relusv.factors import decompose_block, levels
from onnx_relusv.records import Block, LinearMap, Moments
from onnx_relusv.spectra.singular import Decomposition

# Ratio of neighbouring ranks where a level is costly to compute; 1.09 wastes 4 % on average.
_COSTLY: frozenset[Form] = frozenset({"spatial", "tucker"})
_STEP = 1.09


def block_candidates(
    block: Block,
    linear: LinearMap,
    moments: Moments | None,
    parts: Sequence[Decomposition],
) -> tuple[Candidate, ...]:
    """All candidates that make the block smaller without more multiply-accumulates.

    Args:
        block: The block.
        linear: Its linear map.
        moments: Of its input, or None.
        parts: The linear map's decomposition in that metric, one a group.

    Returns:
        By form, ranks increasing, so levels decreasing.
    """
    found: list[Candidate] = []
    # Without moments the bias is the original's.
    biased = moments is not None or bool(np.any(linear.bias))
    for form in forms.available_forms(block.geometry):
        ranks = useful_ranks(block, form, biased=biased)
        if not ranks:
            continue
        reached = levels(form, block.geometry, linear, moments, parts, ranks)
        # A larger rank is never worse in the mean; rounding may say otherwise of equal levels, and
        # of a tucker, whose bases are not best in the spectral norm, so may the level itself.
        reached = np.minimum.accumulate(reached)
        found.extend(
            _candidate(block, form, rank, float(level), biased=biased)
            for rank, level in zip(ranks, reached, strict=True)
        )
    return tuple(found)


def candidate_at(
    block: Block, linear: LinearMap, moments: Moments | None, form: Form, rank: int
) -> Candidate:
    """One candidate, whether or not it makes the block smaller."""
    parts = decompose_block(linear, moments)
    level = levels(form, block.geometry, linear, moments, parts, [rank])[0]
    biased = moments is not None or bool(np.any(linear.bias))
    return _candidate(block, form, rank, float(level), biased=biased)


def _candidate(block: Block, form: Form, rank: int, level: float, *, biased: bool) -> Candidate:
    cost = candidate_cost(block, form, rank, item_size(block), biased=biased)
    return Candidate(form=form, rank=rank, level=level, bytes=cost.bytes, macs=cost.macs)


def between_rungs(
    block: Block, offered: Sequence[Candidate], finest: float
) -> tuple[Candidate, ...]:
    """What lies between a block's candidates, where these are a ladder of ranks.

    Levels and damages are interpolated between those of the two rungs, along straight lines in
    their logarithms; no rank is better than the rung above it, or worse than the one below.

    Args:
        block: The block.
        offered: Its candidates; by form, ranks increasing.
        finest: Bytes; rungs that are no further apart have nothing between them.
    """
    found: list[Candidate] = []
    for low, high in pairwise(offered):
        steps = ceil((high.bytes - low.bytes) / finest)
        if low.form != high.form or steps < 2 or high.rank - low.rank < 2:
            continue
        whole = candidate_cost(block, low.form, low.rank, item_size(block))
        last = low
        for rank in np.unique(np.linspace(low.rank, high.rank, steps + 1).round())[1:-1]:
            share = float((rank - low.rank) / (high.rank - low.rank))
            one = replace(
                _candidate(
                    block,
                    low.form,
                    int(rank),
                    _between(low.level, high.level, share),
                    biased=whole.bytes == low.bytes,
                ),
                damage=_between(low.damage, high.damage, share),
            )
            if (last.bytes, last.macs) != (one.bytes, one.macs) != (high.bytes, high.macs):
                found.append(one)
                last = one
    return tuple(found)


def _between(low: float, high: float, share: float) -> float:
    if low <= 0 or high <= 0:
        return low + share * (high - low)
    return min(max(float(low ** (1 - share) * high**share), high), low)


def item_size(block: Block) -> int:
    """Bytes of one number in the type in which the block's weight is stored."""
    return int(np.dtype(helper.tensor_dtype_to_np_dtype(block.weight_type)).itemsize)


def useful_ranks(block: Block, form: Form, *, biased: bool = True) -> Sequence[int]:
    """The ranks that make a block smaller without more multiply-accumulates, increasing.

    Args:
        block: The block.
        form: One of its forms.
        biased: Whether the double layer adds a bias.
    """
    now, size = block_cost(block), item_size(block)
    largest = forms.largest_rank(form, block.geometry)
    ranks: Iterable[int] = range(1, largest)
    if form in _COSTLY:
        steps = np.log(max(largest, 2)) / np.log(_STEP)
        ladder = np.geomspace(1, largest, int(steps) + 2).round().astype(int)
        ranks = [int(rank) for rank in np.unique(ladder)]
    useful: list[int] = []
    last = None
    for rank in ranks:
        cost = candidate_cost(block, form, rank, size, biased=biased)
        # A tucker whose r has reached the rows gets wider in front of the core only now and then.
        if cost.bytes < now.bytes and cost.macs <= now.macs and cost != last:
            useful.append(rank)
        last = cost
    return useful
