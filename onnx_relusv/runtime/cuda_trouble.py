"""What keeps CUDA from working, out of what onnxruntime and the loader say of it."""

import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

# As the loaders of Linux and of Windows say it.
_MISSING = (
    re.compile(r"(?P<name>[\w.+-]+\.so[\w.]*): cannot open shared object file"),
    re.compile(r"error 126.*?(?P<name>[\w.+-]+\.dll)\"? which is missing", re.DOTALL),
)
_FAILURE = re.compile(r"CUDA failure \d+: (?P<words>.+?)\s*(?:;|$)", re.MULTILINE)
_TOO_OLD = re.compile(r"(?P<words>(?:driver|CUDA) version is insufficient[^;\n]*)")
_COLOURS = re.compile(r"\x1b\[[\d;]*m")
# Where onnxruntime says in which of its own lines something failed.
_SOURCE = re.compile(r"\S*/onnxruntime_src/\S+|\[ONNXRuntimeError\] : \d+ : [A-Z_]+ :")

GPU_INSTALL = 'pip install "onnx-relusv[gpu]"'


def cuda_trouble(text: str) -> str:
    """Why CUDA does not work, and what helps.

    Args:
        text: What was raised and written to standard error when a graph was to run on it.

    Returns:
        One line of words that follow a colon or stand in brackets.
    """
    plain = _COLOURS.sub("", text)
    for pattern in _MISSING:
        found = pattern.search(plain)
        if found:
            return (
                f"the library {found['name']} is missing; {GPU_INSTALL} brings NVIDIA's, or "
                "install CUDA and cuDNN in the versions that this onnxruntime is built for"
            )
    for pattern in (_FAILURE, _TOO_OLD):
        found = pattern.search(plain)
        if found:
            return f"{found['words']}; it takes an NVIDIA GPU and a driver that is new enough"
    lines = [" ".join(_SOURCE.sub("", line).split()) for line in plain.splitlines()]
    first = next((line for line in lines if line), "onnxruntime does not say why")
    return first[:300]


@contextmanager
def captured_errors() -> Iterator[list[str]]:
    """Takes what is written to the process's standard error, by libraries too, and not shown.

    Yields:
        A list that holds it as one text once the context is left.
    """
    found: list[str] = []
    with tempfile.TemporaryFile() as file:
        try:
            kept = os.dup(2)
        except OSError:  # there is none
            yield found
            return
        try:
            os.dup2(file.fileno(), 2)
            yield found
        finally:
            os.dup2(kept, 2)
            os.close(kept)
            file.seek(0)
            found.append(file.read().decode(errors="replace"))
