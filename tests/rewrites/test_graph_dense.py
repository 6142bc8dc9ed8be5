"""Blocks replaced by themselves with other values: the file against float64 and the reference."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from graphs import Searched, evaluated, gap, model_proto, normal, normalization, run, search
from patterns import PATTERNS, REPRESENTATIVES

from onnx_relusv.core.blocks import Block
from onnx_relusv.core.plans import Factors
from onnx_relusv.graph.checks import checker_problem, operand_problems
from onnx_relusv.graph.reference import reference
from onnx_relusv.rewrites.low_rank.candidates import refit_bytes
from onnx_relusv.rewrites.low_rank.factors import as_stored
from onnx_relusv.rewrites.low_rank.surgery import rewrite
from onnx_relusv.runtime.session import CPU, Session

# Float32 sums of at most 100 products.
ROUNDING = 2e-6


def other_values(block: Block, *, biased: bool = True, seed: int = 7) -> Factors:
    """A dense map that has nothing to do with the original."""
    geometry = block.geometry
    shape = (geometry.groups, geometry.rows, geometry.columns)
    bias = normal(geometry.out_channels, seed=seed, dtype=np.float64)
    return Factors(
        form="dense",
        rank=geometry.largest_rank,
        matrices=(normal(*shape, seed=seed, dtype=np.float64),),
        bias=bias if biased else np.zeros_like(bias),
    )


def refitted(searched: Searched, factors: dict[str, Factors]) -> onnx.ModelProto:
    return rewrite(searched.model, searched.blocks, factors, "{}")


def growth(searched: Searched, result: onnx.ModelProto) -> int:
    """Bytes that a file gains, but for its provenance."""
    plain = onnx.ModelProto()
    plain.CopyFrom(result)
    del plain.metadata_props[:]
    return plain.ByteSize() - searched.model.proto.ByteSize()


@pytest.mark.parametrize("name", REPRESENTATIVES)
def test_it_computes_its_new_map_and_adds_no_more_than_was_said(name: str, tmp_path: Path) -> None:
    """With a bias also where there was none, without one, and whatever was folded into it."""
    pattern = PATTERNS[name]
    feeds = pattern.feeds()
    searched = search(pattern.proto(), tmp_path, feeds)
    block = searched.block
    own = run(searched.model.path, feeds)["y"]
    for biased in (True, False):
        factors = other_values(block, biased=biased)
        result = refitted(searched, {block.key: factors})
        linear = as_stored(block, factors)
        found = run(result, feeds, [block.pre_activation])
        expected = evaluated(block, linear, feeds["x"])
        assert gap(found[block.pre_activation], expected) < ROUNDING
        source = reference(searched.model, searched.blocks, {block.key: linear})
        exact = Session(source, CPU, optimized=False).run(feeds)["y"]
        assert gap(found["y"], exact) < ROUNDING
        # The original's own values give something else.
        assert gap(own, exact) > 1e-2
        onnx.save(result, tmp_path / "result.onnx")
        assert checker_problem(tmp_path / "result.onnx") is None
        assert operand_problems(result) == []
        # One layer, and what was folded into it is gone; only a MatMul's bias is a node of its own.
        operators = [each.op_type for each in result.graph.node]
        assert operators.count(pattern.kind.replace("gemm", "Gemm").replace("conv", "Conv")) <= 1
        assert "BatchNormalization" not in operators
        assert operators.count("Add") == (pattern.kind == "matmul" and biased)
        if biased:
            added = growth(searched, result)
            bound = refit_bytes(block, searched.model.proto.graph.node, 4)
            assert added <= bound
            # Little is held back for nothing: names, a bias, and for a MatMul a node.
            assert bound <= max(added, 0) + 400


@pytest.mark.parametrize("opset", [8, 17])
@pytest.mark.parametrize("prefix", ["", "/encoder/layers.3/" * 8])
def test_long_names_and_a_bias_that_serves_others_are_counted(
    opset: int, prefix: str, tmp_path: Path
) -> None:
    """The bias stays for the second block; before IR version 4 constants are inputs too."""
    text = (
        "(float[N,6] x) => (float[N,6] y) { h = Gemm(x, w, b) r = Relu(h)"
        " i = MatMul(r, v) j = Add(i, b) s = Relu(j) t = MatMul(s, u) y = Relu(t) }"
    )
    arrays = {"w": normal(6, 6), "b": normal(6), "v": normal(6, 6, seed=1), "u": normal(6, 6)}
    proto = model_proto(text, arrays, opset=opset)
    for each in proto.graph.node:
        for names in (each.input, each.output):
            names[:] = [f"{prefix}{one}" if one in "rs" else one for one in names]
    searched = search(proto, tmp_path, {"x": normal(2, 6)})
    nodes = searched.model.proto.graph.node
    assert [block.key for block in searched.blocks] == [f"{prefix}r", f"{prefix}s", "y"]
    for block in searched.blocks:
        added = growth(searched, refitted(searched, {block.key: other_values(block)}))
        assert 0 < added <= refit_bytes(block, nodes, 4)
    every = refitted(searched, {block.key: other_values(block) for block in searched.blocks})
    bound = sum(refit_bytes(block, nodes, 4) for block in searched.blocks)
    assert growth(searched, every) <= bound


def test_refitted_blocks_beside_others(tmp_path: Path) -> None:
    """Nodes keep their order and names, and what is not replaced stays byte for byte."""
    proto = model_proto(
        "(float[N,3,6,6] x) => (float[N,5] y) {"
        " a = Conv<pads=[1,1,1,1]>(x, k) n = BatchNormalization(a, gamma, beta, mean, variance)"
        " c = Relu(n) g = GlobalAveragePool(c) h = Flatten(g) i = Gemm(h, w, v) j = Relu(i)"
        " y = MatMul(j, u) }",
        {"k": normal(8, 3, 3, 3), "w": normal(8, 7), "v": normal(7), "u": normal(7, 5)}
        | normalization(8),
    )
    for index, each in enumerate(proto.graph.node):
        each.name = f"node{index}"
    feeds = {"x": normal(2, 3, 6, 6)}
    searched = search(proto, tmp_path, feeds)
    blocks = {block.key: block for block in searched.blocks}
    factors = {key: other_values(blocks[key]) for key in ("c", "y")}
    result = refitted(searched, factors)
    dense = {key: as_stored(blocks[key], each) for key, each in factors.items()}
    exact = Session(reference(searched.model, searched.blocks, dense), CPU).run(feeds)["y"]
    assert gap(run(result, feeds)["y"], exact) < 10 * ROUNDING  # three layers behind one another
    named = {each.output[0]: each for each in result.graph.node}
    assert (named["n"].op_type, named["n"].name) == ("Conv", "node0")
    before = {each.output[0]: each for each in proto.graph.node}
    for name in ("c", "g", "h", "i", "j"):
        assert named[name].SerializeToString() == before[name].SerializeToString()
    left = {tensor.name for tensor in result.graph.initializer}
    assert left.isdisjoint({"k", "u", "gamma", "beta", "mean", "variance"})
    assert {"w", "v"} <= left


@pytest.mark.parametrize(("kind", "dtype"), [("float16", np.float16), ("double", np.float64)])
def test_values_are_stored_in_the_weight_s_type(kind: str, dtype: type, tmp_path: Path) -> None:
    text = f"({kind}[N,6] x) => ({kind}[N,5] y) {{ h = MatMul(x, w) y = Relu(h) }}"
    feeds = {"x": normal(3, 6, dtype=dtype)}
    searched = search(model_proto(text, {"w": normal(6, 5, dtype=dtype)}), tmp_path, feeds)
    factors = other_values(searched.block)
    result = refitted(searched, {"y": factors})
    found = run(result, feeds)["y"]
    assert found.dtype == dtype
    linear = as_stored(searched.block, factors)
    expected = np.maximum(evaluated(searched.block, linear, feeds["x"]), 0)
    # Sums of six products and one more rounding of the type.
    assert gap(found, expected) < 8 * np.finfo(dtype).eps
