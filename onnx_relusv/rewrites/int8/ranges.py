"""Tensors as 8-bit integers: from the numbers that were seen to a scale, and what it does.

A tensor x becomes s (q - z) with q from 0 to 255, or s q with q from -128 to 127; 0 stays exactly
0, since pads and what a Relu leaves out are zeros. A scale that reaches the largest number that was
seen is coarse where that one is rare. So ends that leave some numbers out are tried too, and what
is taken has the least squared error over all numbers that were seen. A sample that a network
answers with far larger numbers than others do would decide by itself, to the harm of all others:
beyond some times the squares of the median one, a sample counts the less, the larger its own are.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from itertools import product

import numpy as np
import numpy.typing as npt

from onnx_relusv.core.blocks import Floats
from onnx_relusv.core.plans import Int8Format, Ranges
from onnx_relusv.core.reduction import ActivationScale

# Samples that tell the ends of a range; more tell them no better.
ENOUGH_SAMPLES = 512
_STEPS = 255
# On either side of 0, of signed integers.
_SIGNED_STEPS = 127
# On either side of 0.
_BINS = 8192
# Of the numbers that were seen, how far the ends of a range may reach.
_REACHES = (1.0, 0.95, 0.9, 0.85, 0.8, *np.geomspace(0.7, 0.0125, 14).tolist())
# As a power of two, how many times the mean square of the median sample another one's may be, and
# count as it is.
_HEADROOM = 4
# Of the squares of what rounding moves, in steps.
_NOISE = 1 / 12
_TINY = np.finfo(np.float32).tiny


def activation_scale(
    least: float, largest: float, int8_format: Int8Format = "u8s8"
) -> ActivationScale:
    """The scale of a range, which is made to have 0 in it, or, of signed integers, in its middle.

    Args:
        least: Its lower end.
        largest: Its upper end.
        int8_format: Which integers there are.
    """
    low, high = min(least, 0.0), max(largest, 0.0)
    if int8_format == "s8s8":
        step = np.float32(max(-low, high) / _SIGNED_STEPS)
        return ActivationScale(float(step) if step > _TINY else 1.0, 0, signed=True)
    step = np.float32((high - low) / _STEPS)
    if not step > _TINY:
        return ActivationScale(1.0, 0)
    return ActivationScale(float(step), int(np.clip(np.rint(-low / step), 0, _STEPS)))


def fake_quantized(values: np.ndarray, scale: ActivationScale) -> npt.NDArray[np.float32]:
    """What QuantizeLinear and DequantizeLinear, one behind the other, make of float32 numbers."""
    step = np.float32(scale.scale)
    integers = np.clip(np.rint(np.asarray(values, np.float32) / step), *scale.steps)
    return np.asarray(integers * step, np.float32)


def observed_scales(
    batches: Iterable[Mapping[str, np.ndarray]],
    names: Iterable[str],
    int8_format: Int8Format,
    ranges: Ranges = "least_squared_error",
) -> dict[str, ActivationScale]:
    """The scales of some tensors, from their numbers batch by batch."""
    observers = {name: RangeObserver() for name in names}
    for batch in batches:
        for name, observer in observers.items():
            observer.add(batch[name])
    return {name: observer.scale(int8_format, ranges) for name, observer in observers.items()}


def quantizers(
    scales: Mapping[str, ActivationScale],
) -> dict[str, Callable[[np.ndarray], np.ndarray]]:
    """What makes of each tensor what its integers stand for."""
    return {name: partial(fake_quantized, scale=scale) for name, scale in scales.items()}


@dataclass
class RangeObserver:
    """The numbers of a tensor, batch by batch, in bins whose width doubles as they need.

    Attributes:
        least: The least of all.
        largest: The largest of all.
    """

    least: float = 0.0
    largest: float = 0.0

    def __post_init__(self) -> None:
        self._width = 0.0
        # By the binary logarithm of a sample's mean square, rounded down: its numbers in bins.
        self._counts: dict[int, npt.NDArray[np.int64]] = {}
        self._samples: Counter[int] = Counter()

    def add(self, values: np.ndarray) -> None:
        """Adds numbers, samples on the first axis of several; not finite ones count as none."""
        if not values.size:
            return
        rows = values.reshape(len(values) if values.ndim > 1 else 1, -1)
        rows = np.where(np.isfinite(rows), rows, 0).astype(np.float64)
        least, largest = float(rows.min()), float(rows.max())
        self.least, self.largest = min(self.least, least), max(self.largest, largest)
        furthest = max(-least, largest)
        if self._width == 0:
            self._width = furthest / (_BINS - 1)
        if furthest == 0:
            return
        while furthest >= self._width * _BINS:
            self._counts = {sizes: _half_as_fine(own) for sizes, own in self._counts.items()}
            self._width *= 2
        # Of a row of zeros nothing is counted: zeros, which Relus leave, stay exact.
        squares = np.maximum(np.einsum("ij,ij->i", rows, rows) / rows.shape[1], _TINY)
        sizes = np.floor(np.log2(squares)).astype(np.int64)
        for size in np.unique(sizes).tolist():
            own = rows[sizes == size]
            places = np.floor(own[own != 0] / self._width).astype(np.int64) + _BINS
            if places.size:
                counts = np.bincount(places, minlength=2 * _BINS)
                self._counts[size] = self._counts.get(size, 0) + counts
                self._samples[size] += len(own)

    def scale(
        self, int8_format: Int8Format = "u8s8", ranges: Ranges = "least_squared_error"
    ) -> ActivationScale:
        """The scale with the least squared error, or that of all that was seen."""
        if self._width == 0 or ranges == "min_max":
            return activation_scale(self.least, self.largest, int8_format)
        middles = np.asarray((np.arange(2 * _BINS) - _BINS + 0.5) * self._width, np.float64)
        lows = _REACHES if self.least < 0 else (1.0,)
        highs = _REACHES if self.largest > 0 else (1.0,)
        offered = [
            activation_scale(low * self.least, high * self.largest, int8_format)
            for low, high in product(lows, highs)
        ]
        weights = self._weights()
        return min(offered, key=lambda scale: _error(middles, weights, scale))

    def _weights(self) -> Floats:
        """(2 * _BINS,) how much each bin counts."""
        median = sorted(self._samples.elements())[self._samples.total() // 2]
        found = np.zeros(2 * _BINS)
        for size, counts in self._counts.items():
            found += counts * min(1.0, 4.0 ** (median + _HEADROOM - size))
        return found


def _half_as_fine(counts: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """The same numbers in bins of twice the width."""
    wider = np.zeros_like(counts)
    wider[_BINS // 2 : -_BINS // 2] = counts.reshape(-1, 2).sum(axis=1)
    return wider


def _error(middles: Floats, weights: Floats, scale: ActivationScale) -> float:
    low, high = scale.range
    beyond = middles - np.clip(middles, low, high)
    return float(weights @ (beyond**2 + _NOISE * scale.scale**2 * (beyond == 0)))
