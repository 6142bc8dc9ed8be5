"""Factors as arrays."""

from collections.abc import Mapping

import numpy as np

from onnx_relusv.decisions import Factors, Form


def factors_arrays(factors: Factors) -> dict[str, np.ndarray]:
    """The arrays of factors, but for their form and rank, which whoever asks knows."""
    core = {} if factors.core is None else {"core": factors.core}
    return {
        "first": factors.first,
        **core,
        "second": factors.second,
        "bias": factors.bias,
        "level": np.asarray(factors.level),
    }


def factors_of(arrays: Mapping[str, np.ndarray], form: Form, rank: int) -> Factors:
    """The factors that arrays were made of."""
    return Factors(
        form=form,
        rank=rank,
        first=arrays["first"],
        core=arrays.get("core"),
        second=arrays["second"],
        bias=arrays["bias"],
        level=float(arrays["level"]),
    )
