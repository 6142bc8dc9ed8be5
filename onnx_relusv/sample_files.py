"""The files that samples come in, each read from the front in pieces.

.npz    its members are streamed from the archive.
.npy    mapped into memory.
folder  of ONNX test data sets, `test_data_set_*/input_*.pb`.
"""

import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Protocol

import numpy as np
import onnx
from google.protobuf.message import DecodeError
from onnx import numpy_helper

from onnx_relusv.errors import InputError
from onnx_relusv.records import InputSpec

# RuntimeError: an archive that is encrypted or compressed in a way that Python does not know.
_UNREADABLE = (
    ValueError,
    OSError,
    EOFError,
    RuntimeError,
    zipfile.BadZipFile,
    zlib.error,
    DecodeError,
)


class Column(Protocol):
    """One input's values, or the labels."""

    shape: tuple[int, ...]
    dtype: np.dtype[np.generic]

    def rows(self, size: int) -> Iterator[np.ndarray]:
        """All values, `size` samples at a time."""
        ...


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turns whatever goes wrong with a file into an InputError that names it."""
    try:
        yield
    except _UNREADABLE as error:
        raise InputError(
            f"{path}: cannot be read as samples ({error}). "
            "Give an .npz, an .npy or a folder of test_data_set_*."
        ) from error


def open_columns(path: Path, inputs: Sequence[InputSpec]) -> dict[str, Column]:
    """Opens the arrays of a file or folder, by name.

    Raises:
        InputError: They cannot be read, or an .npy is given to a model with several inputs.
    """
    with reading(path):
        if path.is_dir():
            return dict(_test_data_columns(path, inputs))
        if path.suffix == ".npy":
            return {_only_input(path, inputs): _Mapped(path)}
        return {name: _Member(path, name) for name in _member_names(path)}


class _Mapped:
    """An .npy file, mapped into memory."""

    def __init__(self, path: Path) -> None:
        self._array = np.lib.format.open_memmap(path, mode="r")
        self.shape, self.dtype = self._array.shape, self._array.dtype

    def rows(self, size: int) -> Iterator[np.ndarray]:
        for start in range(0, self.shape[0], size):
            yield self._array[start : start + size]


class _Member:
    """A member of an .npz file, streamed from the archive."""

    def __init__(self, path: Path, name: str) -> None:
        self._path, self._name = path, name
        with zipfile.ZipFile(path) as archive, archive.open(f"{name}.npy") as stream:
            self.shape, self.dtype = self._header(stream)

    def _header(self, stream: IO[bytes]) -> tuple[tuple[int, ...], np.dtype[np.generic]]:
        version = np.lib.format.read_magic(stream)
        read = (
            np.lib.format.read_array_header_1_0
            if version == (1, 0)
            else np.lib.format.read_array_header_2_0
        )
        shape, fortran_order, dtype = read(stream)
        if fortran_order and len(shape) > 1:
            raise ValueError(f"{self._name} is in Fortran order; save np.ascontiguousarray of it")
        if dtype.hasobject:
            raise ValueError(f"{self._name} holds Python objects")
        return shape, dtype

    def rows(self, size: int) -> Iterator[np.ndarray]:
        with zipfile.ZipFile(self._path) as archive, archive.open(f"{self._name}.npy") as stream:
            self._header(stream)
            row_shape = self.shape[1:]
            row_bytes = int(np.prod(row_shape, dtype=np.int64)) * self.dtype.itemsize
            for start in range(0, self.shape[0], size):
                count = min(size, self.shape[0] - start)
                data = stream.read(count * row_bytes)
                if len(data) < count * row_bytes:
                    raise EOFError(f"{self._name} ends before its {self.shape[0]} samples")
                yield np.frombuffer(data, self.dtype).reshape(count, *row_shape)


class _Stacked:
    """Arrays of several test data sets, one behind the other."""

    def __init__(self, files: list[Path], arrays: list[np.ndarray]) -> None:
        if len({(array.shape[1:], array.dtype) for array in arrays}) > 1:
            raise ValueError(f"the sets differ in shape or type, from {files[0]} on")
        self._array = np.concatenate(arrays)
        self.shape, self.dtype = self._array.shape, self._array.dtype

    def rows(self, size: int) -> Iterator[np.ndarray]:
        for start in range(0, self.shape[0], size):
            yield self._array[start : start + size]


def _test_data_columns(path: Path, inputs: Sequence[InputSpec]) -> Iterator[tuple[str, Column]]:
    folders = sorted(path.glob("test_data_set_*"))
    if not folders:
        raise ValueError("the folder has no test_data_set_* in it")
    for number, spec in enumerate(inputs):
        files = [folder / f"input_{number}.pb" for folder in folders]
        arrays = []
        for file in files:
            tensor = onnx.TensorProto()
            tensor.ParseFromString(file.read_bytes())
            arrays.append(np.atleast_1d(numpy_helper.to_array(tensor)))
        yield spec.name, _Stacked(files, arrays)


def _only_input(path: Path, inputs: Sequence[InputSpec]) -> str:
    if len(inputs) != 1:
        raise InputError(
            f"{path}: an .npy file holds one input, but the model has {len(inputs)}: "
            f"{', '.join(spec.name for spec in inputs)}. Give an .npz with these keys."
        )
    return inputs[0].name


def _member_names(path: Path) -> list[str]:
    with zipfile.ZipFile(path) as archive:
        return [name.removesuffix(".npy") for name in archive.namelist() if name.endswith(".npy")]
