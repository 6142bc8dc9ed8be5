"""Reads a model file without its large weights, which are left where they lie in the file.

A weight inside the file then looks like external data: a tensor that names the file, an offset and
a length. So a model of a gigabyte takes a gigabyte less, and is read as quickly as it is looked at.
Only protobuf's encoding is known here: a message is a row of fields, each a tag, perhaps a length,
and a value.
"""

import mmap
from collections.abc import Iterator
from dataclasses import dataclass
from math import prod
from pathlib import Path

import numpy as np
from onnx import ModelProto, TensorProto, helper

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
