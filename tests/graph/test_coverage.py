"""Where bytes lie: every constant is told with its operator, wherever it is, and nothing twice."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from graphs import model_proto, normal, saved
from onnx import ModelProto, helper, numpy_helper
from opened import open_model

from onnx_relusv.core.errors import Coverage
from onnx_relusv.core.options import MeasureOptions, PlanOptions
from onnx_relusv.planning.settling import model_coverage

W = normal(24, 24)
ROWS = "(float[N,24] x) => (float[N,24] y)"
WORDS = "(int64[N] x) => (float[N,24] y)"


def found(proto: ModelProto, folder: Path, planning: PlanOptions | None = None) -> Coverage:
    path = saved(proto, folder).path
    return model_coverage(open_model(path, None, MeasureOptions(provider="cpu")).case, planning)


def opset_function() -> ModelProto:
    """A weight that a function holds, and one that is handed to it."""
    nodes = [
        helper.make_node("Constant", [], ["own"], value=numpy_helper.from_array(W, "v")),
        helper.make_node("MatMul", ["a", "own"], ["c"]),
        helper.make_node("MatMul", ["c", "w"], ["b"]),
    ]
    proto = model_proto(f"{ROWS} {{ y = mine.Twice(x, w) }}", {"w": W}, domains={"mine": 1})
    function = helper.make_function(
        "mine", "Twice", ["a", "w"], ["b"], nodes, [helper.make_opsetid("", 17)]
    )
    proto.functions.append(function)
    return proto


def branches() -> ModelProto:
    """Both branches have a constant of one name."""
    proto = model_proto(
        f"""{ROWS} {{
            s = ReduceSum<keepdims=0>(x)
            c = Greater(s, zero)
            y = If (c) <then_branch = t () => (t1) {{ t1 = MatMul(x, v) }},
                        else_branch = e () => (e1) {{ e1 = MatMul(x, v) }}>
        }}""",
        {"zero": np.zeros((), np.float32)},
    )
    for attribute in proto.graph.node[-1].attribute:
        attribute.g.initializer.append(numpy_helper.from_array(W, "v"))
    return proto


CASES = {
    "block": (f"{ROWS} {{ p = MatMul(x, w) y = Relu(p) }}", "MatMul", True, "in blocks"),
    "lookup": (f"{WORDS} {{ y = Gather(w, x) }}", "Gather", False, "looked up"),
    "added": (f"{ROWS} {{ y = Mul(t, t) t = MatMul(x, x2) x2 = Mul(w, w) }}", "MatMul", True, ""),
    "shared": (
        f"{ROWS} {{ a = MatMul(x, w) b = Relu(a) y = MatMul(b, w) }}",
        "MatMul",
        False,
        "several operators share",
    ),
    "elementwise": (
        "(float[24,24] x) => (float[24,24] y) { y = Mul(x, w) }",
        "Mul",
        False,
        "one by one",
    ),
    "nothing": (f"{ROWS} {{ y = Relu(x) }}", "(none)", False, "nothing reads them"),
    "einsum": (
        f'{ROWS} {{ y = Einsum<equation = "ij,jk->ik">(x, w) }}',
        "Einsum",
        False,
        "not read",
    ),
    "contributed": (
        f"{ROWS} {{ y = com.microsoft.FusedMatMul(x, w) }}",
        "com.microsoft.FusedMatMul",
        False,
        "the set com.microsoft",
    ),
    "computed": (f"{ROWS} {{ v = Transpose(w) y = MatMul(x, v) }}", "MatMul", True, "in blocks"),
}


@pytest.mark.parametrize("name", CASES)
def test_a_weight_is_told_with_its_operator(name: str, tmp_path: Path) -> None:
    text, operator, covered, reason = CASES[name]
    proto = model_proto(text, {"w": W}, domains={"com.microsoft": 1})
    coverage = found(proto, tmp_path)
    (row,) = coverage.rows
    assert (row.operator, row.covered, row.bytes) == (operator, covered, W.nbytes)
    assert reason in row.reason
    assert coverage.covered_bytes == (W.nbytes if covered else 0)
    assert coverage.other_bytes == coverage.total_bytes - W.nbytes


@pytest.mark.parametrize("make", [opset_function, branches])
def test_functions_and_bodies_are_looked_into(make: object, tmp_path: Path) -> None:
    assert callable(make)
    coverage = found(make(), tmp_path)
    held = [row for row in coverage.rows if row.bytes >= W.nbytes]
    assert sum(row.bytes for row in held) == 2 * W.nbytes
    assert not any(row.covered for row in held)
    names = " ".join(row.operator for row in held)
    if make is opset_function:
        assert "mine.Twice" in names
        assert "MatMul in the function Twice" in names
    else:
        assert names == "MatMul in the body of If y"


@pytest.mark.parametrize(("dtype", "reason"), [(np.int8, "quantised"), (np.uint8, "quantised")])
def test_quantised_weights(dtype: type, reason: str, tmp_path: Path) -> None:
    proto = model_proto(
        f"{ROWS} {{ v = DequantizeLinear(w, scale) y = MatMul(x, v) }}",
        {"w": np.ones((24, 24), dtype), "scale": np.float32(0.1) * np.ones((), np.float32)},
    )
    row = found(proto, tmp_path).rows[0]
    assert (row.operator, row.bytes) == ("MatMul", 24 * 24 + 4)  # and its scale
    assert reason in row.reason
    assert "before it was quantised" in row.advice


def test_all_bytes_are_told_once(tmp_path: Path) -> None:
    """Also where weights lie beside the model, and where small constants are told together."""
    arrays = {"w": W, "v": normal(24, 8), "b": normal(8), "s": normal(24), "t": normal(1)}
    proto = model_proto(
        "(float[N,24] x) => (float[N,8] y)"
        " { a = MatMul(x, w) c = Mul(a, s) d = Div(c, t) y = Gemm(d, v, b) }",
        arrays,
    )
    for external in (False, True):
        path = tmp_path / f"{external}.onnx"
        onnx.save(
            proto,
            path,
            save_as_external_data=external,
            location=f"{external}.data",
            size_threshold=0,
        )
        opened = open_model(path, None, MeasureOptions(provider="cpu"))
        coverage = model_coverage(opened.case)
        size = sum(file.stat().st_size for file in tmp_path.glob(f"{external}.*"))
        assert coverage.total_bytes == size
        constants = sum(row.bytes for row in coverage.rows)
        assert constants == sum(array.nbytes for array in arrays.values())
        assert coverage.other_bytes == size - constants
        small = [row for row in coverage.rows if "small" in row.reason]
        assert [row.operator for row in small] == ["Div, Mul"]
        # onnx.save moves what it writes out of the proto.
        proto = model_proto(
            "(float[N,24] x) => (float[N,8] y)"
            " { a = MatMul(x, w) c = Mul(a, s) d = Div(c, t) y = Gemm(d, v, b) }",
            arrays,
        )


def test_blocks_that_may_not_change_are_told_apart(tmp_path: Path) -> None:
    proto = model_proto(f"{ROWS} {{ p = MatMul(x, w) y = Relu(p) }}", {"w": W})
    (row,) = found(proto, tmp_path, PlanOptions(exclude=("y",))).rows
    assert not row.covered
    assert row.reason == "in blocks, but left out by --include or --exclude"
    tiny = model_proto("(float[N,2] x) => (float[N,2] y) { y = MatMul(x, w) }", {"w": W[:2, :2]})
    (row,) = found(tiny, tmp_path).rows
    assert row.reason == "in blocks, but no double layer makes them smaller"
