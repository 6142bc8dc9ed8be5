"""A row of numbers as a row of small bars, in text."""

import math

from onnx_relusv.records import Floats

BARS = "▁▂▃▄▅▆▇█"
# A bar of full height is sigma_1, the lowest one a hundredth of it or less.
_DECADES = 2


def sparkline(values: Floats, largest: float) -> str:
    """Values from a hundredth of the largest one up to it, as bars of eight heights.

    Args:
        values: (n,) non-negative; NaN is left blank.
        largest: What a full bar stands for.
    """
    if not largest > 0:
        return BARS[0] * len(values)
    return "".join(_bar(float(value) / largest) for value in values)


def _bar(share: float) -> str:
    if math.isnan(share):
        return " "
    if share <= 0:
        return BARS[0]
    height = 1 + math.log10(share) / _DECADES
    return BARS[min(max(math.ceil(height * len(BARS)) - 1, 0), len(BARS) - 1)]
