"""Reads an ONNX file; external data stays on disk and is mapped into memory where it is needed."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from google.protobuf.message import DecodeError
from onnx import ModelProto, TensorProto, helper, numpy_helper

from onnx_relusv.errors import InputError
from onnx_relusv.records import InputSpec

OLDEST_OPSET = 7
_CHUNK = 1 << 20


@dataclass(frozen=True, eq=False)
class Model:
    """A model file as it was read; nobody writes into it.

    Attributes:
        path: The file.
        proto: Its content; the data of external tensors is not loaded.
        sha256: Of the file followed by its external data files, in the order of their names.
        bytes: Length of all these files.
        opset: Version of the default operator set.
        inputs: What a run has to be fed.
    """

    path: Path
    proto: ModelProto
    sha256: str
    bytes: int
    opset: int
    inputs: tuple[InputSpec, ...]

    def array(self, tensor: TensorProto) -> np.ndarray:
        """The values of one of the model's tensors, mapped from disk where they are external."""
        if tensor.data_location != TensorProto.EXTERNAL:
            return numpy_helper.to_array(tensor)
        location = external_location(tensor)
        return np.memmap(
            self.path.parent / location.file,
            dtype=helper.tensor_dtype_to_np_dtype(tensor.data_type),
            mode="r",
            offset=location.offset,
            shape=tuple(tensor.dims),
        )

    @property
    def has_external_data(self) -> bool:
        """Whether any tensor is stored outside the model file."""
        return any(True for _ in external_tensors(self.proto))

    @property
    def output_names(self) -> tuple[str, ...]:
        """The graph's outputs."""
        return tuple(output.name for output in self.proto.graph.output)


@dataclass(frozen=True)
class ExternalLocation:
    """Where an external tensor lies: a file beside the model, byte offset and byte length."""

    file: str
    offset: int
    length: int


def external_location(tensor: TensorProto) -> ExternalLocation:
    """Reads a tensor's external data entries; the length follows from its shape if not given."""
    entries = {entry.key: entry.value for entry in tensor.external_data}
    item_size = np.dtype(helper.tensor_dtype_to_np_dtype(tensor.data_type)).itemsize
    length = int(np.prod(tensor.dims, dtype=np.int64)) * item_size
    return ExternalLocation(entries["location"], int(entries.get("offset", 0)), length)


def external_tensors(proto: ModelProto) -> Iterator[TensorProto]:
    """All tensors of a model whose data is stored outside its file, bodies of nodes included."""
    for tensor in all_tensors(proto.graph):
        if tensor.data_location == TensorProto.EXTERNAL:
            yield tensor


def all_tensors(graph: onnx.GraphProto) -> Iterator[TensorProto]:
    """All initializers and tensor attributes of a graph and of the graphs inside its nodes."""
    yield from graph.initializer
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("t"):
                yield attribute.t
            yield from attribute.tensors
            for inner in (*([attribute.g] if attribute.HasField("g") else ()), *attribute.graphs):
                yield from all_tensors(inner)


def read_model(path: Path) -> Model:
    """Reads a model.

    Raises:
        InputError: The file is missing, is no ONNX model, has no nodes, is older than opset 7, or
            its external data is missing or too short.
    """
    if not path.is_file():
        raise InputError(f"{path}: there is no such file.")
    proto = _parse(path)
    if not proto.graph.node:
        raise InputError(f"{path}: its graph has no nodes, so there is nothing to compress.")
    opset = _opset(path, proto)
    files = sorted({_checked_file(path, tensor) for tensor in external_tensors(proto)})
    digest = hashlib.sha256()
    for file in (path, *files):
        with file.open("rb") as stream:
            while chunk := stream.read(_CHUNK):
                digest.update(chunk)
    return Model(
        path=path,
        proto=proto,
        sha256=digest.hexdigest(),
        bytes=sum(file.stat().st_size for file in (path, *files)),
        opset=opset,
        inputs=tuple(_inputs(path, proto)),
    )


def _parse(path: Path) -> ModelProto:
    try:
        return onnx.load(path, format="protobuf", load_external_data=False)
    except (DecodeError, ValueError) as error:
        raise InputError(
            f"{path}: not an ONNX model, or a damaged one ({error}). "
            "Check that the file was copied whole."
        ) from error
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}).") from error


def _opset(path: Path, proto: ModelProto) -> int:
    versions = [entry.version for entry in proto.opset_import if entry.domain in ("", "ai.onnx")]
    if not versions:
        raise InputError(f"{path}: it imports no default operator set, so nothing is known of it.")
    if versions[0] < OLDEST_OPSET:
        raise InputError(
            f"{path}: opset {versions[0]} is older than {OLDEST_OPSET}; "
            "convert it with onnx.version_converter first."
        )
    return versions[0]


def _checked_file(path: Path, tensor: TensorProto) -> Path:
    location = external_location(tensor)
    file = path.parent / location.file
    if not file.resolve().is_relative_to(path.parent.resolve()):
        raise InputError(f"{path}: tensor {tensor.name} lies outside the model's folder ({file}).")
    if not file.is_file():
        raise InputError(f"{path}: its external data {file} is missing; put it beside the model.")
    if file.stat().st_size < location.offset + location.length:
        raise InputError(
            f"{path}: external data {file} holds {file.stat().st_size} bytes, but tensor "
            f"{tensor.name} ends at {location.offset + location.length}. Copy it again."
        )
    return file


def _inputs(path: Path, proto: ModelProto) -> Iterator[InputSpec]:
    initialized = {tensor.name for tensor in proto.graph.initializer}
    for value in proto.graph.input:
        if value.name in initialized:
            continue
        if not value.type.HasField("tensor_type"):
            raise InputError(f"{path}: input {value.name} is no tensor; such models are not read.")
        tensor = value.type.tensor_type
        dtype = np.dtype(helper.tensor_dtype_to_np_dtype(tensor.elem_type))
        shape = tuple(
            axis.dim_value if axis.HasField("dim_value") and axis.dim_value > 0 else None
            for axis in tensor.shape.dim
        )
        yield InputSpec(value.name, dtype, shape)
