"""Moments as arrays."""

from collections.abc import Mapping

import numpy as np

from onnx_relusv.records import Moments


def moments_arrays(moments: Moments) -> dict[str, np.ndarray]:
    """The arrays of moments."""
    return {
        "mean": moments.mean,
        "covariance": moments.covariance,
        "rows": np.asarray(moments.rows),
        "samples": np.asarray(moments.samples),
        "shrinkage": moments.shrinkage,
    }


def moments_of(arrays: Mapping[str, np.ndarray]) -> Moments:
    """The moments that arrays were made of."""
    return Moments(
        mean=arrays["mean"],
        covariance=arrays["covariance"],
        rows=int(arrays["rows"]),
        samples=int(arrays["samples"]),
        shrinkage=arrays["shrinkage"],
    )
