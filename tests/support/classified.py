"""A classifier that loses little when it is made smaller, a regressor, samples, and metrics."""

from pathlib import Path

import numpy as np
import onnx
from graphs import model_proto, run

from onnx_relusv.core.metric import Metric

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


def answers(model: Path, x: np.ndarray, *, optimized: bool = False) -> np.ndarray:
    """Top-1 of every input, by onnxruntime alone."""
    return run(model, {"x": x}, ["y"], optimized=optimized)["y"].argmax(axis=1)


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


# The three groups of samples need these many, of which 300 are set aside.
ENOUGH = 760
FILE = '''
import numpy as np

SCALE = -1.0


def accuracy(outputs, labels):
    return float(np.mean(outputs[0].argmax(axis=1) == labels))


def fit(outputs, labels):
    """Minus the mean squared error."""
    return SCALE * float(np.mean((outputs[0] - labels) ** 2))


number = 3


def fails(outputs, labels):
    raise ValueError("no such thing")


def says_nothing(outputs, labels):
    return None


def not_a_number(outputs, labels):
    return float("nan")
'''


def metric_file(folder: Path, text: str = FILE) -> Path:
    path = folder / "own_metric.py"
    path.write_text(text, encoding="utf-8")
    return path


def share_right(outputs: list[np.ndarray], labels: np.ndarray | None) -> float:
    assert labels is not None
    return float(np.mean(outputs[0].argmax(axis=1) == labels))


def minus_error(outputs: list[np.ndarray], labels: np.ndarray | None) -> float:
    assert labels is not None
    return -float(np.mean((outputs[0] - labels) ** 2))


ACCURACY = Metric("accuracy", share_right)
FIT = Metric("fit", minus_error)


def regressor(folder: Path) -> Path:
    """A model of one number a sample, which is no class score."""
    number = weights(0.8)
    number["u"], number["g"] = number["u"][:, :1], number["g"][:1]
    path = folder / "regressor.onnx"
    onnx.save(model_proto(TEXT.replace("N,4", "N,1"), number), path)
    return path


def targets(folder: Path, model: Path, *, count: int = ENOUGH) -> Path:
    """Samples with what the model says, plus noise, as labels: (samples, 1) float32."""
    x = inputs(count)
    exact = run(model, {"x": x}, ["y"])["y"]
    noise = np.random.default_rng(8).standard_normal(exact.shape).astype(np.float32)
    path = folder / "targets.npz"
    np.savez(path, x=x, labels=exact + 0.1 * exact.std() * noise)
    return path
