"""Small residual networks whose shortcuts are maps of their own, in either order of nodes."""

from pathlib import Path

import numpy as np
from graphs import model_proto, normal
from onnx import helper, numpy_helper
from opened import Opened
from probed import opened

# The main branch: a Conv with its Relu, and a Conv; then the sum, its Relu, and a classifier.
MAIN = "c = Conv<pads=[1,1,1,1]>(b, k1, b1) m = Relu(c) d = Conv<pads=[1,1,1,1]>(m, k2, b2)"
SHORTCUT = "s = Conv(b, k3, b3)"
NETWORK = (
    "(float[N,3,6,6] x) => (float[N,5] y) {{ a = Conv<pads=[1,1,1,1]>(x, k0, b0) b = Relu(a)"
    " {branches} e = {sum} f = Relu(e) g = Conv<pads=[1,1,1,1]>(f, k4, b4) h = Relu(g)"
    " i = GlobalAveragePool(h) j = Flatten(i) y = Gemm(j, w) }}"
)
BRANCHES = {
    "shortcut first": (f"{SHORTCUT} {MAIN}", "Add(s, d)"),
    "shortcut last": (f"{MAIN} {SHORTCUT}", "Add(d, s)"),
    "identity": (MAIN, "Add(d, b)"),
}
COUNT = 60


def decaying(*shape: int, seed: int, scale: float) -> np.ndarray:
    """A kernel whose singular values decay, as those of trained ones do."""
    u, s, vt = np.linalg.svd(normal(*shape, seed=seed).reshape(shape[0], -1), full_matrices=False)
    sigma = s[0] * 0.75 ** np.arange(len(s))
    return (scale * (u * sigma) @ vt).reshape(shape).astype(np.float32)


WEIGHTS = {
    "k0": decaying(12, 3, 3, 3, seed=0, scale=0.3),
    "k1": decaying(12, 12, 3, 3, seed=1, scale=0.25),
    "k2": decaying(12, 12, 3, 3, seed=2, scale=0.15),
    "k3": decaying(12, 12, 1, 1, seed=3, scale=0.4),
    "k4": decaying(10, 12, 3, 3, seed=4, scale=0.2),
    "w": normal(10, 5, seed=5),
    **{f"b{number}": normal(12, seed=number, scale=0.2) for number in range(4)},
    "b4": normal(10, seed=4, scale=0.2),
}


def residual_network(folder: Path, kind: str) -> Opened:
    """One of `BRANCHES` with random images, opened and split by seed 3."""
    branches, added = BRANCHES[kind]
    arrays = dict(WEIGHTS)
    if kind == "identity":
        del arrays["k3"], arrays["b3"]
    proto = model_proto(NETWORK.format(branches=branches, sum=added), arrays)
    return opened(proto, folder, {"x": normal(COUNT, 3, 6, 6, seed=9)})


def with_a_broadcast_shortcut(folder: Path) -> Opened:
    """What is added has one number a channel, and is added to all positions."""
    text = NETWORK.format(branches=f"{MAIN} p = GlobalAveragePool(b)", sum="Add(d, p)")
    arrays = {name: values for name, values in WEIGHTS.items() if name not in ("k3", "b3")}
    return opened(model_proto(text, arrays), folder, {"x": normal(COUNT, 3, 6, 6, seed=9)})


def with_positions(folder: Path) -> Opened:
    """Sequences to which a constant of every position is added behind a MatMul."""
    proto = model_proto(
        "(float[N,4,12] x) => (float[N,4,6] y) { a = MatMul(x, w1) b = Relu(a) c = MatMul(b, w2)"
        " e = Add(c, positions) f = Relu(e) y = MatMul(f, w3) }",
        {
            "w1": decaying(12, 16, seed=1, scale=0.4),
            "w2": decaying(16, 16, seed=2, scale=0.4),
            "w3": decaying(16, 6, seed=3, scale=0.4),
        },
    )
    constant = numpy_helper.from_array(normal(1, 4, 16, seed=6))
    proto.graph.node.insert(0, helper.make_node("Constant", [], ["positions"], value=constant))
    return opened(proto, folder, {"x": normal(200, 4, 12, seed=9)})
