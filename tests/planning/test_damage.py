"""Damage curves: measured where they say so, and between and beyond along straight lines."""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from examples import block, gemm
from hypothesis import given
from hypothesis import strategies as st
from opened import Opened
from probed import answers, classifier, divergence_of_logits, rewritten, selected

from onnx_relusv.core.blocks import Moments
from onnx_relusv.core.measures import DamageCurve
from onnx_relusv.core.options import PlanOptions
from onnx_relusv.core.plans import Candidate
from onnx_relusv.measuring.blocks import Ground, Measured
from onnx_relusv.measuring.case import BlockMoments, block_moments
from onnx_relusv.planning.objective import damage_measure
from onnx_relusv.planning.probe import measured_damages
from onnx_relusv.rewrites.low_rank.candidates import block_candidates, undominated
from onnx_relusv.rewrites.low_rank.factors import decompose_block
from onnx_relusv.rewrites.low_rank.forms import FORMS, available_forms, double_layer
from onnx_relusv.rewrites.low_rank.method import (
    DoubleLayers,
    layer_item,
    ranks_to_measure,
)
from onnx_relusv.work.effort import SPENDING
from onnx_relusv.work.executors import Advance, Silent

# Of a divergence: outputs are equal to about 1e-6.
EQUAL = 1e-4
Offers = dict[str, tuple[Candidate, ...]]


def offers(model: Opened, moments: BlockMoments) -> Offers:
    """What the blocks may become; small ones get candidates that save nothing, by the same rule."""
    found: Offers = {}
    for item in model.case.blocks:
        linear, seen = model.case.folding(item), moments[item.key]
        parts = decompose_block(linear, seen)
        listed = block_candidates(item, linear, seen, parts)
        found[item.key] = listed or tuple(
            Candidate(
                form=form,
                rank=rank,
                level=float(FORMS[form].levels(item.geometry, linear, seen, parts, [rank])[0]),
                bytes=100 * rank,
                macs=rank,
            )
            for form in available_forms(item.geometry)
            for rank in range(1, FORMS[form].largest_rank(item.geometry))
        )
    return found


def damage_curves(
    model: Opened, candidates: Offers, moments: BlockMoments, progress: Silent
) -> dict[str, tuple[DamageCurve, ...]]:
    """The curves of all blocks with candidates, as plans by damage measure them."""
    method, ground = DoubleLayers(), Ground(*model, moments, Measured((), candidates))
    items = [
        layer_item(block, candidates[block.key])
        for block in model.case.blocks
        if candidates.get(block.key)
    ]
    measure = damage_measure(*model, model.inputs.selection, PlanOptions())
    sites = method.sites(items, ground)
    found = measured_damages(ground, sites, measure, progress, method.measuring)
    return {item.key: method.with_damages(item, found[item.key])[1] for item in items}


def with_damage(
    offered: Sequence[Candidate], curves: Sequence[DamageCurve]
) -> list[tuple[Candidate, float]]:
    """A block's candidates of the forms that were measured, ranks increasing, and their damages."""
    item = layer_item(block(gemm(400, 10)), offered)
    damages = {
        (curve.form, rank): damage
        for curve in curves
        for rank, damage in zip(curve.ranks, curve.damages, strict=True)
    }
    found, _ = DoubleLayers().with_damages(item, damages)
    pairs = zip(found.layers, found.damages.tolist(), strict=True)
    layers = [(layer, damage) for layer, damage in pairs if layer is not None]
    return sorted(layers, key=lambda each: (each[0].form, each[0].rank))


class Stages(Silent):
    """Remembers how far every stage got, and how far it was to go."""

    def __init__(self) -> None:
        self.done: list[int] = []
        self.totals: list[int] = []

    @contextmanager
    def stage(self, name: str, total: int) -> Iterator[Advance]:
        told: list[int] = []
        yield told.append
        self.done.append(sum(told))
        self.totals.append(total)


