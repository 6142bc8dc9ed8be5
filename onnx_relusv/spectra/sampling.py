"""Which patches of a batch are taken: all, or seeded positions where there are many.

Where a Conv has many more output positions than its moments need, positions are drawn anew for
every batch: `ROWS_PER_COLUMN` rows a column, but at least `FEWEST_ROWS`.
"""

from dataclasses import dataclass
from math import ceil, prod

import numpy as np

from onnx_relusv.patches import explicit_pads, output_lengths, patch_index
from onnx_relusv.records import Block, Geometry, ReadOnlyArrays

ROWS_PER_COLUMN = 16
FEWEST_ROWS = 20_000


@dataclass(frozen=True, eq=False)
class Draw(ReadOnlyArrays):
    """The patches that are taken of a batch.

    Attributes:
        feeds: A kernel's geometry inputs for the whole block.
        rows: How many patches they take.
        places: Conv: output positions, the same of every sample; otherwise rows of the input
            flattened to (rows, columns).
    """

    feeds: dict[str, np.ndarray]
    rows: int
    places: np.ndarray


class Sampling:
    """Draws what a kernel of `runtime/moment_kernels` takes of a block's input.

    Args:
        block: The block.
        samples: How many samples there are in all.
        most: How many rows are enough; by default as many as moments need.

    Attributes:
        rows_per_sample: How many rows are taken of a sample, if it has as many.
    """

    def __init__(self, block: Block, samples: int, most: int | None = None) -> None:
        self._geometry = block.geometry
        wanted = max(FEWEST_ROWS, ROWS_PER_COLUMN * block.geometry.columns)
        self.rows_per_sample = ceil(min(wanted, most or wanted) / samples)

    def draw(self, shape: tuple[int, ...], real: int, size: int, rng: np.random.Generator) -> Draw:
        """Draws the patches of a batch of the input.

        Args:
            shape: Of the block's input.
            real: How many samples of the batch count; the rest pads a fixed batch.
            size: How many samples the batch has.
            rng: Draws positions.
        """
        geometry = self._geometry
        if geometry.kind == "conv":
            available = prod(output_lengths(geometry, shape[2:]))
            count = min(available, self.rows_per_sample)
            rows = count * real
        else:
            available = prod(shape[:-1]) * real // size
            rows = count = min(available, real * self.rows_per_sample)
        places = np.sort(rng.choice(available, count, replace=False))
        return Draw(patch_feeds(geometry, shape, real, places), rows, places)

    def answers(self, values: np.ndarray, draw: Draw, real: int) -> np.ndarray:
        """What a tensor of the shape of the block's answer holds for the patches of a draw.

        Args:
            values: The tensor, of a batch.
            draw: The patches.
            real: How many samples of the batch count.

        Returns:
            (groups, patches, rows), in the order of the kernels.
        """
        geometry = self._geometry
        if geometry.kind != "conv":
            return np.asarray(values.reshape(-1, geometry.out_channels)[draw.places][None])
        flat = values[:real].reshape(real, geometry.groups, geometry.rows, -1)
        picked = flat[..., draw.places]
        return np.asarray(picked.transpose(1, 0, 3, 2).reshape(geometry.groups, -1, geometry.rows))


def patch_feeds(
    geometry: Geometry, shape: tuple[int, ...], real: int, places: np.ndarray
) -> dict[str, np.ndarray]:
    """A kernel's geometry inputs.

    Args:
        geometry: Of the block.
        shape: Of its input, of a batch.
        real: How many samples of the batch count.
        places: As of a `Draw`.
    """
    if geometry.kind != "conv":
        return {"index": places, "shape": np.array([1, -1, geometry.columns])}
    lengths = shape[2:]
    axes = len(lengths)
    pads = explicit_pads(geometry, lengths)
    channels, taps = geometry.in_channels // geometry.groups, prod(geometry.kernel)
    return {
        "count": np.array([real]),
        "pads": np.array((0, 0, *pads[:axes], 0, 0, *pads[axes:])),
        "index": patch_index(geometry, lengths, places).T.reshape(-1),
        "split": np.array([0, geometry.groups, channels, len(places), taps]),
        "shape": np.array([geometry.groups, -1, geometry.columns]),
    }
