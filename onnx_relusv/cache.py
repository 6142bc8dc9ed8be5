"""What long work has found, kept in a folder, so that an interrupted run takes up where it was.

An entry is one file: a line of JSON that says what it is of and where its arrays lie, the arrays as
they are in memory, and a SHA-256 of all of it. One file is there as a whole or not at all, and its
arrays can be mapped into memory. Nothing in an entry is ever executed, as pickles are.

Its name is a hash of everything that decides its content, so entries never have to be renewed, and
several processes may share a folder: they would write the same. What is damaged counts as missing.
"""

import hashlib
import json
import math
import mmap
import os
import time
import uuid
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import IO, Any

import numpy as np

from onnx_relusv.errors import UsageError

FORMAT = 1
Fields = Mapping[str, Any]
Arrays = Mapping[str, np.ndarray]

# Whole units for the header and for every array: as much as any instruction wants aligned.
_UNIT = 64
_CHECKSUM = hashlib.sha256().digest_size
_CHUNK = 16 << 20
_TEMPORARY = ".onnx-relusv-"
# Seconds. What is older was left behind by a process that was killed.
_ABANDONED = 24 * 3600


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
        if folder is not None:
            _prepare(folder)

    def get(self, kind: str, fields: Fields) -> Arrays | None:
        """The arrays of an entry, in memory.

        Args:
            kind: What it is.
            fields: All that decides its content, ready for JSON.

        Returns:
            By name, read-only; None where there is no such entry or it is damaged.
        """
        path, header = self._place(kind, fields)
        if path is None:
            return None
        try:
            content = path.read_bytes()
        except OSError:
            return None
        return _arrays(content, header) if _is_whole(content) else None

    def mapped(self, kind: str, fields: Fields) -> Arrays | None:
        """The same, mapped into memory: as much of it is read as is looked at.

        The checksum is verified the first time, and again whenever the file has changed.
        """
        path, header = self._place(kind, fields)
        if path is None:
            return None
        try:
            with path.open("rb") as file:
                content = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
                state = os.fstat(file.fileno())
        except (OSError, ValueError):  # it is not there, or empty
            return None
        seen = (state.st_ino, state.st_size, state.st_mtime_ns)
        if self._verified.get(path) != seen:
            if not _is_whole(content):
                return None
            self._verified[path] = seen
        return _arrays(content, header)

    def put(self, kind: str, fields: Fields, arrays: Arrays) -> None:
        """Keeps an entry; it is there as a whole or not at all.

        Args:
            kind: What it is.
            fields: All that decides its content, ready for JSON.
            arrays: By name; of numbers, booleans or text.

        Raises:
            UsageError: It cannot be written.
        """
        path, header = self._place(kind, fields)
        if path is None:
            return
        temporary = path.parent / f"{_TEMPORARY}{uuid.uuid4().hex}.tmp"
        try:
            try:
                with temporary.open("xb") as file:
                    _write(file, header, arrays)
                os.replace(temporary, path)
            finally:
                temporary.unlink(missing_ok=True)
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


@cache
def code_digest(folder: Path = Path(__file__).parent) -> str:
    """A SHA-256 of the package's own source, which decides what is found as much as the model."""
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*.py")):
        digest.update(f"{path.relative_to(folder)}\n".encode())
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()


def _prepare(folder: Path) -> None:
    probe = folder / f"{_TEMPORARY}{uuid.uuid4().hex}.tmp"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        try:
            probe.touch()
        finally:
            probe.unlink(missing_ok=True)
        for path in folder.glob(f"{_TEMPORARY}*.tmp"):
            _remove_if_abandoned(path)
    except OSError as error:
        raise UsageError(
            f"--cache {folder}: is no folder that can be made and written ({error.strerror}). "
            "Name another one."
        ) from error


def _remove_if_abandoned(path: Path) -> None:
    try:
        if path.stat().st_mtime < time.time() - _ABANDONED:
            path.unlink()
    except FileNotFoundError:  # another process was faster
        return


def _json(value: object) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def _write(file: IO[bytes], header: dict[str, Any], arrays: Arrays) -> None:
    digest = hashlib.sha256()

    def write(content: bytes | memoryview) -> None:
        digest.update(content)
        file.write(content)

    solid = {name: np.ascontiguousarray(values) for name, values in arrays.items()}
    # That makes one-dimensional arrays of numbers; their own shapes go into the header.
    shapes = {name: list(np.shape(values)) for name, values in arrays.items()}
    listed, offset = [], 0
    for name, values in solid.items():
        if values.dtype.hasobject:
            raise TypeError(f"{name}: objects cannot be kept")
        place = {"name": name, "dtype": values.dtype.str, "shape": shapes[name], "offset": offset}
        listed.append(place)
        offset += _padded(values.nbytes)
    line = _json({**header, "arrays": listed}).encode()
    write(line.ljust(_padded(len(line) + 1) - 1) + b"\n")
    for values in solid.values():
        if values.nbytes:
            write(values.reshape(-1).view(np.uint8).data)
        write(bytes(_padded(values.nbytes) - values.nbytes))
    file.write(digest.digest())


def _padded(length: int) -> int:
    return math.ceil(length / _UNIT) * _UNIT


def _is_whole(content: bytes | mmap.mmap) -> bool:
    if len(content) <= _CHECKSUM:
        return False
    digest = hashlib.sha256()
    for piece in _pieces(content, len(content) - _CHECKSUM):
        digest.update(piece)
    return digest.digest() == content[len(content) - _CHECKSUM :]


def _pieces(content: bytes | mmap.mmap, end: int) -> Iterator[bytes]:
    for start in range(0, end, _CHUNK):
        yield content[start : min(start + _CHUNK, end)]


def _arrays(content: bytes | mmap.mmap, header: dict[str, Any]) -> Arrays | None:
    """The arrays of a whole file; None where it is of something else, or was made elsewhere."""
    start = content.find(b"\n") + 1
    try:
        found = json.loads(content[:start])
        listed = found.pop("arrays")
        if _json(found) != _json(header):
            return None
        return {each["name"]: _array(content, start, each) for each in listed}
    except (ValueError, KeyError, TypeError, AttributeError):
        return None


def _array(content: bytes | mmap.mmap, start: int, place: dict[str, Any]) -> np.ndarray:
    dtype = np.dtype(place["dtype"])
    if dtype.hasobject:
        raise ValueError("objects are never read")
    values: np.ndarray = np.ndarray(
        tuple(place["shape"]), dtype, buffer=content, offset=start + place["offset"]
    )
    return values
