"""The shapes of tensors for one sample, read off a run of the model."""

from collections.abc import Mapping

import numpy as np

Shape = tuple[int, ...]


def shapes_for_one(
    values: Mapping[str, object], feeds: Mapping[str, object], batch: int
) -> dict[str, Shape]:
    """The shapes of a run's tensors, had it been of one sample.

    Args:
        values: What the model made of the feeds.
        feeds: What it ran on.
        batch: How many samples that were.

    Returns:
        Of feeds and values, with the batch divided out of axis 0. What is no tensor is left out.
    """
    shapes = {
        name: np.shape(value)
        for name, value in {**values, **feeds}.items()
        if isinstance(value, np.ndarray | np.generic)
    }
    return {name: _of_one(shape, batch) for name, shape in shapes.items()}


def _of_one(shape: Shape, batch: int) -> Shape:
    if shape and shape[0] % batch == 0:
        return (shape[0] // batch, *shape[1:])
    return shape
