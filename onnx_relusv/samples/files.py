"""The files that samples come in, each read from the front in pieces.

.npz    its members are streamed from the archive.
.npy    mapped into memory.
folder  of ONNX test data sets, `test_data_set_*/input_*.pb`.
"""

import lzma
import warnings
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import IO, Literal, Protocol

import numpy as np
import onnx
from google.protobuf.message import DecodeError
from onnx import numpy_helper

from onnx_relusv.core.blocks import InputSpec
from onnx_relusv.core.errors import InputError
from onnx_relusv.work.disk_arrays import release
from onnx_relusv.work.files import check_readable, reason_of

# RuntimeError: an archive that is encrypted or compressed in a way that Python does not know.
_UNREADABLE = (
    ValueError,
    OSError,
    EOFError,
    RuntimeError,
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
    DecodeError,
)
_VERSIONS = ((1, 0), (2, 0), (3, 0))
# How many bytes a compressed byte becomes at most: of deflate as zlib documents it; of the other
# methods the ratio that equal bytes reach.
_LARGEST_RATIO = {zipfile.ZIP_STORED: 1, zipfile.ZIP_DEFLATED: 1032}
_LARGEST_OTHER_RATIO = 1_000_000
LABELS = "labels"
GROUPS = "groups"
# Of every sample, an index of eight bytes is in memory.
MOST_SAMPLES = 50_000_000


class Column(Protocol):
    """One input's values, or the labels."""

    shape: tuple[int, ...]
    dtype: np.dtype[np.generic]

    def rows(self, size: int) -> Iterator[np.ndarray]:
        """All values, `size` samples at a time."""
        ...


@contextmanager
def reading(name: object) -> Iterator[None]:
    """Turns whatever goes wrong with a file into an InputError that names it."""
    try:
        yield
    except _UNREADABLE as error:
        raise InputError(
            f"{name}: cannot be read as samples ({reason_of(error)}). "
            "Give an .npz, an .npy or a folder of test_data_set_*."
        ) from error


def open_columns(path: Path, inputs: Sequence[InputSpec]) -> dict[str, Column]:
    """Opens the arrays of a file or folder, by name.

    Raises:
        InputError: They cannot be read, or an .npy is given to a model with several inputs.
    """
    if not path.is_dir():
        check_readable(path)
    with reading(path):
        if path.is_dir():
            return dict(_test_data_columns(path, inputs))
        if path.suffix == ".npy":
            return {only_input(path, "an .npy file", "an .npz", inputs): _mapped(path)}
        return {name: _Member(path, name) for name in _member_names(path)}


@dataclass(frozen=True)
class _Header:
    """An array's header, as far as it can be true."""

    shape: tuple[int, ...]
    fortran_order: bool
    dtype: np.dtype[np.generic]

    @property
    def bytes(self) -> int:
        """The size of all values."""
        return prod(self.shape) * self.dtype.itemsize


def _header(name: str, stream: IO[bytes], available: int) -> _Header:
    """Reads the header of an array and leaves the stream at its values.

    Args:
        name: What messages call the array.
        stream: At the array's first byte.
        available: How many bytes the stream has at most, header included.

    Raises:
        ValueError: It is no array, is of Python objects, or claims a size that cannot be there.
    """
    try:
        version = np.lib.format.read_magic(stream)
        if version in _VERSIONS:
            read = (
                np.lib.format.read_array_header_1_0
                if version == (1, 0)
                else np.lib.format.read_array_header_2_0
            )
            with warnings.catch_warnings():
                # That Python 2 wrote the file is no news to a user.
                warnings.simplefilter("ignore", UserWarning)
                header = _Header(*read(stream))
    except Exception as error:  # a header is read as Python's literals, which may fail in any way
        raise ValueError(f"{name} does not begin as a NumPy array does") from error
    if version not in _VERSIONS:
        raise ValueError(f"{name} is of version {version[0]}.{version[1]}, which is not known")
    if any(isinstance(length, bool) or length < 0 for length in header.shape):
        raise ValueError(f"{name} claims the shape {header.shape}")
    if header.dtype.hasobject:
        raise ValueError(f"{name} holds Python objects, which are never unpacked; save numbers")
    # Values of no bytes could be of any number.
    if max(header.bytes, *header.shape[:1], 0) > available:
        raise ValueError(
            f"{name} claims the shape {header.shape} of {header.dtype}, {header.bytes} bytes, "
            f"but {available} are there"
        )
    return header


class ArrayColumn:
    """An array that is in memory, or mapped into it."""

    def __init__(self, array: np.ndarray) -> None:
        self._array = array
        self.shape, self.dtype = array.shape, array.dtype

    def rows(self, size: int) -> Iterator[np.ndarray]:
        """All values, `size` samples at a time; none are copied."""
        for start in range(0, self.shape[0], size):
            yield self._array[start : start + size]


class DiskColumn(ArrayColumn):
    """An array in a temporary file of ours, of which memory holds what is worked on."""

    def rows(self, size: int) -> Iterator[np.ndarray]:
        """All values, `size` samples at a time; what was read is freed when the next are asked."""
        for piece in super().rows(size):
            yield piece
            release([self._array])


