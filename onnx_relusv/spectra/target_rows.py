"""Patches of what the compressed network delivers to a block, with the original's answers."""

from dataclasses import dataclass

import numpy as np

from onnx_relusv.records import ReadOnlyArrays


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
        """(groups, n, rows) float32: what is left for the block itself to answer."""
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
