"""Which numbers of channels may be left of a group."""

from dataclasses import dataclass

import numpy as np

# Counts that plans by damage tell apart; in a geometric ladder each is a few per cent apart.
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


def thinned(counts: tuple[int, ...]) -> tuple[int, ...]:
    """Of decreasing counts those that are worth telling apart, the first and the last included."""
    if len(counts) <= _RUNGS:
        return counts
    sizes = np.array(counts, np.float64)
    wanted = np.geomspace(sizes[0], sizes[-1], _RUNGS)
    places = np.unique([int(np.argmin(np.abs(sizes - each))) for each in wanted])
    return tuple(counts[place] for place in places)
