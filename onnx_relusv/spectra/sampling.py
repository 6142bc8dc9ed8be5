"""Which patches of a batch moments are taken of: all, or seeded positions where there are many.

Where a Conv has many more output positions than its moments need, positions are drawn anew for
every batch: `ROWS_PER_COLUMN` rows a column, but at least `FEWEST_ROWS`.
"""

from math import ceil, prod

import numpy as np

from onnx_relusv.patches import explicit_pads, output_lengths, patch_index
from onnx_relusv.records import Block

ROWS_PER_COLUMN = 16
FEWEST_ROWS = 20_000


class Sampling:
    """Draws what a kernel of `runtime/moment_kernels` takes of a block's input.

    Args:
        block: The block.
        samples: How many samples there are in all.

    Attributes:
        rows_per_sample: How many rows are taken of a sample, if it has as many.
    """

    def __init__(self, block: Block, samples: int) -> None:
        self._geometry = block.geometry
        wanted = max(FEWEST_ROWS, ROWS_PER_COLUMN * block.geometry.columns)
        self.rows_per_sample = ceil(wanted / samples)

    def feeds(
        self, shape: tuple[int, ...], real: int, size: int, rng: np.random.Generator
    ) -> tuple[dict[str, np.ndarray], int]:
        """The kernel's geometry inputs for a batch of the input, and how many rows they take.

        Args:
            shape: Of the block's input.
            real: How many samples of the batch count; the rest pads a fixed batch.
            size: How many samples the batch has.
            rng: Draws positions.
        """
        if self._geometry.kind == "conv":
            return self._conv_feeds(shape, real, rng)
        available = prod(shape[:-1]) * real // size
        rows = min(available, real * self.rows_per_sample)
        index = np.sort(rng.permutation(available)[:rows])
        return {"index": index, "shape": np.array([1, -1, self._geometry.columns])}, rows

    def _conv_feeds(
        self, shape: tuple[int, ...], samples: int, rng: np.random.Generator
    ) -> tuple[dict[str, np.ndarray], int]:
        geometry, lengths = self._geometry, shape[2:]
        axes = len(lengths)
        pads = explicit_pads(geometry, lengths)
        all_positions = prod(output_lengths(geometry, lengths))
        count = min(all_positions, self.rows_per_sample)
        positions = np.sort(rng.choice(all_positions, count, replace=False))
        channels = geometry.in_channels // geometry.groups
        taps = prod(geometry.kernel)
        return {
            "count": np.array([samples]),
            "pads": np.array((0, 0, *pads[:axes], 0, 0, *pads[axes:])),
            "index": patch_index(geometry, lengths, positions).reshape(-1),
            "split": np.array([0, geometry.groups, channels, taps, count]),
            "shape": np.array([geometry.groups, geometry.columns, -1]),
        }, count * samples
