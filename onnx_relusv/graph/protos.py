"""Protobuf messages: outlines of large files, names of tensors, and nodes in topological order.

`outline` leaves large weights where they lie in the file, as external data of the file itself: a
model of a gigabyte takes a gigabyte less. Only protobuf's encoding is known here: a message is a
row of fields, each a tag, perhaps a length, and a value.

`define_once`: onnxruntime takes the last of several initializers of one name, and says so only in
its log. Equal ones come from some quantizers, and all but one of them go. Where they differ, or
where a node writes what is already there, it is not clear which is meant.

`sort_nodes`: the ONNX standard asks for topological order, but files exist that do without, and all
stages here rely on it. Only the main graph is sorted: in bodies and functions, onnxruntime insists.
"""

import mmap
from collections.abc import Collection, Iterable, Iterator, MutableSequence, Sequence
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from heapq import heappop, heappush
from itertools import chain, count, product
from math import prod
from pathlib import Path
from string import ascii_letters
from typing import Any, TypeVar

import numpy as np
from google.protobuf.message import Message
from onnx import (
    FunctionProto,
    GraphProto,
    ModelProto,
    NodeProto,
    SparseTensorProto,
    TensorProto,
    TypeProto,
    helper,
    numpy_helper,
)

# Numbers of fields, as onnx.proto has them.
_GRAPH, _INITIALIZER, _RAW_DATA = 7, 5, 9
_VARINT, _EIGHT_BYTES, _LENGTH, _FOUR_BYTES = 0, 1, 2, 5
_FIRST_IR_WITHOUT_INITIALIZERS_AS_INPUTS = 4
_AnyMessage = TypeVar("_AnyMessage", bound=Message)


@dataclass(frozen=True)
class Reading:
    """What of a file is left in it, in bytes.

    Attributes:
        large_file: From where on a file is large.
        large_weight: From where on a weight of a large file stays there.
    """

    large_file: int = 16 << 20
    large_weight: int = 1 << 16


@dataclass(frozen=True)
class _Field:
    """A field of a message: its number, where it begins, and where its value lies."""

    number: int
    begin: int
    start: int
    end: int


