"""Tails against the whole model, and against the reference where another map is tried."""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from graphs import Searched, gap, model_proto, normal, normalization, run, search
from patterns import PATTERNS, REPRESENTATIVES
from rewrites import IMAGES, KERNELS, NETWORK

from onnx_relusv.core.blocks import Block, Geometry, LinearMap
from onnx_relusv.graph.model import read_model
from onnx_relusv.graph.reference import reference
from onnx_relusv.graph.segments import Tail, cuts, tail
from onnx_relusv.runtime.session import CPU, Session

# Float32 sums of at most 100 products; a folded map normalises in other steps.
ROUNDING = 2e-6
# The same through four blocks.
DEEP = 1e-5


def another(geometry: Geometry, seed: int = 7, scale: float = 1.0) -> LinearMap:
    """A dense map that has nothing to do with the original."""
    shape = (geometry.groups, geometry.rows, geometry.columns)
    return LinearMap(
        normal(*shape, seed=seed, scale=scale, dtype=np.float64),
        normal(geometry.out_channels, seed=seed, dtype=np.float64),
    )


def without_bias(linear: LinearMap) -> LinearMap:
    return LinearMap(linear.weight, np.zeros_like(linear.bias))


def opened(
    searched: Searched,
    block: Block,
    reads: Mapping[str, np.ndarray],
    writes: Iterable[str],
    others: Mapping[str, LinearMap] | None = None,
) -> tuple[Tail, Session]:
    made = tail(searched.model, [block], others or {}, searched.blocks, reads, writes)
    return made, Session(made.runnable, CPU, optimized=False)


def tried(
    made: tuple[Tail, Session], dense: LinearMap, reads: Mapping[str, np.ndarray]
) -> dict[str, np.ndarray]:
    (block,) = made[0].blocks
    return tried_together(made, {block.key: dense}, reads)


def tried_together(
    made: tuple[Tail, Session], dense: Mapping[str, LinearMap], reads: Mapping[str, np.ndarray]
) -> dict[str, np.ndarray]:
    found, session = made
    own = {name: reads[name] for name in session.input_names if name in reads}
    return session.run({**found.feeds(dense), **own})


def referred(
    searched: Searched, dense: Mapping[str, LinearMap], feeds: Mapping[str, np.ndarray]
) -> dict[str, np.ndarray]:
    source = reference(searched.model, searched.blocks, dense)
    return Session(source, CPU, optimized=False).run(feeds)


@pytest.mark.parametrize("name", REPRESENTATIVES)
def test_the_own_map_gives_the_model_s_outputs_and_any_the_reference_s(
    name: str, tmp_path: Path
) -> None:
    """One session for all maps, those without a bias included, and back again."""
    pattern = PATTERNS[name]
    searched = search(pattern.proto(), tmp_path, pattern.feeds())
    block = searched.block
    made = opened(searched, block, pattern.feeds(), ("y",))
    own = tried(made, searched.linear(), pattern.feeds())["y"]
    assert gap(own, run(pattern.proto(), pattern.feeds())["y"]) < ROUNDING
    first = another(block.geometry)
    for dense in (first, without_bias(first), another(block.geometry, seed=8), first):
        expected = referred(searched, {block.key: dense}, pattern.feeds())["y"]
        result = tried(made, dense, pattern.feeds())["y"]
        assert result.dtype == expected.dtype
        assert gap(result, expected) < ROUNDING
    # Without its bias it is another map.
    plain = tried(made, without_bias(first), pattern.feeds())["y"]
    assert gap(plain, tried(made, first, pattern.feeds())["y"]) > 1e-3