def test_a_curve_is_the_divergence_of_rewritten_models(tmp_path: Path) -> None:
    model, progress = classifier(tmp_path), Stages()
    assert model.inputs.split is not None
    assert model.inputs.split.select is not None
    feeds = {"x": selected(model)}
    exact = answers(model.case.model.path, feeds)["y"]
    with block_moments(*model, Silent()) as moments:
        candidates = offers(model, moments)
        curves = damage_curves(model, candidates, moments, progress)
        assert list(curves) == [item.key for item in model.case.blocks]
        for item in model.case.blocks:
            # Every form has its curve, but for those that others beat.
            left = undominated(
                candidates[item.key], *(s * item.original_bytes for s in (0.02, 0.7))
            )
            assert [curve.form for curve in curves[item.key]] == list(
                dict.fromkeys(candidate.form for candidate in left)
            )
            for curve in curves[item.key]:
                assert curve.key == item.key
                assert list(curve.ranks) == sorted(set(curve.ranks))
                for rank, damage in zip(curve.ranks, curve.damages, strict=True):
                    expected = measured(model, curve, rank, moments[item.key], feeds, exact)
                    assert damage == pytest.approx(expected, rel=EQUAL, abs=1e-10)
    tries = sum(len(curve.ranks) for own in curves.values() for curve in own)
    assert progress.done == progress.totals == [tries]


def measured(
    model: Opened,
    curve: DamageCurve,
    rank: int,
    seen: Moments | None,
    feeds: dict[str, np.ndarray],
    exact: np.ndarray,
) -> float:
    """By rewriting the block and running the file whole."""
    item = next(item for item in model.case.blocks if item.key == curve.key)
    factors = double_layer(curve.form, item.geometry, model.case.folding(item), seen, rank)
    assert seen is not None
    return divergence_of_logits(exact, answers(rewritten(model, {item.key: factors}), feeds)["y"])


def test_blocks_without_candidates_have_no_curve(tmp_path: Path) -> None:
    model = classifier(tmp_path)
    with block_moments(*model, Silent()) as moments:
        every = offers(model, moments)
        some = {"c": (), "j": every["j"]}
        curves = damage_curves(model, some, moments, Silent())
        assert list(curves) == ["j"]
        assert damage_curves(model, {}, moments, Silent()) == {}


def offered(
    levels: list[float], form: str = "pair", sizes: list[int] | None = None
) -> list[Candidate]:
    """Candidates of ranks from 1 on."""
    return [
        Candidate(
            form=form, rank=rank, level=level, bytes=(sizes or range(1, 10**6))[rank - 1], macs=rank
        )
        for rank, level in enumerate(levels, 1)
    ]


def curve(ranks: list[int], damages: list[float], form: str = "pair") -> DamageCurve:
    return DamageCurve(key="y", form=form, ranks=tuple(ranks), damages=tuple(damages))


def test_between_measured_ranks_damage_is_a_power_of_the_level() -> None:
    levels = [0.8, 0.4, 0.2, 0.1, 0.05]
    found = with_damage(offered(levels), [curve([2, 4], [0.9, 0.1])])
    damages = [damage for _, damage in found]
    # Exact where it was measured; half way in the logarithms between; beyond, with the square.
    expected = [0.9 * 4, 0.9, math.sqrt(0.9 * 0.1), 0.1, 0.1 / 4]
    assert damages == pytest.approx(expected, rel=1e-12)
    assert [candidate.level for candidate, _ in found] == levels


def test_a_single_measured_rank() -> None:
    found = with_damage(offered([0.3, 0.1]), [curve([2], [0.01])])
    assert [damage for _, damage in found] == pytest.approx([0.09, 0.01], rel=1e-12)


def test_noise_does_not_make_a_larger_rank_worse() -> None:
    found = with_damage(offered([0.8, 0.4, 0.2]), [curve([1, 2, 3], [0.5, 0.1, 0.2])])
    assert [damage for _, damage in found] == pytest.approx([0.5, 0.1, 0.1], rel=1e-12)


