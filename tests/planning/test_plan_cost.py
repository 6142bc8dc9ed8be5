"""Costs of many options at once against those of one state at a time."""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from cut_graphs import GRAPHS, found_in
from graphs import Searched

from onnx_relusv.core.blocks import Block
from onnx_relusv.core.plans import Candidate, Cost
from onnx_relusv.core.reduction import masked_block
from onnx_relusv.planning.cost import Coupling, PlanCost
from onnx_relusv.planning.latency.kernels import Kernels, ModelledTimes
from onnx_relusv.planning.limits import Origin
from onnx_relusv.rewrites.low_rank.candidates import (
    block_cost,
    block_macs,
    candidate_cost,
    in_int8,
)
from onnx_relusv.rewrites.low_rank.forms import FORMS, available_forms
from onnx_relusv.rewrites.low_rank.method import LayerItem, dense_int8, layer_item
from onnx_relusv.rewrites.prune.cost import CutCost
from onnx_relusv.rewrites.prune.elimination import Elimination
from onnx_relusv.rewrites.prune.method import GroupItem, group_item
from onnx_relusv.rewrites.prune.orders import Ordered
from onnx_relusv.rewrites.prune.units import Rounding, units_of_blocks

TOTAL, ADDED = Cost(bytes=100_000, macs=1_000_000), 700


def layers(block: Block) -> list[Candidate]:
    """Every form at a few ranks, whether it saves anything or not."""
    found: list[Candidate] = []
    for form in available_forms(block.geometry):
        for rank in range(1, FORMS[form].largest_rank(block.geometry), 2):
            cost = candidate_cost(block, form, rank, 4)
            found.append(
                Candidate(form=form, rank=rank, level=0.1, bytes=cost.bytes, macs=cost.macs)
            )
    return found


@dataclass(frozen=True)
class Costed:
    costs: PlanCost
    groups: list[GroupItem]
    blocks: list[LayerItem]
    searched: Searched

    @property
    def lengths(self) -> list[int]:
        return [len(item.errors) for item in (*self.groups, *self.blocks)]


def int8_item(block: Block) -> LayerItem:
    """A block whose every option has 8-bit integers."""
    return layer_item(
        block, [in_int8(block, layer) for layer in layers(block)], stays=dense_int8(block)
    )


def costs_of(name: str, folder: Path, *, integers: bool = False, timed: bool = False) -> Costed:
    found = found_in(GRAPHS[name], folder)
    blocks, channels = found.searched.blocks, found.channels
    groups = []
    for place, group in enumerate(channels.groups):
        count = len(group.units)
        order = Elimination(np.arange(count), np.linspace(0, 1, count + 1))
        groups.append(group_item(Ordered(group, order, ()), place, Rounding()))
    items = [int8_item(block) if integers else layer_item(block, layers(block)) for block in blocks]
    times = ModelledTimes(Kernels(1, 16), {block.key: block for block in blocks}) if timed else None
    total, names = TOTAL, ["bytes", "macs"]
    if times is not None:
        items = [times.on(item) for item in items]
        total, names = replace(TOTAL, latency=times.total), [*names, "latency"]
    origin = Origin("", None, total, ADDED, 0, "auto")
    cut = CutCost(found.searched.model, channels, found.shapes)
    coupling = Coupling(channels, units_of_blocks(channels, blocks), cut, times)
    costs = PlanCost([*groups, *items], coupling, origin, names)
    return Costed(costs, groups, items, found.searched)


@pytest.mark.parametrize(
    ("integers", "timed"), [(False, False), (True, False), (False, True), (True, True)]
)
@pytest.mark.parametrize("name", GRAPHS)
def test_all_options_at_once(name: str, integers: bool, timed: bool, tmp_path: Path) -> None:
    costed = costs_of(name, tmp_path, integers=integers, timed=timed)
    rng = np.random.default_rng(0)
    costs, lengths = costed.costs, costed.lengths
    for _ in range(5):
        state = tuple(int(rng.integers(length)) for length in lengths)
        for item, length in enumerate(lengths):
            each = [costs.of((*state[:item], place, *state[item + 1 :])) for place in range(length)]
            # Sums of the same some hundred thousand bytes in another order.
            np.testing.assert_allclose(costs.options(state, item), each, rtol=1e-12)