@pytest.mark.parametrize("operator", ["Gemm", "MatMul"])
@pytest.mark.parametrize(
    # A few roundings of the type.
    ("kind", "dtype", "allowed"),
    [("float16", np.float16, 8 * 2.0**-11), ("double", np.float64, 1e-14)],
)
def test_half_and_double_precision(
    operator: str, kind: str, dtype: type, allowed: float, tmp_path: Path
) -> None:
    text = f"({kind}[N,6] x) => ({kind}[N,5] y) {{ h = {operator}(x, w) y = Relu(h) }}"
    feeds = {"x": normal(3, 6, dtype=dtype)}
    searched = search(model_proto(text, {"w": normal(6, 5, dtype=dtype)}), tmp_path, feeds)
    made = opened(searched, searched.block, feeds, ("y",))
    dense = another(searched.block.geometry)
    result = tried(made, dense, feeds)["y"]
    assert result.dtype == dtype
    assert gap(result, referred(searched, {"y": dense}, feeds)["y"]) < allowed


def network(folder: Path) -> Searched:
    return search(model_proto(NETWORK, KERNELS | normalization(16)), folder, IMAGES)


@pytest.mark.parametrize("number", range(4))
@pytest.mark.parametrize("others", [False, True])
def test_a_block_in_the_middle_of_a_network(number: int, others: bool, tmp_path: Path) -> None:
    searched = network(tmp_path)
    block = searched.blocks[number]
    feeds = {"x": normal(3, 3, 8, 8, seed=5)}
    replaced = {
        each.key: another(each.geometry, seed=index, scale=0.3)
        for index, each in enumerate(searched.blocks)
        if others and index != number
    }
    # What is alive at the block, in the model in which the others are replaced.
    (place,) = cuts(searched.model, [block.source], searched.model.output_names)
    source = reference(searched.model, searched.blocks, replaced, place.live)
    alive = {**feeds, **Session(source, CPU, optimized=False).run(feeds)}
    reads = {name: alive[name] for name in place.live}
    made = opened(searched, block, reads, searched.model.output_names, replaced)
    for dense in (searched.linear(block), another(block.geometry, scale=0.3)):
        expected = referred(searched, {**replaced, block.key: dense}, feeds)
        result = tried(made, dense, reads)
        assert result.keys() == expected.keys()
        assert all(gap(result[name], expected[name]) < DEEP for name in result)
    # Nothing before the block is in the tail.
    before = searched.model.proto.graph.node[: block.nodes[0]]
    inside = onnx.load_from_string(made[0].runnable.model).graph.node
    assert {node.output[0] for node in before}.isdisjoint(node.output[0] for node in inside)


@pytest.mark.parametrize("numbers", [(0, 2), (1, 3), (0, 1, 2, 3)])
def test_several_open_blocks(numbers: tuple[int, ...], tmp_path: Path) -> None:
    """All of them take maps at once, with and without biases, while another is replaced."""
    searched = network(tmp_path)
    opening = [searched.blocks[number] for number in numbers]
    replaced = {
        each.key: another(each.geometry, seed=index, scale=0.3)
        for index, each in enumerate(searched.blocks)
        if index not in numbers
    }
    feeds = {"x": normal(3, 3, 8, 8, seed=5)}
    (place,) = cuts(searched.model, [opening[0].source], searched.model.output_names)
    source = reference(searched.model, searched.blocks, replaced, place.live)
    alive = {**feeds, **Session(source, CPU, optimized=False).run(feeds)}
    reads = {name: alive[name] for name in place.live}
    writes = searched.model.output_names
    found = tail(searched.model, opening, replaced, searched.blocks, reads, writes)
    made = found, Session(found.runnable, CPU, optimized=False)
    maps = {block.key: another(block.geometry, scale=0.3) for block in opening}
    plain = {key: without_bias(each) for key, each in maps.items()}
    some = [{**maps, key: plain[key]} for key in maps]
    for dense in (maps, *some, plain, maps):
        expected = referred(searched, {**replaced, **dense}, feeds)
        result = tried_together(made, dense, reads)
        assert all(gap(result[name], expected[name]) < DEEP for name in expected)
    # Two maps are not mixed up: each block takes its own.
    for block in opening:
        own = {**maps, block.key: searched.linear(block)}
        result = tried_together(made, own, reads)["y"]
        assert gap(result, tried_together(made, maps, reads)["y"]) > 1e-3


