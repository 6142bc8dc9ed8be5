"""Reads a metric from a Python file, whose code is run for that."""

import sys
from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_loader
from pathlib import Path
from types import ModuleType

from onnx_relusv.core.arguments import as_path
from onnx_relusv.core.errors import InputError, UsageError
from onnx_relusv.core.metric import Metric, apart, what_went_wrong
from onnx_relusv.work.files import check_readable

# Not the name of any importable module.
_MODULE = "_onnx_relusv_metric"


def load_metric(text: str) -> Metric:
    """Reads a metric.

    The file is run as a module under a unique name, which is removed afterwards. No bytecode is
    written beside it, and none is read: it would hide an edit.

    Args:
        text: ``FILE.py:function``.

    Raises:
        UsageError: The text is of another form.
        InputError: There is no such file, its code fails, or it has no such function.
    """
    file, colon, function = text.rpartition(":")
    if not colon or not file or not function.isidentifier():
        raise UsageError(f"--metric {text!r}: write FILE.py:function.")
    path = as_path("--metric", file)
    name = f"{path.name}:{function}"
    check_readable(path, f"--metric {name}:", folder="Name the file in it.")
    try:
        metric = getattr(_module(path, name), function, None)
    except InputError:
        raise
    except Exception as error:  # a module may look its names up itself
        raise InputError(f"--metric {name}: {what_went_wrong(error, path)}") from error
    if metric is None:
        raise InputError(f"--metric {name}: {path} has no {function}. Define it there.")
    if not callable(metric):
        raise InputError(
            f"--metric {name}: {function} in {path} is {type(metric).__name__}, not a function."
        )
    return Metric(name, metric, path)


def _module(path: Path, name: str) -> ModuleType:
    loader = SourceFileLoader(_MODULE, str(path))
    spec = spec_from_loader(_MODULE, loader)
    if spec is None:
        raise InputError(f"--metric {name}: {path} cannot be loaded as Python.")
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
        raise InputError(f"--metric {name}: {what_went_wrong(error, path)}") from error
    finally:
        del sys.modules[_MODULE]
    return module
