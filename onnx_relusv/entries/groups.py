"""The orders and damage curves of groups, and times of runs, as arrays."""

import math
from collections.abc import Mapping

import numpy as np

from onnx_relusv.decisions import GroupCurve
from onnx_relusv.entries.checks import are_like, has_numbers


def group_curve_arrays(curve: GroupCurve) -> dict[str, np.ndarray]:
    """The damages; whoever asks knows the counts."""
    return {"damages": np.array(curve.damages, np.float64)}


def group_curve_of(
    arrays: Mapping[str, np.ndarray], key: str, counts: tuple[int, ...]
) -> GroupCurve | None:
    """The curve that arrays were made of; None where they are damaged.

    Args:
        arrays: The arrays.
        key: The group's.
        counts: Those that were measured.
    """
    if not are_like(arrays, {"damages": ("f", (len(counts),))}):
        return None
    if not has_numbers(arrays["damages"]):
        return None
    return GroupCurve(key=key, counts=counts, damages=tuple(arrays["damages"].tolist()))


def is_order(arrays: Mapping[str, np.ndarray], units: int) -> bool:
    """Whether arrays are an order of so many units, and its levels, whole and of sense.

    Args:
        arrays: ``order``, (units,) whole numbers, and ``levels``, (units + 1,).
        units: How many there are.
    """
    if not are_like(arrays, {"order": ("i", (units,)), "levels": ("f", (units + 1,))}):
        return False
    complete = np.array_equal(np.sort(arrays["order"]), np.arange(units))
    return complete and has_numbers(arrays["levels"], 0.0)


def seconds_of(arrays: Mapping[str, np.ndarray]) -> float | None:
    """A time that was measured; None where it is damaged."""
    if not are_like(arrays, {"seconds": ("f", ())}):
        return None
    seconds = float(arrays["seconds"])
    return seconds if 0 < seconds < math.inf else None
