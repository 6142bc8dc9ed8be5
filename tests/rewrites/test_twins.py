"""Units that are equal whatever the input, and those that only look so."""

from pathlib import Path

import numpy as np
from cut_graphs import GRAPHS, CutGraph, found_in

from onnx_relusv.rewrites.prune.units import duplicates


def found(name: str, folder: Path, **changed: np.ndarray) -> dict[str, list[int]]:
    """By group, the first unit that each equals, in the group's own numbers."""
    graph = GRAPHS[name]
    other = CutGraph(graph.text, graph.arrays | changed, graph.shape, graph.groups)
    made = found_in(other, folder)
    equal = duplicates(made.searched.model, made.channels)
    return {
        group.key: [int(equal[unit]) - group.units.start for unit in group.units]
        for group in made.channels.groups
    }


def doubled(name: str, *arrays: str, first: int, second: int) -> dict[str, np.ndarray]:
    result = {array: np.array(GRAPHS[name].arrays[array]) for array in arrays}
    for values in result.values():
        values[second] = values[first]
    return result


def test_random_weights_have_none(tmp_path: Path) -> None:
    for name in GRAPHS:
        folder = tmp_path / name
        folder.mkdir()
        for key, equal in found(name, folder).items():
            assert equal == list(range(len(equal))), key


def test_all_that_is_cut_has_to_be_equal(tmp_path: Path) -> None:
    vectors = ("gamma", "beta", "mean", "variance")
    whole = doubled("chain", "k", "b", *vectors, first=1, second=4)
    assert found("chain", tmp_path, **whole)["a"] == [0, 1, 2, 3, 1, 5]
    for left in whole:
        others = {name: values for name, values in whole.items() if name != left}
        assert found("chain", tmp_path, **others)["a"] == list(range(6)), left


def test_of_a_sum_every_producer_has_to_agree(tmp_path: Path) -> None:
    both = doubled("residual", "k", "b", "m", "q", first=0, second=5)
    assert found("residual", tmp_path, **both)["a"] == [0, 1, 2, 3, 4, 0]
    one = doubled("residual", "k", "b", first=0, second=5)
    assert found("residual", tmp_path, **one)["a"] == list(range(6))


def test_depthwise_kernels_count(tmp_path: Path) -> None:
    alike = doubled("concat", "l", "o", "p", first=2, second=3)
    # Channels 2 and 3 of the other branch are 8 and 9 of the depthwise Conv.
    for name in ("o", "p"):
        alike[name] = np.array(GRAPHS["concat"].arrays[name])
        alike[name][9] = alike[name][8]
    assert found("concat", tmp_path, **alike)["d"] == [0, 1, 2, 2, 4]
    del alike["o"]
    assert found("concat", tmp_path, **alike)["d"] == list(range(5))
