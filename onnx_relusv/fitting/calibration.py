"""How far the tensors of a fitted network reach, for those that become smaller numbers.

The network is run as it will be written, but with floats between its layers, on samples that blocks
were fitted to; batch by batch, so that no more than one is in memory.
"""

from collections.abc import Iterator, Mapping
from dataclasses import replace

import numpy as np

from onnx_relusv.core.errors import InputError
from onnx_relusv.core.reduction import FittedPlan
from onnx_relusv.graph.reference import runnable
from onnx_relusv.measuring.case import Case, Workspace
from onnx_relusv.measuring.inputs import Inputs
from onnx_relusv.rewrites.apply import float_blocks, rewritten
from onnx_relusv.rewrites.fp16.observed import float_nodes
from onnx_relusv.rewrites.int8.activations import quantized_tensors
from onnx_relusv.rewrites.int8.ranges import ENOUGH_SAMPLES, observed_scales
from onnx_relusv.runtime.session import Session
from onnx_relusv.runtime.stacks import run_batch, together
from onnx_relusv.spectra.passes import batch_length
from onnx_relusv.work.executors import Progress


def with_activations(
    case: Case, inputs: Inputs, workspace: Workspace, fitted: FittedPlan, progress: Progress
) -> FittedPlan:
    """A fitted plan with the scales of its quantized tensors.

    Args:
        case: The model.
        inputs: Its samples.
        workspace: Where it runs, and what is kept.
        fitted: The plan and its factors.
        progress: Shows the samples.

    Raises:
        InputError: There are blocks that read integers, and no samples.
    """
    plan = fitted.plan
    if not (fitted.has_integers and plan.quantizes_activations):
        return fitted
    samples = inputs.calibration
    if samples is None or inputs.user_samples is None:
        raise InputError(
            f"the plan has the int8_format {plan.int8_format}, which takes --samples, to "
            "find how far numbers reach. Give some, or set it to weights."
        )
    proto = rewritten(case, inputs, workspace, fitted)
    tensors = quantized_tensors(proto)
    own = tuple(dict.fromkeys(tensors.values()))
    places = np.linspace(0, samples.count - 1, min(samples.count, ENOUGH_SAMPLES))
    samples = samples.part(np.unique(places.round().astype(int)))
    fed = {value.name for value in proto.graph.input}
    made = [name for name in own if name not in fed]
    session = Session(runnable(case.model, proto, made), workspace.provider, alone=False)
    length = batch_length(case.blocks, workspace.options.working_bytes)
    with progress.stage("Ranges of the tensors", samples.count) as advance:

        def seen() -> Iterator[Mapping[str, np.ndarray]]:
            for batch in samples.batches(length, stacked=True):
                feeds = batch.feeds
                if batch.stacked:
                    feeds = {name: together(stack) for name, stack in feeds.items()}
                yield {**feeds, **(run_batch(session, batch, made) if made else {})}
                advance(batch.count)

        scales = observed_scales(seen(), own, plan.int8_format, plan.int8_ranges)
    return replace(fitted, activations={name: scales[shared] for name, shared in tensors.items()})


def with_float_nodes(
    case: Case, inputs: Inputs, workspace: Workspace, fitted: FittedPlan, progress: Progress
) -> FittedPlan:
    """A fitted plan with the nodes that stay float32 where all else is in half precision.

    Args:
        case: The model.
        inputs: Its samples; random inputs take their place where there are none.
        workspace: Where it runs, and what is kept.
        fitted: The plan and its factors.
        progress: Shows the samples.
    """
    if not fitted.plan.uses_fp16:
        return fitted
    proto = rewritten(case, inputs, workspace, fitted.in_floats())
    untouched = float_blocks(case, fitted.plan)
    found = float_nodes(case, inputs, workspace, proto, untouched, progress)
    return replace(fitted, float_nodes=found)
