"""A small residual network whose blocks can be computed with integers, and its samples."""

from pathlib import Path

import numpy as np
import onnx
from graphs import model_proto, normal, run
from residual_networks import decaying

from onnx_relusv import MeasureOptions, PlanOptions, compress
from onnx_relusv.core.results import Compression

TEXT = (
    "(float[N,3,12,12] x) => (float[N,6] y) {"
    " a = Conv<pads=[1,1,1,1]>(x, k0, b0) b = Relu(a) p = MaxPool<kernel_shape=[2,2],"
    " strides=[2,2]>(b) c = Conv<pads=[1,1,1,1]>(p, k1, b1) m = Relu(c)"
    " d = Conv<pads=[1,1,1,1]>(m, k2, b2) e = Add(d, p) f = Relu(e)"
    " g = Conv<pads=[1,1,1,1]>(f, k3, b3) h = Relu(g) i = GlobalAveragePool(h)"
    " j = Flatten(i) q = Gemm(j, w, v) r = Relu(q) y = Gemm(r, u) }"
)
WIDTH = 32
ARRAYS = {
    "k0": decaying(WIDTH, 3, 3, 3, seed=0, scale=0.3),
    "k1": decaying(WIDTH, WIDTH, 3, 3, seed=1, scale=0.2),
    "k2": decaying(WIDTH, WIDTH, 3, 3, seed=2, scale=0.15),
    "k3": decaying(WIDTH, WIDTH, 3, 3, seed=3, scale=0.2),
    "w": decaying(WIDTH, 40, seed=4, scale=0.6),
    "v": normal(40, seed=5, scale=0.1),
    "u": normal(40, 6, seed=6),
    **{f"b{number}": normal(WIDTH, seed=10 + number, scale=0.1) for number in range(4)},
}
BLOCKS = ("b", "m", "d", "h", "r", "y")


_APART = (
    "(float[N,3,12,12] x) => (float[N,6] y) {"
    " i = Conv<pads=[1,1,1,1]>(x, k0, b0) a = Relu(i)"
    f" j = Conv<pads=[2,2,2,2],group={WIDTH},strides=[2,2]>(a, d0, b1) c = Relu(j)"
    " k = Conv(c, p0, b2) e = Relu(k)"
    f" l = Conv<pads=[2,2,2,2],group={WIDTH}>(e, d1, b3) g = Relu(l)"
    " m = Conv(g, p1, b4) h = Relu(m) n = GlobalAveragePool(h)"
    " o = Flatten(n) y = Gemm(o, u) }"
)


def images(count: int, seed: int = 0) -> np.ndarray:
    """Images of which neighbours are alike."""
    rng = np.random.default_rng(seed)
    coarse = rng.standard_normal((count, 3, 4, 4))
    fine = coarse.repeat(3, axis=2).repeat(3, axis=3)
    return (fine + 0.3 * rng.standard_normal(fine.shape)).astype(np.float32)


def network(folder: Path, *, opset: int = 17, **changed: np.ndarray) -> Path:
    """Saves the network, with some other weights."""
    path = folder / "network.onnx"
    onnx.save(model_proto(TEXT, {**ARRAYS, **changed}, opset=opset), path)
    return path


def samples(folder: Path, model: Path, *, count: int = 240, seed: int = 0, name: str = "s") -> Path:
    """Saves images, with what the network says of them as labels."""
    path, x = folder / f"{name}.npz", images(count, seed)
    labels = run(model, {"x": x}, ["y"])["y"].argmax(axis=1)
    np.savez(path, x=x, labels=labels)
    return path


def depthwise_network(folder: Path) -> Path:
    """Saves a network in which depthwise Convs stand between others."""
    path = folder / "network.onnx"
    arrays = {
        "k0": decaying(WIDTH, 3, 3, 3, seed=20, scale=0.3),
        "d0": normal(WIDTH, 1, 5, 5, seed=21, scale=0.3),
        "p0": decaying(WIDTH, WIDTH, 1, 1, seed=22, scale=0.4),
        "d1": normal(WIDTH, 1, 5, 5, seed=23, scale=0.3),
        "p1": decaying(WIDTH, WIDTH, 1, 1, seed=24, scale=0.4),
        "u": normal(WIDTH, 6, seed=25),
        **{f"b{place}": normal(WIDTH, seed=30 + place, scale=0.1) for place in range(5)},
    }
    onnx.save(model_proto(_APART, arrays), path)
    return path


def compressed(
    folder: Path, name: str, planning: PlanOptions, *, sampled: bool = True
) -> Compression:
    """The network of a folder made smaller there, with a report."""
    return compress(
        folder / "network.onnx",
        folder / f"{name}.onnx",
        samples=folder / "s.npz" if sampled else None,
        planning=planning,
        measuring=MeasureOptions(provider="cpu"),
        report=folder / f"{name}_report",
    )


def relative_change(before: Path, after: Path) -> float:
    """How far the outputs of a file are from those of the network, on images of their own."""
    feeds = {"x": images(100, seed=9)}
    first, second = (run(path, feeds)["y"] for path in (before, after))
    return float(np.linalg.norm(second - first) / np.linalg.norm(first))
