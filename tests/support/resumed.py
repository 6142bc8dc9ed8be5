"""A small residual network that is compressed with a cache, and entries to look at or to damage."""

from pathlib import Path

import numpy as np
import onnx
from graphs import model_proto, normal, normalization

from onnx_relusv import Budgets, MeasureOptions, PlanOptions, compress
from onnx_relusv.core.results import Compression
from onnx_relusv.work.executors import Progress

TEXT = (
    "(float[N,3,8,8] x) => (float[N,10] y) {"
    " a = Conv<pads=[1,1,1,1]>(x, k) n = BatchNormalization(a, gamma, beta, mean, variance)"
    " c = Relu(n) d = Conv<pads=[1,1,1,1]>(c, l, b) e = Add(d, c) f = Relu(e)"
    " g = GlobalAveragePool(f) h = Flatten(g) i = Gemm(h, w, v) j = Relu(i) y = MatMul(j, u) }"
)
ARRAYS = {
    "k": normal(24, 3, 3, 3, scale=0.4),
    "l": normal(24, 24, 3, 3, scale=0.1),
    "b": normal(24, scale=0.3),
    "w": normal(24, 48, scale=0.4),
    "v": normal(48, scale=0.3),
    "u": normal(48, 10, scale=0.4),
}
KINDS = {"moments", "measures", "damage", "factors", "order"}
SIZE = 0.6


def saved(folder: Path) -> tuple[Path, Path]:
    """The model and its samples."""
    model, samples = folder / "model.onnx", folder / "samples.npz"
    onnx.save(model_proto(TEXT, ARRAYS | normalization(24)), model)
    np.savez(samples, x=normal(60, 3, 8, 8))
    return model, samples


def compressed(
    case: tuple[Path, Path],
    output: Path,
    cache: Path | None,
    *,
    seed: int = 0,
    memory: int = 512,
    size: float = SIZE,
    progress: Progress | None = None,
) -> Compression:
    """The model, made smaller."""
    model, samples = case
    return compress(
        model,
        output,
        samples=samples,
        planning=PlanOptions(budgets=Budgets(size=size)),
        measuring=MeasureOptions(provider="cpu", seed=seed, memory=memory, cache=cache),
        force=True,
        progress=progress,
    )


def entries(cache: Path, kind: str = "*") -> list[Path]:
    """All entries of a kind."""
    return sorted(cache.glob(f"{kind}-*.entry"))
