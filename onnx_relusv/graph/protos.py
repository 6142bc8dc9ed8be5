"""Small operations on protobuf messages that several graph stages share.

Reads a model file without its large weights, which are left where they lie in the file.

A weight inside the file then looks like external data: a tensor that names the file, an offset and
a length. So a model of a gigabyte takes a gigabyte less, and is read as quickly as it is looked at.
Only protobuf's encoding is known here: a message is a row of fields, each a tag, perhaps a length,
and a value.

Makes sure that every name in a graph is defined once, so that all readers mean the same tensor.

onnxruntime takes the last of several initializers of one name, and says so only in its log. Equal
ones come from some quantizers, and all but one of them go. Where they differ, or where a node
writes what is already there, it is not clear which is meant.

Puts the nodes of a graph into topological order, as onnxruntime does when it opens a model.

The ONNX standard asks for that order, but files exist that do without, and all stages here rely on
it. Nodes that are in order stay where they are; of several that could come next, the first in the
file does. Only the main graph is sorted: in bodies and functions, onnxruntime insists on the order.
"""

import mmap
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from heapq import heapify, heappop, heappush
from math import prod
from pathlib import Path

import numpy as np
from google.protobuf.message import Message
from onnx import FunctionProto, GraphProto, ModelProto, NodeProto, TensorProto, helper

# Numbers of fields, as onnx.proto has them.
_GRAPH, _INITIALIZER, _RAW_DATA = 7, 5, 9
_VARINT, _EIGHT_BYTES, _LENGTH, _FOUR_BYTES = 0, 1, 2, 5
# Bytes from which on a weight stays in the file.
_SMALLEST_LEFT = 1 << 16


@dataclass(frozen=True)
class _Field:
    """A field of a message: its number, where it begins, and where its value lies."""

    number: int
    begin: int
    start: int
    end: int


def outline(path: Path) -> ModelProto:
    """A model whose large initializers, if stored as raw bytes, point into the model's own file.

    Raises:
        ValueError: The file is not encoded as protobuf encodes messages.
        google.protobuf.message.DecodeError: It is, but holds something else than a model.
    """
    with (
        path.open("rb") as stream,
        mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as data,
    ):
        model, rest = ModelProto(), bytearray()
        for field in _fields(data, 0, len(data)):
            if field.number == _GRAPH:
                _read_graph(data, field, model, path.name)
            else:
                rest += data[field.begin : field.end]
        model.MergeFromString(bytes(rest))
    return model


def _read_graph(data: mmap.mmap, graph: _Field, model: ModelProto, file: str) -> None:
    rest = bytearray()
    for field in _fields(data, graph.start, graph.end):
        if field.number == _INITIALIZER:
            model.graph.initializer.append(_tensor(data, field, file))
        else:
            rest += data[field.begin : field.end]
    model.graph.MergeFromString(bytes(rest))


def _tensor(data: mmap.mmap, message: _Field, file: str) -> TensorProto:
    if message.end - message.start >= _SMALLEST_LEFT:
        fields = list(_fields(data, message.start, message.end))
        raw = [field for field in fields if field.number == _RAW_DATA]
        others = (data[field.begin : field.end] for field in fields if field not in raw)
        tensor = TensorProto.FromString(b"".join(others))
        if len(raw) == 1 and _is_whole(tensor, raw[0].end - raw[0].start):
            tensor.data_location = TensorProto.EXTERNAL
            place = (("location", file), ("offset", raw[0].start))
            for key, value in (*place, ("length", raw[0].end - raw[0].start)):
                tensor.external_data.add(key=key, value=str(value))
            return tensor
    return TensorProto.FromString(data[message.start : message.end])


def _is_whole(tensor: TensorProto, length: int) -> bool:
    """Whether raw data of a length is all that a tensor holds, in a type of whole bytes."""
    if tensor.data_location == TensorProto.EXTERNAL or not tensor.data_type:
        return False
    dtype = np.dtype(helper.tensor_dtype_to_np_dtype(tensor.data_type))
    return prod(tensor.dims) * dtype.itemsize == length


