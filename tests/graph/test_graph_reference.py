"""The reference: the original's own nodes, with the constants of a dense map in them."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from graphs import (
    Searched,
    bytes_of,
    composed,
    evaluated,
    factors_of,
    gap,
    model_proto,
    normal,
    normalization,
    run,
    search,
)
from patterns import PATTERNS

from onnx_relusv.core.blocks import Geometry, LinearMap
from onnx_relusv.graph.reference import reference
from onnx_relusv.rewrites.low_rank.forms import available_forms
from onnx_relusv.runtime.session import CPU, Session

# Float32 sums of at most 100 products; the original adds and normalises in several steps.
ROUNDING = 2e-6
VECTORS = {"x": normal(3, 6)}


def referred(
    searched: Searched, dense: dict[str, LinearMap], feeds: dict[str, np.ndarray]
) -> dict[str, np.ndarray]:
    """What the reference computes, pre-activations included."""
    shown = [block.pre_activation for block in searched.blocks]
    runnable = reference(searched.model, searched.blocks, dense, shown)
    return Session(runnable, CPU, optimized=False).run(feeds)


def another(geometry: Geometry, seed: int = 7) -> LinearMap:
    """A dense map that has nothing to do with the original."""
    shape = (geometry.groups, geometry.rows, geometry.columns)
    return LinearMap(
        normal(*shape, seed=seed, dtype=np.float64),
        normal(geometry.out_channels, seed=seed, dtype=np.float64),
    )


@pytest.mark.parametrize("name", PATTERNS)
def test_a_block_s_own_map_gives_the_original_and_any_other_itself(
    name: str, tmp_path: Path
) -> None:
    pattern = PATTERNS[name]
    searched = search(pattern.proto(), tmp_path, pattern.feeds())
    block = searched.block
    result = referred(searched, {block.key: searched.linear()}, pattern.feeds())
    exact = run(pattern.proto(), pattern.feeds(), [block.pre_activation])
    assert result.keys() == exact.keys()
    assert all(gap(result[name], exact[name]) < ROUNDING for name in exact)
    dense = another(block.geometry)
    result = referred(searched, {block.key: dense}, pattern.feeds())[block.pre_activation]
    assert gap(result, evaluated(block, dense, pattern.feeds()["x"])) < ROUNDING


@pytest.mark.parametrize("name", ["conv", "conv_grouped", "gemm", "matmul_of_sequences"])
def test_factors_composed_are_what_the_reference_takes(name: str, tmp_path: Path) -> None:
    pattern = PATTERNS[name]
    searched = search(pattern.proto(), tmp_path, pattern.feeds())
    block = searched.block
    for form in available_forms(block.geometry):
        dense = composed(block, factors_of(searched, block, form, 2))
        result = referred(searched, {block.key: dense}, pattern.feeds())[block.pre_activation]
        assert gap(result, evaluated(block, dense, pattern.feeds()["x"])) < ROUNDING


def test_blocks_without_an_entry_stay_as_they_are(tmp_path: Path) -> None:
    proto = model_proto(
        "(float[N,6] x) => (y) { g = Gemm(x, w, b) f = Relu(g) h = MatMul(f, v) y = Relu(h) }",
        {"w": normal(6, 5), "b": normal(5), "v": normal(5, 4)},
    )
    searched = search(proto, tmp_path, VECTORS)
    first, second = searched.blocks
    exact = run(proto, VECTORS, ["g", "h"])
    untouched = referred(searched, {}, VECTORS)
    assert all(np.array_equal(untouched[name], exact[name]) for name in exact)
    dense = another(second.geometry)
    partly = referred(searched, {second.key: dense}, VECTORS)
    np.testing.assert_array_equal(partly["g"], exact["g"])
    source = np.maximum(exact["g"], 0)
    assert gap(partly["h"], evaluated(second, dense, source)) < ROUNDING
    assert first.key == "f"


def test_a_matmul_without_a_bias_gets_an_addition(tmp_path: Path) -> None:
    proto = model_proto(
        "(float[N,6] x) => (y) { h = MatMul(x, w) y = Identity(h) }", {"w": normal(6, 5)}
    )
    searched = search(proto, tmp_path, VECTORS)
    block = searched.block
    dense = another(block.geometry)
    result = referred(searched, {"y": dense}, VECTORS)["y"]
    assert gap(result, evaluated(block, dense, VECTORS["x"])) < ROUNDING
    # Without one, every node is the original's, with the weight's name changed.
    plain = reference(searched.model, searched.blocks, {"y": LinearMap(dense.weight, np.zeros(5))})
    nodes = onnx.load_model_from_string(plain.model).graph.node
    assert [node.op_type for node in nodes] == ["MatMul", "Identity"]


def test_two_such_blocks_in_a_row(tmp_path: Path) -> None:
    proto = model_proto(
        "(float[N,6] x) => (y) { g = MatMul(x, w) h = MatMul(g, v) y = Relu(h) }",
        {"w": normal(6, 5), "v": normal(5, 4)},
    )
    searched = search(proto, tmp_path, VECTORS)
    dense = {block.key: another(block.geometry, seed) for seed, block in enumerate(searched.blocks)}
    result = referred(searched, dense, VECTORS)
    first, second = searched.blocks
    expected = evaluated(first, dense["g"], VECTORS["x"])
    assert gap(result["g"], expected) < ROUNDING
    assert gap(result["h"], evaluated(second, dense["y"], expected)) < ROUNDING
    nodes = onnx.load_model_from_string(reference(searched.model, searched.blocks, dense).model)
    assert [node.op_type for node in nodes.graph.node] == ["MatMul", "Add", "MatMul", "Add", "Relu"]


def test_constants_that_others_read_are_not_changed(tmp_path: Path) -> None:
    proto = model_proto(
        "(float[N,4,7,7] x) => (y, z) { h = Conv(x, w, b) g = Add(h, c) y = Relu(g)"
        " d = Add(y, c) z = Mul(d, b4) }",
        {"w": normal(6, 4, 3, 3), "b": normal(6), "c": normal(6, 1, 1), "b4": normal(6, 1, 1)},
    )
    feeds = {"x": normal(1, 4, 7, 7)}
    searched = search(proto, tmp_path, feeds)
    dense = another(searched.block.geometry)
    result = referred(searched, {"y": dense}, feeds)
    expected = (np.maximum(result["g"], 0) + normal(6, 1, 1)) * normal(6, 1, 1)
    assert gap(result["z"], expected) < ROUNDING


def test_a_normalisation_with_a_large_epsilon(tmp_path: Path) -> None:
    proto = model_proto(
        "(float[N,6] x) => (y) { h = Gemm(x, w)"
        " g = BatchNormalization<epsilon=3.0>(h, gamma, beta, mean, variance) y = Relu(g) }",
        {"w": normal(6, 5), **normalization(5)},
    )
    searched = search(proto, tmp_path, VECTORS)
    dense = another(searched.block.geometry)
    result = referred(searched, {"y": dense}, VECTORS)["g"]
    assert gap(result, evaluated(searched.block, dense, VECTORS["x"])) < ROUNDING


@pytest.mark.parametrize("opset", [7, 9])
def test_old_files(opset: int, tmp_path: Path) -> None:
    proto = model_proto(
        "(float[N,6] x) => (y) { h = Gemm(x, w, b) y = Relu(h) }",
        {"w": normal(6, 5), "b": normal(5)},
        opset=opset,
    )
    searched = search(proto, tmp_path, VECTORS)
    dense = another(searched.block.geometry)
    result = referred(searched, {"y": dense}, VECTORS)["h"]
    assert gap(result, evaluated(searched.block, dense, VECTORS["x"])) < ROUNDING


def test_names_of_the_reference_do_not_clash(tmp_path: Path) -> None:
    proto = model_proto(
        "(float[N,6] x) => (y, relusv_reference) { h = Gemm(x, w) y = Relu(h)"
        " relusv_reference = Neg(x) }",
        {"w": normal(6, 5), "relusv_reference_2": normal(2)},
    )
    searched = search(proto, tmp_path, VECTORS)
    result = referred(searched, {"y": searched.linear()}, VECTORS)
    np.testing.assert_array_equal(result["relusv_reference"], -VECTORS["x"])
    assert gap(result["y"], run(proto, VECTORS)["y"]) < ROUNDING


def test_half_precision_maps_are_stored_in_their_type(tmp_path: Path) -> None:
    proto = model_proto(
        "(float16[N,6] x) => (y) { h = Gemm(x, w) y = Relu(h) }",
        {"w": normal(6, 5, dtype=np.float16)},
    )
    feeds = {"x": normal(3, 6, dtype=np.float16)}
    searched = search(proto, tmp_path, feeds)
    dense = another(searched.block.geometry)
    result = referred(searched, {"y": dense}, feeds)["h"]
    assert result.dtype == np.float16
    # A few roundings to 11 bits.
    assert gap(result, evaluated(searched.block, dense, feeds["x"])) < 4 * 2.0**-11


def test_the_original_is_not_changed(tmp_path: Path) -> None:
    pattern = PATTERNS["conv_everything"]
    searched = search(pattern.proto(), tmp_path, pattern.feeds())
    before = bytes_of([*searched.model.proto.graph.node, *searched.model.proto.graph.initializer])
    reference(searched.model, searched.blocks, {"y": another(searched.block.geometry)})
    after = bytes_of([*searched.model.proto.graph.node, *searched.model.proto.graph.initializer])
    assert after == before
