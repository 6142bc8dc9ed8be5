"""Where a curve of loss over size bends most: beyond it, bytes cost more than before.

After Satopaa, Albrecht, Irwin, Raghavan, "Finding a 'kneedle' in a haystack: detecting knee points
in system behavior" (2011), without their smoothing, for curves of few points. Both axes are
normalised to what the curve spans, and the knee is the point farthest from the chord between its
ends. What lies above the lower-left convex hull is no bend but noise, or a bad size, and is passed
over. It is a heuristic: it depends on which sizes were asked for, and knows nothing of intervals.
"""

from collections.abc import Sequence

import numpy as np

# A share of the normalised axes: what bends less looks straight.
LEAST_BEND = 0.05
_FEWEST = 3


def knee(sizes: Sequence[float], losses: Sequence[float]) -> int | None:
    """The place of the knee.

    Args:
        sizes: Different shares, in any order.
        losses: Finite, in any unit; they mostly rise as sizes fall.

    Returns:
        None where there are fewer than three points, or where the curve is flat or straight.
    """
    hull = _lower_left_hull(sizes, losses)
    if len(sizes) < _FEWEST or len(hull) < _FEWEST:
        return None
    x, y = (np.asarray(values, np.float64)[hull] for values in (sizes, losses))
    # Along the hull, sizes rise and losses fall: its chord goes from (0, 1) to (1, 0).
    across, up = (x - x[0]) / (x[-1] - x[0]), (y - y[-1]) / (y[0] - y[-1])
    bends = 1 - across - up
    place = int(bends.argmax())
    return hull[place] if bends[place] >= LEAST_BEND else None


def _lower_left_hull(sizes: Sequence[float], losses: Sequence[float]) -> list[int]:
    """Places on the convex hull that no other point beats in both, from the smallest size on."""
    hull: list[int] = []
    for place in np.lexsort((losses, sizes)).tolist():
        if hull and losses[place] >= losses[hull[-1]]:
            continue
        while len(hull) > 1 and _lies_above(sizes, losses, hull[-2], hull[-1], place):
            hull.pop()
        hull.append(place)
    return hull


def _lies_above(
    sizes: Sequence[float], losses: Sequence[float], first: int, middle: int, last: int
) -> bool:
    """Whether the middle one of three points lies on the line between the others, or above."""
    share = (sizes[middle] - sizes[first]) / (sizes[last] - sizes[first])
    return losses[middle] >= losses[first] + share * (losses[last] - losses[first])
