"""Writes a text file so that a reader sees the old one or the new one, never half of one."""

import os
import uuid
from pathlib import Path

from onnx_relusv.errors import UsageError


def write_text(text: str, path: Path) -> None:
    """Writes a UTF-8 file under a unique name beside the target, then renames it.

    Raises:
        UsageError: The file cannot be written there.
    """
    # Paths that are not UTF-8 reach us with lone surrogates; as \udcxx they remain readable, and
    # in JSON that is their proper escape.
    content = text.encode("utf-8", "backslashreplace")
    temporary = path.parent / f".{uuid.uuid4().hex}.tmp"
    try:
        try:
            # "x" rather than a tempfile: the file is to have the permissions the user's umask
            # gives, not those of a secret.
            with temporary.open("xb") as stream:
                stream.write(content)
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        raise UsageError(
            f"{path}: cannot be written ({error.strerror}). "
            "Choose another output or make its folder writable."
        ) from error
