"""Candidates against every form and rank there is."""

from itertools import pairwise

import ml_dtypes
import numpy as np
import pytest
import scipy.linalg
from examples import block, conv, gemm, linear_map, matmul, moments
from onnx import TensorProto

from onnx_relusv.core.blocks import Block, LinearMap, Moments
from onnx_relusv.core.plans import Candidate
from onnx_relusv.rewrites.low_rank.candidates import (
    between_ranks,
    block_candidates,
    block_cost,
    candidate_at,
    candidate_cost,
    item_size,
)
from onnx_relusv.rewrites.low_rank.factors import decompose_block
from onnx_relusv.rewrites.low_rank.forms import FORMS, available_forms

CASES = {
    "gemm": (gemm(40, 60), ()),
    "matmul": (matmul(60, 40), (5,)),
    "conv": (conv(16, 24, (3, 3), pads=(1, 1, 1, 1)), (8, 8)),
    "strided conv": (conv(16, 24, (5, 3), strides=(2, 2)), (12, 12)),
    "grouped conv": (conv(16, 32, (3, 3), groups=2), (8, 8)),
    "1-D conv": (conv(16, 24, (5,)), (20,)),
}


def made(name: str, *, with_moments: bool) -> tuple[Block, LinearMap, Moments | None]:
    geometry, lengths = CASES[name]
    rng = np.random.default_rng(0)
    linear = linear_map(geometry, rng)
    return block(geometry, lengths), linear, moments(geometry, rng) if with_moments else None


def found(item: Block, linear: LinearMap, seen: Moments | None) -> tuple[Candidate, ...]:
    return block_candidates(item, linear, seen, decompose_block(linear, seen))


@pytest.mark.parametrize("name", CASES)
def test_each_saves_bytes_and_costs_no_macs(name: str) -> None:
    for with_moments in (False, True):
        item, linear, seen = made(name, with_moments=with_moments)
        candidates = found(item, linear, seen)
        assert candidates
        now = block_cost(item)
        for candidate in candidates:
            assert candidate.bytes < now.bytes
            assert candidate.macs <= now.macs
            cost = candidate_cost(item, candidate.form, candidate.rank, 4)
            assert (candidate.bytes, candidate.macs) == (cost.bytes, cost.macs)
        for form in available_forms(item.geometry):
            ordered = [c for c in candidates if c.form == form]
            assert [c.rank for c in ordered] == sorted({c.rank for c in ordered})
            levels = [c.level for c in ordered]
            assert levels == sorted(levels, reverse=True)


@pytest.mark.parametrize("name", CASES)
def test_none_is_missing(name: str) -> None:
    item, linear, seen = made(name, with_moments=False)
    given = {(c.form, c.rank) for c in found(item, linear, seen)}
    now = block_cost(item)
    for form in available_forms(item.geometry):
        useful = []
        for rank in range(1, FORMS[form].largest_rank(item.geometry)):
            cost = candidate_cost(item, form, rank, 4)
            if cost.bytes < now.bytes and cost.macs <= now.macs:
                useful.append(rank)
        ranks = [rank for rank in useful if (form, rank) in given]
        if form in ("spatial", "tucker"):
            assert ranks[0] == 1
            # Steps of at most 9 %, rounded, up to the last one that is useful; of a tucker's ranks
            # that stand for the same factors only one is there.
            last = {FORMS[form].shapes(item.geometry, rank): rank for rank in useful}
            equal = [last[FORMS[form].shapes(item.geometry, rank)] for rank in ranks]
            assert len(set(equal)) == len(equal)
            steps = zip(equal, [*ranks[1:], useful[-1]], strict=True)
            assert all(after <= max(before + 1, 1.09 * before + 1) for before, after in steps)
        else:
            assert ranks == useful


