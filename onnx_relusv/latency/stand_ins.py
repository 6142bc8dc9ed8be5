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
    norm = float(np.linalg.norm(linear.weight))
    drawn = []
    for rows, columns in forms.shapes(form, geometry, rank):
        drawn.append(rng.standard_normal((geometry.groups, rows, columns)) / np.sqrt(columns))
    drawn[-1] *= norm / np.sqrt(geometry.groups * drawn[-1].shape[1])
    bias = np.where(linear.bias == 0, 1e-3, linear.bias)
    return Factors(form=form, rank=rank, matrices=tuple(drawn), bias=bias)
