"""Factors as arrays."""

from collections.abc import Mapping, Sequence

import numpy as np

from onnx_relusv.decisions import Factors, Form
from onnx_relusv.entries.checks import are_like, is_finite


def factors_arrays(factors: Factors) -> dict[str, np.ndarray]:
    """The arrays of factors; form, rank and kept channels are known to whoever asks."""
    return {
        **{_name(place): matrix for place, matrix in enumerate(factors.matrices)},
        "bias": factors.bias,
    }


def factors_of(
    arrays: Mapping[str, np.ndarray],
    form: Form,
    rank: int,
    shapes: Sequence[tuple[int, ...]],
    outputs: int,
) -> Factors | None:
    """The factors that arrays were made of; None where they are damaged.

    Args:
        arrays: The arrays.
        form: Of the factors.
        rank: Likewise.
        shapes: Of the matrices, groups included.
        outputs: Channels of the bias.
    """
    wanted = {_name(place): ("f", shape) for place, shape in enumerate(shapes)}
    if not are_like(arrays, {**wanted, "bias": ("f", (outputs,))}):
        return None
    if not all(map(is_finite, arrays.values())):
        return None
    matrices = tuple(arrays[name] for name in wanted)
    return Factors(form=form, rank=rank, matrices=matrices, bias=arrays["bias"])


def _name(place: int) -> str:
    return f"matrix_{place}"
