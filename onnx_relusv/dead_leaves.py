"""Dead leaves: pictures of discs that lie on one another, each of one colour.

They have what natural images have and noise has not: surfaces, edges, and things of every size
(Lee, Mumford and Huang, "Occlusion models for natural images", IJCV 2001).
"""

import numpy as np

from onnx_relusv.records import Floats

# Of a picture's shorter side; radii r above it have a density that falls with the cube of r, which
# makes a picture look the same at every scale.
_LEAST_RADIUS = 1 / 20
_MOST_LEAVES = 30


def dead_leaves(channels: int, rows: int, columns: int, rng: np.random.Generator) -> Floats:
    """One picture.

    Args:
        channels: Of the colours, which are independent of each other and standard normal.
        rows: Its height in pixels.
        columns: Its width in pixels.
        rng: Draws how many discs there are, up to 29, how large, where, and their colours.

    Returns:
        (channels, rows, columns), every number standard normal, and equal to its neighbours within
        a disc.
    """
    picture = np.empty((channels, rows, columns))
    picture[...] = rng.standard_normal((channels, 1, 1))
    row, column = np.ogrid[:rows, :columns]
    least = _LEAST_RADIUS * min(rows, columns)
    for _ in range(rng.integers(1, _MOST_LEAVES)):
        radius = min(least / np.sqrt(1 - rng.uniform()), max(rows, columns))
        # Discs whose middle is outside are seen in part.
        at_row = rng.uniform(-radius / 2, rows + radius / 2)
        at_column = rng.uniform(-radius / 2, columns + radius / 2)
        inside = (row - at_row) ** 2 + (column - at_column) ** 2 < radius**2
        picture[:, inside] = rng.standard_normal((channels, 1))
    return picture
