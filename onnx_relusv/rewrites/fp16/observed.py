"""The nodes of a network that have to stay float32, by its numbers on inputs and by onnxruntime.

The network runs as it is, in float32, with all tensors shown that half precision would take. What
reaches too far on some input, or is so small that little of it is left, keeps float32, with the
nodes that read or give it. Without samples, inputs are random, and others may reach further.

onnxruntime casts to float32 and back around what it has no kernel in half precision for; where it
has none at all, or refuses the types, the file does not open. Then every kind of node is opened by
itself, and those that cannot be stay float32.
"""

from collections.abc import Collection, Iterator, Mapping

import numpy as np
from onnx import ModelProto, NodeProto, TensorProto, ValueInfoProto, helper

from onnx_relusv.core.blocks import Runnable
from onnx_relusv.core.errors import InputError
from onnx_relusv.graph.protos import copied, copy_fields, first_output
from onnx_relusv.graph.reference import runnable
from onnx_relusv.measuring.case import Case, Workspace
from onnx_relusv.measuring.inputs import Inputs
from onnx_relusv.measuring.trials import further_feeds
from onnx_relusv.rewrites.fp16.conversion import HalfPrecision
from onnx_relusv.rewrites.fp16.operators import Types
from onnx_relusv.rewrites.fp16.ranges import LARGEST_SEEN, Losses
from onnx_relusv.runtime.session import Session
from onnx_relusv.work.executors import Progress

# Samples that tell how far numbers reach, and how many numbers are looked at in all.
_SAMPLES, _NUMBERS = 64, 1 << 28
_LENGTH = 16
_SIZES = 2
NO_KERNEL = "onnxruntime does not run it in half precision"

Feeds = Mapping[str, np.ndarray]


def float_nodes(
    case: Case,
    inputs: Inputs,
    workspace: Workspace,
    proto: ModelProto,
    untouched: Collection[str],
    progress: Progress,
) -> dict[str, str]:
    """The nodes of a network that stay float32 for what was seen of them.

    Args:
        case: The original.
        inputs: Its samples, of which those for fitting are run, at most 64; random inputs without.
        workspace: Where it runs.
        proto: The network in float32: the original, or what was made of it.
        untouched: As of `HalfPrecision`.
        progress: Shows the samples.

    Returns:
        By the first tensor that each of them gives, the reason in words.
    """
    half = HalfPrecision(proto, case.model, {}, untouched)
    fed = {value.name for value in proto.graph.input}
    watched = dict.fromkeys(name for names in half.halved.values() for name in names)
    made = [name for name in watched if name not in fed]
    lost = {name: Losses(LARGEST_SEEN) for name in watched}
    source = runnable(case.model, proto, made)
    session = Session(source, workspace.provider, lean=True, alone=False)
    with progress.stage("Range of the tensors", 1) as advance:
        for feeds in _feeds(case, inputs, workspace, session, made):
            values = {**feeds, **(session.run(feeds, made) if made else {})}
            for name in lost.keys() & values.keys():
                lost[name].add(values[name])
        advance(1)
    beyond = {name: losses.problem for name, losses in lost.items()}
    where = (
        "on synthetic inputs" if inputs.calibration is None or inputs.data_free else "on samples"
    )
    found: dict[str, str] = {}
    for key, names in half.halved.items():
        problem = next((f"{n} {beyond[n]} {where}" for n in names if beyond[n] is not None), None)
        if problem is not None:
            found[key] = problem
    return found | _refused(case, workspace, proto, found, untouched)


def _feeds(
    case: Case, inputs: Inputs, workspace: Workspace, session: Session, made: list[str]
) -> Iterator[Feeds]:
    samples = inputs.calibration
    if samples is None:
        # It settles what lengths run; then come other ones.
        yield case.example
        rng = np.random.default_rng(workspace.options.seed)
        plain = Session(runnable(case.model), workspace.provider, lean=True, alone=False)
        yield from further_feeds(plain, case.model, rng, _SIZES)
        return
    first = next(samples.batches(1, limit=1))
    values = session.run(first.feeds, made) if made else {}
    each = sum(value.nbytes for value in values.values()) // first.size + 1
    length = min(_LENGTH, max(1, workspace.free_bytes(case.model) // (4 * each)))
    count = min(samples.count, _SAMPLES, max(1, 4 * _NUMBERS // each))
    places = np.unique(np.linspace(0, samples.count - 1, count).round().astype(int))
    for batch in samples.part(places).batches(length):
        yield batch.feeds


def _refused(
    case: Case,
    workspace: Workspace,
    proto: ModelProto,
    staying: Mapping[str, str],
    untouched: Collection[str],
) -> dict[str, str]:
    """The nodes that onnxruntime cannot open in half precision."""
    half = HalfPrecision(proto, case.model, staying, untouched)
    result = half.converted()
    if _opens(runnable(case.model, result), workspace.provider):
        return {}
    types, tried = Types(result), dict[bytes, bool]()
    refused: dict[str, str] = {}
    for node in result.graph.node:
        key = first_output(node)
        if key in half.halved:
            alone = _alone(node, result, types)
            what = alone.SerializeToString(deterministic=True)
            if what not in tried:
                tried[what] = _opens(Runnable(what, {}, None), workspace.provider)
            if not tried[what]:
                refused[key] = NO_KERNEL
    return refused


def _opens(source: Runnable, provider: str) -> bool:
    try:
        Session(source, provider, optimized=False)
    except InputError:
        return False
    return True


def _alone(node: NodeProto, proto: ModelProto, types: Types) -> ModelProto:
    """A model of one node, all that it reads an input."""
    result = copied(proto, skipped={"graph", "metadata_props"})
    graph, own, short = result.graph, NodeProto(), dict[str, str]()
    copy_fields(node, own, skipped={"name", "input", "output"})
    graph.name = "alone"
    for name in (*node.input, *node.output):
        short.setdefault(name, f"t{len(short)}" if name else "")
    own.input.extend(short[name] for name in node.input)
    own.output.extend(short[name] for name in node.output)
    graph.node.append(own)
    for name in dict.fromkeys(filter(None, node.input)):
        kind = types.of(name) or TensorProto.FLOAT
        graph.input.append(helper.make_tensor_value_info(short[name], kind, None))
    graph.output.extend(ValueInfoProto(name=short[name]) for name in node.output if name)
    return result
