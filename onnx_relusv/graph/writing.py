"""Writes a model file with its external data so that a reader sees the old one or the new one.

Everything is first written into a hidden folder beside the target. Once it has been checked there,
the external data is renamed first, under a name that contains its hash, and the model last; so the
old model keeps its data until the new one is in place.
"""

import glob
import hashlib
import re
from pathlib import Path
from typing import BinaryIO

import numpy as np
from onnx import ModelProto, TensorProto, helper

from onnx_relusv.errors import InputError
from onnx_relusv.graph.model import (
    Model,
    all_tensors,
    external_location,
    external_tensors,
    read_model,
)
from onnx_relusv.graph.protos import copy_fields
from onnx_relusv.interrupts import uninterrupted
from onnx_relusv.publishing import Publication, is_equal, not_written
from onnx_relusv.temporary_files import temporary_folder

# Initializers below this stay in the model file, where runtimes can read shapes from them.
_SMALLEST_EXTERNAL = 1024
# Large tensors begin on a page, so that they can be mapped; as in onnx, others lie one behind the
# other, since a small model would grow by its pages.
SMALLEST_PAGED = 1 << 20
PAGE = 4096
_CHUNK = 1 << 20
# As long as the name of an output is expected to be at most, where it is not known yet.
_LONG_NAME = f"{'x' * 59}.onnx"


def write_staged(proto: ModelProto, source: Model, folder: Path, name: str) -> Path:
    """Writes a model derived from `source` into a staging folder.

    External tensors are copied in pieces, never held in memory as a whole. New initializers
    become external where the source had external data.

    Returns:
        The model file, called `name`; its data file, if any, lies beside it.

    Raises:
        InputError: The source's external data changed meanwhile.
        UsageError: There is no room for it.
    """
    path = folder / name
    try:
        proto = _with_own_data(proto, source)
        if source.has_external_data:
            proto = _write_external(proto, source, folder, name)
        path.write_bytes(proto.SerializeToString())
    except OSError as error:
        raise not_written(folder.parent / name, error) from error
    return path


def written_bytes(proto: ModelProto, source: Model) -> int:
    """Bytes of the files that `write_staged` makes; of external data, up to the length of names."""
    if not source.has_external_data:
        return _with_own_data(proto, source).ByteSize()
    with temporary_folder() as folder:
        path = write_staged(proto, source, folder, _LONG_NAME)
        # Beside them lies what tells that the folder is in use.
        return sum(file.stat().st_size for file in folder.glob(f"{path.name}*"))


def publish(staged_model: Path, target: Path, publication: Publication) -> None:
    """Puts a staged model and its data in their places, the model last, and all else before.

    Args:
        staged_model: Alone with its data in a folder.
        target: Its place.
        publication: What else is published with it, and whether files may be replaced.

    Raises:
        UsageError: Something may not be replaced, or cannot be; all stays as it was.
    """
    old_data, own = _own_data(target), set[Path]()
    for file in sorted(staged_model.parent.glob(f"{glob.escape(target.name)}.*.data")):
        place = target.parent / file.name
        own.add(place)
        # The name tells the content: left behind by a model that is gone, or the old model's.
        if not is_equal(place, file):
            publication.add(file, place)
    publication.add(staged_model, target)
    with uninterrupted():
        publication.commit()
        for file in old_data - own:
            file.unlink(missing_ok=True)


def _write_external(proto: ModelProto, source: Model, folder: Path, name: str) -> ModelProto:
    result = ModelProto()
    copy_fields(proto, result)
    digest = hashlib.sha256()
    pending: list[tuple[TensorProto, int, int]] = []
    added = {tensor.name for tensor in result.graph.initializer}
    added -= {tensor.name for tensor in source.proto.graph.initializer}
    unnamed = folder / "data"
    with unnamed.open("wb") as stream:
        for tensor in all_tensors(result.graph):
            if tensor.data_location == TensorProto.EXTERNAL:
                offset = _start(stream, tensor, external_location(tensor).length)
                length = _copy(source, tensor, stream, digest)
            elif tensor.name in added and len(tensor.raw_data) >= _SMALLEST_EXTERNAL:
                offset = _start(stream, tensor, len(tensor.raw_data))
                length = stream.write(tensor.raw_data)
                digest.update(tensor.raw_data)
                tensor.ClearField("raw_data")
                tensor.data_location = TensorProto.EXTERNAL
            else:
                continue
            digest.update(offset.to_bytes(8, "little"))
            pending.append((tensor, offset, length))
    data_name = f"{name}.{digest.hexdigest()[:8]}.data"
    unnamed.rename(folder / data_name)
    for tensor, offset, length in pending:
        del tensor.external_data[:]
        for key, value in (("location", data_name), ("offset", offset), ("length", length)):
            tensor.external_data.add(key=key, value=str(value))
    return result


def _with_own_data(proto: ModelProto, source: Model) -> ModelProto:
    """Puts back what was left in the source's own file."""
    if not any(source.holds(tensor) for tensor in external_tensors(proto)):
        return proto
    result = ModelProto()
    copy_fields(proto, result)
    for tensor in external_tensors(result):
        if source.holds(tensor):
            tensor.CopyFrom(source.loaded(tensor))
    return result


def _start(stream: BinaryIO, tensor: TensorProto, length: int) -> int:
    """Moves to where a tensor of that many bytes may begin, at a whole number of its items."""
    item = np.dtype(helper.tensor_dtype_to_np_dtype(tensor.data_type)).itemsize
    unit = PAGE if length >= SMALLEST_PAGED else item
    # Nothing is written of an empty tensor, so the file must reach to where it begins.
    return stream.seek(-(-stream.tell() // unit) * unit) if length else stream.tell()


def _copy(source: Model, tensor: TensorProto, target: BinaryIO, digest: "hashlib._Hash") -> int:
    location = external_location(tensor)
    file, left = source.folder / location.file, location.length
    if not file.is_file():
        raise InputError(f"{source.path}: its external data {file} is gone. Run it again.")
    with file.open("rb") as stream:
        stream.seek(location.offset)
        while left:
            chunk = stream.read(min(_CHUNK, left))
            if not chunk:
                raise InputError(f"{source.path}: its external data {file} shrank. Run it again.")
            target.write(chunk)
            digest.update(chunk)
            left -= len(chunk)
    return location.length


def _own_data(target: Path) -> set[Path]:
    """Data files that a previous run of ours wrote for the target; nobody else's."""
    if not target.is_file():
        return set()
    pattern = re.compile(re.escape(target.name) + r"\.[0-9a-f]{8}\.data")
    try:
        old = read_model(target).proto
    except InputError:  # an unreadable old file owns nothing; it is replaced all the same
        return set()
    files = {external_location(tensor).file for tensor in external_tensors(old)}
    return {target.parent / file for file in files if pattern.fullmatch(file)}
