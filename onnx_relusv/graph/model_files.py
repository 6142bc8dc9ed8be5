"""What a model is given as: a path of a file or folder, or a ModelProto; what it is returned as.

All stages read a file: sessions map its weights, the checker opens it by its path, and what is read
has a hash. So a ModelProto becomes one, in a temporary folder that is gone when its run is over.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import onnx
from google.protobuf.message import EncodeError
from onnx import ModelProto

from onnx_relusv.core.arguments import StrPath, as_path
from onnx_relusv.core.errors import InputError
from onnx_relusv.graph.model import external_location, external_tensors
from onnx_relusv.graph.model_folders import model_in
from onnx_relusv.work.files import not_written
from onnx_relusv.work.temporary_files import temporary_folder

ModelLike = StrPath | ModelProto
# No message of protobuf is longer.
_MOST_BYTES = (1 << 31) - 1
# What reports say in place of a path of a model that was given to Python.
RESULT = "result"


@dataclass(frozen=True)
class ModelFile:
    """A model as a file.

    Attributes:
        path: The file.
        name: What messages and reports call it.
        folder: The folder that was given, with all that is used with the model; None where the
            file was.
    """

    path: Path
    name: str
    folder: Path | None = None


def as_model(name: str, value: object) -> Path | ModelProto:
    """An argument that is a model.

    Args:
        name: The argument's name, for messages.
        value: A path, as `str` or `os.PathLike` of it, or a ModelProto.

    Raises:
        TypeError: It is none of these.
        UsageError: No path looks so.
    """
    if isinstance(value, ModelProto):
        return value
    try:
        return as_path(name, value)
    except TypeError as error:
        raise TypeError(
            f"{name} is {type(value).__name__}: give a path, as str or pathlib.Path, or an "
            "onnx.ModelProto."
        ) from error


@contextmanager
def model_file(
    name: str, model: Path | ModelProto, *, most_bytes: int = _MOST_BYTES
) -> Iterator[ModelFile]:
    """A model's file; that of a ModelProto is as `onnx.save` writes it, and gone afterwards.

    Of a folder it is the model in it.

    Args:
        name: The argument's name, by which messages and reports call a ModelProto.
        model: The model, which is not changed.
        most_bytes: That a message of protobuf has.

    Raises:
        InputError: The ModelProto has no file that holds all of it, or the folder no model.
        UsageError: There is no room for it.
    """
    if isinstance(model, Path):
        folder = model if model.is_dir() else None
        path = model if folder is None else model_in(folder)
        yield ModelFile(path, str(path), folder)
        return
    content = _content(name, model, most_bytes)
    with temporary_folder() as folder:
        path = folder / "model.onnx"
        try:
            path.write_bytes(content)
        except OSError as error:
            raise not_written(path, error) from error
        del content
        yield ModelFile(path, name)


def _content(name: str, model: ModelProto, most_bytes: int) -> bytes:
    outside = next(iter(external_tensors(model)), None)
    if outside is not None:
        raise InputError(
            f"{name}: tensor {outside.name} has its data in a file{_named(outside)}, and a "
            "ModelProto does not say in which folder. Give the path of the model's file, or read "
            "it with its data: onnx.load(path)."
        )
    try:
        fits = model.ByteSize() <= most_bytes
    except (EncodeError, ValueError):  # it is not told, above what a message can have
        fits = False
    if not fits:
        raise InputError(
            f"{name}: takes more than 2 GiB, which no single file of protobuf holds. Write it with "
            "onnx.save(model, path, save_as_external_data=True), and give the path."
        )
    return bytes(model.SerializeToString())


def _named(tensor: onnx.TensorProto) -> str:
    try:
        return f" named {external_location(tensor).file!r}"
    except (KeyError, ValueError):
        return ""


@contextmanager
def result_file(output: Path | None) -> Iterator[Path]:
    """Where a smaller model is written: the output, or without one a file that is gone afterwards.

    Raises:
        UsageError: There can be no temporary folder.
    """
    if output is not None:
        yield output
        return
    with temporary_folder() as folder:
        yield folder / "model.onnx"
