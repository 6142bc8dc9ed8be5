"""Factors of any values: for the time that a double layer takes, values do not count."""

import numpy as np

from onnx_relusv import forms
from onnx_relusv.decisions import Factors, Form
from onnx_relusv.records import Geometry, LinearMap


def stand_in(
    form: Form, geometry: Geometry, linear: LinearMap, rank: int, rng: np.random.Generator
) -> Factors:
    """Random factors about as large as their block, so that nothing overflows or fades away.

    Args:
        form: The form.
        geometry: The block's geometry.
        linear: Its linear map, whose Frobenius norm the factors have together, on average.
        rank: Inner width, per group.
        rng: Draws the factors.

    Returns:
        Factors whose `level`, which nobody computed, is 1. Their bias is nowhere zero, since a
        fitted one hardly ever is.
    """
    first_shape = (geometry.groups, *forms.first_shape(form, geometry, rank))
    second_shape = (geometry.groups, *forms.second_shape(form, geometry, rank))
    norm = float(np.linalg.norm(linear.weight))
    first = rng.standard_normal(first_shape) / np.sqrt(first_shape[-1])
    second = rng.standard_normal(second_shape) * norm / np.sqrt(np.prod(second_shape))
    bias = np.where(linear.bias == 0, 1e-3, linear.bias)
    return Factors(form=form, rank=rank, first=first, second=second, bias=bias, level=1.0)
