"""Moments as arrays."""

from collections.abc import Mapping

import numpy as np

from onnx_relusv.entries.checks import are_like, is_finite
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


def moments_of(arrays: Mapping[str, np.ndarray], groups: int, columns: int) -> Moments | None:
    """The moments that arrays were made of; None where their shapes or counts are damaged.

    Args:
        arrays: The arrays.
        groups: Of the block's input.
        columns: Of a group.
    """
    wanted = {
        "mean": ("f", (groups, columns)),
        "covariance": ("f", (groups, columns, columns)),
        "rows": ("i", ()),
        "samples": ("i", ()),
        "shrinkage": ("f", (groups,)),
    }
    if not are_like(arrays, wanted) or arrays["rows"] < 1 or arrays["samples"] < 1:
        return None
    return Moments(
        mean=arrays["mean"],
        covariance=arrays["covariance"],
        rows=int(arrays["rows"]),
        samples=int(arrays["samples"]),
        shrinkage=arrays["shrinkage"],
    )


def are_sound(moments: Moments) -> bool:
    """Whether all of the numbers are what moments can be; reads all of them.

    Those of a matrix that is positive definite: its variances are no less than zero.
    """
    variances = np.diagonal(moments.covariance, axis1=1, axis2=2)
    return (
        is_finite(moments.mean)
        and is_finite(moments.covariance)
        and bool((variances >= 0).all())
        and bool(((moments.shrinkage >= 0) & (moments.shrinkage <= 1)).all())
    )
