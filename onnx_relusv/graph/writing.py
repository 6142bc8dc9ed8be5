"""Writes a model file with its external data so that a reader sees the old one or the new one.

Everything is first written into a hidden folder beside the target. Once it has been checked there,
the external data is renamed first, under a name that contains its hash, and the model last; so the
old model keeps its data until the new one is in place.

`transplant` puts edited nodes and new constants into a copy of everything else that a file has, and
`shortened` gives these short names.
`entry`, `tensor`, `listed` and `node` are exact bytes of parts of a file that is not made yet: in
protobuf a message is a row of fields, each a tag, for texts and messages a length, and a value.
Field numbers up to 15 have tags of one byte.
"""

import filecmp
import glob
import hashlib
import os
import re
import stat
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from math import prod
from pathlib import Path
from typing import BinaryIO

import numpy as np
from onnx import ModelProto, NodeProto, TensorProto, helper

from onnx_relusv.core.errors import InputError
from onnx_relusv.graph.model import (
    Model,
    all_tensors,
    data_files,
    external_location,
    external_tensors,
    read_model,
)
from onnx_relusv.graph.model_folders import FolderCopy
from onnx_relusv.graph.protos import (
    FreshNames,
    bodies,
    copied,
    copy_fields,
    initialized,
    lists_initializers,
    set_location,
    used_names,
)
from onnx_relusv.work.files import Publication, check_outputs, not_written
from onnx_relusv.work.interrupts import uninterrupted
from onnx_relusv.work.temporary_files import remove_leftovers, temporary_folder

Attribute = int | str | tuple[int, ...]


def check_places(
    files: Mapping[str, Path | None],
    report: Path | None = None,
    *,
    models: Iterable[Path],
    read: Iterable[Path | None],
    cache: Path | None = None,
    force: bool,
    with_data: bool = False,
) -> None:
    """Checks before any work that all outputs of a run can be written and harm nothing.

    Args:
        files: By option, files that are written; None where there is none.
        report: The folder of a report.
        models: Models that are read; their external data is never overwritten either.
        read: What else is read; None where there is nothing.
        cache: The folder of the cache.
        force: Whether regular files that are there may be replaced.
        with_data: Whether a written file has external data of its own where a model has some.

    Raises:
        UsageError: With what to do.
    """
    if report is None and not any(files.values()):
        return
    models = list(models)
    data = [file for model in models for file in data_files(model)]
    check_outputs(
        files,
        report,
        force=force,
        inputs=[*models, *data, *(path for path in read if path is not None)],
        cache=cache,
        with_data=with_data and bool(data),
    )
    # What a run that was killed left there is in the way, and may be large.
    targets = [target for target in (*files.values(), report) if target is not None]
    places = [place for target in targets for place in (target, target.parent)]
    remove_leftovers(*(place for place in places if place.is_dir()))