def _mapped(path: Path) -> ArrayColumn:
    """An .npy file, mapped into memory."""
    with path.open("rb") as stream:
        header = _header(path.name, stream, path.stat().st_size)
        offset = stream.tell()
    if not header.bytes:  # an empty file cannot be mapped
        return ArrayColumn(np.zeros(header.shape, header.dtype))
    order: Literal["C", "F"] = "F" if header.fortran_order else "C"
    return ArrayColumn(np.memmap(path, header.dtype, "r", offset, header.shape, order))


class _Member:
    """A member of an .npz file, streamed from the archive."""

    def __init__(self, path: Path, name: str) -> None:
        self._path, self._name = path, name
        with zipfile.ZipFile(path) as archive:
            self._available = _available(path, archive.getinfo(f"{name}.npy"))
            with archive.open(f"{name}.npy") as stream:
                header = _header(name, stream, self._available)
        if header.fortran_order and len(header.shape) > 1:
            raise ValueError(f"{name} is in Fortran order; save np.ascontiguousarray of it")
        self.shape, self.dtype = header.shape, header.dtype

    def rows(self, size: int) -> Iterator[np.ndarray]:
        with zipfile.ZipFile(self._path) as archive, archive.open(f"{self._name}.npy") as stream:
            _header(self._name, stream, self._available)
            row_shape = self.shape[1:]
            row_bytes = prod(row_shape) * self.dtype.itemsize
            for start in range(0, self.shape[0], size):
                count = min(size, self.shape[0] - start)
                data = stream.read(count * row_bytes)
                if len(data) < count * row_bytes:
                    raise EOFError(f"{self._name} ends before its {self.shape[0]} samples")
                yield np.frombuffer(data, self.dtype).reshape(count, *row_shape)


def _stacked(files: list[Path], arrays: list[np.ndarray]) -> ArrayColumn:
    """Arrays of several test data sets, one behind the other."""
    if len({(array.shape[1:], array.dtype) for array in arrays}) > 1:
        raise ValueError(f"the sets differ in shape or type, from {files[0]} on")
    return ArrayColumn(np.concatenate(arrays))


def _available(path: Path, member: zipfile.ZipInfo) -> int:
    """How many bytes a member can have at most, whatever the archive claims."""
    ratio = _LARGEST_RATIO.get(member.compress_type, _LARGEST_OTHER_RATIO)
    stored = min(member.compress_size, path.stat().st_size)
    return min(member.file_size, ratio * stored)


def _test_data_columns(path: Path, inputs: Sequence[InputSpec]) -> Iterator[tuple[str, Column]]:
    folders = sorted(path.glob("test_data_set_*"))
    if not folders:
        raise ValueError(
            "the folder has no test_data_set_* in it; of one of pictures say how they become "
            "inputs, as in --preprocess imagenet"
        )
    for number, spec in enumerate(inputs):
        files = [folder / f"input_{number}.pb" for folder in folders]
        yield spec.name, _stacked(files, [_samples_first(_tensor(file), spec) for file in files])


def _samples_first(array: np.ndarray, spec: InputSpec) -> np.ndarray:
    """An input of a test data set, as the model takes it, with the axis of samples first."""
    if not array.ndim or spec.samples_axis is None:
        return array[None]
    return np.moveaxis(array, min(spec.samples_axis, array.ndim - 1), 0)


def _tensor(file: Path) -> np.ndarray:
    """The tensor of a file of a test data set.

    Raises:
        InputError: There is no such file.
        ValueError: It holds no tensor, or its values are elsewhere.
    """
    check_readable(file)
    tensor = onnx.TensorProto()
    try:
        tensor.ParseFromString(file.read_bytes())
        if tensor.data_location != onnx.TensorProto.EXTERNAL and min(tensor.dims, default=0) >= 0:
            return np.asarray(numpy_helper.to_array(tensor))
    except Exception as error:  # of protobuf, onnx or numpy, whatever its content leads them to
        raise ValueError(f"{file} holds no tensor, or a damaged one") from error
    raise ValueError(f"{file} does not hold the values of its tensor itself")


def only_input(name: object, held: str, needed: str, inputs: Sequence[InputSpec]) -> str:
    """The name of a model's only input, for samples that do not name it.

    Args:
        name: What messages call the samples.
        held: What they are.
        needed: What several inputs take.
        inputs: The model's inputs.

    Raises:
        InputError: It has several.
    """
    if len(inputs) != 1:
        raise InputError(
            f"{name}: {held} holds one input, but the model has {len(inputs)}: "
            f"{', '.join(spec.name for spec in inputs)}. Give {needed} with these keys."
        )
    return inputs[0].name


def _member_names(path: Path) -> list[str]:
    with zipfile.ZipFile(path) as archive:
        names = [name.removesuffix(".npy") for name in archive.namelist() if name.endswith(".npy")]
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise ValueError(f"{repeated[0]} is in it twice")
    return names
