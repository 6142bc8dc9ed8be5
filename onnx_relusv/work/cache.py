"""What long work has found, kept in a folder, so that an interrupted run takes up where it was.

An entry is one file: a line of JSON that says what it is of and where its arrays lie, the arrays as
they are in memory, and a SHA-256 of all of it. One file is there as a whole or not at all, and its
arrays can be mapped into memory. Nothing in an entry is ever executed, as pickles are.

Its name is a hash of everything that decides its content, so entries never have to be renewed, and
several processes may share a folder: they would write the same. What is damaged counts as missing,
and so does what is forged: a header has to be what is written for such arrays, byte by byte, and
the arrays lie one behind the other and fill the file. What they have to be like, readers check.
"""

import hashlib
import json
import math
import mmap
import os
import stat
import sys
import uuid
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import IO, Any

import numpy as np

from onnx_relusv.core.errors import UsageError
from onnx_relusv.work.disk_arrays import ArrayFile, Place
from onnx_relusv.work.temporary_files import file_in, remove_left_files

FORMAT = 1
Fields = Mapping[str, Any]
Arrays = Mapping[str, np.ndarray]

# Whole units for the header and for every array: as much as any instruction wants aligned.
_UNIT = 64
_CHECKSUM = hashlib.sha256().digest_size
_CHUNK = 16 << 20
# Bytes that a header's list of arrays may have; entries have some thirty.
_LONGEST_LIST = 1 << 16
# Booleans, whole and real numbers, text.
_KINDS = "biufU"
# As many as numpy has had in all versions.
_MOST_AXES = 32


# Name, type and shape of an array.
_Described = tuple[str, np.dtype, tuple[int, ...]]


class Cache:
    """Entries in a folder; without a folder nothing is found and nothing is kept.

    Args:
        folder: Where entries lie. It is made if it does not exist.

    Raises:
        UsageError: The folder cannot be made or written.
    """

    def __init__(self, folder: Path | None) -> None:
        self.folder = folder
        # By path, what a file was when its checksum was found to be right.
        self._verified: dict[Path, tuple[int, ...]] = {}
        if folder is None:
            return
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with file_in(folder):
                pass
            remove_left_files(folder)
        except OSError as error:
            raise UsageError(
                f"--cache {folder}: is no folder that can be made and written ({error.strerror}). "
                "Name another one."
            ) from error

    def get(self, kind: str, fields: Fields) -> Arrays | None:
        """The arrays of an entry, in memory.

        Args:
            kind: What it is.
            fields: All that decides its content, ready for JSON.

        Returns:
            By name, read-only; None where there is no such entry or it is damaged.
        """
        found = self.mapped(kind, fields)
        if found is None:
            return None
        copies = {name: values.copy() for name, values in found.items()}
        for values in copies.values():
            values.flags.writeable = False
        return copies

    def mapped(self, kind: str, fields: Fields) -> Arrays | None:
        """The same, mapped into memory: as much of it is read as is looked at.

        The checksum is verified the first time, and again whenever the file has changed.
        """
        path, header = self._place(kind, fields)
        if path is None:
            return None
        try:
            # Neither follows a link nor waits for the other end of a pipe.
            file = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        except OSError:
            return None
        try:
            state = os.fstat(file)
            if not stat.S_ISREG(state.st_mode):
                return None
            content = mmap.mmap(file, 0, access=mmap.ACCESS_READ)
        except (OSError, ValueError):  # it is empty, or cannot be mapped
            return None
        finally:
            os.close(file)
        arrays = _arrays(content, header)
        if arrays is None:
            return None
        seen = (state.st_ino, state.st_size, state.st_mtime_ns, state.st_ctime_ns)
        if self._verified.get(path) != seen:
            if not _is_whole(content):
                return None
            self._verified[path] = seen
        return arrays

    def put(self, kind: str, fields: Fields, arrays: Arrays) -> None:
        """Keeps an entry of numbers, booleans and text; it is there as a whole or not at all.

        Raises:
            UsageError: It cannot be written.
        """
        path, header = self._place(kind, fields)
        if path is None:
            return
        try:
            with file_in(path.parent) as (file, temporary):
                _write(file, header, arrays)
                file.flush()
                _replace(temporary, path)
        except OSError as error:
            raise UsageError(
                f"--cache {path.parent}: cannot be written ({error.strerror}). Make room there, or "
                "name another folder; what it holds already is kept."
            ) from error

    def _place(self, kind: str, fields: Fields) -> tuple[Path | None, dict[str, Any]]:
        """Where an entry lies, None without a folder, and what its header says besides arrays."""
        header = {"format": FORMAT, "kind": kind, "key": dict(fields)}
        if self.folder is None:
            return None, header
        digest = hashlib.sha256(_json(header).encode()).hexdigest()
        return self.folder / f"{kind}-{digest}.entry", header


NO_CACHE = Cache(None)