@pytest.mark.parametrize("name", GRAPHS)
def test_times_are_those_of_what_is_left_of_every_block(name: str, tmp_path: Path) -> None:
    """Block by block, with the channels of masks, where the costs count units of groups."""
    costed, rng = costs_of(name, tmp_path, timed=True), np.random.default_rng(1)
    kernels, channels = Kernels(1, 16), found_in(GRAPHS[name], tmp_path).channels
    units = units_of_blocks(channels, [item.block for item in costed.blocks])
    for _ in range(5):
        state = tuple(int(rng.integers(length)) for length in costed.lengths)
        removed = np.zeros(channels.count, np.bool_)
        for item, option in zip(costed.groups, state, strict=False):
            removed |= item.ordered.removed(channels.count, int(item.counts[option]))
        layers, expected = costed.costs.layers(state), 0.0
        for item in costed.blocks:
            own = units.get(item.key)
            left = item.block if own is None else masked_block(item.block, own.kept(removed))
            expected += kernels.of(left, layers.get(item.key))
        assert costed.costs.total(state).latency == pytest.approx(expected, rel=1e-12)


def test_nothing_changed_costs_what_the_file_gains(tmp_path: Path) -> None:
    costed = costs_of("chain", tmp_path)
    total = costed.costs.total((0,) * len(costed.lengths))
    assert (total.bytes, total.macs) == (TOTAL.bytes + ADDED, TOTAL.macs)


def test_blocks_of_integers_cost_what_is_said_of_them(tmp_path: Path) -> None:
    costed = costs_of("chain", tmp_path, integers=True)
    state = (0,) * len(costed.lengths)
    total = costed.costs.total(state)
    saved = sum(
        block_cost(item.block).bytes - dense_int8(item.block).bytes for item in costed.blocks
    )
    assert (total.bytes, total.macs) == (TOTAL.bytes + ADDED - saved, TOTAL.macs)
    assert all(layer.is_int8 for layer in costed.costs.layers(state).values())
    assert len(costed.costs.layers(state)) == len(costed.blocks)


def test_what_is_no_double_layer_any_more_is_a_layer_of_integers_still(tmp_path: Path) -> None:
    costed = costs_of("chain", tmp_path, integers=True)
    highest, fallen = [1 for _ in costed.blocks], 0
    for fewer in range(1, 8):
        kept = [min(fewer, len(item.counts) - 1) for item in costed.groups]
        found = costed.costs.layers((*kept, *highest))
        for item in costed.blocks:
            layer = found.get(item.block.key)
            # Where integers of what is left take more than its floats, it has these.
            if layer is not None and layer != item.layers[1]:
                assert layer == item.layers[0]
                fallen += 1
    assert fallen


def test_a_double_layer_alone_costs_what_its_candidate_does(tmp_path: Path) -> None:
    items = costs_of("chain", tmp_path)
    costs, searched = items.costs, items.searched
    groups, checked = len(items.groups), 0
    for number, item in enumerate(items.blocks):
        before = block_cost(item.block)
        for place, layer in enumerate(item.layers):
            state = [0] * (groups + len(items.blocks))
            state[groups + number] = place
            total = costs.total(tuple(state))
            if item.block.key not in costs.layers(tuple(state)):
                assert total.bytes == TOTAL.bytes + ADDED
                continue
            assert layer is not None
            # A block's bytes include a bias and a normalisation that a double layer folds in.
            assert total.bytes - TOTAL.bytes - ADDED == layer.bytes - before.bytes
            assert total.macs - TOTAL.macs == layer.macs - block_macs(item.block)
            checked += 1
    assert searched.blocks
    assert checked or not any(
        layer is not None and layer.bytes < block_cost(item.block).bytes
        for item in items.blocks
        for layer in item.layers
    )


def test_a_layer_that_saves_nothing_of_what_is_left_is_none(tmp_path: Path) -> None:
    items = costs_of("chain", tmp_path)
    costs = items.costs
    fewest = [len(item.counts) - 1 for item in items.groups]
    deepest = [len(item.layers) - 1 for item in items.blocks]
    state = (*fewest, *deepest)
    # With one channel left everywhere, every rank is full.
    left = costs.layers(state)
    for item in items.blocks:
        if item.block.geometry.in_channels > 3:
            assert item.block.key not in left
