"""Networks with samples, opened and split, and what rewriting does to their outputs."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx
import scipy.special
from graphs import model_proto, normal, normalization, run
from opened import Opened, divided, open_model

from onnx_relusv.core.options import MeasureOptions
from onnx_relusv.core.plans import Factors
from onnx_relusv.rewrites.low_rank.surgery import rewrite

# A residual connection, a normalisation, grouped channels, and a MatMul without bias.
CLASSIFIER = (
    "(float[{n},3,6,6] x) => (float[{n},5] y) {{"
    " a = Conv<pads=[1,1,1,1]>(x, k) n = BatchNormalization(a, gamma, beta, mean, variance)"
    " c = Relu(n) d = Conv<pads=[1,1,1,1], group=2>(c, l, b) e = Add(d, c) f = Relu(e)"
    " g = GlobalAveragePool(f) h = Flatten(g) i = Gemm(h, w, v) j = Relu(i) y = MatMul(j, u) }}"
)
WEIGHTS = {
    "k": normal(8, 3, 3, 3, scale=0.4),
    "l": normal(8, 4, 3, 3, scale=0.3),
    "b": normal(8, scale=0.3),
    "w": normal(8, 16, scale=0.7),
    "v": normal(16, scale=0.3),
    "u": normal(16, 5, scale=0.7),
}
COUNT = 40


def classifier(folder: Path, *, batch: int | None = None, count: int = COUNT) -> Opened:
    """The classifier with random images, opened and split by seed 3."""
    proto = model_proto(CLASSIFIER.format(n=batch or "N"), WEIGHTS | normalization(8))
    return opened(proto, folder, {"x": normal(count, 3, 6, 6, seed=4)})


def opened(
    proto: onnx.ModelProto,
    folder: Path,
    samples: Mapping[str, np.ndarray],
    *,
    seed: int = 3,
) -> Opened:
    """A model with samples, opened as `compress` opens it."""
    onnx.save(proto, folder / "model.onnx")
    np.savez(folder / "samples.npz", **samples)
    options = MeasureOptions(provider="cpu", seed=seed)
    return divided(open_model(folder / "model.onnx", folder / "samples.npz", options))


def selected(model: Opened, name: str = "x") -> np.ndarray:
    """The held-out samples of one input."""
    assert model.inputs.split is not None
    assert model.inputs.split.select is not None
    batches = list(model.inputs.split.select.batches(7))
    return np.concatenate([batch.feeds[name][: batch.count] for batch in batches])


def rewritten(model: Opened, factors: Mapping[str, Factors]) -> onnx.ModelProto:
    """The model with double layers in it."""
    return rewrite(model.case.model, model.case.blocks, dict(factors), "{}")


def answers(
    source: onnx.ModelProto | Path, feeds: Mapping[str, np.ndarray], batch: int | None = None
) -> dict[str, np.ndarray]:
    """A model's outputs by onnxruntime alone, in batches where their size is fixed."""
    count = len(next(iter(feeds.values())))
    size = batch or count
    found = [
        run(
            source,
            {name: padded(values[start : start + size], size) for name, values in feeds.items()},
        )
        for start in range(0, count, size)
    ]
    return {name: np.concatenate([one[name] for one in found])[:count] for name in found[0]}


def padded(values: np.ndarray, size: int) -> np.ndarray:
    """With zeros, whatever the package pads with."""
    missing = size - len(values)
    return np.concatenate([values, np.zeros((missing, *values.shape[1:]), values.dtype)])


def divergence_of_logits(before: np.ndarray, after: np.ndarray) -> float:
    """The mean Kullback-Leibler divergence, by scipy."""
    p, q = (scipy.special.softmax(logits.astype(np.float64), axis=1) for logits in (before, after))
    return float(scipy.special.rel_entr(p, q).sum(axis=1).mean())
