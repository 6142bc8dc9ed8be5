"""Parts of a graph: segments between cuts, tails behind blocks, and nodes that draw random numbers.

A cut lies behind all nodes that a block's source, and the sources before it, depend on, and before
all others; what these still read is live there. Between two cuts only the nodes run that lead from
the live tensors of the one to those of the other, so that a sample flows through the graph once
while blocks are fitted.

A tail leads from what is alive before some blocks to the outputs, and their constants are inputs:
whatever takes a block's place is tried by feeding its composed dense kernel, without a new session.

A model that draws random numbers answers one input differently in every run. A seed among a node's
attributes does not change that: onnxruntime draws on from run to run.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
from onnx import (
    FunctionProto,
    GraphProto,
    ModelProto,
    NodeProto,
    TensorProto,
    ValueInfoProto,
    helper,
    numpy_helper,
)

from onnx_relusv.core.blocks import Block, Geometry, LinearMap, ReadOnlyArrays, Runnable
from onnx_relusv.graph.model import Model
from onnx_relusv.graph.protos import (
    bodies,
    copied,
    drop_named,
    held,
    initialized,
    makers,
    node_label,
    used_names,
)
from onnx_relusv.graph.reference import with_data, with_dense

# Besides all whose name begins so, whatever their domain.
_PREFIX = "Random"
_DRAWING = ("Bernoulli", "Multinomial", "Sampling")
# Where the share that they drop stands among their inputs; whether they are training is the next.
_DROPPING = {"Dropout": 1, "BitmaskDropout": 1, "BiasDropout": 3, "BitmaskBiasDropout": 3}
_DEFAULT_RATIO = 0.5
# What comes behind them depends on shapes alone.
_ONLY_SHAPES = ("Shape", "Size")

_Functions = Mapping[tuple[str, str], FunctionProto]
_Scalars = Mapping[str, float]


def random_node(proto: ModelProto) -> str | None:
    """What the node is called that draws random numbers on which an output of the model depends.

    Nodes inside bodies and functions count; None where there is no such node.
    """
    functions = {(function.domain, function.name): function for function in proto.functions}
    found = _drawing(proto.graph, {}, functions)
    return None if found is None else node_label(found)


def draws(node: NodeProto, scalars: _Scalars | None = None) -> bool:
    """Whether a node itself draws random numbers.

    Args:
        node: The node.
        scalars: What constants of one number hold, which tell whether a Dropout is training; of
            one that may be told so by a caller, nothing is assumed.
    """
    if node.op_type.startswith(_PREFIX) or node.op_type in _DRAWING:
        return True
    if node.op_type not in _DROPPING:
        return False
    slot, known = _DROPPING[node.op_type], scalars or {}
    given = [*node.input, *[""] * (slot + 2)]
    ratio = known.get(given[slot], 1.0) if given[slot] else _DEFAULT_RATIO
    return bool(known.get(given[slot + 1], 0.0) and ratio)


def _drawing(
    graph: GraphProto | FunctionProto, outer: _Scalars, functions: _Functions
) -> NodeProto | None:
    """A node that draws and that an output of a graph depends on; `outer` is known around it."""
    scalars, by_output = {**outer, **_scalars(graph)}, makers(graph)
    pending = [each if isinstance(each, str) else each.name for each in graph.output]
    seen = set[str]()
    while pending:
        name = pending.pop()
        node = by_output.get(name)
        if node is None or name in seen:
            continue
        seen.update(node.output)
        if _draws_inside(node, scalars, functions):
            return node
        if node.op_type not in _ONLY_SHAPES:
            pending.extend(used_names([node]))
    return None


def _draws_inside(node: NodeProto, scalars: _Scalars, functions: _Functions) -> bool:
    """Whether a node draws, or one inside its bodies, or of the function that it calls."""
    function = functions.get((node.domain, node.op_type))
    if function is not None:
        # None calls itself.
        others = {key: value for key, value in functions.items() if value is not function}
        return _drawing(function, {}, others) is not None
    inner = (_drawing(body, scalars, functions) for body in bodies(node))
    return draws(node, scalars) or any(found is not None for found in inner)


def _scalars(graph: GraphProto | FunctionProto) -> dict[str, float]:
    """What the constants of one number hold that a graph defines."""
    tensors: dict[str, TensorProto | None] = {}
    if isinstance(graph, GraphProto):
        tensors.update((tensor.name, tensor) for tensor in graph.initializer)
    for node in graph.node:
        if node.op_type == "Constant" and len(node.attribute) == 1:
            tensors[node.output[0]] = held(node)
    return {
        name: float(numpy_helper.to_array(tensor).reshape(()))
        for name, tensor in tensors.items()
        if tensor is not None
        and tensor.data_location != TensorProto.EXTERNAL
        and tensor.data_type != TensorProto.STRING
        and prod(tensor.dims) == 1
    }


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
    produced = _produced(nodes)
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


def _produced(nodes: Sequence[NodeProto]) -> dict[str, int]:
    return {name: index for index, node in enumerate(nodes) for name in node.output if name}


def _run(
    nodes: Sequence[NodeProto],
    produced: Mapping[str, int],
    wanted: Iterable[str],
    ran: set[int],
    available: Collection[str] = (),
) -> None:
    """Adds to `ran` the nodes that wanted tensors depend on, but through available ones."""
    pending = list(wanted)
    while pending:
        index = produced.get(pending.pop())
        if index is not None and index not in ran:
            ran.add(index)
            read = used_names([nodes[index]])
            pending.extend(name for name in read if name not in available)


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
    wanted = [name for name in writes if name not in reads]
    kept = set[int]()
    _run(graph.node, _produced(graph.node), wanted, kept, reads)
    nodes = [graph.node[index] for index in sorted(kept)]
    needed = {*wanted, *used_names(nodes)}
    part = copied(proto, skipped={"graph"})
    part.graph.name = graph.name or "segment"
    part.graph.node.extend(nodes)
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


@dataclass(frozen=True, eq=False)
class Tail(ReadOnlyArrays):
    """A part of a model with some blocks' constants as further inputs.

    Attributes:
        runnable: The part.
        model: The original.
        blocks: The blocks.
        examples: Their constants as inputs, of some linear maps.
        names: By block key, under which names the part has the constants that the block has when
            it alone is replaced.
    """

    runnable: Runnable
    model: Model
    blocks: tuple[Block, ...]
    examples: Mapping[str, np.ndarray]
    names: Mapping[str, Mapping[str, str]]

    def feeds(self, dense: Mapping[str, LinearMap]) -> dict[str, np.ndarray]:
        """The inputs that stand for linear maps in the blocks' places, by their keys.

        Raises:
            KeyError: One of the blocks has none.
        """
        # One by one: a bias of zeros has no node of its own, and the next block's constants would
        # get other names.
        found = {
            self.names[block.key][name]: values
            for block in self.blocks
            for name, values in _constants(
                self.model, [block], {block.key: dense[block.key]}
            ).items()
        }
        # Or it has another shape.
        return {
            name: np.ascontiguousarray(np.broadcast_to(found.get(name, 0), example.shape)).astype(
                example.dtype
            )
            for name, example in self.examples.items()
        }


def tail(
    model: Model,
    opening: Sequence[Block],
    others: Mapping[str, LinearMap],
    blocks: Iterable[Block],
    reads: Mapping[str, np.ndarray],
    writes: Iterable[str],
) -> Tail:
    """The part of a model behind a cut, where some blocks are open and others may be replaced.

    Args:
        model: The original.
        opening: The blocks that are open.
        others: Dense linear maps of other blocks by key; those without stay as they are.
        blocks: All blocks.
        reads: What is alive at the cut, with an example of each.
        writes: The tensors to compute.
    """
    ones = {block.key: _ones(block.geometry) for block in opening}
    examples = _constants(model, opening, ones)
    # Constants come in the order of their blocks, and in each of them the same.
    together = iter(examples)
    names = {
        block.key: {alone: next(together) for alone in _constants(model, [block], ones)}
        for block in opening
    }
    replaced = {**others, **ones}
    # The open blocks come first, so that their constants have the names that they have alone.
    ordered = [*opening, *(other for other in blocks if other.key not in ones)]
    proto, arrays = with_dense(model, ordered, replaced)
    drop_named(proto.graph.initializer, set(examples))
    kept = {name: values for name, values in arrays.items() if name not in examples}
    part = segment(model, proto, {**reads, **examples}, writes, kept)
    return Tail(part, model, tuple(opening), examples, names)


def _ones(geometry: Geometry) -> LinearMap:
    shape = (geometry.groups, geometry.rows, geometry.columns)
    return LinearMap(np.ones(shape), np.ones(geometry.out_channels))


def _constants(
    model: Model, blocks: Iterable[Block], dense: Mapping[str, LinearMap]
) -> dict[str, np.ndarray]:
    """What linear maps become in the graph, by the names that their constants get."""
    before = {tensor.name for tensor in model.proto.graph.initializer}
    proto, arrays = with_dense(model, blocks, dense)
    return {
        tensor.name: arrays[tensor.name] if tensor.name in arrays else numpy_helper.to_array(tensor)
        for tensor in proto.graph.initializer
        if tensor.name not in before
    }
