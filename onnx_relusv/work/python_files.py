"""Reads functions of the user's from Python files, whose code is run for that."""

import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_loader
from pathlib import Path
from types import ModuleType
from typing import Any

from onnx_relusv.core.arguments import as_path
from onnx_relusv.core.errors import InputError, UsageError
from onnx_relusv.core.metric import Metric, apart, what_went_wrong
from onnx_relusv.work.files import check_readable

# Not the name of any importable module.
_MODULE = "_onnx_relusv_user_file"


@dataclass(frozen=True, eq=False)
class UserFunction:
    """A function of the user's.

    Attributes:
        name: The file's name and the function's, with a colon between them.
        call: The function.
        path: The file.
    """

    name: str
    call: Callable[..., Any]
    path: Path


def load_metric(text: str) -> Metric:
    """Reads a metric; argument and errors as of `load_function`."""
    found = load_function("--metric", text)
    return Metric(found.name, found.call, found.path)


def names_function(text: str) -> bool:
    """Whether a text names a function of a Python file, and not a file."""
    file, colon, function = text.rpartition(":")
    return bool(colon) and file.endswith(".py") and function.isidentifier()


def load_function(option: str, text: str) -> UserFunction:
    """Reads a function.

    The file is run as a module under a unique name, which is removed afterwards. No bytecode is
    written beside it, and none is read: it would hide an edit.

    Args:
        option: What it is for, for messages.
        text: ``FILE.py:function``.

    Raises:
        UsageError: The text is of another form.
        InputError: There is no such file, its code fails, or it has no such function.
    """
    file, colon, function = text.rpartition(":")
    if not colon or not file or not function.isidentifier():
        raise UsageError(f"{option} {text!r}: write FILE.py:function.")
    path = as_path(option, file)
    name = f"{path.name}:{function}"
    where = f"{option} {name}:"
    check_readable(path, where, folder="Name the file in it.")
    try:
        found = getattr(_module(path, where), function, None)
    except InputError:
        raise
    except Exception as error:  # a module may look its names up itself
        raise InputError(f"{where} {what_went_wrong(error, path)}") from error
    if found is None:
        raise InputError(f"{where} {path} has no {function}. Define it there.")
    if not callable(found):
        raise InputError(f"{where} {function} in {path} is {type(found).__name__}, not a function.")
    return UserFunction(name, found, path)


def _module(path: Path, where: str) -> ModuleType:
    loader = SourceFileLoader(_MODULE, str(path))
    spec = spec_from_loader(_MODULE, loader)
    if spec is None:
        raise InputError(f"{where} {path} cannot be loaded as Python.")
    module = module_from_spec(spec)
    # Dataclasses look their module up while it runs.
    sys.modules[_MODULE] = module
    try:
        source = loader.get_data(str(path))
        if b"\0" in source:
            # Before Python 3.11.4 it is a ValueError that points into Python's own files.
            raise SyntaxError("it has null bytes", (str(path), None, None, None))
        code = loader.source_to_code(source, str(path))
        with apart():
            exec(code, module.__dict__)
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # the user's code may raise anything, or exit
        raise InputError(f"{where} {what_went_wrong(error, path)}") from error
    finally:
        del sys.modules[_MODULE]
    return module
