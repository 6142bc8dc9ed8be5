"""Moments as arrays."""

from collections.abc import Mapping

import numpy as np

from onnx_relusv.entries.checks import are_like, is_finite
from onnx_relusv.records import FactoredCovariance, Floats, Moments


def moments_arrays(moments: Moments) -> dict[str, np.ndarray]:
    """The arrays of moments."""
    covariance = moments.covariance
    if isinstance(covariance, tuple):
        held = {
            f"{name}_{group}": values
            for group, one in enumerate(covariance)
            for name, values in (("factor", one.factor), ("diagonal", one.diagonal))
        }
    else:
        held = {"covariance": covariance}
    return {
        "mean": moments.mean,
        **held,
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
    factored = "covariance" not in arrays
    wanted: dict[str, tuple[str, tuple[int, ...]]] = {
        "mean": ("f", (groups, columns)),
        "rows": ("i", ()),
        "samples": ("i", ()),
        "shrinkage": ("f", (groups,)),
    }
    if not factored:
        wanted["covariance"] = ("f", (groups, columns, columns))
    for group in range(groups) if factored else ():
        factor = arrays.get(f"factor_{group}")
        terms = len(factor) if factor is not None and factor.ndim else 0
        wanted[f"factor_{group}"] = ("f", (terms, columns))
        wanted[f"diagonal_{group}"] = ("f", (columns,))
    if not are_like(arrays, wanted) or arrays["rows"] < 1 or arrays["samples"] < 1:
        return None
    covariance: Floats | tuple[FactoredCovariance, ...]
    if factored:
        covariance = tuple(
            FactoredCovariance(arrays[f"factor_{group}"], arrays[f"diagonal_{group}"])
            for group in range(groups)
        )
    else:
        covariance = arrays["covariance"]
    return Moments(
        mean=arrays["mean"],
        covariance=covariance,
        rows=int(arrays["rows"]),
        samples=int(arrays["samples"]),
        shrinkage=arrays["shrinkage"],
    )


def are_sound(moments: Moments) -> bool:
    """Whether all of the numbers are what moments can be; reads all of them.

    Those of a matrix that is positive definite: its variances are no less than zero.
    """
    covariance = moments.covariance
    if isinstance(covariance, tuple):
        parts = [values for one in covariance for values in (one.factor, one.diagonal)]
        variances = np.stack([one.diagonal for one in covariance])
    else:
        parts, variances = [covariance], np.diagonal(covariance, axis1=1, axis2=2)
    return (
        all(is_finite(values) for values in (moments.mean, *parts))
        and bool((variances >= 0).all())
        and bool(((moments.shrinkage >= 0) & (moments.shrinkage <= 1)).all())
    )