def _fields(data: mmap.mmap, start: int, end: int) -> Iterator[_Field]:
    """The fields of the message that lies from `start` to `end`."""
    while start < end:
        tag, value = _varint(data, start, end)
        kind, stop = tag & 7, value
        if kind == _LENGTH:
            length, value = _varint(data, value, end)
            stop = value + length
        elif kind == _VARINT:
            _, stop = _varint(data, value, end)
        elif kind in (_EIGHT_BYTES, _FOUR_BYTES):
            stop = value + (8 if kind == _EIGHT_BYTES else 4)
        else:
            raise ValueError(f"a field of kind {kind} at byte {start}")
        if stop > end:
            raise ValueError(f"a field at byte {start} ends behind its message")
        yield _Field(tag >> 3, start, value, stop)
        start = stop


def _varint(data: mmap.mmap, start: int, end: int) -> tuple[int, int]:
    """A number in groups of seven bits, the least ones first, and where it ends."""
    number = 0
    for index in range(start, min(start + 10, end)):
        number |= (data[index] & 127) << (7 * (index - start))
        if data[index] < 128:
            return number, index + 1
    raise ValueError(f"a number at byte {start} does not end")


_FIRST_IR_WITHOUT_INITIALIZERS_AS_INPUTS = 4


def copy_fields(source: Message, target: Message, skipped: Collection[str] = ()) -> None:
    """Copies every field that is set, except the skipped ones."""
    for field, value in source.ListFields():
        if field.name in skipped:
            continue
        if hasattr(value, "extend"):
            getattr(target, field.name).extend(value)
        elif isinstance(value, Message):
            getattr(target, field.name).CopyFrom(value)
        else:
            setattr(target, field.name, value)


def lists_initializers(proto: ModelProto) -> bool:
    """Whether initializers have to be inputs of the graph too, as before IR version 4."""
    return proto.ir_version < _FIRST_IR_WITHOUT_INITIALIZERS_AS_INPUTS


def bodies(node: NodeProto) -> Iterator[GraphProto]:
    """The graphs inside a node: branches of If, bodies of Loop and Scan."""
    for attribute in node.attribute:
        if attribute.HasField("g"):
            yield attribute.g
        yield from attribute.graphs


def used_names(nodes: Iterable[NodeProto]) -> Iterator[str]:
    """Names of all tensors that nodes read, inside their bodies too; repeated if read again.

    What a body defines itself is no tensor of the graph around it, even if it is called alike.
    """
    for node in nodes:
        yield from node.input
        for body in bodies(node):
            own = set(defined(body))
            read = (*used_names(body.node), *(output.name for output in body.output))
            yield from (name for name in read if name not in own)


def defined(graph: GraphProto) -> Iterator[str]:
    """Names of the tensors that a graph has of its own."""
    yield from (value.name for value in graph.input)
    yield from initialized(graph)
    for node in graph.node:
        yield from node.output


def initialized(graph: GraphProto) -> Iterator[str]:
    """Names of a graph's initializers, sparse ones too."""
    yield from (tensor.name for tensor in graph.initializer)
    yield from (tensor.values.name for tensor in graph.sparse_initializer)


def first_output(node: NodeProto) -> str:
    """The first output that a node has, for optional ones may be left out; else its own name."""
    return next((name for name in node.output if name), node.name)


def node_label(node: NodeProto) -> str:
    """What a node is called in a message."""
    return f"{node.op_type} {first_output(node)}".strip()


def set_metadata(proto: ModelProto, key: str, value: str) -> None:
    """Sets one metadata entry, in place."""
    for entry in proto.metadata_props:
        if entry.key == key:
            entry.value = value
            return
    proto.metadata_props.add(key=key, value=value)


class FreshNames:
    """Makes tensor and node names that a graph does not have yet."""

    def __init__(self, graph: GraphProto) -> None:
        self._taken: set[str] = set()
        self._take(graph)

    def _take(self, graph: GraphProto) -> None:
        self._taken.update(initialized(graph))
        self._taken.update(value.name for value in graph.input)
        for node in graph.node:
            self._taken.update((node.name, *node.input, *node.output))
            for body in bodies(node):
                self._take(body)

    def __call__(self, wanted: str) -> str:
        """The wanted name, or that name with a number behind it."""
        name, number = wanted, 2
        while name in self._taken:
            name, number = f"{wanted}_{number}", number + 1
        self._taken.add(name)
        return name


