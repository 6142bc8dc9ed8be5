"""Temporary files that nobody has to clear away."""

import tempfile
from typing import IO

from onnx_relusv.errors import UsageError


def nameless_file() -> IO[bytes]:
    """A temporary file without buffers; where the system allows it, it never has a name.

    Raises:
        UsageError: There can be no temporary file.
    """
    try:
        return tempfile.TemporaryFile(prefix="onnx-relusv-", buffering=0)
    except OSError as error:
        raise UsageError(
            f"no temporary file can be made ({error.strerror}). Let TMPDIR name a folder."
        ) from error
