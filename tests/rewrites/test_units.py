"""Which channels of blocks belong to which units, and what plans leave of them."""

from pathlib import Path

import numpy as np
import pytest
from cut_graphs import GRAPHS, Found, found_in

from onnx_relusv.core.plans import GroupChoice
from onnx_relusv.graph.channels.walk import NO_UNIT
from onnx_relusv.rewrites.prune.units import BlockUnits, removed_units, units_of_blocks


def choice(key: str, units: int, kept: tuple[int, ...]) -> GroupChoice:
    return GroupChoice(
        key=key, units=units, kept=kept, level=0.0, producers=(), consumers=(), why=""
    )


def blocks_of(found: Found) -> dict[str, BlockUnits]:
    return units_of_blocks(found.channels, found.searched.blocks)


@pytest.mark.parametrize("name", GRAPHS)
def test_every_block_knows_its_channels(name: str, tmp_path: Path) -> None:
    found = found_in(GRAPHS[name], tmp_path)
    assert {group.key: len(group.units) for group in found.channels.groups} == GRAPHS[name].groups
    for block in found.searched.blocks:
        units = blocks_of(found)[block.key]
        geometry = block.geometry
        assert units.inputs.shape == (geometry.in_channels // geometry.groups,)
        assert units.outputs.shape == (geometry.out_channels,)


def test_flattened_channels_come_once_a_position(tmp_path: Path) -> None:
    found = found_in(GRAPHS["chain"], tmp_path)
    units = blocks_of(found)
    d, h = (np.array(found.group(key).units) for key in "dh")
    np.testing.assert_array_equal(units["e"].outputs, d)
    np.testing.assert_array_equal(units["i"].inputs, np.repeat(d, 4))
    np.testing.assert_array_equal(units["i"].outputs, h)
    # The graph's input and output have no units.
    np.testing.assert_array_equal(units["c"].inputs, [NO_UNIT] * 3)
    np.testing.assert_array_equal(units["y"].outputs, [NO_UNIT] * 5)
    kept = units["i"].kept(found.removed(d=[0, 2], h=[8]))
    assert kept is not None
    np.testing.assert_array_equal(kept.inputs, [4, 5, 6, 7, *range(12, 28)])
    np.testing.assert_array_equal(kept.outputs, range(8))


def test_branches_of_a_sum_share_units(tmp_path: Path) -> None:
    units = blocks_of(found_in(GRAPHS["residual"], tmp_path))
    np.testing.assert_array_equal(units["c"].outputs, units["f"].outputs)
    np.testing.assert_array_equal(units["c"].outputs, units["e"].inputs)
    np.testing.assert_array_equal(units["c"].outputs, units["y"].inputs)


def test_a_consumer_of_two_groups(tmp_path: Path) -> None:
    found = found_in(GRAPHS["concat"], tmp_path)
    kept = blocks_of(found)["j"].kept(found.removed(a=[0, 5], d=[1]))
    assert kept is not None
    # Six channels of the first group, then five of the second.
    np.testing.assert_array_equal(kept.inputs, [1, 2, 3, 4, 6, 8, 9, 10])
    np.testing.assert_array_equal(kept.outputs, range(8))


def test_groups_keep_the_same_places(tmp_path: Path) -> None:
    found = found_in(GRAPHS["groups"], tmp_path)
    kept = blocks_of(found)["e"].kept(found.removed(a=[1], d=[0]))
    assert kept is not None
    np.testing.assert_array_equal(kept.inputs, [0, 2, 3])
    np.testing.assert_array_equal(kept.outputs, [1, 2, 4, 5])


def test_a_block_that_loses_nothing(tmp_path: Path) -> None:
    found = found_in(GRAPHS["chain"], tmp_path)
    units = blocks_of(found)
    removed = found.removed(h=[3])
    assert units["c"].kept(removed) is None
    assert units["e"].kept(removed) is None
    assert units["y"].kept(removed) is not None
    assert units["y"].kept(np.zeros_like(removed)) is None


def test_a_block_without_units_is_left_out(tmp_path: Path) -> None:
    """Here only the graph's own output is made."""
    found = found_in(GRAPHS["chain"], tmp_path)
    nothing = type(found.channels)((), (), (), (), (), {})
    assert units_of_blocks(nothing, found.searched.blocks) == {}


def test_what_a_plan_removes(tmp_path: Path) -> None:
    found = found_in(GRAPHS["chain"], tmp_path)
    choices = [choice("h", 9, tuple(range(1, 9))), choice("a", 6, (0, 2, 5))]
    # Groups that are not named keep all.
    np.testing.assert_array_equal(
        removed_units(found.channels, choices), found.removed(h=[0], a=[1, 3, 4])
    )
    assert not removed_units(found.channels, []).any()
    with pytest.raises(KeyError, match="z"):
        removed_units(found.channels, [choice("z", 2, (0,))])
