"""Rewritten graphs compute what their factors say, for every pattern, form and type."""

from pathlib import Path

import ml_dtypes
import numpy as np
import onnx
import pytest
from convolutions import Convolution, convolutions
from graphs import (
    Searched,
    composed,
    evaluated,
    factors_of,
    gap,
    model_proto,
    newest_opset,
    normal,
    run,
    search,
    search_shapes,
)
from hypothesis import HealthCheck, given, settings
from onnx import ModelProto, TensorProto, helper
from onnx.reference import ReferenceEvaluator
from patterns import PATTERNS, REPRESENTATIVES

from onnx_relusv.graph.checks import PROVENANCE_KEY
from onnx_relusv.rewrites.low_rank.forms import FORMS, available_forms
from onnx_relusv.rewrites.low_rank.surgery import rewrite

# Float32 sums of at most 100 products, twice, and factors that are rounded to float32.
ROUNDING = 5e-6


def rewritten(searched: Searched, form: str, rank: int) -> ModelProto:
    """The only block as a double layer."""
    block = searched.block
    factors = factors_of(searched, block, form, rank)
    return rewrite(searched.model, [block], {block.key: factors}, "{}")


@pytest.mark.parametrize("name", PATTERNS)
def test_full_rank_agrees_with_the_original(name: str, tmp_path: Path) -> None:
    pattern = PATTERNS[name]
    searched = search(pattern.proto(), tmp_path, pattern.feeds())
    block = searched.block
    names = [block.pre_activation, block.key]
    before = run(searched.model.path, pattern.feeds(), names)
    for form in available_forms(block.geometry):
        smaller = rewritten(searched, form, FORMS[form].largest_rank(block.geometry))
        onnx.checker.check_model(smaller, full_check=True)
        after = run(smaller, pattern.feeds(), names)
        assert all(gap(after[name], before[name]) < ROUNDING for name in before)


@pytest.mark.parametrize("name", REPRESENTATIVES)
def test_low_rank_agrees_with_the_product_of_its_factors(name: str, tmp_path: Path) -> None:
    pattern = PATTERNS[name]
    searched = search(pattern.proto(), tmp_path, pattern.feeds())
    block, source = searched.block, pattern.feeds()["x"]
    for form in available_forms(block.geometry):
        factors = factors_of(searched, block, form, 2)
        smaller = rewrite(searched.model, [block], {block.key: factors}, "{}")
        result = run(smaller, pattern.feeds(), [block.pre_activation])[block.pre_activation]
        assert gap(result, evaluated(block, composed(block, factors), source)) < ROUNDING
        # At rank 2 it is another map than the original.
        assert gap(result, evaluated(block, searched.linear(), source)) > 1e-2


