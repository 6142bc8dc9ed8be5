"""Singular values of all blocks of a model, and `inspect`, against numpy in float32."""

from pathlib import Path

import numpy as np
import scipy.linalg
from timing import medians, readable

from onnx_relusv import inspect
from onnx_relusv.core.options import MeasureOptions
from onnx_relusv.measuring.case import open_model
from onnx_relusv.spectra.singular import singular_values

ROUNDS = 5
# Smaller singular values than this share of the largest are below float32's own rounding.
_COUNTED = 1e-3
_MEASURING = MeasureOptions(provider="cpu")


def matrices(model: Path) -> list[np.ndarray]:
    """The weight matrices of all blocks, BatchNormalization folded in, float64."""
    case, *_ = open_model(model, None, _MEASURING)
    return [matrix for block in case.blocks for matrix in case.folding(block).weight]


def values_and_inspect(model: Path) -> tuple[str, str]:
    """What was measured for singular values alone, and for `inspect`, everything."""
    found = matrices(model)
    singles = [matrix.astype(np.float32) for matrix in found]
    seconds = medians(
        {
            "ours": lambda: [singular_values(matrix) for matrix in found],
            "numpy": lambda: [np.linalg.svd(matrix, compute_uv=False) for matrix in singles],
            "inspect": lambda: inspect(model, measuring=_MEASURING),
        },
        ROUNDS,
    )
    ours, theirs, everything = seconds["ours"], seconds["numpy"], seconds["inspect"]
    return (
        f"{theirs / ours:.1f} times faster ({readable(ours)} against {readable(theirs)}, "
        f"{len(found)} matrices); {_error(found):.0e}",
        f"{everything / theirs:.1f} times ({readable(everything)})",
    )


def _error(found: list[np.ndarray]) -> float:
    """The largest relative error of a singular value that counts; LAPACK in float64 judges."""
    largest = 0.0
    for matrix in found:
        exact = scipy.linalg.svdvals(matrix)
        counted = exact > _COUNTED * exact[0]
        gap = np.abs(singular_values(matrix)[counted] / exact[counted] - 1)
        largest = max(largest, float(gap.max()))
    return largest
