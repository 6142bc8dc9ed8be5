"""Which of a model's outputs holds class scores, and whether labels fit it."""

from collections.abc import Mapping

import numpy as np

from onnx_relusv.errors import InputError
from onnx_relusv.samples import Samples


def real_rows(values: Mapping[str, np.ndarray], count: int, size: int) -> dict[str, np.ndarray]:
    """Outputs without those of the samples that only pad a fixed batch.

    Args:
        values: A batch's outputs.
        count: How many samples of the batch are real.
        size: How many it has.
    """
    return {
        name: value[:count] if np.ndim(value) and len(value) == size else value
        for name, value in values.items()
    }


def class_scores(values: Mapping[str, np.ndarray], count: int) -> str | None:
    """The first output of shape (samples, classes), with two classes or more; None without."""
    for name, value in values.items():
        if value.ndim == 2 and value.shape[0] == count and value.shape[1] > 1:
            return name
    return None


def check_labels(samples: Samples, classes: int) -> None:
    """Checks the labels, which the samples must have.

    Raises:
        InputError: One of them is no class.
    """
    labels = samples.labels
    assert labels is not None  # the caller looked
    if labels.min() < 0 or labels.max() >= classes:
        raise InputError(
            f"{samples.path}: labels go from {labels.min()} to {labels.max()}, but the model has "
            f"{classes} classes, 0 to {classes - 1}."
        )