class Scratch:
    """What a cache is to the next runs, for the length of this one: entries in a temporary file.

    Raises:
        UsageError: There can be no temporary file.
    """

    folder = None

    def __init__(self) -> None:
        self._file = ArrayFile()
        self._places: dict[str, dict[str, Place]] = {}

    def mapped(self, kind: str, fields: Fields) -> Arrays | None:
        """As of `Cache`."""
        places = self._places.get(_json([kind, fields]))
        if places is None:
            return None
        return {name: self._file.mapped(place) for name, place in places.items()}

    def put(self, kind: str, fields: Fields, arrays: Arrays) -> None:
        """As of `Cache`."""
        places = {name: self._file.put(np.asarray(values)) for name, values in arrays.items()}
        self._places[_json([kind, fields])] = places

    def close(self) -> None:
        """Lets the file go; what was mapped stays."""
        self._file.close()


@cache
def code_digest(folder: Path = Path(__file__).parents[1]) -> str:
    """A SHA-256 of the package's own source, which decides what is found as much as the model."""
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*.py")):
        digest.update(f"{path.relative_to(folder)}\n".encode())
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()


def _replace(temporary: Path, path: Path) -> None:
    """Gives a file an entry's name; a folder that has it is put aside, with what is in it."""
    if path.is_dir() and not path.is_symlink():
        os.rename(path, path.parent / f"{path.name}.{uuid.uuid4().hex[:8]}.no-entry")
    os.replace(temporary, path)


def _json(value: object) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def _write(file: IO[bytes], header: dict[str, Any], arrays: Arrays) -> None:
    digest = hashlib.sha256()

    def write(content: bytes | memoryview) -> None:
        digest.update(content)
        file.write(content)

    listed = {name: np.asarray(values) for name, values in arrays.items()}
    for name, values in listed.items():
        if values.dtype.kind not in _KINDS:
            raise TypeError(f"{name}: objects cannot be kept")
    write(_line(header, [(name, each.dtype, each.shape) for name, each in listed.items()]))
    for values in listed.values():
        if values.nbytes:
            write(np.ascontiguousarray(values).reshape(-1).view(np.uint8).data)
        write(bytes(_padded(values.nbytes) - values.nbytes))
    file.write(digest.digest())


def _line(header: dict[str, Any], arrays: Iterable[_Described]) -> bytes:
    """The first line of an entry: what it is of, and its arrays one behind the other."""
    listed, offset = [], 0
    for name, dtype, shape in arrays:
        place = {"name": name, "dtype": dtype.str, "shape": list(shape), "offset": offset}
        listed.append(place)
        offset += _padded(_bytes(dtype, shape))
    line = _json({**header, "arrays": listed}).encode()
    return line.ljust(_padded(len(line) + 1) - 1) + b"\n"


def _bytes(dtype: np.dtype, shape: Iterable[int]) -> int:
    return dtype.itemsize * math.prod(shape)


def _padded(length: int) -> int:
    return math.ceil(length / _UNIT) * _UNIT


def _is_whole(content: mmap.mmap) -> bool:
    end = len(content) - _CHECKSUM
    digest = hashlib.sha256()
    for start in range(0, end, _CHUNK):
        digest.update(content[start : min(start + _CHUNK, end)])
    return digest.digest() == content[end:]


def _arrays(content: mmap.mmap, header: dict[str, Any]) -> Arrays | None:
    """The arrays of a file, mapped; None where it is of something else, or was made elsewhere."""
    start = content.find(b"\n", 0, len(_json(header)) + _LONGEST_LIST) + 1
    try:
        listed = json.loads(content[:start])["arrays"]
        described = [_described(each) for each in listed]
        if _line(header, described) != content[:start]:
            return None
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None
    sizes = (_padded(_bytes(dtype, shape)) for _, dtype, shape in described)
    if start + sum(sizes) + _CHECKSUM != len(content):
        return None
    arrays = {
        name: np.ndarray(shape, dtype, content, start + place["offset"])
        for place, (name, dtype, shape) in zip(listed, described, strict=True)
    }
    return arrays if len(arrays) == len(described) else None


def _described(place: dict[str, Any]) -> _Described:
    """Name, type and shape of an array by its place in a header, or ValueError."""
    name, dtype, shape = place["name"], place["dtype"], place["shape"]
    if not isinstance(name, str) or not isinstance(dtype, str) or not isinstance(shape, list):
        raise ValueError("no array")
    found = np.dtype(dtype)
    # An array of nothing may claim any other length.
    if found.kind not in _KINDS or len(shape) > _MOST_AXES:
        raise ValueError("no array that is kept")
    if not all(type(length) is int and 0 <= length <= sys.maxsize for length in shape):
        raise ValueError("no shape")
    if found.itemsize == 0 or math.prod(max(length, 1) for length in shape) > sys.maxsize:
        raise ValueError("no array that there can be")
    return name, found, tuple(shape)
