"""What a changed model is told from the original by, where outputs are no float tensors."""

from pathlib import Path

import numpy as np
import pytest
from graphs import model_proto, normal, saved
from opened import open_model
from sample_arrays import archive

from onnx_relusv import Budgets, MeasureOptions, PlanOptions, compare, compress
from onnx_relusv.graph.model import read_model
from onnx_relusv.measuring.answers import deciding_outputs
from onnx_relusv.runtime.session import CPU, Session

ML = {"ai.onnx.ml": 3}
ARRAYS = {
    "W": normal(32, 48, scale=0.2),
    "V": normal(48, 10, scale=0.2),
    "two": np.array([2]),
    "zero": np.array(0, np.float32),
    "names": np.array(["a", "b", "c", "d", "e", "f", "g", "h", "i", "j"], object),
    "boxes": np.tile(np.array([0, 0, 1, 1], np.float32), (1, 10, 1))
    + np.arange(10.0)[None, :, None].astype(np.float32),
    "one": np.array([1.0], np.float32),
    "many": np.array([100]),
    "half": np.array([0.5], np.float32),
}
HEAD = "h = MatMul(x, W) r = Relu(h) y = MatMul(r, V)"


def network(outputs: str, nodes: str, folder: Path) -> Path:
    text = f"(float[N,32] x) => ({outputs}) {{ {HEAD} {nodes} }}"
    proto = model_proto(text, {name: ARRAYS[name] for name in ARRAYS if name in text}, domains=ML)
    return saved(proto, folder).path


KINDS = {
    "labels": ("int64[N] k", "k = ArgMax<axis = 1, keepdims = 0>(y)", ("y",)),
    "scores_and_text": (
        "float[N,10] p, string[N] t",
        "p = Softmax<axis = 1>(y) k = ArgMax<axis = 1, keepdims = 0>(p) t = Gather(names, k)",
        ("p",),
    ),
    "maps": (
        "seq(map(int64, float)) m",
        "p = Softmax<axis = 1>(y) m = ai.onnx.ml.ZipMap"
        "<classlabels_int64s = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]>(p)",
        ("p",),
    ),
    "members": ("seq(float[N,1]) s", "s = SplitToSequence<axis = 1>(y)", ("y",)),
    "places": ("int64[2,M] z", "q = Relu(y) z = NonZero(q)", ("q",)),
    "picked": ("float[M] z", "b = Greater(y, zero) z = Compress(y, b)", ("y",)),
    "distinct": ("float[M] z", "q = Floor(y) z = Unique(q)", ("y",)),
    "truth": ("bool[N,10] b", "b = Less(zero, y)", ("y",)),
    "boxes": (
        "int64[M,3] z",
        "e = Unsqueeze(y, two) f = Transpose<perm = [2, 0, 1]>(e)"
        " g = ReduceMax<axes = [1], keepdims = 1>(f)"
        " z = NonMaxSuppression(boxes, g, many, half, zero)",
        ("g",),
    ),
    "computed_k": (
        "float[N,K] v, int64[N,K] i",
        "q = Abs(y) m = ReduceMax<keepdims = 0>(q) c = Cast<to = 7>(m) d = Add(c, two)"
        " t = Unsqueeze(zero, zeros) v, i = TopK(y, d)",
        ("y", "m"),
    ),
    "maybe": ("optional(float[N,10]) o", "o = Optional(y)", ("y",)),
    "plain": ("float[N,10] y", "", ("y",)),
}


@pytest.mark.parametrize("kind", KINDS)
def test_the_float_tensors_that_decide(kind: str, tmp_path: Path) -> None:
    outputs, nodes, decides = KINDS[kind]
    nodes = nodes.replace("t = Unsqueeze(zero, zeros)", "")
    path = network(outputs, nodes, tmp_path)
    model = read_model(path)
    assert set(deciding_outputs(model, Session(path, CPU))) == set(decides)


@pytest.mark.parametrize("kind", ["labels", "maps", "members", "distinct", "boxes"])
def test_models_with_such_outputs_are_compressed_and_compared(kind: str, tmp_path: Path) -> None:
    outputs, nodes, _ = KINDS[kind]
    path, small = network(outputs, nodes, tmp_path), tmp_path / "small.onnx"
    samples = archive(tmp_path, x=normal(60, 32))
    planning = PlanOptions(budgets=Budgets(size=0.8))
    done = compress(path, small, samples=samples, planning=planning)
    assert done.after.bytes < 0.8 * done.before.bytes
    (change,) = compare(path, small, samples).evaluation.outputs
    # Of a list of whole numbers, none may have moved by a step.
    assert change.change < 0.9
    assert change.change > 0 or change.kind == "list"


def test_blocks_on_as_many_rows_as_blocks_before_them_decide_stay(tmp_path: Path) -> None:
    nodes = "b = ReduceMax<axes = [1], keepdims = 0>(y) c = Greater(b, zero)"
    nodes += " s = Compress<axis = 0>(y, c) t = MatMul(s, U) u = Relu(t)"
    text = f"(float[N,32] x) => (float[M,32] u) {{ {HEAD} {nodes} }}"
    arrays = {name: ARRAYS[name] for name in ("W", "V", "zero")} | {"U": normal(10, 32)}
    model = saved(model_proto(text, arrays), tmp_path)
    opened = open_model(model.path, archive(tmp_path, x=normal(20, 32)), MeasureOptions())
    assert "u" not in {block.key for block in opened.case.blocks}
    assert "how many rows" in {one.key: one.reason for one in opened.case.refusals}["u"]