def outline(path: Path, least: int) -> ModelProto:
    """A model whose large initializers, if stored as raw bytes, point into the model's own file.

    Args:
        path: The file.
        least: Bytes from which on an initializer is large.

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
            if field.number != _GRAPH:
                rest += data[field.begin : field.end]
                continue
            others = bytearray()
            for inner in _fields(data, field.start, field.end):
                if inner.number == _INITIALIZER:
                    model.graph.initializer.append(_tensor(data, inner, path.name, least))
                else:
                    others += data[inner.begin : inner.end]
            model.graph.MergeFromString(bytes(others))
        model.MergeFromString(bytes(rest))
    return model


def _tensor(data: mmap.mmap, message: _Field, file: str, least: int) -> TensorProto:
    if message.end - message.start >= least:
        fields = list(_fields(data, message.start, message.end))
        raw = [field for field in fields if field.number == _RAW_DATA]
        others = (data[field.begin : field.end] for field in fields if field not in raw)
        tensor = TensorProto.FromString(b"".join(others))
        if len(raw) == 1 and _is_whole(tensor, raw[0].end - raw[0].start):
            set_location(tensor, file, raw[0].start, raw[0].end - raw[0].start)
            return tensor
    return TensorProto.FromString(data[message.start : message.end])


def set_location(tensor: TensorProto, file: str, offset: int, length: int) -> None:
    """Makes a tensor external, in place: a file, and bytes in it."""
    tensor.data_location = TensorProto.EXTERNAL
    del tensor.external_data[:]
    for key, value in (("location", file), ("offset", offset), ("length", length)):
        tensor.external_data.add(key=key, value=str(value))


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


def operators(names: str) -> frozenset[str]:
    """A set of operators, of a text with their names."""
    return frozenset(names.split())


def copied(source: _AnyMessage, skipped: Collection[str] = ()) -> _AnyMessage:
    """A copy of every field that is set, except the skipped ones."""
    result = type(source)()
    copy_fields(source, result, skipped)
    return result


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


Dims = tuple[int | None, ...]


def declared_shape(kind: TypeProto) -> Dims | None:
    """The lengths that a tensor is declared to have, None for those that are not fixed."""
    if not kind.HasField("tensor_type") or not kind.tensor_type.HasField("shape"):
        return None
    dims = kind.tensor_type.shape.dim
    return tuple(dim.dim_value if dim.HasField("dim_value") else None for dim in dims)


def bodies(node: NodeProto) -> Iterator[GraphProto]:
    """The graphs inside a node: branches of If, bodies of Loop and Scan."""
    for attribute in node.attribute:
        if attribute.HasField("g"):
            yield attribute.g
        yield from attribute.graphs


def makers(graph: GraphProto | FunctionProto) -> dict[str, NodeProto]:
    """By tensor, the node that gives it."""
    return {name: node for node in graph.node for name in node.output if name}


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


def held(node: NodeProto) -> TensorProto | None:
    """The tensor that a Constant node holds; None for one that is stored sparse."""
    attribute = node.attribute[0]
    if attribute.name == "value":
        return attribute.t
    value, of_many = helper.get_attribute_value(attribute), attribute.name.endswith("s")
    if attribute.name.startswith("value_string"):
        texts = list(value) if of_many else [value]
        dims = (len(texts),) if of_many else ()
        return helper.make_tensor(node.output[0], TensorProto.STRING, dims, texts)
    if attribute.name.startswith(("value_float", "value_int")):
        dtype = np.float32 if attribute.name.startswith("value_float") else np.int64
        return numpy_helper.from_array(np.asarray(value, dtype), node.output[0])
    return None


def dense(sparse: SparseTensorProto) -> np.ndarray:
    """The values of a tensor that is stored sparse."""
    values = numpy_helper.to_array(sparse.values)
    places = numpy_helper.to_array(sparse.indices)
    found = np.zeros(tuple(sparse.dims), values.dtype)
    if places.ndim == 2:
        found[tuple(places.T)] = values
    else:
        found.reshape(-1)[places] = values
    return found


def item_bytes(element_type: int) -> int:
    """Bytes of one stored number; of those that share a byte, one."""
    return int(np.dtype(helper.tensor_dtype_to_np_dtype(element_type)).itemsize)


def drop_named(entries: MutableSequence[Any], names: Collection[str]) -> None:
    """Takes initializers or inputs of some names away, in place."""
    for index in reversed(range(len(entries))):
        if entries[index].name in names:
            del entries[index]


def _letters(length: int) -> Iterator[tuple[str, ...]]:
    return product(ascii_letters, repeat=length)


class FreshNames:
    """Makes tensor and node names that a graph does not have yet."""

    def __init__(self, graph: GraphProto) -> None:
        self._taken: set[str] = set()
        self._short = map("".join, chain.from_iterable(map(_letters, count(1))))
        self._take(graph)

    def _take(self, graph: GraphProto) -> None:
        self._taken.update(initialized(graph))
        self._taken.update(value.name for value in graph.input)
        for node in graph.node:
            self._taken.update((node.name, *node.input, *node.output))
            for body in bodies(node):
                self._take(body)

    def has(self, name: str) -> bool:
        """Whether there is something of a name."""
        return name in self._taken

    def shortest(self) -> str:
        """The next of the shortest names that are left."""
        name = next(name for name in self._short if name not in self._taken)
        self._taken.add(name)
        return name

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
        _check([("an input", name) for name in function.input], function)
        for body in _bodies(function):
            _define_once(body)


def _define_once(graph: GraphProto) -> None:
    # Those go that come again later on with the same values.
    last = {tensor.name: index for index, tensor in enumerate(graph.initializer)}
    for index in reversed(range(len(graph.initializer))):
        tensor = graph.initializer[index]
        own = last[tensor.name]
        if index != own and tensor == graph.initializer[own]:
            del graph.initializer[index]
            last = {name: place - (place > index) for name, place in last.items()}
    _check([("an initializer", name) for name in initialized(graph)], graph)
    # An input may be an initializer too: a default, or before IR version 4 any constant.
    _check([("an input", value.name) for value in graph.input], graph)
    for body in _bodies(graph):
        _define_once(body)


def _bodies(graph: GraphProto | FunctionProto) -> Iterator[GraphProto]:
    for node in graph.node:
        yield from bodies(node)


def _check(before: list[tuple[str, str]], graph: GraphProto | FunctionProto) -> None:
    """Checks that names are defined once, before the nodes of a graph and by them."""
    written = ((f"an output of {n.op_type}", name) for n in graph.node for name in n.output if name)
    known: dict[str, str] = {}
    for role, name in (*before, *written):
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
    """The nodes' indices in topological order; None where they are in one already.

    Of several that could come next, the first in the file does.

    Raises:
        Circular: There is no such order.
    """
    places = {name: index for index, node in enumerate(nodes) for name in node.output if name}
    needs = [{places[name] for name in used_names([node]) if name in places} for node in nodes]
    if all(need < index for index, needed in enumerate(needs) for need in needed):
        return None
    sorter = TopologicalSorter(dict(enumerate(needs)))
    try:
        sorter.prepare()
    except CycleError as error:
        raise Circular(node_label(nodes[error.args[1][0]])) from error
    ready: list[int] = []
    order: list[int] = []
    while sorter.is_active():
        for index in sorter.get_ready():
            heappush(ready, index)
        order.append(heappop(ready))
        sorter.done(order[-1])
    return order


Known = TypeVar("Known")


def known_constant(found: Known | None, name: str) -> Known:
    """What was found of a tensor that has been seen to be constant; ValueError where it is not."""
    if found is None:
        raise ValueError(f"{name} is not constant")
    return found
