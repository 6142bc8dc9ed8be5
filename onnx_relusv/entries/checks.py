"""Whether arrays of an entry are what a reader needs; what is not counts as damaged."""

from collections.abc import Mapping

import numpy as np

# A kind as numpy has it (f, i, b, U), and lengths; None where any will do.
Wanted = Mapping[str, tuple[str, tuple[int | None, ...]]]

# Numbers that are looked at at a time: moments are mapped, and larger than memory.
_CHUNK = 1 << 22


def are_like(arrays: Mapping[str, np.ndarray], wanted: Wanted) -> bool:
    """Whether these arrays and no others are there, of these kinds and shapes."""
    return set(arrays) == set(wanted) and all(
        arrays[name].dtype.kind == kind and _has_shape(arrays[name], shape)
        for name, (kind, shape) in wanted.items()
    )


def _has_shape(values: np.ndarray, shape: tuple[int | None, ...]) -> bool:
    return values.ndim == len(shape) and all(
        expected is None or length == expected
        for length, expected in zip(values.shape, shape, strict=True)
    )


def is_finite(values: np.ndarray) -> bool:
    """Whether all are finite numbers; they are read piece by piece."""
    flat = values.reshape(-1)
    return all(
        bool(np.isfinite(flat[start : start + _CHUNK]).all())
        for start in range(0, flat.size, _CHUNK)
    )


def has_numbers(values: np.ndarray, least: float = -np.inf) -> bool:
    """Whether none is NaN and none is less than something; infinity is a number here."""
    return bool((values >= least).all())
