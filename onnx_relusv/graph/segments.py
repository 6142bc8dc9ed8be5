"""Cuts a graph into segments, so that a sample flows through it once while blocks are fitted.

A cut lies behind all nodes that a block's source, and the sources before it, depend on, and before
all others; what these still read is live there. Between two cuts only the nodes run that lead from
the live tensors of the one to those of the other.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from onnx import ModelProto, NodeProto, ValueInfoProto, helper

from onnx_relusv.graph.expose import with_data
from onnx_relusv.graph.model import Model
from onnx_relusv.graph.protos import copy_fields, initialized, used_names
from onnx_relusv.graph.random_nodes import draws
from onnx_relusv.records import Runnable


@dataclass(frozen=True)
class Cut:
    """A line between nodes that have run and nodes that have not.

    Attributes:
        sources: The wanted tensors that are complete here and were not at the cut before.
        live: These, what is kept, and all that nodes behind the cut read.
    """

    sources: tuple[str, ...]
    live: tuple[str, ...]


def cuts(model: Model, wanted: Iterable[str], kept: Iterable[str] = ()) -> list[Cut]:
    """The cuts at which wanted tensors become complete, in topological order.

    Args:
        model: The model.
        wanted: The tensors.
        kept: Tensors that stay alive once they are made, though nothing may read them any more.
    """
    nodes = model.proto.graph.node
    produced = {name: index for index, node in enumerate(nodes) for name in node.output if name}
    static = static_names(model.proto)
    inputs = {spec.name for spec in model.inputs}
    keeping = set(kept)
    at: dict[int, list[str]] = {}
    for name in dict.fromkeys(wanted):
        at.setdefault(produced.get(name, -1), []).append(name)
    found: list[Cut] = []
    ran: set[int] = set()
    for index in sorted(at):
        # A random number that is drawn once is the same for all that reads it.
        drawn = [name for node in nodes[: index + 1] if draws(node) for name in node.output]
        _run(nodes, produced, [*at[index], *drawn], ran)
        behind = {
            name
            for number, node in enumerate(nodes)
            if number not in ran
            for name in used_names([node])
        }
        ahead = {name for number in ran for name in nodes[number].output} | inputs
        live = ((behind | keeping) & ahead) - static
        found.append(Cut(tuple(at[index]), tuple(sorted(live | set(at[index])))))
    return found


def _run(
    nodes: Sequence[NodeProto], produced: Mapping[str, int], wanted: Iterable[str], ran: set[int]
) -> None:
    """Adds to `ran` the nodes that wanted tensors depend on."""
    pending = list(wanted)
    while pending:
        index = produced.get(pending.pop())
        if index is not None and index not in ran:
            ran.add(index)
            pending.extend(used_names([nodes[index]]))


def segment(
    model: Model,
    proto: ModelProto,
    reads: Mapping[str, Any],
    writes: Iterable[str],
    arrays: Mapping[str, np.ndarray] | None = None,
) -> Runnable:
    """The part of a model that leads from some tensors to others.

    Args:
        model: The original, which knows where external data lies.
        proto: It, or a model derived from it.
        reads: Available tensors with an example of each, whose type and rank count; a list for a
            sequence.
        writes: The tensors to compute; those among `reads` are left out.
        arrays: Values of the derived model's initializers that are stubs.
    """
    graph = proto.graph
    makers = {name: node for node in graph.node for name in node.output if name}
    wanted = [name for name in writes if name not in reads]
    kept: set[int] = set()
    needed, pending = set(wanted), list(wanted)
    while pending:
        node = makers.get(pending.pop())
        if node is None or id(node) in kept:
            continue
        kept.add(id(node))
        fresh = [name for name in used_names([node]) if name not in needed]
        needed.update(fresh)
        pending.extend(name for name in fresh if name not in reads)
    part = ModelProto()
    copy_fields(proto, part, skipped={"graph"})
    part.graph.name = graph.name or "segment"
    part.graph.node.extend(node for node in graph.node if id(node) in kept)
    part.graph.initializer.extend(t for t in graph.initializer if t.name in needed)
    part.graph.sparse_initializer.extend(
        t for t in graph.sparse_initializer if t.values.name in needed
    )
    stored = set(initialized(part.graph))
    for name, example in reads.items():
        if name in needed and name not in stored:
            part.graph.input.append(_input(name, example))
    part.graph.output.extend(ValueInfoProto(name=name) for name in wanted)
    return with_data(model, part, arrays)


def _input(name: str, example: Any) -> ValueInfoProto:
    """An input for an example: an array, or a list of them for a sequence."""
    if isinstance(example, list):
        first = example[0] if example else np.zeros(0, np.float32)
        kind = helper.np_dtype_to_tensor_dtype(first.dtype)
        return helper.make_tensor_sequence_value_info(name, kind, None)
    kind = helper.np_dtype_to_tensor_dtype(example.dtype)
    return helper.make_tensor_value_info(name, kind, [None] * example.ndim)


def static_names(proto: ModelProto) -> set[str]:
    """Tensors that depend on no input of the graph: initializers and what is computed of them."""
    static = {*initialized(proto.graph), ""}
    for node in proto.graph.node:
        # Random operators have no inputs either, but differ from run to run.
        if not draws(node) and set(used_names([node])) <= static:
            static.update(node.output)
    return static
