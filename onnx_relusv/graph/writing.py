"""Writes a model file with its external data so that a reader sees the old one or the new one.

Everything is first written into a folder of a unique name beside the target. Once it has been
checked there, the external data is renamed first, under a name that contains its hash, and the
model last; so the old model keeps its data until the new one is in place.
"""

import hashlib
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from onnx import ModelProto, TensorProto

from onnx_relusv.errors import InputError, UsageError
from onnx_relusv.graph.model import (
    Model,
    all_tensors,
    external_location,
    external_tensors,
    read_model,
)
from onnx_relusv.graph.protos import copy_fields

# Initializers below this stay in the model file, where runtimes can read shapes from them.
_SMALLEST_EXTERNAL = 1024
_ALIGNMENT = 4096
_CHUNK = 1 << 20


@contextmanager
def staged(target: Path) -> Iterator[Path]:
    """A folder beside the target in which its files are prepared; gone afterwards.

    Raises:
        UsageError: No folder can be made there.
    """
    try:
        folder = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
    except OSError as error:
        raise UsageError(
            f"{target}: nothing can be written there ({error.strerror}). "
            "Choose another output or make its folder writable."
        ) from error
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def write_staged(proto: ModelProto, source: Model, folder: Path, name: str) -> Path:
    """Writes a model derived from `source` into a staging folder.

    External tensors are copied in pieces, never held in memory as a whole. New initializers
    become external where the source had external data.

    Returns:
        The model file, called `name`; its data file, if any, lies beside it.
    """
    path = folder / name
    if source.has_external_data:
        proto = _write_external(proto, source, folder, name)
    path.write_bytes(proto.SerializeToString())
    return path


def publish(staged_model: Path, target: Path) -> None:
    """Renames a staged model and its data to their place, the model last."""
    old_data = _own_data(target)
    new_data = {file for file in staged_model.parent.iterdir() if file != staged_model}
    for file in new_data:
        os.replace(file, target.parent / file.name)
    os.replace(staged_model, target)
    for file in old_data:
        if file.name not in {new.name for new in new_data}:
            file.unlink(missing_ok=True)


def _write_external(proto: ModelProto, source: Model, folder: Path, name: str) -> ModelProto:
    result = ModelProto()
    copy_fields(proto, result)
    digest = hashlib.sha256()
    pending: list[tuple[TensorProto, int, int]] = []
    initializers = {tensor.name for tensor in result.graph.initializer}
    unnamed = folder / "data"
    with unnamed.open("wb") as stream:
        for tensor in all_tensors(result.graph):
            offset = -(-stream.tell() // _ALIGNMENT) * _ALIGNMENT
            if tensor.data_location == TensorProto.EXTERNAL:
                stream.seek(offset)
                length = _copy(source, tensor, stream, digest)
            elif tensor.name in initializers and len(tensor.raw_data) >= _SMALLEST_EXTERNAL:
                stream.seek(offset)
                length = stream.write(tensor.raw_data)
                digest.update(tensor.raw_data)
                tensor.ClearField("raw_data")
                tensor.data_location = TensorProto.EXTERNAL
            else:
                continue
            pending.append((tensor, offset, length))
    data_name = f"{name}.{digest.hexdigest()[:8]}.data"
    unnamed.rename(folder / data_name)
    for tensor, offset, length in pending:
        del tensor.external_data[:]
        for key, value in (("location", data_name), ("offset", offset), ("length", length)):
            tensor.external_data.add(key=key, value=str(value))
    return result


def _copy(source: Model, tensor: TensorProto, target: BinaryIO, digest: "hashlib._Hash") -> int:
    location = external_location(tensor)
    left = location.length
    with (source.path.parent / location.file).open("rb") as stream:
        stream.seek(location.offset)
        while left:
            chunk = stream.read(min(_CHUNK, left))
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