def entry(length: int) -> int:
    """Bytes of a text, of raw data or of a message of a length, as a field of what holds it."""
    return 1 + max(1, -(-length.bit_length() // 7)) + length


def text(value: str) -> int:
    """Bytes of a text as a field."""
    return entry(len(value.encode()))


def tensor(name: str, dims: Sequence[int], item_size: int) -> int:
    """Bytes of an initializer with its data, as a field of its graph.

    Args:
        name: Its name.
        dims: Its shape.
        item_size: Bytes of one number.
    """
    bare = TensorProto(name=name, dims=dims, data_type=TensorProto.FLOAT)
    return entry(bare.ByteSize() + entry(item_size * prod(dims)))


def listed(name: str, dims: Sequence[int]) -> int:
    """Bytes of a tensor's name, type and shape, as an input of its graph."""
    return entry(helper.make_tensor_value_info(name, TensorProto.FLOAT, dims).ByteSize())


def node(
    operator: str,
    names: Iterable[str],
    attributes: Mapping[str, Attribute] | None = None,
) -> int:
    """Bytes of a node, as a field of its graph.

    Args:
        operator: Of the default domain.
        names: Its own and those of its inputs and outputs.
        attributes: By name.
    """
    # A name takes the same bytes, whichever it is.
    bare = NodeProto(op_type=operator, input=names).ByteSize()
    return entry(bare + sum(_attribute(*each) for each in (attributes or {}).items()))


# Thousands of ranks are priced, and their nodes have the same attributes.
@lru_cache(maxsize=1024)
def _attribute(name: str, value: Attribute) -> int:
    return entry(helper.make_attribute(name, value).ByteSize())


def transplant(
    original: ModelProto, nodes: Sequence[NodeProto], constants: Iterable[TensorProto]
) -> ModelProto:
    """A model with other nodes, without nodes and initializers that are no longer read.

    Args:
        original: It is not changed.
        nodes: All of the result, in topological order.
        constants: New initializers.
    """
    result = copied(original, skipped={"graph"})
    old, graph = original.graph, result.graph
    replaced = {"node", "initializer", "sparse_initializer", "input", "value_info"}
    copy_fields(old, graph, skipped=replaced)

    outputs = {output.name for output in old.output}
    used_before = set(used_names(old.node)) | outputs
    left, used = _without_idle(nodes, used_before, outputs)
    graph.node.extend(left)

    def stays(name: str) -> bool:
        return name in used or name not in used_before

    added = list(constants)
    dropped = {name for name in initialized(old) if not stays(name)}
    graph.initializer.extend(t for t in old.initializer if t.name not in dropped)
    graph.sparse_initializer.extend(
        t for t in old.sparse_initializer if t.values.name not in dropped
    )
    graph.initializer.extend(added)
    graph.input.extend(value for value in old.input if value.name not in dropped)
    if lists_initializers(original):
        graph.input.extend(
            helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims)
            for tensor in added
        )
    known = {name for node in graph.node for name in node.output}
    known.update(value.name for value in graph.input)
    known.update(initialized(graph))
    graph.value_info.extend(value for value in old.value_info if value.name in known)
    return result


def shortened(proto: ModelProto, original: ModelProto) -> ModelProto:
    """A model in which what the original does not have has names of one or two letters, or none.

    Args:
        proto: What was made of the original; it is not changed.
        original: Its tensors and nodes keep their names.
    """
    result = copied(proto)
    graph, names, old = result.graph, FreshNames(result.graph), FreshNames(original.graph)
    inner = (body.node for node in graph.node for body in bodies(node))
    inside = {name for nodes in inner for name in used_names(nodes)}
    made = [*initialized(graph), *(name for node in graph.node for name in node.output)]
    short: dict[str, str] = {}
    for name in dict.fromkeys(made):
        if name and name not in inside and not old.has(name):
            short[name] = names.shortest()
    for tensor in graph.initializer:
        tensor.name = short.get(tensor.name, tensor.name)
    for value in (*graph.input, *graph.value_info):
        value.name = short.get(value.name, value.name)
    for node in graph.node:
        for slots in (node.input, node.output):
            slots[:] = [short.get(name, name) for name in slots]
        if node.name and not old.has(node.name):
            node.name = ""
    return result


def _without_idle(
    nodes: Sequence[NodeProto], used_before: set[str], outputs: set[str]
) -> tuple[list[NodeProto], set[str]]:
    """Drops the nodes whose only readers are gone, and lists what is read.

    So go those that computed a weight, or a shape, which now is another constant. Nodes that are
    not read in the original either stay.
    """
    left = list(nodes)
    while True:
        used = set(used_names(left)) | outputs
        kept = [
            node
            for node in left
            if not any(node.output)
            or any(name and (name in used or name not in used_before) for name in node.output)
        ]
        if len(kept) == len(left):
            return left, used
        left = kept


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


def all_bytes(proto: ModelProto) -> int:
    """Bytes of a model and of the external data that it names, but for gaps between tensors."""
    stored = (external_location(tensor).length for tensor in external_tensors(proto))
    return int(proto.ByteSize()) + sum(stored)


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
    for file in _data_beside(staged_model):
        place = target.parent / file.name
        own.add(place)
        # The name tells the content: left behind by a model that is gone, or the old model's.
        if not _is_equal(place, file):
            publication.add(file, place)
    publication.add(staged_model, target)
    with uninterrupted():
        publication.commit()
        for file in old_data - own:
            file.unlink(missing_ok=True)


def publish_folder(
    staged_model: Path, whole: Path, copy: FolderCopy, publication: Publication, *, force: bool
) -> None:
    """Puts a staged model and its data into the copy of its folder, and that in its place.

    Args:
        staged_model: Beside the copy.
        whole: All other files of the folder.
        copy: Where it belongs.
        publication: What else is published with it.
        force: Whether a folder that is there may be replaced.

    Raises:
        UsageError: Something may not be replaced, or cannot be; all stays as it was.
    """
    for file in (*_data_beside(staged_model), staged_model):
        file.replace(whole / file.name)
    copy.check_replaceable(force=force)
    publication.add(whole, copy.target, whole=True)
    publication.commit()


def _data_beside(staged_model: Path) -> list[Path]:
    return sorted(staged_model.parent.glob(f"{glob.escape(staged_model.name)}.*.data"))


def _write_external(proto: ModelProto, source: Model, folder: Path, name: str) -> ModelProto:
    result = copied(proto)
    digest = hashlib.sha256()
    pending: list[tuple[TensorProto, int, int]] = []
    # In the source's own file stays what lies there.
    inside = {
        tensor.name
        for tensor in source.proto.graph.initializer
        if tensor.data_location != TensorProto.EXTERNAL
    }
    unnamed = folder / "data"
    with unnamed.open("wb") as stream:
        for tensor in all_tensors(result.graph):
            if tensor.data_location == TensorProto.EXTERNAL:
                offset = _start(stream, tensor, external_location(tensor).length)
                length = _copy(source, tensor, stream, digest)
            elif tensor.name not in inside and len(tensor.raw_data) >= _SMALLEST_EXTERNAL:
                offset = _start(stream, tensor, len(tensor.raw_data))
                length = stream.write(tensor.raw_data)
                digest.update(tensor.raw_data)
                tensor.ClearField("raw_data")
            else:
                continue
            digest.update(offset.to_bytes(8, "little"))
            pending.append((tensor, offset, length))
    data_name = f"{name}.{digest.hexdigest()[:8]}.data"
    unnamed.rename(folder / data_name)
    for tensor, offset, length in pending:
        set_location(tensor, data_name, offset, length)
    return result


def _with_own_data(proto: ModelProto, source: Model) -> ModelProto:
    """Puts back what was left in the source's own file."""
    if not any(source.holds(tensor) for tensor in external_tensors(proto)):
        return proto
    result = copied(proto)
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
        raise InputError(f"{source.name}: its external data {file} is gone. Run it again.")
    with file.open("rb") as stream:
        stream.seek(location.offset)
        while left:
            chunk = stream.read(min(_CHUNK, left))
            if not chunk:
                raise InputError(f"{source.name}: its external data {file} shrank. Run it again.")
            target.write(chunk)
            digest.update(chunk)
            left -= len(chunk)
    return location.length


def _own_data(target: Path) -> set[Path]:
    """Data files that a previous run of this program wrote for the target, and no others."""
    if not target.is_file():
        return set()
    pattern = re.compile(re.escape(target.name) + r"\.[0-9a-f]{8}\.data")
    try:
        old = read_model(target).proto
    except InputError:  # an unreadable old file owns nothing; it is replaced all the same
        return set()
    files = {external_location(tensor).file for tensor in external_tensors(old)}
    return {target.parent / file for file in files if pattern.fullmatch(file)}


def _is_equal(first: Path, second: Path) -> bool:
    """Whether two paths lead to existing regular files of the same content."""
    try:
        return stat.S_ISREG(os.lstat(first).st_mode) and filecmp.cmp(first, second, shallow=False)
    except OSError:
        return False
