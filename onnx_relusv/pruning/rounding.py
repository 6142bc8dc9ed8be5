"""Which numbers of channels may be left of a group."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

# Options of an item that a search tells apart at a time.
_RUNGS = 40


@dataclass(frozen=True)
class Rounding:
    """What the user allows.

    Attributes:
        multiple: Numbers of channels are multiples of it, or all.
        least: They are no fewer.
    """

    multiple: int = 1
    least: int = 1

    def counts(self, units: int) -> tuple[int, ...]:
        """Decreasing from all: what may be kept of so many units."""
        least = min(max(self.least, 1), units)
        found = {units}
        found.update(
            count for count in range(self.multiple, units, self.multiple) if count >= least
        )
        return tuple(sorted(found, reverse=True))


def ladder(sizes: Sequence[int], near: int | None = None) -> tuple[int, ...]:
    """Places in decreasing sizes that a search tells apart, a geometric ladder.

    Args:
        sizes: Of all options, decreasing, all positive.
        near: A place; the ladder then goes from the rung above it to the rung below, as they were,
            and is as much finer. None for a ladder over all sizes.

    Returns:
        Increasing; the first place, and the last or the one that is near, are among them.
    """
    everywhere = _rungs(np.array(sizes, np.float64))
    if near is None:
        return everywhere
    above = [place for place in everywhere if place < near]
    below = [place for place in everywhere if place > near]
    first, last = max(above, default=near), min(below, default=near)
    inside = [first + place for place in _rungs(np.array(sizes[first : last + 1], np.float64))]
    return tuple(sorted({0, near, *inside}))


def _rungs(sizes: np.ndarray) -> tuple[int, ...]:
    if len(sizes) <= _RUNGS:
        return tuple(range(len(sizes)))
    wanted = np.geomspace(sizes[0], sizes[-1], _RUNGS)
    places = np.unique([int(np.argmin(np.abs(sizes - each))) for each in wanted])
    return tuple(int(place) for place in places)
