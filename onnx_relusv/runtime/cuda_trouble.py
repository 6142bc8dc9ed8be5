"""Why CUDA does not work, read off the messages of onnxruntime and of the loader."""

import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

# Messages of the loaders of Linux and of Windows.
_MISSING = (
    re.compile(r"(?P<name>[\w.+-]+\.so[\w.]*): cannot open shared object file"),
    re.compile(r"error 126.*?(?P<name>[\w.+-]+\.dll)\"? which is missing", re.DOTALL),
)
_FAILURE = re.compile(r"CUDA failure \d+: (?P<words>.+?)\s*(?:;|$)", re.MULTILINE)
_TOO_OLD = re.compile(r"(?P<words>(?:driver|CUDA) version is insufficient[^;\n]*)")
_COLOURS = re.compile(r"\x1b\[[\d;]*m")
# A place in onnxruntime's source.
_SOURCE = re.compile(r"\S*/onnxruntime_src/\S+|\[ONNXRuntimeError\] : \d+ : [A-Z_]+ :")

GPU_INSTALL = 'pip install "onnx-relusv[gpu]"'


def cuda_trouble(text: str) -> str:
    """Why CUDA does not work, and what helps.

    Args:
        text: Everything that was raised and written to standard error when a graph was to run.

    Returns:
        One line, to follow a colon or to stand in brackets.
    """
    plain = _COLOURS.sub("", text)
    for pattern in _MISSING:
        match = pattern.search(plain)
        if match:
            return (
                f"the library {match['name']} is missing; {GPU_INSTALL} brings NVIDIA's, or "
                "install CUDA and cuDNN in the versions that this onnxruntime is built for"
            )
    for pattern in (_FAILURE, _TOO_OLD):
        match = pattern.search(plain)
        if match:
            return f"{match['words']}; it takes an NVIDIA GPU and a driver that is new enough"
    lines = [" ".join(_SOURCE.sub("", line).split()) for line in plain.splitlines()]
    first = next((line for line in lines if line), "onnxruntime does not say why")
    return first[:300]


@contextmanager
def captured_errors() -> Iterator[list[str]]:
    """Captures the process's standard error, that of libraries too, which is then not shown.

    Yields:
        A list that holds it as one text once the context is left.
    """
    written: list[str] = []
    with tempfile.TemporaryFile() as file:
        try:
            kept = os.dup(2)
        except OSError:  # there is no standard error
            yield written
            return
        try:
            os.dup2(file.fileno(), 2)
            yield written
        finally:
            os.dup2(kept, 2)
            os.close(kept)
            file.seek(0)
            written.append(file.read().decode(errors="replace"))
