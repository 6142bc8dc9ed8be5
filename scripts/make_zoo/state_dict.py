"""Reads the weights that PyTorch has saved, without PyTorch and without running what is stored.

A `.pth` file is a zip archive: `data.pkl`, a pickle that says what the tensors are, and the bytes
of each storage in `data/NUMBER`. A pickle may name any function to be called; here it may name
three things, and everything else is refused.
"""

import io
import math
import pickle
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np


def _rebuild_tensor(
    storage: np.ndarray,
    offset: int,
    size: tuple[int, ...],
    stride: tuple[int, ...],
    requires_grad: bool,
    backward_hooks: object,
) -> np.ndarray:
    """Stands in for PyTorch's function of this name, with its arguments."""
    contiguous = tuple(math.prod(size[axis + 1 :]) for axis in range(len(size)))
    if tuple(stride) != contiguous:
        raise pickle.UnpicklingError(f"a tensor {size} has strides {stride}, not {contiguous}")
    return storage[offset : offset + math.prod(size)].reshape(size)


_ALLOWED = {
    ("collections", "OrderedDict"): OrderedDict,
    ("torch._utils", "_rebuild_tensor_v2"): _rebuild_tensor,
    ("torch", "FloatStorage"): np.dtype("<f4"),
}


class _Unpickler(pickle.Unpickler):
    """Knows dictionaries of float32 tensors, and nothing else."""

    def __init__(self, archive: zipfile.ZipFile, folder: str) -> None:
        super().__init__(io.BytesIO(archive.read(f"{folder}/data.pkl")))
        self._archive, self._folder = archive, folder

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _ALLOWED:
            raise pickle.UnpicklingError(f"{module}.{name} is not part of a plain state dict")
        return _ALLOWED[module, name]

    def persistent_load(self, identifier: Any) -> np.ndarray:
        kind, dtype, number, _, count = identifier
        if kind != "storage":
            raise pickle.UnpicklingError(f"{kind!r} is no storage")
        values = np.frombuffer(self._archive.read(f"{self._folder}/data/{number}"), dtype)
        if len(values) != count:
            raise pickle.UnpicklingError(f"storage {number} has {len(values)} values, not {count}")
        return values


def read_state_dict(path: Path) -> dict[str, np.ndarray]:
    """Reads a state dict of contiguous float32 tensors.

    Args:
        path: A `.pth` file as PyTorch writes it since version 1.6.

    Returns:
        The tensors by name, float32.

    Raises:
        pickle.UnpicklingError: It holds anything else.
        zipfile.BadZipFile: It is no zip archive.
    """
    with zipfile.ZipFile(path) as archive:
        (pickled,) = (name for name in archive.namelist() if name.endswith("/data.pkl"))
        folder = pickled.removesuffix("/data.pkl")
        order = f"{folder}/byteorder"
        if order in archive.namelist() and archive.read(order) != b"little":
            raise pickle.UnpicklingError(f"{path}: not stored in little-endian order")
        state = _Unpickler(archive, folder).load()
    if not isinstance(state, dict) or not all(
        isinstance(value, np.ndarray) for value in state.values()
    ):
        raise pickle.UnpicklingError(f"{path}: not a dictionary of tensors")
    return dict(state)
