"""Arrays in temporary files, of which memory holds what is read."""

import mmap
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from threading import Event, Thread

import numpy as np

from onnx_relusv.errors import UsageError
from onnx_relusv.temporary_files import nameless_file

# Bytes that are written at a time.
_CHUNK = 8 << 20
# Seconds in which a session copies some tens of megabytes.
_MOMENT = 0.01


def on_disk(values: np.ndarray) -> np.ndarray:
    """An array's copy in a temporary file, mapped and read-only; gone when nobody holds it.

    Raises:
        UsageError: There can be no temporary file, or there is no room for it.
    """
    if not values.size:
        return values
    with nameless_file() as file:
        rows = values.reshape(len(values), -1) if values.ndim else values.reshape(1, 1)
        count = max(1, _CHUNK // max(rows[0].nbytes, 1))
        try:
            for start in range(0, len(rows), count):
                # A view that is transposed is put in order a few rows at a time.
                content = np.ascontiguousarray(rows[start : start + count]).reshape(-1)
                left = content.view(np.uint8).data
                while left:
                    left = left[file.write(left) :]
        except OSError as error:
            raise UsageError(
                f"no temporary file of {values.nbytes} bytes can be written ({error.strerror}). "
                "Let TMPDIR name a folder with more room."
            ) from error
        # The map keeps the file when it is closed.
        mapped = np.memmap(file, np.uint8, "r")
    return np.asarray(mapped).view(values.dtype).reshape(values.shape)


def release(arrays: Iterable[np.ndarray]) -> None:
    """Lets what was read of arrays of `on_disk` leave the memory; it is read again when needed."""
    for array in arrays:
        base: object = array
        while isinstance(base, np.ndarray):
            base = base.base
        if isinstance(base, mmap.mmap) and hasattr(mmap, "MADV_DONTNEED"):
            base.madvise(mmap.MADV_DONTNEED)


@contextmanager
def released_while_read(arrays: Collection[np.ndarray]) -> Iterator[None]:
    """Lets what somebody else reads of arrays of `on_disk` leave the memory at once.

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
