"""Intervals that numbers of a tensor lie in, and their arithmetic.

Ends are exact but for float64; what a runtime's own rounding adds is the caller's `margin`, a share
of every term's size. A computed sum of terms t_i is the sum of t_i (1 + d_i) with small d_i, so
that sums of the terms' ends, each moved outwards by its share, bound it in whichever order they are
added. Zero stays zero: what is exactly zero in every run has the ends 0 and 0.

All of it is of finite numbers. Where an end is infinite nothing is known on that side, and zero
times it is zero.
"""

from dataclasses import dataclass

import numpy as np

from onnx_relusv.records import Floats, ReadOnlyArrays

# Beyond it a float32 overflows.
_LARGEST = float(np.finfo(np.float32).max)
# Where a float32 underflows, it is rounded by more than a share of itself; ends are never so small.
_SMALLEST = 1e-35


@dataclass(frozen=True, eq=False)
class Interval(ReadOnlyArrays):
    """Where the numbers of a tensor lie.

    Attributes:
        low: float64, of any shape that broadcasts to the tensor's as ONNX does: an axis of length
            1 has the same bounds everywhere along it.
        high: Of the same shape.
        whole: Whether the tensor's type is one of whole numbers, whose arithmetic wraps around.
    """

    low: Floats
    high: Floats
    whole: bool = False

    def aligned(self, rank: int) -> "Interval":
        """With as many axes as the tensor has."""
        shape = (1,) * (rank - self.low.ndim) + self.low.shape
        return Interval(self.low.reshape(shape), self.high.reshape(shape), self.whole)

    def spread(self, axes: tuple[int, ...] | None = None) -> "Interval":
        """One interval for all along some axes, each left with length 1; a scalar for all axes."""
        keep = axes is not None
        return Interval(
            np.asarray(self.low.min(axis=axes, keepdims=keep)),
            np.asarray(self.high.max(axis=axes, keepdims=keep)),
            self.whole,
        )

    def joined(self, value: float) -> "Interval":
        """With one more number that may be anywhere in the tensor."""
        return Interval(np.minimum(self.low, value), np.maximum(self.high, value), self.whole)

    @property
    def is_zero(self) -> np.ndarray:
        """Where the tensor is zero in every run; bool, of the shape of the ends."""
        found: np.ndarray = (self.low == 0) & (self.high == 0)
        return found


def interval(low: Floats, high: Floats, *, whole: bool = False) -> Interval:
    """An interval of computed ends, in as small a shape as says the same.

    Args:
        low: float64; NaN where nothing is known.
        high: Likewise.
        whole: As in `Interval`.
    """
    low, high = np.broadcast_arrays(low, high)
    unknown = np.isnan(low) | np.isnan(high)
    low = np.where(unknown | (low < -_LARGEST), -np.inf, low)
    high = np.where(unknown | (high > _LARGEST), np.inf, high)
    low = np.where(np.abs(low) < _SMALLEST, np.where(low < 0, -_SMALLEST, 0.0), low)
    high = np.where(np.abs(high) < _SMALLEST, np.where(high > 0, _SMALLEST, 0.0), high)
    for axis, length in enumerate(low.shape):
        first = [ends.take([0], axis) for ends in (low, high) if length]
        if length > 1 and np.all(low == first[0]) and np.all(high == first[1]):
            low, high = first
    return Interval(low, high, whole)


EVERYTHING = Interval(np.full((), -np.inf), np.full((), np.inf))


def outward(found: Interval, margin: float) -> Interval:
    """With every end moved by a share of itself."""
    low, high = found.low, found.high
    return interval(low - margin * np.abs(low), high + margin * np.abs(high))


def added(first: Interval, second: Interval, margin: float) -> Interval:
    """Of a sum."""
    low, high = first.low + second.low, first.high + second.high
    return interval(
        low - margin * (np.abs(first.low) + np.abs(second.low)),
        high + margin * (np.abs(first.high) + np.abs(second.high)),
    )


def negated(found: Interval) -> Interval:
    """Of the negative."""
    return Interval(-found.high, -found.low)


def product(first: Interval, second: Interval) -> Interval:
    """Of a product, number by number, of independent factors, without rounding."""
    corners = [_times(a, b) for a in (first.low, first.high) for b in (second.low, second.high)]
    return interval(np.minimum.reduce(corners), np.maximum.reduce(corners))


def multiplied(first: Interval, second: Interval, margin: float) -> Interval:
    """Of a product as it is computed."""
    return outward(product(first, second), margin)


def inverted(found: Interval) -> Interval:
    """Of the reciprocal; everything where zero may be divided by."""
    may_be_zero = (found.low <= 0) & (found.high >= 0)
    low, high = (np.where(may_be_zero, 1.0, ends) for ends in (found.low, found.high))
    return interval(
        np.where(may_be_zero, -np.inf, 1 / high), np.where(may_be_zero, np.inf, 1 / low)
    )


def _times(first: Floats, second: Floats) -> Floats:
    with np.errstate(invalid="ignore"):
        found = first * second
    # Zero times an end that is not known.
    return np.where(np.isnan(found), 0.0, found)
