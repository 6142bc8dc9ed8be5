"""What half precision makes of numbers: those that it has no room for, and those too small for it.

Half precision reaches 65504, has 11 bits down to 6.1e-5 and fewer below, and nothing under 6e-8.
"""

import numpy as np

# The largest number, and how far numbers that were seen may reach: others may be twice as large.
LARGEST = float(np.finfo(np.float16).max)
LARGEST_SEEN = LARGEST / 2
# Of the L2 norm: rounding to 11 bits takes 2^-11 at most, and of 1e-5, a usual epsilon, 1.4e-3.
_MOST_LOST = 2.0**-9
# Numbers that are looked at together, and of an activation at one time in all.
_CHUNK, _ENOUGH = 1 << 20, 1 << 18


class Losses:
    """What rounding to half precision does to a tensor's numbers, part by part.

    Args:
        largest: How far numbers may reach.
    """

    def __init__(self, largest: float) -> None:
        self._largest = largest
        self._reached = self._lost = self._norm = self._worst = 0.0

    def add(self, values: np.ndarray) -> None:
        """Adds a part of an activation, of which some numbers tell what is lost of all."""
        flat = values.reshape(-1)
        self._reach(flat)
        self._lose(flat[:: max(1, flat.size // _ENOUGH)], alone=False)

    def add_all(self, values: np.ndarray, *, alone: bool) -> None:
        """Adds a constant.

        Args:
            values: Its numbers, float32.
            alone: Whether each of them counts by itself, and not beside the others.
        """
        flat = values.reshape(-1)
        for start in range(0, flat.size, _CHUNK):
            part = np.asarray(flat[start : start + _CHUNK])
            self._reach(part)
            self._lose(part, alone=alone)

    def _reach(self, part: np.ndarray) -> None:
        """Looks how far numbers reach; those that are not finite are the same in half precision."""
        if not part.size:
            return
        ends = np.array([part.min(), part.max()], np.float64)
        if not np.isfinite(ends).all():
            part = part[np.isfinite(part)]
            ends = np.array([part.min(initial=0), part.max(initial=0)], np.float64)
        self._reached = max(self._reached, float(np.abs(ends).max()))

    def _lose(self, part: np.ndarray, *, alone: bool) -> None:
        part = part[np.abs(part) <= LARGEST]
        gaps = np.abs(part - part.astype(np.float16).astype(np.float32)).astype(np.float64)
        self._lost += float(gaps @ gaps)
        self._norm += float(np.sum(np.square(part, dtype=np.float64)))
        if alone:
            there = part != 0
            shares = gaps[there] / np.abs(part[there])
            self._worst = max(self._worst, float(np.max(shares, initial=0.0)))

    @property
    def beyond(self) -> str | None:
        """How far the numbers reach, in words; None where half precision has room for them."""
        return f"reaches {self._reached:.3g}" if self._reached > self._largest else None

    @property
    def problem(self) -> str | None:
        """Why the numbers cannot be stored in half precision, in words; None where they can."""
        if self.beyond is not None:
            return self.beyond
        share = max(np.sqrt(self._lost / self._norm) if self._norm > 0 else 0.0, self._worst)
        if share > _MOST_LOST:
            return f"is so small that {share:.2g} of it is lost"
        return None
