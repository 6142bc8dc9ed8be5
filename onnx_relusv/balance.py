"""Factors whose inner channels are equally long on both sides, which low-precision storage needs.

Of all factors with one product these have the least sum of squares, and steps of one length do as
much to each of them.
"""

import numpy as np

from onnx_relusv import forms
from onnx_relusv.records import Floats

# Of a core; each sweep divides the distance from the answer, in logarithms, by four.
_SWEEPS = 24


def balanced(*matrices: Floats) -> tuple[Floats, ...]:
    """Scales inner channels; the composed kernel stays the same.

    Args:
        matrices: A double layer's factors with the groups as their first axis, in the order in
            which their layers run.

    Returns:
        The same with equal norms before and behind every inner channel, but for those that are
        zero on one side, which stay as they are.
    """
    if len(matrices) == 1:
        return matrices
    if len(matrices) == 2:
        first, second = matrices
        scale = np.sqrt(_ratio(np.linalg.norm(first, axis=2), np.linalg.norm(second, axis=1)))
        return first * scale[:, :, None], second / scale[:, None, :]
    return _balanced_with_core(*matrices)


def _balanced_with_core(first: Floats, core: Floats, second: Floats) -> tuple[Floats, ...]:
    """Both sides of the core depend on each other: fixed-point steps on the squares of norms."""
    in_front = first.shape[1]
    by_value = forms.core_by_value(core, in_front)
    squares = np.sum(by_value**2, axis=2)  # (groups, r, p)
    before, after = np.sum(first**2, axis=2), np.sum(second**2, axis=1)
    # Squares of what the first factor's rows and the second one's columns are multiplied with.
    rows, columns = np.ones_like(before), np.ones_like(after)
    for _ in range(_SWEEPS):
        rows = np.sqrt(_ratio(before, np.sum(squares / columns[:, :, None], axis=1)))
        columns = np.sqrt(_ratio(after, np.sum(squares / rows[:, None, :], axis=2)))
    rows, columns = np.sqrt(rows), np.sqrt(columns)
    split = core.reshape(*squares.shape, -1)
    scaled = split / rows[:, None, :, None] / columns[:, :, None, None]
    return (
        first * rows[:, :, None],
        scaled.reshape(core.shape),
        second * columns[:, None, :],
    )


def _ratio(before: Floats, after: Floats) -> Floats:
    """What `before` has to be multiplied with to be `after`; 1 where either is 0."""
    ratio = np.ones_like(before)
    np.divide(after, before, out=ratio, where=(before > 0) & (after > 0))
    return ratio
