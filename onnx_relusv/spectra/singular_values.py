"""Ordinary singular values of a layer given as plain arrays."""

import numpy.typing as npt

from onnx_relusv.records import Floats
from onnx_relusv.spectra.layers import checked_metric, checked_weight
from onnx_relusv.spectra.singular import singular_values as values_of


def singular_values(weight: npt.ArrayLike, metric: npt.ArrayLike | None = None) -> Floats:
    """The singular values of W C^(1/2).

    Args:
        weight: (out, in) W.
        metric: (in, in) symmetric positive definite C; the identity if None.

    Returns:
        (min(out, in),) float64, descending, with a relative error below 1e-6 above 1e-5 of the
        largest; below that too without a metric, while in one the error is absolute there.

    Raises:
        UsageError: The weight or the metric has another shape or is not finite, or the metric is
            not symmetric and positive definite.
    """
    W = checked_weight(weight)
    return values_of(W, checked_metric(metric, W.shape[1]))
