"""Moments and patches of a block's inputs in the compressed network, with targets for them."""

from dataclasses import dataclass

import numpy as np

from onnx_relusv.core.blocks import Floats, ReadOnlyArrays
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


@dataclass(frozen=True, eq=False)
class Rows(ReadOnlyArrays):
    """Patches and targets in memory.

    Attributes:
        z: (groups, n, columns) float32, patches of the delivered input.
        target: (groups, n, rows) float32, the original's Wx + b, with what its shortcut adds.
        shift: (groups, n, rows) float32, what the compressed network's shortcut adds; None where
            there is none.
    """

    z: np.ndarray
    target: np.ndarray
    shift: np.ndarray | None

    @property
    def count(self) -> int:
        """How many."""
        return int(self.z.shape[1])

    @property
    def missing(self) -> np.ndarray:
        """(groups, n, rows) float32: the part of the target that the block itself has to answer."""
        return self.target if self.shift is None else self.target - self.shift

    def at(self, places: np.ndarray) -> "Rows":
        """Some of them, in the order in which they are named."""
        shift = None if self.shift is None else self.shift[:, places]
        return Rows(self.z[:, places], self.target[:, places], shift)


class CollectedRows:
    """Rows that are kept in memory, batch by batch."""

    def __init__(self) -> None:
        self._parts: list[Rows] = []

    def add(self, rows: Rows, most: int, rng: np.random.Generator) -> None:
        """Adds rows of a batch, or where there are more of them than `most`, so many of them."""
        if rows.count > most:
            rows = rows.at(np.sort(rng.choice(rows.count, most, replace=False)))
        self._parts.append(rows)

    def rows(self) -> Rows:
        """All of them; some were added. They are kept here no longer."""
        parts, self._parts = self._parts, []
        shifts = [part.shift for part in parts if part.shift is not None]
        return Rows(
            np.concatenate([part.z for part in parts], axis=1),
            np.concatenate([part.target for part in parts], axis=1),
            np.concatenate(shifts, axis=1) if shifts else None,
        )
