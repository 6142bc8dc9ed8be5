"""Factors as arrays."""

from collections.abc import Mapping

import numpy as np

from onnx_relusv.decisions import Factors, Form


def factors_arrays(factors: Factors) -> dict[str, np.ndarray]:
    """The arrays of factors; form, rank and kept channels are known to whoever asks."""
    return {
        **{f"matrix_{place}": matrix for place, matrix in enumerate(factors.matrices)},
        "bias": factors.bias,
    }


def factors_of(arrays: Mapping[str, np.ndarray], form: Form, rank: int) -> Factors:
    """The factors that arrays were made of."""
    return Factors(
        form=form,
        rank=rank,
        matrices=tuple(arrays[f"matrix_{place}"] for place in range(len(arrays) - 1)),
        bias=arrays["bias"],
    )
