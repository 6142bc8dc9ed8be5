"""The damage curves of a block as arrays."""

from collections.abc import Mapping, Sequence

import numpy as np

from onnx_relusv.decisions import DamageCurve, Form
from onnx_relusv.entries.checks import are_like, has_numbers


def curves_arrays(curves: Sequence[DamageCurve]) -> dict[str, np.ndarray]:
    """The damages of one curve after the other; whoever asks knows the forms and ranks."""
    damages = [damage for curve in curves for damage in curve.damages]
    return {"damages": np.array(damages, np.float64)}


def curves_of(
    arrays: Mapping[str, np.ndarray], key: str, ranks: Mapping[Form, tuple[int, ...]]
) -> tuple[DamageCurve, ...] | None:
    """The curves that arrays were made of; None where they are damaged.

    Args:
        arrays: The arrays.
        key: The block's.
        ranks: Those that were measured, by form in the order of the curves.
    """
    ends = np.cumsum([0, *(len(measured) for measured in ranks.values())])
    if not are_like(arrays, {"damages": ("f", (int(ends[-1]),))}):
        return None
    if not has_numbers(arrays["damages"]):
        return None
    parts = np.split(arrays["damages"], ends[1:-1]) if ranks else []
    return tuple(
        DamageCurve(key=key, form=form, ranks=measured, damages=tuple(part.tolist()))
        for (form, measured), part in zip(ranks.items(), parts, strict=True)
    )
