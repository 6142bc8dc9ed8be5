"""What a changed model is told from the original by: its outputs, or what decides them."""

from typing import Literal

from onnx_relusv.divergence import Answers, answers_of
from onnx_relusv.errors import InputError
from onnx_relusv.graph.expose import runnable
from onnx_relusv.graph.model import Model
from onnx_relusv.graph.value_lengths import (
    FLOAT_TENSORS,
    counts,
    deciding_candidates,
    deciding_tensors,
)
from onnx_relusv.opened import Opened
from onnx_relusv.runtime.session import Session
from onnx_relusv.samples import Batch


def deciding_outputs(model: Model, session: Session) -> tuple[str, ...]:
    """The outputs of a model, or the float tensors before those that are none.

    Args:
        model: The model.
        session: It, opened.

    Returns:
        Names of outputs and of inner tensors, each once; none where nothing that is computed of
        floats leads to an output.
    """
    kinds = session.output_types
    plain = all(kinds.get(name) in FLOAT_TENSORS for name in model.output_names)
    if plain and not counts(model):
        return model.output_names
    try:
        inner = Session(
            runnable(model, exposed=deciding_candidates(model)), session.provider, lean=True
        )
    except InputError:
        # Some tensor cannot be an output; what the model itself gives in floats has to do.
        return tuple(name for name in model.output_names if kinds.get(name) in FLOAT_TENSORS)
    return deciding_tensors(model, {**kinds, **inner.output_types})


def judged_answers(
    opened: Opened, batch: Batch, wanted: Literal["auto", "kl", "l2"] = "auto"
) -> Answers:
    """What of a model's outputs is compared, from a batch of samples.

    Args:
        opened: The model.
        batch: The samples.
        wanted: As of `answers_of`.

    Raises:
        InputError: Class scores are to be compared, and there are none.
    """
    session = opened.session()
    names = deciding_outputs(opened.model, session)
    if names != opened.model.output_names:
        session = opened.session(names)
    # No names would mean all outputs to onnxruntime.
    values = session.run(batch.feeds, names) if names else {}
    return answers_of(opened.model, values, batch.count, batch.size, wanted)
