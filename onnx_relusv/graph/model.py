"""Reads an ONNX file; large weights stay on disk and are mapped into memory where they are needed.

External data lies in other files; what a large model holds itself is left in the model file.
"""

import hashlib
import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from math import prod
from pathlib import Path

import numpy as np
import onnx
from google.protobuf.message import DecodeError
from onnx import ModelProto, TensorProto, helper, numpy_helper, version_converter

from onnx_relusv.core.blocks import InputSpec
from onnx_relusv.core.errors import InputError
from onnx_relusv.graph.checks import file_problem, foreign
from onnx_relusv.graph.protos import (
    Ambiguous,
    Circular,
    Reading,
    bodies,
    copied,
    define_once,
    lists_initializers,
    outline,
    sort_nodes,
)
from onnx_relusv.work.files import check_readable

OLDEST_OPSET = 7
_CHUNK = 1 << 20
# What an input may be that is no tensor.
_KINDS = {
    "sequence_type": "a sequence",
    "map_type": "a map",
    "optional_type": "an optional value",
    "sparse_tensor_type": "a sparse tensor",
    "opaque_type": "of a type of its own",
}
# Bits of a value where several share a byte.
_BITS = {"int2": 2, "uint2": 2, "int4": 4, "uint4": 4, "float4_e2m1fn": 4}