def test_rounding_below_zero_and_levels_of_zero() -> None:
    found = with_damage(offered([0.5, 0.1, 0.0]), [curve([1, 2], [0.2, -1e-15])])
    damages = [damage for _, damage in found]
    assert damages[0] == pytest.approx(0.2, rel=1e-12)
    assert 0 < damages[2] <= damages[1] <= 1e-11


def test_every_form_has_its_own_curve_and_one_without_is_left_out() -> None:
    listed = [*offered([0.5, 0.2], "channel"), *offered([0.6, 0.3], "spatial")]
    curves = [curve([1], [0.1], "channel"), curve([1], [0.7], "spatial")]
    found = with_damage(listed, curves)
    assert [(candidate.form, candidate.rank) for candidate, _ in found] == [
        ("channel", 1),
        ("channel", 2),
        ("spatial", 1),
        ("spatial", 2),
    ]
    expected = [0.1, 0.1 * 0.16, 0.7, 0.7 / 4]
    assert [damage for _, damage in found] == pytest.approx(expected, rel=1e-12)
    assert {candidate.form for candidate, _ in with_damage(listed, curves[:1])} == {"channel"}
    assert with_damage(listed, []) == []


levels = st.lists(st.floats(0, 1), min_size=1, max_size=12).map(
    lambda values: sorted(values, reverse=True)
)


@given(st.data(), levels)
def test_damage_never_rises_with_the_rank(data: st.DataObject, given_levels: list[float]) -> None:
    ranks = data.draw(
        st.sets(st.integers(1, len(given_levels)), min_size=1, max_size=4).map(sorted)
    )
    damages = data.draw(st.lists(st.floats(0, 1e30), min_size=len(ranks), max_size=len(ranks)))
    found = with_damage(offered(given_levels), [curve(ranks, damages)])
    reached = [damage for _, damage in found]
    assert all(np.isfinite(reached))
    # To the rounding of exponentials of logarithms.
    assert all(after <= before * (1 + 1e-9) for before, after in pairwise(reached))
    # Where it was measured it is the least of what smaller ranks did, levels differing.
    if len({given_levels[rank - 1] for rank in ranks}) == len(ranks) and min(given_levels) > 1e-12:
        for rank, least in zip(ranks, np.minimum.accumulate(damages), strict=True):
            assert reached[rank - 1] == pytest.approx(max(least, 1e-12), rel=1e-9)


MOST_RANKS = SPENDING["normal"].most_ranks


def ranks_of(shares: list[float]) -> list[int]:
    """The ranks that are measured of candidates of these shares of their block's bytes."""
    item = block(gemm(400, 10), original_bytes=100_000)
    sizes = [round(share * item.original_bytes) for share in shares]
    listed = offered([1 / (1 + place) for place in range(len(shares))], sizes=sizes)
    found = ranks_to_measure(layer_item(item, listed), MOST_RANKS)
    assert list(found) == ["pair"]
    return list(found["pair"])


def test_a_few_ranks_are_measured_over_the_sizes_worth_having() -> None:
    shares = list(np.linspace(0.005, 0.995, 199))
    ranks = ranks_of(shares)
    assert len(ranks) == MOST_RANKS
    reached = [shares[rank - 1] for rank in ranks]
    # From 2 % to 70 % of the bytes, at equal ratios; the ladder's steps are of half a percent.
    assert reached == pytest.approx(list(np.geomspace(0.02, 0.7, MOST_RANKS)), abs=0.0026)


def test_few_candidates() -> None:
    for shares, expected in (
        ([0.3], [1]),
        ([0.1, 0.2], [1, 2]),
        ([0.75, 0.8, 0.9], [1]),
        ([0.001, 0.01], [2]),
    ):
        assert ranks_of(shares) == expected
