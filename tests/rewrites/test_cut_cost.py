"""What cuts are said to save against graphs that are really cut and counted."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from cut_graphs import GRAPHS, CutGraph, Found, found_in, shapes_of
from graphs import normal, normalization
from onnx import ModelProto, numpy_helper

from onnx_relusv.graph.channels.walk import Channels
from onnx_relusv.graph.reference import macs
from onnx_relusv.rewrites.prune.cost import CutCost
from onnx_relusv.rewrites.prune.cutting import cut


def numbers(proto: ModelProto) -> int:
    """Bytes of all floating-point constants."""
    arrays = [numpy_helper.to_array(tensor) for tensor in proto.graph.initializer]
    return sum(array.nbytes for array in arrays if array.dtype.kind == "f")


def drawn(channels: Channels, rng: np.random.Generator) -> np.ndarray:
    """(units,) bool: any number of units of any groups, but not all of one."""
    removed = np.zeros(channels.count, np.bool_)
    for group in channels.groups:
        gone = rng.integers(0, len(group.units))
        removed[group.units.start + rng.permutation(len(group.units))[:gone]] = True
    return removed


def counts(channels: Channels, removed: np.ndarray) -> np.ndarray:
    return np.array([int((~removed[list(group.units)]).sum()) for group in channels.groups])


def cost_of(found: Found) -> CutCost:
    return CutCost(found.searched.model, found.channels, found.shapes)


def check(found: Found, removed: np.ndarray, *, names: int = 400, exact: bool = True) -> None:
    """That what is said to be saved is what the file loses, but for a few names."""
    model = found.searched.model
    result = cut(model, found.channels, removed)
    kept = counts(found.channels, removed)
    saved, spared = cost_of(found).saved(kept)
    lost = model.proto.ByteSize() - result.ByteSize()
    assert saved <= lost
    assert saved >= numbers(model.proto) - numbers(result) - names
    if exact:
        small = macs(result, shapes_of(replace(model, proto=result), found.feeds))
        # Products of whole numbers far below 2**53.
        assert spared == pytest.approx(macs(model.proto, found.shapes) - small, abs=1e-6)


@pytest.mark.parametrize("name", GRAPHS)
def test_it_is_what_a_cut_saves(name: str, tmp_path: Path) -> None:
    """To the multiplication, and to the byte but for names, whichever units go."""
    found = found_in(GRAPHS[name], tmp_path)
    rng = np.random.default_rng(0)
    for _ in range(12):
        check(found, drawn(found.channels, rng))


@pytest.mark.parametrize("name", GRAPHS)
def test_nothing_is_saved_by_nothing(name: str, tmp_path: Path) -> None:
    found = found_in(GRAPHS[name], tmp_path)
    whole = np.array([len(group.units) for group in found.channels.groups])
    assert cost_of(found).saved(whole) == (0, 0)


def test_a_shape_in_a_node_without_inputs(tmp_path: Path) -> None:
    """As exporters write a Flatten: a Constant, which reads nothing, and a Reshape."""
    text = (
        "(float[N,3,4,4] x) => (float[N,10] y) { a = Conv<pads=[1,1,1,1]>(x, k) c = Relu(a)"
        " s = Constant<value_ints=[0,-1]>() f = Reshape(c, s) y = MatMul(f, w) }"
    )
    arrays = {"k": normal(8, 3, 3, 3), "w": normal(8 * 16, 10)}
    found = found_in(CutGraph(text, arrays, (1, 3, 4, 4), {"a": 8}), tmp_path)
    check(found, np.arange(found.channels.count) < 3)


def test_numbers_by_hand(tmp_path: Path) -> None:
    """One channel of six less: a row of the first Conv, four vectors, a column of the second."""
    found = found_in(GRAPHS["chain"], tmp_path)
    kept = np.array([len(group.units) - (group.key == "a") for group in found.channels.groups])
    saved, spared = cost_of(found).saved(kept)
    data = 4 * (3 * 9 + 1 + 4 + 7 * 9)
    # Seven constants have longer names, in two places each and perhaps an input of the graph.
    assert data - 7 * 24 == saved
    # 27 products at 64 positions, and 63 at 4.
    assert spared == 27 * 64 + 63 * 4


SHARED = (
    "(float[N,3,8,8] x) => (float[N,5] y) { a = Conv<pads=[1,1,1,1]>(x, k, b) c = Relu(a)"
    " d = Conv<pads=[1,1,1,1]>(c, l, b) e = Relu(d) i = GlobalAveragePool(e) j = Flatten(i)"
    " y = Gemm(j, w, v) }"
)


@pytest.mark.parametrize(
    "gone", [{"a": [0]}, {"d": [1, 2]}, {"a": [0], "d": [1]}, {"a": [0], "d": [0]}]
)
def test_a_bias_that_two_groups_share(gone: dict[str, list[int]], tmp_path: Path) -> None:
    """Whoever is cut gets a copy, and the whole one may stay."""
    for opset in (8, 13):
        arrays = {
            "k": normal(6, 3, 3, 3),
            "b": normal(6),
            "l": normal(6, 6, 3, 3),
            "w": normal(6, 5),
            "v": normal(5),
        }
        found = found_in(CutGraph(SHARED, arrays, (1, 3, 8, 8), {}), tmp_path, opset=opset)
        check(found, found.removed(**gone))


def test_vectors_that_are_cut_alike_are_counted_once(tmp_path: Path) -> None:
    """Two normalisations read the same four vectors behind one and the same channels."""
    text = SHARED.replace(
        "c = Relu(a)", f"m = {NORMALIZED}(a, {VECTORS}) c = {NORMALIZED}(m, {VECTORS})"
    )
    arrays = {
        "k": normal(6, 3, 3, 3),
        "b": normal(6),
        "l": normal(6, 6, 3, 3),
        "w": normal(6, 5),
        "v": normal(5),
    }
    graph = CutGraph(text, arrays | normalization(6), (1, 3, 8, 8), {})
    found = found_in(graph, tmp_path)
    check(found, found.removed(a=[0, 1, 2]))


NORMALIZED, VECTORS = "BatchNormalization", "gamma, beta, mean, variance"


def test_lengths_that_are_named(tmp_path: Path) -> None:
    """A Reshape by a vector of lengths gets a vector of its own."""
    text = SHARED.replace("i = GlobalAveragePool(e) j = Flatten(i)", "j = Reshape(e, lengths)")
    arrays = {
        "k": normal(6, 3, 3, 3),
        "b": normal(6),
        "l": normal(6, 6, 3, 3),
        "w": normal(6 * 64, 5),
        "v": normal(5),
        "lengths": np.array([-1, 6 * 64]),
    }
    found = found_in(CutGraph(text, arrays, (1, 3, 8, 8), {}), tmp_path)
    check(found, found.removed(d=[0, 4]), names=600)


def test_a_part_of_a_group_goes_in_proportion(tmp_path: Path) -> None:
    """Behind a Split it counts which units go; on average over them the figures are right."""
    text = SHARED.replace(
        "c = Relu(a) d = Conv<pads=[1,1,1,1]>(c, l, b) e = Relu(d)",
        "c = Relu(a) s, t = Split<axis=1>(c) d = Conv<pads=[1,1,1,1]>(s, l)"
        " e = Concat<axis=1>(d, t)",
    )
    arrays = {
        "k": normal(6, 3, 3, 3),
        "b": normal(6),
        "l": normal(50, 3, 3, 3),
        "w": normal(53, 5),
        "v": normal(5),
    }
    found = found_in(CutGraph(text, arrays, (1, 3, 8, 8), {}), tmp_path)
    model = found.searched.model
    lost, spared = [], []
    # One channel of each part stays for good.
    assert len(found.group("a").units) == 4
    for unit in range(4):
        result = cut(model, found.channels, found.removed(a=[unit]))
        lost.append(numbers(model.proto) - numbers(result))
        small = macs(result, shapes_of(replace(model, proto=result), found.feeds))
        spared.append(macs(model.proto, found.shapes) - small)
    saved = cost_of(found).saved(counts(found.channels, found.removed(a=[0])))
    assert np.mean(lost) - 300 <= saved[0] <= np.mean(lost)
    assert saved[1] == pytest.approx(np.mean(spared))
    assert max(lost) - min(lost) > 1000