def test_the_level_is_the_next_singular_value_over_the_first() -> None:
    for name in ("gemm", "matmul", "conv"):
        item, linear, seen = made(name, with_moments=True)
        assert seen is not None
        root = np.linalg.cholesky(seen.covariance[0])
        sigma = scipy.linalg.svdvals(linear.weight[0] @ root)
        for candidate in found(item, linear, seen):
            if candidate.form in ("pair", "channel"):
                # The root of a Gram eigenvalue in float64; none of these is below 1e-2 of the
                # first.
                assert candidate.level == pytest.approx(sigma[candidate.rank] / sigma[0], rel=1e-9)


@pytest.mark.parametrize("name", CASES)
def test_one_by_itself_is_the_same(name: str) -> None:
    for with_moments in (False, True):
        item, linear, seen = made(name, with_moments=with_moments)
        candidates = found(item, linear, seen)
        for candidate in candidates[::3]:
            alone = candidate_at(item, linear, seen, candidate.form, candidate.rank)
            assert (alone.bytes, alone.macs) == (candidate.bytes, candidate.macs)
            smaller = [
                other.level
                for other in candidates
                if other.form == candidate.form and other.rank < candidate.rank
            ]
            # A tucker's level may rise a little with the rank, and is then the smaller rank's.
            expected = min([alone.level, *smaller]) if candidate.form == "tucker" else alone.level
            # Two orders of the same float64 sums; the squares are compared before the root.
            assert candidate.level == pytest.approx(expected, rel=1e-6)


def test_what_lies_between_rungs_has_its_own_bytes_and_nearly_its_own_level() -> None:
    item, linear, seen = made("conv", with_moments=True)
    offered = found(item, linear, seen)
    finer = between_ranks(item, offered, 1)
    ladder = {one.form: {c.rank for c in offered if c.form == one.form} for one in finer}
    assert ladder.keys() == {"spatial", "tucker"}
    for form, rungs in ladder.items():
        between = {one.rank for one in finer if one.form == form}
        assert not between & rungs
        assert min(rungs) < min(between) < max(between) < max(rungs)
    assert {c.rank for c in finer if c.form == "spatial"} | ladder["spatial"] == set(
        range(1, max(ladder["spatial"]) + 1)
    )
    for one in finer:
        exact = candidate_at(item, linear, seen, one.form, one.rank)
        assert (one.bytes, one.macs) == (exact.bytes, exact.macs)
        # Measured: 0.037 for spatial, 0.112 for tucker, whose inner widths go in steps.
        assert abs(one.level - exact.level) <= 0.15 * exact.level
    widest = max(b.bytes - a.bytes for a, b in pairwise(offered) if a.form == b.form)
    assert between_ranks(item, offered, widest) == ()


def test_one_that_makes_the_block_larger_can_be_asked_for() -> None:
    item, linear, _ = made("gemm", with_moments=False)
    largest = candidate_at(item, linear, None, "pair", 40)
    assert largest.bytes > block_cost(item).bytes
    assert largest.level == 0


def test_small_blocks_have_none() -> None:
    for geometry, lengths in ((gemm(3, 4), ()), (conv(2, 2, (3, 3)), (5, 5)), (gemm(500, 1), ())):
        linear = linear_map(geometry, np.random.default_rng(0))
        assert found(block(geometry, lengths), linear, None) == ()


def test_more_macs_are_not_traded_for_bytes() -> None:
    # Columns that are strided over: the spatial form's first layer runs over all of them.
    geometry = conv(16, 16, (2, 4), strides=(1, 4))
    item = block(geometry, (8, 64))
    linear = linear_map(geometry, np.random.default_rng(0))
    offered = [c.rank for c in found(item, linear, None) if c.form == "spatial"]
    assert offered
    larger = candidate_cost(item, "spatial", max(offered) + 1, 4)
    assert larger.bytes < block_cost(item).bytes
    assert larger.macs > block_cost(item).macs


def test_item_size_is_the_stored_type_s() -> None:
    for element_type, dtype in (
        (TensorProto.FLOAT, np.float32),
        (TensorProto.FLOAT16, np.float16),
        (TensorProto.BFLOAT16, ml_dtypes.bfloat16),
        (TensorProto.DOUBLE, np.float64),
    ):
        assert item_size(block(gemm(3, 4), element_type=element_type)) == np.dtype(dtype).itemsize
