"""What a changed model is told from the original by, where outputs are no float tensors."""

from pathlib import Path

import numpy as np
import pytest
from graphs import model_proto, normal, saved

from onnx_relusv.deciding import deciding_outputs
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
    "distinct": ("float[M] z", "q = Floor(y) z = Unique(q)", ("q",)),
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
    model = read(path)
    assert set(deciding_outputs(model, Session(path, CPU))) == set(decides)


def read(path: Path):  # type: ignore[no-untyped-def]
    from onnx_relusv.graph.model import read_model

    return read_model(path)
