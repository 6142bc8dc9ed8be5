"""Arrays in temporary files, of which memory holds what is read.

The files have no names where the system allows it, so that they are gone even after a crash.
"""

import mmap
import tempfile
import weakref
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from threading import Event, Thread

import numpy as np

from onnx_relusv.core.errors import UsageError
from onnx_relusv.work.temporary_files import nameless_file

# Bytes that are written at a time.
_PIECE = 8 << 20
# Where an array begins: as much as any instruction wants aligned.
_UNIT = 64
# Seconds in which a session copies some tens of megabytes.
_MOMENT = 0.01


@dataclass(frozen=True)
class Place:
    """Where in a file an array lies, and what it is; text is stored with a fixed length."""

    offset: int
    shape: tuple[int, ...]
    stored: np.dtype[np.generic]
    dtype: np.dtype[np.generic]


class ArrayFile:
    """Arrays in a temporary file; it is gone when it and all arrays that are mapped from it are.

    Args:
        piece: Bytes that are written at a time.

    Raises:
        UsageError: There can be no temporary file.
    """

    def __init__(self, piece: int = _PIECE) -> None:
        self._file = nameless_file()
        self._end, self._piece = 0, piece
        self.close = weakref.finalize(self, self._file.close)

    def put(self, values: np.ndarray) -> Place:
        """Stores an array; UsageError where there is no room for it."""
        stored = values.astype(np.str_) if values.dtype.hasobject else values
        self._end = -(-self._end // _UNIT) * _UNIT
        self._file.seek(self._end)
        place = Place(self._end, values.shape, stored.dtype, values.dtype)
        self._write(stored)
        return place

    def added(self, place: Place, rows: np.ndarray) -> Place:
        """Stores further rows of the array that was stored last; UsageError as of `put`."""
        self._write(rows)
        return replace(place, shape=(place.shape[0] + len(rows), *place.shape[1:]))

    def mapped(self, place: Place) -> np.ndarray:
        """An array that is on disk, and in memory as far as it is read; read-only."""
        length = int(np.prod(place.shape, dtype=np.int64)) * place.stored.itemsize
        if not length:
            values = np.zeros(place.shape, place.stored)
        else:
            # Only from whole pages on can a file be mapped.
            start = place.offset // mmap.ALLOCATIONGRANULARITY * mmap.ALLOCATIONGRANULARITY
            inside = place.offset - start
            # The array keeps the map, the map keeps the file, and both go with it.
            content = mmap.mmap(
                self._file.fileno(), inside + length, access=mmap.ACCESS_READ, offset=start
            )
            values = np.ndarray(place.shape, place.stored, content, inside)
        if place.dtype.hasobject:
            return values.astype(object)
        values.flags.writeable = False
        return values

    def _write(self, values: np.ndarray) -> None:
        if not values.size:
            return
        rows = values.reshape(len(values), -1) if values.ndim else values.reshape(1, 1)
        count = max(1, self._piece // max(rows[:1].nbytes, 1))
        for start in range(0, len(rows), count):
            # A view that is transposed is put in order a few rows at a time.
            content = np.ascontiguousarray(rows[start : start + count]).reshape(-1)
            left = content.view(np.uint8).data
            while left:
                try:
                    written = self._file.write(left[: self._piece])
                except OSError as error:
                    raise UsageError(
                        f"{tempfile.gettempdir()}: an array of {values.nbytes} bytes cannot be "
                        f"stored ({error.strerror}). Make room there, or let TMPDIR name another "
                        "folder."
                    ) from error
                left = left[written:]
                self._end += written


def on_disk(values: np.ndarray) -> np.ndarray:
    """An array's copy in a temporary file, mapped and read-only; gone with the last reference.

    Raises:
        UsageError: There can be no temporary file, or there is no room for it.
    """
    file = ArrayFile()
    found = file.mapped(file.put(values))
    file.close()
    return found


def release(arrays: Iterable[np.ndarray]) -> None:
    """Frees the memory of pages read of arrays of `on_disk`, which are read again when needed."""
    for array in arrays:
        base: object = array
        while isinstance(base, np.ndarray):
            base = base.base
        if isinstance(base, mmap.mmap) and hasattr(mmap, "MADV_DONTNEED"):
            base.madvise(mmap.MADV_DONTNEED)


@contextmanager
def released_while_read(arrays: Collection[np.ndarray]) -> Iterator[None]:
    """Frees the memory of pages that a session reads of arrays of `on_disk` at once.

    A session that copies weights would otherwise hold the files beside the copies.
    """
    if not arrays:
        yield
        return
    done = Event()

    def work() -> None:
        while not done.wait(_MOMENT):
            release(arrays)

    thread = Thread(target=work, name="release", daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
        release(arrays)
