"""Runs of a model that takes one sample at a time, put together.

A file may fix the number of samples that run at once, mostly at one. What is done with a run's
tensors otherwise, of many of them is done together: `ran` runs a stack of feeds, one of them after
the other, and `together` makes of stacked tensors what a run with so many samples would have given.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from onnx_relusv.core.errors import InputError
from onnx_relusv.runtime.session import Session
from onnx_relusv.samples.samples import Batch

Arrays = Mapping[str, np.ndarray]
_NOTHING: Mapping[str, Any] = {}


def ran(
    session: Session,
    count: int,
    feeds: Arrays,
    outputs: Sequence[str] | None = None,
    shared: Mapping[str, Any] = _NOTHING,
) -> dict[str, np.ndarray]:
    """Runs a model for every feed of a stack.

    Args:
        session: The model.
        count: How many runs these are, one at least.
        feeds: By input, (runs, ...).
        outputs: Names of the requested outputs; all of them if None.
        shared: Inputs that all runs have in common.

    Returns:
        By output, (runs, ...).

    Raises:
        InputError: onnxruntime refuses the feeds or fails, or an output has different shapes.
    """
    found: dict[str, np.ndarray] = {}
    for number in range(count):
        each = {name: values[number, ...] for name, values in feeds.items()}
        values = session.run({**shared, **each}, outputs)
        if not number:
            found = {
                name: np.empty((count, *value.shape), value.dtype) for name, value in values.items()
            }
        for name, value in values.items():
            if value.shape != found[name].shape[1:]:
                raise InputError(
                    f"{name} is {found[name].shape[1:]} for one sample and {value.shape} for "
                    "another, though nothing that the model computes says so."
                )
            found[name][number] = value
    return found


def together(stack: np.ndarray) -> np.ndarray:
    """Stacked tensors, (runs, ...), behind each other along their own first axis."""
    return stack.reshape(-1, *stack.shape[2:]) if stack.ndim > 1 else stack


def run_batch(
    session: Session, batch: Batch, outputs: Sequence[str] | None = None
) -> dict[str, np.ndarray]:
    """What a model makes of a batch, be it of one run or of several.

    Raises:
        InputError: As of `Session.run` and `ran`.
    """
    if not batch.stacked:
        return session.run(batch.feeds, outputs)
    found = ran(session, batch.count, batch.feeds, outputs)
    return {name: together(stack) for name, stack in found.items()}
