"""Costs of many options at once against those of one state at a time."""

from pathlib import Path

import numpy as np
import pytest
from cut_graphs import GRAPHS, found_in
from graphs import Searched

from onnx_relusv.core.blocks import Block
from onnx_relusv.core.plans import Candidate, Cost
from onnx_relusv.planning.cost import PlanCost
from onnx_relusv.planning.level import Origin
from onnx_relusv.planning.search import AllItems, BlockItem, GroupItem
from onnx_relusv.rewrites.low_rank.candidates import block_cost, block_macs, candidate_cost
from onnx_relusv.rewrites.low_rank.forms import FORMS, available_forms
from onnx_relusv.rewrites.prune.cost import CutCost
from onnx_relusv.rewrites.prune.units import units_of_blocks

TOTAL, ADDED = Cost(bytes=100_000, macs=1_000_000), 700


def layers(block: Block) -> tuple[Candidate | None, ...]:
    """Every form at a few ranks, whether it saves anything or not."""
    found: list[Candidate] = []
    for form in available_forms(block.geometry):
        for rank in range(1, FORMS[form].largest_rank(block.geometry), 2):
            cost = candidate_cost(block, form, rank, 4)
            found.append(
                Candidate(form=form, rank=rank, level=0.1, bytes=cost.bytes, macs=cost.macs)
            )
    return (None, *sorted(found, key=lambda one: -one.bytes))


def costs_of(name: str, folder: Path) -> tuple[PlanCost, AllItems, Searched]:
    found = found_in(GRAPHS[name], folder)
    blocks, channels = found.searched.blocks, found.channels
    items = AllItems(
        [
            GroupItem(place, np.arange(len(group.units), 0, -1))
            for place, group in enumerate(channels.groups)
        ],
        [BlockItem(block, layers(block)) for block in blocks],
    )
    origin = Origin("", None, TOTAL, ADDED, 0, "auto")
    cut = CutCost(found.searched.model, channels, found.shapes)
    units = units_of_blocks(channels, blocks)
    made = PlanCost(items.complete(), channels, units, cut, origin, ["bytes", "macs"])
    return made, items, found.searched


@pytest.mark.parametrize("name", GRAPHS)
def test_all_options_at_once(name: str, tmp_path: Path) -> None:
    costs, items, _ = costs_of(name, tmp_path)
    lengths, rng = items.complete().lengths, np.random.default_rng(0)
    for _ in range(5):
        state = tuple(int(rng.integers(length)) for length in lengths)
        for item, length in enumerate(lengths):
            each = [costs.of((*state[:item], place, *state[item + 1 :])) for place in range(length)]
            # Both round down to whole bytes, of sums in another order.
            np.testing.assert_allclose(costs.options(state, item), each, atol=1, rtol=0)


def test_nothing_changed_costs_what_the_file_gains(tmp_path: Path) -> None:
    costs, items, _ = costs_of("chain", tmp_path)
    total = costs.total((0,) * len(items.complete().lengths))
    assert (total.bytes, total.macs) == (TOTAL.bytes + ADDED, TOTAL.macs)


def test_a_double_layer_alone_costs_what_its_candidate_does(tmp_path: Path) -> None:
    costs, items, searched = costs_of("chain", tmp_path)
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
    costs, items, _ = costs_of("chain", tmp_path)
    fewest = [len(item.counts) - 1 for item in items.groups]
    deepest = [len(item.layers) - 1 for item in items.blocks]
    state = (*fewest, *deepest)
    # With one channel left everywhere, every rank is full.
    left = costs.layers(state)
    for item in items.blocks:
        if item.block.geometry.in_channels > 3:
            assert item.block.key not in left