@dataclass(frozen=True, eq=False)
class Model:
    """A model file as it was read; it is never written into.

    Attributes:
        path: The file.
        name: What messages and reports call it: its path, or the name of what it was given as.
        proto: Its content; the data of external tensors is not loaded. If the file is large, its
            large initializers are external too, and lie in the file itself.
        sha256: Of the file followed by its external data files, in the order of their names.
        bytes: Length of all these files.
        opset: Version of the default operator set.
        inputs: What a run has to be fed.
        folder: Where the locations of external tensors start: the model's own folder, or, where
            links lead out of it, one that holds all that they lead to.
    """

    path: Path
    name: str
    proto: ModelProto
    sha256: str
    bytes: int
    opset: int
    inputs: tuple[InputSpec, ...]
    folder: Path

    def array(self, tensor: TensorProto) -> np.ndarray:
        """The values of one of the model's tensors, mapped from disk where they are external."""
        dtype = np.dtype(helper.tensor_dtype_to_np_dtype(tensor.data_type))
        # Nothing cannot be mapped, nor can values that share a byte.
        is_mappable = prod(tensor.dims) and dtype.name not in _BITS
        if tensor.data_location != TensorProto.EXTERNAL or not is_mappable:
            return numpy_helper.to_array(self.loaded(tensor))
        location = external_location(tensor)
        return np.memmap(
            self.folder / location.file,
            dtype=dtype,
            mode="r",
            offset=location.offset,
            shape=tuple(tensor.dims),
        )

    def loaded(self, tensor: TensorProto) -> TensorProto:
        """One of the model's tensors with its data in it, wherever it is stored."""
        if tensor.data_location != TensorProto.EXTERNAL:
            return tensor
        result = copied(tensor, skipped={"external_data", "data_location"})
        location = external_location(tensor)
        with (self.folder / location.file).open("rb") as stream:
            stream.seek(location.offset)
            result.raw_data = stream.read(location.length)
        return result

    @property
    def lists_initializers(self) -> bool:
        """Whether initializers have to be inputs of the graph too, as before IR version 4."""
        return lists_initializers(self.proto)

    @property
    def has_external_data(self) -> bool:
        """Whether any tensor is stored outside the model file."""
        return any(not self.holds(tensor) for tensor in external_tensors(self.proto))

    def holds(self, tensor: TensorProto) -> bool:
        """Whether an external tensor's data lies in the model file itself."""
        return self.folder / external_location(tensor).file in (self.path, self.path.resolve())

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
    """Reads a tensor's external data entries; the length follows from its type and shape.

    Raises:
        KeyError: No file is named, or the element type is unknown.
        ValueError: The offset is no number from 0 on.
    """
    entries = {entry.key: entry.value for entry in tensor.external_data}
    dtype = np.dtype(helper.tensor_dtype_to_np_dtype(tensor.data_type))
    bits = prod(tensor.dims) * _BITS.get(dtype.name, 8 * dtype.itemsize)
    stated = entries.get("offset", "0")
    # Python reads more as a number than onnxruntime does, with blanks and underlines in it.
    if not (stated.isascii() and stated.isdigit()):
        raise ValueError(f"offset {stated}")
    offset = int(stated)
    return ExternalLocation(entries["location"], offset, -(-bits // 8))


def external_tensors(proto: ModelProto) -> Iterator[TensorProto]:
    """All tensors of a model whose data is not in it, bodies of nodes included."""
    for tensor in all_tensors(proto.graph):
        if tensor.data_location == TensorProto.EXTERNAL:
            yield tensor


def all_tensors(graph: onnx.GraphProto) -> Iterator[TensorProto]:
    """All initializers and tensor attributes of a graph and of the graphs inside its nodes."""
    yield from graph.initializer
    yield from (tensor.values for tensor in graph.sparse_initializer)
    for node in graph.node:
        yield from node_tensors(node)


def node_tensors(node: onnx.NodeProto) -> Iterator[TensorProto]:
    """The tensors among a node's attributes, and those of the graphs inside it."""
    for attribute in node.attribute:
        if attribute.HasField("t"):
            yield attribute.t
        yield from attribute.tensors
        if attribute.HasField("sparse_tensor"):
            yield attribute.sparse_tensor.values
    for body in bodies(node):
        yield from all_tensors(body)


def data_files(path: Path) -> tuple[Path, ...]:
    """The files of a model's external data, as far as that is to be told before it is read."""
    try:
        if not path.is_file():
            return ()
        proto = _parse(path, Reading(), str(path))
        names = {external_location(tensor).file for tensor in external_tensors(proto)}
    except (InputError, KeyError, ValueError, OSError):  # what is wrong is said where it is read
        return ()
    return tuple(path.parent / name for name in sorted(names - {path.name}) if "\0" not in name)


def read_model(path: Path, reading: Reading | None = None, *, name: str = "") -> Model:
    """Reads a model.

    Args:
        path: Its file.
        reading: What of it is left in the file, if not as usual.
        name: What messages and reports call it; its path if empty.

    Raises:
        InputError: The file is missing, is no ONNX model, has no nodes, is older than opset 7, its
            external data is missing or too short, its nodes need each other, or a name stands for
            several tensors.
    """
    name = name or str(path)
    check_readable(path, folder="Give the model file in it.")
    if not path.stat().st_size:
        raise InputError(f"{name}: the file is empty. Check that it was copied whole.")
    proto = _parse(path, reading or Reading(), name)
    if not proto.graph.node:
        raise InputError(f"{name}: its graph has no nodes, so there is nothing to compress.")
    opset = _opset(name, proto)
    problem = file_problem(proto)
    if problem is not None:
        raise InputError(f"{name}: {problem}.")
    # Every name means one tensor from here on, and nodes come in topological order.
    try:
        define_once(proto)
        sort_nodes(proto.graph)
    except Ambiguous as ambiguous:
        raise InputError(
            f"{name}: {ambiguous}, so it is not clear which of them its readers mean. "
            "Rename one of them, or export the model again."
        ) from ambiguous
    except Circular as circular:
        raise InputError(
            f"{name}: the node {circular} needs its own result, through a circle of nodes, so the "
            "model cannot run. Export it again."
        ) from circular
    named = {_checked_file(path, tensor, name) for tensor in external_tensors(proto)}
    files = sorted(named - {path})
    digest = hashlib.sha256()
    for file in (path, *files):
        with file.open("rb") as stream:
            while chunk := stream.read(_CHUNK):
                digest.update(chunk)
    return Model(
        path=path,
        name=name,
        proto=proto,
        sha256=digest.hexdigest(),
        bytes=sum(file.stat().st_size for file in (path, *files)),
        opset=opset,
        inputs=tuple(_inputs(name, proto)),
        folder=_behind_links(path, proto, named),
    )


def with_opset(model: Model, least: int) -> Model | None:
    """A model in a later operator set, as onnx converts it; its path and hash stay.

    Args:
        model: As it was read.
        least: Version of the default operator set.

    Returns:
        The model itself if that is not older; None where onnx cannot convert it, or where weights
        lie outside of what was read, which the converter does not look at.
    """
    if model.opset >= least:
        return model
    if any(external_tensors(model.proto)):
        return None
    try:
        proto = version_converter.convert_version(model.proto, least)
    except (RuntimeError, ValueError):  # an operator that it does not know, or a changed one
        return None
    if [value.name for value in proto.graph.output] != list(model.output_names):
        return None
    return replace(model, proto=proto, opset=least)


def _behind_links(path: Path, proto: ModelProto, files: set[Path]) -> Path:
    """A folder that really holds some files, to which locations are made relative, in place.

    A model that is opened from memory may have no data behind a link that leads out of its folder,
    as the links of a download cache do.
    """
    real = {file: file.resolve() for file in files}
    folder = path.parent.resolve()
    if all(target.is_relative_to(folder) for target in real.values()):
        return path.parent
    common = Path(os.path.commonpath([target.parent for target in real.values()]))
    for tensor in external_tensors(proto):
        for entry in tensor.external_data:
            if entry.key == "location":
                target = real[path.parent / entry.value]
                entry.value = target.relative_to(common).as_posix()
    return common


def _parse(path: Path, reading: Reading, name: str) -> ModelProto:
    if path.stat().st_size >= reading.large_file:
        # What is wrong with the file is said better by those who read all of it.
        with suppress(ValueError, KeyError, DecodeError, OSError):
            return outline(path, reading.large_weight)
    try:
        return onnx.load(path, format="protobuf", load_external_data=False)
    except (DecodeError, ValueError) as error:
        with path.open("rb") as stream:
            kind = foreign(stream.read(64))
        if kind is not None:
            raise InputError(f"{name}: not an ONNX model: {kind}.") from error
        raise InputError(
            f"{name}: not an ONNX model, or a damaged one ({error}). "
            "Check that the file was copied whole."
        ) from error
    except OSError as error:
        raise InputError(f"{name}: cannot be read ({error.strerror}).") from error


def _opset(name: str, proto: ModelProto) -> int:
    versions = [entry.version for entry in proto.opset_import if entry.domain in ("", "ai.onnx")]
    if not versions:
        raise InputError(
            f"{name}: it imports no default operator set, so nothing is known of its nodes. "
            "Export it again."
        )
    if versions[0] < OLDEST_OPSET:
        raise InputError(
            f"{name}: opset {versions[0]} is older than {OLDEST_OPSET}; "
            "convert it with onnx.version_converter first."
        )
    return versions[0]


def _checked_file(path: Path, tensor: TensorProto, name: str) -> Path:
    """The file of an external tensor, once what is said of it is found to be right."""
    where = f"{name}: tensor {tensor.name} has its data in a file"
    try:
        location = external_location(tensor)
    except (KeyError, ValueError) as error:  # no file, no type, or an offset that is none
        raise InputError(
            f"{name}: tensor {tensor.name} does not say where its external data lies. "
            "Export the model again."
        ) from error
    file = path.parent / location.file
    if not location.file or "\0" in location.file:
        raise InputError(f"{where} named {location.file!r}, which none is. Export it again.")
    try:
        is_there = file.exists()
    except OSError as error:
        raise InputError(
            f"{where} that cannot be read ({error.strerror}): {location.file[:60]!r}. Export the "
            "model again."
        ) from error
    stated = [entry.value for entry in tensor.external_data if entry.key == "length"]
    # A length of 0 says nothing. As onnxruntime, no other length than the shape's is read.
    if any(value not in (str(location.length), "0") for value in stated):
        raise InputError(
            f"{where}, {stated[0][:30]!r} bytes long, but its shape and type take "
            f"{location.length}. Export the model again."
        )
    if _leads_outside(path, location.file):
        raise InputError(
            f"{name}: tensor {tensor.name} lies outside the model's folder ({file}). "
            "Save the model with its data beside it."
        )
    if not is_there:
        raise InputError(f"{name}: its external data {file} is missing; put it beside the model.")
    check_readable(file, f"{name}: external data")
    if file.stat().st_size < location.offset + location.length:
        raise InputError(
            f"{name}: external data {file} holds {file.stat().st_size} bytes, but tensor "
            f"{tensor.name} ends at {location.offset + location.length}. Copy it again."
        )
    return file


def _leads_outside(path: Path, location: str) -> bool:
    """Whether a location, or a link that lies there, leaves the model's folder.

    As onnxruntime has it, a link may lead to where the model's own link leads: a download cache
    keeps all files of a model in one folder, and links to them in another.
    """
    folder = path.parent.absolute()
    if os.path.isabs(location) or not _is_within(os.path.normpath(folder / location), folder):
        return True
    target = (folder / location).resolve()
    return not any(
        _is_within(target, home) for home in (path.parent.resolve(), path.resolve().parent)
    )


def _is_within(file: Path | str, folder: Path) -> bool:
    return Path(file).is_relative_to(os.path.normpath(folder))


def _inputs(name: str, proto: ModelProto) -> Iterator[InputSpec]:
    initialized = {tensor.name for tensor in proto.graph.initializer}
    for value in proto.graph.input:
        if value.name in initialized:
            continue
        if not value.type.HasField("tensor_type"):
            kind = _KINDS.get(value.type.WhichOneof("value") or "", "of no type")
            raise InputError(
                f"{name}: input {value.name} is {kind} and no tensor; such models are not read. "
                "Export the model with tensors as its inputs."
            )
        tensor = value.type.tensor_type
        if not tensor.elem_type:
            raise InputError(f"{name}: input {value.name} has no element type. Export it again.")
        dtype = np.dtype(helper.tensor_dtype_to_np_dtype(tensor.elem_type))
        axes = tensor.shape.dim
        shape = tuple(axis.dim_value if axis.dim_value > 0 else None for axis in axes)
        yield InputSpec(
            value.name,
            dtype,
            shape,
            named=tuple(_axis_name(axis.dim_param) for axis in axes),
            has_rank=tensor.HasField("shape"),
        )


def _axis_name(text: str) -> str | None:
    """An axis' name, None for what exporters write where there is none: nothing, ?, -1, None."""
    name = text.strip()
    return name if any(letter.isalpha() for letter in name) and name != "None" else None
