"""Second moments of what blocks really see: streamed, in float64, and shrunk.

Samples run through the original model once; for every block input the patches of a batch are
added up on the device.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np

from onnx_relusv.records import Block, Floats, Moments
from onnx_relusv.runtime.moment_kernels import moments_kernel
from onnx_relusv.runtime.session import Session, as_array
from onnx_relusv.samples import Batch, Samples
from onnx_relusv.spectra.sampling import Sampling

# Of the mean square: above the rounding of float64 sums, below anything that matters.
LEAST_VARIANCE = 1e-9
# Of inputs that are zero: the square of the least float32.
_NO_VARIANCE = 1e-76
_BATCH_BYTES = 256 << 20
_LARGEST_BATCH = 64


@dataclass(frozen=True)
class MomentsKey:
    """What two blocks share when their moments are the same: the tensor and its patches."""

    source: str
    groups: int
    columns: int
    kernel: tuple[int, ...]
    strides: tuple[int, ...]
    dilations: tuple[int, ...]
    pads: tuple[int, ...]
    auto_pad: str


def moments_key(block: Block) -> MomentsKey:
    """The key of a block's moments."""
    g = block.geometry
    return MomentsKey(
        block.source, g.groups, g.columns, g.kernel, g.strides, g.dilations, g.pads, g.auto_pad
    )


def measure_moments(
    session: Session,
    samples: Samples,
    blocks: Iterable[Block],
    *,
    seed: int,
    advance: Callable[[int], None],
) -> dict[MomentsKey, Moments]:
    """Runs all samples once and returns the moments of the blocks' inputs.

    Args:
        session: The model with the blocks' sources as outputs.
        samples: The samples.
        blocks: The blocks; those that share moments are measured once.
        seed: Draws the positions.
        advance: Told after every batch how many samples it had.
    """
    sums = {moments_key(block): _Sum(block, samples.count) for block in blocks}
    sources = sorted({key.source for key in sums})
    wanted = batch_length(item.block for item in sums.values())
    rng = np.random.default_rng(seed)
    for batch in samples.batches(wanted):
        values = session.run_on_device(batch.feeds, sources)
        for key, item in sums.items():
            item.add(values[key.source], batch, rng, session.provider)
        advance(batch.count)
    return {key: item.moments(samples.count) for key, item in sums.items()}


def batch_length(blocks: Iterable[Block]) -> int:
    """Samples a batch, so that the inputs of these blocks stay within a fixed budget."""
    bytes_per_sample = sum(4 * prod(block.source_shape) for block in blocks)
    return max(1, min(_LARGEST_BATCH, _BATCH_BYTES // max(bytes_per_sample, 1)))


class _Sum:
    """The running sums of one block's input, on the device."""

    def __init__(self, block: Block, samples: int) -> None:
        geometry = block.geometry
        self.block = block
        self._sampling = Sampling(block, samples)
        self._rows = 0
        shape = (geometry.groups, geometry.columns)
        self._total: Any = np.zeros((*shape, geometry.columns))
        self._sum: Any = np.zeros((*shape, 1))

    def add(self, values: Any, batch: Batch, rng: np.random.Generator, provider: str) -> None:
        """Adds the real samples of a batch; `values` is an OrtValue."""
        feeds, rows = self._sampling.feeds(tuple(values.shape()), batch.count, batch.size, rng)
        is_conv = self.block.geometry.kind == "conv"
        kernel = moments_kernel(provider, is_conv, values.element_type())
        result = kernel.run_on_device(
            {"x": values, "total": self._total, "sum": self._sum, **feeds},
            ["new_total", "new_sum"],
        )
        self._total, self._sum = result["new_total"], result["new_sum"]
        self._rows += rows

    def moments(self, samples: int) -> Moments:
        """The moments so far, centred and shrunk."""
        second = as_array(self._total) / self._rows
        mean = as_array(self._sum)[:, :, 0] / self._rows
        return shrunk_moments(mean, second, self._rows, samples)


def shrunk_moments(mean: Floats, second: Floats, rows: int, samples: int) -> Moments:
    """Moments with a shrunk covariance, from raw ones.

    Args:
        mean: (groups, columns).
        second: (groups, columns, columns), not centred.
        rows: How many patches or vectors they are means of.
        samples: How many samples those came from.
    """
    covariance = second - mean[:, :, None] * mean[:, None, :]
    shrinkage = np.array([oracle_shrinkage(group, samples) for group in covariance])
    for group, share, square in zip(covariance, shrinkage, second, strict=True):
        diagonal = np.diag_indices_from(group)
        level = share * group[diagonal].mean()
        # Inputs that hardly vary leave nothing but the difference's rounding, of any sign.
        least = LEAST_VARIANCE * square[diagonal].mean() + _NO_VARIANCE
        group *= 1 - share
        group[diagonal] += max(level, least)
    return Moments(
        mean=mean, covariance=covariance, rows=rows, samples=samples, shrinkage=shrinkage
    )


def oracle_shrinkage(covariance: Floats, samples: int) -> float:
    """How much of a multiple of the identity to mix into a sample covariance.

    The oracle approximating shrinkage of Chen, Wiesel, Eldar, Hero (2010), equation 23, with the
    number of samples, not of patches: patches of one sample depend on each other.

    Args:
        covariance: (n, n) float64.
        samples: Independent samples it was estimated from.

    Returns:
        A share between 1e-9 and 1.
    """
    n = len(covariance)
    square_trace = float(np.sum(covariance**2))
    trace_square = float(np.trace(covariance)) ** 2
    numerator = (1 - 2 / n) * square_trace + trace_square
    denominator = (samples + 1 - 2 / n) * (square_trace - trace_square / n)
    if denominator <= 0:
        return 1.0
    return float(min(1.0, max(1e-9, numerator / denominator)))
