"""The shapes of tensors for one sample, measured by running the model."""

from collections.abc import Iterable, Sequence

import numpy as np

from onnx_relusv.errors import InputError
from onnx_relusv.feeds import candidate_feeds
from onnx_relusv.records import InputSpec
from onnx_relusv.runtime.session import Session

Shape = tuple[int, ...]


def measured_shapes(
    session: Session,
    inputs: Sequence[InputSpec],
    tensors: Iterable[str],
    example: dict[str, np.ndarray] | None,
    rng: np.random.Generator,
) -> dict[str, Shape]:
    """Runs the model on one sample, or on synthetic input, and reads the shapes off.

    Args:
        session: The model with the tensors as outputs.
        inputs: Its inputs.
        tensors: The tensors.
        example: A feed; synthetic ones are tried if None.
        rng: Draws synthetic input.

    Returns:
        Shapes with the batch divided out of axis 0.

    Raises:
        InputError: The model does not run.
    """
    wanted = [name for name in tensors if name in set(session.output_names)]
    given = {spec.name for spec in inputs}
    feeds = [example] if example is not None else candidate_feeds(inputs, 1, rng)
    problem: InputError | None = None
    for feed in feeds:
        try:
            # An empty list would mean all outputs to onnxruntime.
            values = session.run(feed, wanted or None)
        except InputError as error:
            problem = problem or error
            continue
        batch = max((len(feed[name]) for name in given if feed[name].ndim), default=1)
        shapes = {name: np.shape(value) for name, value in {**values, **feed}.items()}
        return {name: _of_one(shape, batch) for name, shape in shapes.items()}
    assert problem is not None  # at least one feed was tried
    raise problem


def _of_one(shape: Shape, batch: int) -> Shape:
    if shape and shape[0] % batch == 0:
        return (shape[0] // batch, *shape[1:])
    return shape
