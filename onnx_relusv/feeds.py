"""Synthetic inputs: what a model is run on where there are no samples, or besides them."""

from collections.abc import Iterator, Sequence

import numpy as np

from onnx_relusv.records import InputSpec

# Lengths tried for dynamic axes behind the batch, until the model runs. Convolutional networks
# need enough pixels to survive their strides, sequence models do with few.
DYNAMIC_LENGTHS = (224, 64, 256, 32, 128, 16, 8, 1)


def synthetic_feeds(
    inputs: Sequence[InputSpec], batch: int, length: int, rng: np.random.Generator
) -> dict[str, np.ndarray]:
    """Random inputs: standard normal floats, integers 0 and 1, booleans.

    Args:
        inputs: The model's inputs.
        batch: Length of a dynamic first axis.
        length: Length of every other dynamic axis.
        rng: Draws the values.
    """
    feeds = {}
    for spec in inputs:
        shape = tuple(
            (batch if axis == 0 else length) if known is None else known
            for axis, known in enumerate(spec.shape)
        )
        if spec.dtype.kind in "iub":
            values: np.ndarray = rng.integers(0, 2, shape)
        else:
            values = rng.standard_normal(shape)
        feeds[spec.name] = np.asarray(values).astype(spec.dtype)
    return feeds


def candidate_feeds(
    inputs: Sequence[InputSpec], batch: int, rng: np.random.Generator
) -> Iterator[dict[str, np.ndarray]]:
    """Synthetic inputs of one size after the other, for the caller to find those that run."""
    dynamic = any(length is None for spec in inputs for length in spec.shape[1:])
    for length in DYNAMIC_LENGTHS if dynamic else (1,):
        yield synthetic_feeds(inputs, batch, length, rng)