def test_an_open_block_without_a_map_is_an_error(tmp_path: Path) -> None:
    searched = network(tmp_path)
    found = tail(
        searched.model, searched.blocks[2:], {}, searched.blocks, {"g": normal(3, 16)}, "y"
    )
    with pytest.raises(KeyError, match=searched.blocks[3].key):
        found.feeds({searched.blocks[2].key: searched.linear(searched.blocks[2])})


def test_a_map_among_the_others_of_the_open_block_is_ignored(tmp_path: Path) -> None:
    searched = network(tmp_path)
    block = searched.blocks[2]
    reads = {"g": normal(3, 16)}
    wrong = {block.key: another(block.geometry)}
    values = [
        tried(opened(searched, block, reads, ("y",), others), searched.linear(block), reads)["y"]
        for others in ({}, wrong)
    ]
    np.testing.assert_array_equal(*values)


def test_an_output_that_is_alive_is_not_computed_again(tmp_path: Path) -> None:
    proto = model_proto(
        "(float[N,6] x) => (float[N,6] early, float[N,6] late) {"
        " h = Gemm(x, w) early = Relu(h) late = Gemm(early, v) }",
        {"w": normal(6, 6), "v": normal(6, 6, seed=1)},
    )
    searched = search(proto, tmp_path, {"x": normal(3, 6)})
    block = searched.blocks[1]
    reads = {"early": normal(3, 6, seed=2)}
    made = opened(searched, block, reads, ("early", "late"))
    assert made[1].output_names == ["late"]
    expected = reads["early"].astype(np.float64) @ searched.linear(block).weight[0].T
    assert gap(tried(made, searched.linear(block), reads)["late"], expected) < ROUNDING


def test_external_data_and_old_files(tmp_path: Path) -> None:
    for opset, external in ((7, False), (17, True)):
        proto = model_proto(
            "(float[N,6] x) => (float[N,5] y) { h = Gemm(x, w, b) r = Relu(h) y = Gemm(r, v, b) }",
            {"w": normal(6, 5), "b": normal(5), "v": normal(5, 5)},
            opset=opset,
        )
        searched = search(proto, tmp_path, {"x": normal(3, 6)})
        if external:
            onnx.save(
                proto,
                searched.model.path,
                save_as_external_data=True,
                location="data.bin",
                size_threshold=0,
            )
            searched = replace(searched, model=read_model(searched.model.path))
            assert searched.model.has_external_data
        feeds = {"x": normal(3, 6)}
        for block in searched.blocks:
            reads = run(searched.model.path, feeds, ["r"]) | feeds
            made = opened(searched, block, {block.source: reads[block.source]}, ("y",))
            dense = another(block.geometry)
            expected = referred(searched, {block.key: dense}, feeds)["y"]
            assert gap(tried(made, dense, reads)["y"], expected) < ROUNDING


@pytest.mark.parametrize("key", ["b", "c", "y", ""])
def test_open_blocks_that_have_no_bias(key: str, tmp_path: Path) -> None:
    """One of them, or none, is given a bias: each still takes its own constants."""
    proto = model_proto(
        "(float[N,6] x) => (float[N,5] y) { a = MatMul(x, w) b = Relu(a) d = MatMul(b, v)"
        " c = Relu(d) y = MatMul(c, u) }",
        {"w": normal(6, 6), "v": normal(6, 6, seed=1), "u": normal(6, 5)},
    )
    searched = search(proto, tmp_path, {"x": normal(3, 6)})
    reads = {"x": normal(3, 6, seed=2)}
    found = tail(searched.model, searched.blocks, {}, searched.blocks, reads, ("y",))
    made = found, Session(found.runnable, CPU, optimized=False)
    dense = {
        block.key: another(block.geometry)
        if block.key == key
        else without_bias(another(block.geometry))
        for block in searched.blocks
    }
    expected = referred(searched, dense, reads)["y"]
    assert gap(tried_together(made, dense, reads)["y"], expected) < DEEP
