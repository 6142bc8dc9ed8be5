"""A classifier that loses little when it is made smaller, and samples that it is certified on."""

from pathlib import Path

import numpy as np
import onnx
from graphs import model_proto, run

TEXT = (
    "(float[N,20] x) => (float[N,4] y) {"
    " a = Gemm(x, w, b) c = Relu(a) d = Gemm(c, v, e) f = Relu(d) y = Gemm(f, u, g) }"
)
COUNT = 400
# Of labels: how many are not what the model says.
_WRONG = 0.1


def weights(decay: float) -> dict[str, np.ndarray]:
    """Weights whose singular values fall by a factor from one to the next."""
    rng = np.random.default_rng(5)
    found: dict[str, np.ndarray] = {}
    for name, bias, shape in (("w", "b", (20, 64)), ("v", "e", (64, 64)), ("u", "g", (64, 4))):
        left, right = (np.linalg.qr(rng.standard_normal((n, n)))[0] for n in shape)
        rank = min(shape)
        matrix = 6 * left[:, :rank] * decay ** np.arange(rank) @ right[:rank]
        found[name] = matrix.astype(np.float32)
        found[bias] = rng.standard_normal(shape[1]).astype(np.float32) / 4
    return found


def classifier(folder: Path, *, decay: float = 0.8) -> Path:
    """Saves the classifier."""
    path = folder / "classifier.onnx"
    onnx.save(model_proto(TEXT, weights(decay)), path)
    return path


def inputs(count: int = COUNT) -> np.ndarray:
    """Inputs that vary more in some directions than in others; the first ones of any number."""
    rng = np.random.default_rng(6)
    mixing = rng.standard_normal((20, 20)) * 0.9 ** np.arange(20)
    return (rng.standard_normal((count, 20)) @ mixing + 0.2).astype(np.float32)


def answers(model: Path, x: np.ndarray) -> np.ndarray:
    """Top-1 of every input, by onnxruntime alone."""
    return run(model, {"x": x}, ["y"])["y"].argmax(axis=1)


def samples(
    folder: Path, model: Path, *, count: int = COUNT, labelled: bool = True, name: str = "s"
) -> Path:
    """Saves inputs, and labels of which the model has some wrong."""
    path, x = folder / f"{name}.npz", inputs(count)
    labels = answers(model, x)
    rng = np.random.default_rng(7)
    wrong = rng.random(count) < _WRONG
    labels[wrong] = rng.integers(0, 4, int(wrong.sum()))
    np.savez(path, x=x, **({"labels": labels} if labelled else {}))
    return path
