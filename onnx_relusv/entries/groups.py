"""The damage curves of groups as arrays."""

from collections.abc import Mapping

import numpy as np

from onnx_relusv.decisions import GroupCurve


def group_curve_arrays(curve: GroupCurve) -> dict[str, np.ndarray]:
    """The damages; whoever asks knows the counts."""
    return {"damages": np.array(curve.damages, np.float64)}


def group_curve_of(
    arrays: Mapping[str, np.ndarray], key: str, counts: tuple[int, ...]
) -> GroupCurve:
    """The curve that arrays were made of.

    Args:
        arrays: The arrays.
        key: The group's.
        counts: Those that were measured.
    """
    return GroupCurve(key=key, counts=counts, damages=tuple(arrays["damages"].tolist()))
