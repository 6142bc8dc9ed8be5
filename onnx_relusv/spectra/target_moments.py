"""Moments for a regression: of an input z, and of z with a target that the original gives."""

from dataclasses import dataclass

import numpy as np

from onnx_relusv.records import Floats, ReadOnlyArrays
from onnx_relusv.spectra.product_sums import ProductSums


@dataclass(frozen=True, eq=False)
class Seen(ReadOnlyArrays):
    """What a block sees of a batch.

    Attributes:
        original: Its input in the original network, x.
        delivered: Its input in the compressed network, z.
        real: How many samples of the batch count; the rest pads a fixed batch.
        size: How many it has.
        shortcut: What is added to its answer, in the original and in the compressed network; None
            where nothing is.
    """

    original: np.ndarray
    delivered: np.ndarray
    real: int
    size: int
    shortcut: tuple[np.ndarray, np.ndarray] | None = None


@dataclass(frozen=True, eq=False)
class TargetMoments(ReadOnlyArrays):
    """Moments of z and of the target t, none of them centred.

    t is Wx + b, and behind a shortcut Wx + b + s - s', s being what is added to the answer in the
    original network and s' in the compressed one: so the sum is what is fitted.

    Attributes:
        second: (groups, columns, columns) float64, E zz'.
        cross: (groups, rows, columns) float64, E tz'.
        mean: (groups, columns) float64, E z.
        target: (groups, rows) float64, E t.
        rows: How many patches or vectors they are means of.
    """

    second: Floats
    cross: Floats
    mean: Floats
    target: Floats
    rows: int


def target_moments(sums: ProductSums) -> TargetMoments:
    """The moments that sums with targets hold; the sums are used up."""
    mean, second, target, cross = sums.means()
    return TargetMoments(second=second, cross=cross, mean=mean, target=target, rows=sums.rows)