class Ambiguous(Exception):  # noqa: N818 - it is an answer about a graph; its caller knows the file
    """A name is defined twice; the message says which and by what."""


def define_once(proto: ModelProto) -> None:
    """Drops initializers that equal another one of their name, in place, bodies included.

    Raises:
        Ambiguous: A name is defined twice otherwise.
    """
    _define_once(proto.graph)
    for function in proto.functions:
        _check([("an input", name) for name in function.input], _written(function))
        for body in _bodies(function):
            _define_once(body)


def _define_once(graph: GraphProto) -> None:
    _drop_equal(graph)
    _check([("an initializer", name) for name in initialized(graph)], _written(graph))
    # An input may be an initializer too: a default, or before IR version 4 any constant.
    _check([("an input", value.name) for value in graph.input], _written(graph))
    for body in _bodies(graph):
        _define_once(body)


def _drop_equal(graph: GraphProto) -> None:
    """Takes those away that come again later on with the same values."""
    last = {tensor.name: index for index, tensor in enumerate(graph.initializer)}
    for index in reversed(range(len(graph.initializer))):
        tensor = graph.initializer[index]
        own = last[tensor.name]
        if index != own and tensor == graph.initializer[own]:
            del graph.initializer[index]
            last = {name: place - (place > index) for name, place in last.items()}


def _written(graph: GraphProto | FunctionProto) -> Iterator[tuple[str, str]]:
    for node in graph.node:
        yield from ((f"an output of {node.op_type}", name) for name in node.output if name)


def _bodies(graph: GraphProto | FunctionProto) -> Iterator[GraphProto]:
    for node in graph.node:
        yield from bodies(node)


def _check(given: list[tuple[str, str]], written: Iterator[tuple[str, str]]) -> None:
    known: dict[str, str] = {}
    for role, name in (*given, *written):
        if name in known:
            roles = dict.fromkeys((known[name], role))
            raise Ambiguous(f"{name} is defined twice, as {' and as '.join(roles)}")
        known[name] = role


class Circular(Exception):  # noqa: N818 - it is an answer about a graph; its caller knows the file
    """Nodes need each other's results; the message names one of them."""


def sort_nodes(graph: GraphProto) -> None:
    """Sorts the nodes of a graph in place.

    Raises:
        Circular: There is no such order.
    """
    order = node_order(graph.node)
    if order is not None:
        nodes = GraphProto(node=[graph.node[index] for index in order]).node
        del graph.node[:]
        graph.node.extend(nodes)


def node_order(nodes: Sequence[NodeProto]) -> list[int] | None:
    """The nodes' indices in topological order; None where they are in one.

    Raises:
        Circular: There is no such order.
    """
    makers = {name: index for index, node in enumerate(nodes) for name in node.output if name}
    needs = [{makers[name] for name in used_names([node]) if name in makers} for node in nodes]
    if all(need < index for index, needed in enumerate(needs) for need in needed):
        return None
    readers: list[list[int]] = [[] for _ in nodes]
    for index, needed in enumerate(needs):
        for need in needed:
            readers[need].append(index)
    missing = [len(needed) for needed in needs]
    ready = [index for index, count in enumerate(missing) if not count]
    heapify(ready)
    order: list[int] = []
    while ready:
        order.append(heappop(ready))
        for reader in readers[order[-1]]:
            missing[reader] -= 1
            if not missing[reader]:
                heappush(ready, reader)
    if len(order) < len(nodes):
        raise Circular(node_label(nodes[_on_a_circle(needs, order)]))
    return order


def _on_a_circle(needs: Sequence[set[int]], order: Iterable[int]) -> int:
    """A node that needs its own result: going back from any that is left ends in a circle."""
    left = set(range(len(needs))) - set(order)
    seen: set[int] = set()
    index = min(left)
    while index not in seen:
        seen.add(index)
        index = min(needs[index] & left)
    return index
