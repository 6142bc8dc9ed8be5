"""Metrics of one's own, as files and as functions, and a regressor that they judge."""

from pathlib import Path

import numpy as np
import onnx
from classified import TEXT, inputs, weights
from graphs import model_proto, run

from onnx_relusv.core.metric import Metric

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
