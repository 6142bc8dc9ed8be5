"""All outputs of a model over samples, joined along the samples' axis, in temporary files.

They are mapped into memory to be read, so they need not fit into it; the files have no name and go
with the arrays.
"""

import tempfile
import weakref
from collections.abc import Iterator, Mapping, Sequence
from math import prod
from typing import IO

import numpy as np

from onnx_relusv.errors import InputError, UsageError
from onnx_relusv.runtime.session import Session
from onnx_relusv.samples import Samples
from onnx_relusv.temporary_files import nameless_file

_BATCH = 64
# Bytes of rows that are copied at a time.
_CHUNK = 16 << 20


class CollectedOutputs:
    """Takes a model's outputs up batch by batch.

    Args:
        names: Of the outputs, in the order that is wanted.
    """

    def __init__(self, names: Sequence[str]) -> None:
        self._rows: dict[str, _Rows | None] = dict.fromkeys(names)

    def add(self, values: Mapping[str, np.ndarray], count: int, size: int) -> None:
        """Adds the outputs of a batch of `size` samples, of which `count` are real.

        Raises:
            InputError: An output's first axis is not that of the samples, or its other axes have
                other lengths than in the batches before.
            UsageError: There is no room for them.
        """
        for name, known in self._rows.items():
            value = values[name]
            if not isinstance(value, np.ndarray) or not value.ndim or len(value) != size:
                shape = getattr(value, "shape", type(value).__name__)
                raise InputError(
                    f"output {name} is {shape} for {size} samples: its first axis is not that of "
                    "the samples, so no --metric can be given it for all of them. Take it out of "
                    "the model's outputs."
                )
            rows = known or _Rows(value)
            self._rows[name] = rows
            if value.shape[1:] != rows.shape:
                raise InputError(
                    f"output {name} is {rows.shape} for some samples and {value.shape[1:]} for "
                    "others, so no --metric can be given it for all of them. Pad it to one shape "
                    "in the model, or take it out of the outputs."
                )
            rows.add(value[:count])

    def arrays(self) -> list[np.ndarray]:
        """All of them, (samples, ...) each, read-only; nothing may be added afterwards."""
        return [rows.array() for rows in self._rows.values() if rows is not None]


def collected(session: Session, samples: Samples, names: Sequence[str]) -> list[np.ndarray]:
    """Runs a model on all samples.

    Args:
        session: The model.
        samples: Its inputs.
        names: The outputs that are wanted.

    Returns:
        Of every output, (samples, ...), read-only.

    Raises:
        InputError: An output's first axis is not that of the samples.
        UsageError: There is no room for the outputs.
    """
    taken = CollectedOutputs(names)
    for batch in samples.batches(_BATCH):
        taken.add(session.run(batch.feeds, names), batch.count, batch.size)
    return taken.arrays()


def picked(arrays: Sequence[np.ndarray], positions: np.ndarray) -> list[np.ndarray]:
    """The rows of all arrays at some positions, in temporary files as well."""
    return [_picked(values, positions) for values in arrays]


def _picked(values: np.ndarray, positions: np.ndarray) -> np.ndarray:
    rows = _Rows(values)
    for part in _chunks(positions, max(1, prod(values.shape[1:]) * values.dtype.itemsize)):
        rows.add(values[part])
    return rows.array()


def _chunks(positions: np.ndarray, row_bytes: int) -> Iterator[np.ndarray]:
    length = max(1, _CHUNK // row_bytes)
    for start in range(0, len(positions), length):
        yield positions[start : start + length]


class _Rows:
    """Rows of one shape and type; text stays in memory, for it cannot be mapped."""

    def __init__(self, example: np.ndarray) -> None:
        self.shape = example.shape[1:]
        self._dtype = example.dtype
        self._count = 0
        self._kept: list[np.ndarray] = []
        self._file: IO[bytes] | None = None
        if not example.dtype.hasobject:
            self._file = nameless_file()
            # After an error nobody asks for the rows, and the file still has to be closed.
            weakref.finalize(self, self._file.close)

    def add(self, rows: np.ndarray) -> None:
        self._count += len(rows)
        if self._file is None:
            self._kept.append(rows)
            return
        content = memoryview(rows.tobytes())
        while content:
            try:
                content = content[self._file.write(content) :]
            except OSError as error:
                raise UsageError(
                    f"a model's outputs cannot be stored in {tempfile.gettempdir()} "
                    f"({error.strerror}). Make room there, or let TMPDIR name another folder."
                ) from error

    def array(self) -> np.ndarray:
        shape = (self._count, *self.shape)
        if self._file is None:
            values = np.concatenate(self._kept)
        elif not prod(shape):  # nothing cannot be mapped
            values = np.zeros(shape, self._dtype)
        else:
            # What is mapped stays when the file is closed.
            with self._file as file:
                values = np.asarray(np.memmap(file, self._dtype, "r", shape=shape))
        values.flags.writeable = False
        return values
