"""Two models judged on the same images: the difference of their accuracies, and how sure it is."""

from dataclasses import dataclass

import numpy as np
from scipy.stats import binomtest

_CONFIDENCE = 0.95


@dataclass(frozen=True)
class Difference:
    """How many points of accuracy the first model is above the second.

    Attributes:
        points: The difference on these images.
        low: Lower end of its 95 % interval.
        high: Upper end.
    """

    points: float
    low: float
    high: float

    @property
    def word(self) -> str:
        """`ahead`, `tie` or `behind`, of the first model; a tie wherever the interval has 0."""
        if self.low > 0:
            return "ahead"
        return "behind" if self.high < 0 else "tie"


def difference(first: np.ndarray, second: np.ndarray) -> Difference:
    """Compares two models by the images that only one of them has right.

    Given how many those are, how many the first one has right is binomial. Its exact 95 % interval
    (Clopper and Pearson) leaves 0 outside where McNemar's exact test is below 0.05 on both sides.

    Args:
        first: (images,) bool, which ones the first model has right.
        second: Likewise of the second.
    """
    alone, other = int(np.sum(first & ~second)), int(np.sum(second & ~first))
    discordant = alone + other
    if discordant == 0:
        return Difference(0.0, 0.0, 0.0)
    unit = 100 * discordant / len(first)
    interval = binomtest(alone, discordant).proportion_ci(_CONFIDENCE, method="exact")
    return Difference(
        points=100 * (alone - other) / len(first),
        low=unit * (2 * float(interval.low) - 1),
        high=unit * (2 * float(interval.high) - 1),
    )