@settings(
    max_examples=150,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(convolutions())
def test_any_convolution(tmp_path: Path, convolution: Convolution) -> None:
    proto, feeds = convolution.proto(), convolution.feeds()
    searched = search(proto, tmp_path, feeds)
    block = searched.block
    exact = run(proto, feeds)["y"]
    for form in available_forms(block.geometry):
        smaller = rewritten(searched, form, FORMS[form].largest_rank(block.geometry))
        assert gap(run(smaller, feeds)["y"], exact) < ROUNDING


@pytest.mark.parametrize("opset", [7, 9, 11, 13, 17, 22, "newest"])
def test_operator_sets(opset: int | str, tmp_path: Path) -> None:
    for operator in ("Gemm", "MatMul", "Conv"):
        version = newest_opset() if opset == "newest" else int(opset)
        is_conv = operator == "Conv"
        shape = (2, 4, 6, 6) if is_conv else (2, 6)
        weight = normal(5, 4, 3, 3) if is_conv else normal(6, 5)
        arrays = {"w": weight} | ({} if operator == "MatMul" else {"b": normal(5)})
        addend = {"c": normal(5, 1, 1) if is_conv else normal(5)}
        head = (
            "(float[2,4,6,6] x) => (float[2,5,4,4] y)"
            if is_conv
            else "(float[2,6] x) => (float[2,5] y)"
        )
        proto = model_proto(
            f"{head} {{ h = {operator}({', '.join(['x', *arrays])}) g = Add(h, c) y = Relu(g) }}",
            arrays | addend,
            opset=version,
        )
        feeds = {"x": normal(*shape)}
        searched = search(proto, tmp_path, feeds)
        form: str = "channel" if is_conv else "pair"
        smaller = rewritten(searched, form, 5)
        onnx.checker.check_model(smaller, full_check=True)
        assert smaller.ir_version == proto.ir_version
        assert gap(run(smaller, feeds)["y"], run(proto, feeds)["y"]) < ROUNDING


def typed(operator: str, element_type: str) -> tuple[ModelProto, dict[str, np.ndarray]]:
    """A model whose weights, input and output are of one type."""
    dtype = helper.tensor_dtype_to_np_dtype(TensorProto.DataType.Value(element_type.upper()))
    is_conv = operator == "Conv"
    shape = (2, 4, 6, 6) if is_conv else (2, 6)
    weight = normal(5, 4, 3, 3) if is_conv else normal(6, 5)
    arrays = {"w": weight.astype(dtype)}
    arrays |= {} if operator == "MatMul" else {"b": normal(5).astype(dtype)}
    rows, columns = ("2,4,6,6", "2,5,4,4") if is_conv else ("2,6", "2,5")
    proto = model_proto(
        f"({element_type}[{rows}] x) => ({element_type}[{columns}] y)"
        f" {{ h = {operator}({', '.join(['x', *arrays])}) y = Relu(h) }}",
        arrays,
        opset=22,
    )
    return proto, {"x": normal(*shape).astype(dtype)}


def onnxruntime_runs(proto: ModelProto, feeds: dict[str, np.ndarray]) -> bool:
    try:
        run(proto, feeds)
    except Exception as error:  # onnxruntime has no common base class for its errors
        if "Could not find an implementation" not in str(error):
            raise
        return False
    return True


@pytest.mark.parametrize("operator", ["Gemm", "MatMul", "Conv"])
@pytest.mark.parametrize("element_type", ["float16", "bfloat16", "double"])
def test_other_types_of_weights(operator: str, element_type: str, tmp_path: Path) -> None:
    proto, feeds = typed(operator, element_type)
    shapes = {"x": feeds["x"].shape, "h": (2, 5, 4, 4) if operator == "Conv" else (2, 5)}
    searched = search_shapes(proto, tmp_path, shapes)
    block = searched.block
    form: str = "channel" if operator == "Conv" else "pair"
    smaller = rewritten(searched, form, 5)
    onnx.checker.check_model(smaller, full_check=True)
    kinds = {tensor.data_type for tensor in smaller.graph.initializer}
    assert kinds == {proto.graph.initializer[0].data_type} == {block.element_type}
    one = float(ml_dtypes.finfo(feeds["x"].dtype).eps)
    if onnxruntime_runs(proto, feeds):
        result, before = run(smaller, feeds, ["h"])["h"], run(proto, feeds, ["h"])["h"]
    else:
        # There is no kernel for this type on a CPU; ONNX's own reference computes all of them.
        result, before = (
            evaluate.run(["h"], feeds)[0]
            for evaluate in (in_reference(smaller), in_reference(proto))
        )
    exact = evaluated(block, searched.linear(), feeds["x"])
    # Factors, inner channels, products and sums are rounded to the type, a few times each.
    assert gap(before, exact) < 8 * one
    assert gap(result, exact) < 8 * one
    if element_type == "double":
        assert gap(result, exact) < 1e-14


def in_reference(proto: ModelProto) -> ReferenceEvaluator:
    shown = ModelProto()
    shown.CopyFrom(proto)
    shown.graph.output.append(onnx.ValueInfoProto(name="h"))
    return ReferenceEvaluator(shown)


@pytest.mark.parametrize("name", ["conv_grouped", "conv", "gemm", "matmul"])
def test_stored_weights_are_what_the_nodes_read(name: str, tmp_path: Path) -> None:
    pattern = PATTERNS[name]
    searched = search(pattern.proto(), tmp_path, pattern.feeds())
    block = searched.block
    for form in available_forms(block.geometry):
        factors = factors_of(searched, block, form, 2)
        smaller = rewrite(searched.model, [block], {block.key: factors}, "{}")
        stored = {t.name: onnx.numpy_helper.to_array(t) for t in smaller.graph.initializer}
        roles = ["first", "second"] if form != "tucker" else ["first", "core", "second"]
        weights = FORMS[form].stored(block.geometry, factors.rank, factors.matrices)
        for role, weight in zip(roles, weights, strict=True):
            np.testing.assert_array_equal(stored[f"y/{role}_weight"], weight.astype(np.float32))


def test_a_chain_of_blocks_is_rewritten_at_once(tmp_path: Path) -> None:
    proto = model_proto(
        "(float[N,3,8,8] x) => (float[N,6] y) {"
        " a = Conv(x, k) b = Relu(a) c = Conv<strides=[2,2]>(b, l, m)"
        " d = LeakyRelu(c) e = Flatten(d) f = Gemm(e, w, v) y = Identity(f) }",
        {
            "k": normal(5, 3, 3, 3),
            "l": normal(4, 5, 2, 2),
            "m": normal(4),
            "w": normal(36, 6),
            "v": normal(6),
        },
    )
    feeds = {"x": normal(2, 3, 8, 8)}
    searched = search(proto, tmp_path, feeds)
    assert [block.key for block in searched.blocks] == ["b", "d", "y"]
    full = {
        block.key: factors_of(searched, block, form, FORMS[form].largest_rank(block.geometry))
        for block in searched.blocks
        for form in available_forms(block.geometry)[-1:]
    }
    exact = run(proto, feeds)["y"]
    for keys in (["b"], ["d", "y"], ["b", "d", "y"]):
        some = {key: full[key] for key in keys}
        smaller = rewrite(searched.model, searched.blocks, some, "{}")
        onnx.checker.check_model(smaller, full_check=True)
        assert gap(run(smaller, feeds)["y"], exact) < ROUNDING
        doubled = {
            key for key in full for node in smaller.graph.node if f"{key}/inner" in node.output
        }
        assert doubled == set(keys)


def test_the_provenance_is_in_the_metadata(tmp_path: Path) -> None:
    pattern = PATTERNS["gemm"]
    searched = search(pattern.proto(), tmp_path, pattern.feeds())
    factors = {"y": factors_of(searched, searched.block, "pair", 2)}
    once = rewrite(searched.model, searched.blocks, factors, "once")
    assert [(entry.key, entry.value) for entry in once.metadata_props] == [(PROVENANCE_KEY, "once")]
