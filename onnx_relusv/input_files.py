"""Files that are read: looked at before they are opened, for what is no file may never end."""

import os
import stat
from pathlib import Path

from onnx_relusv.errors import InputError

_KINDS = (
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a named pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)


def check_readable(path: Path, what: str = "", *, folder: str | None = None) -> None:
    """Checks that a path leads to a file that can be read, which may be a link to one.

    Pipes and devices are refused, those of a shell's `<(...)` too: files are read several times,
    from any place, and opening a pipe that nobody writes to never ends.

    Args:
        path: The file.
        what: Stands in front of the path in messages, such as an option's name.
        folder: What to do where it is a folder; None where that is to be a file like any other.

    Raises:
        InputError: It is missing, is no regular file, or may not be read.
    """
    name = f"{what} {path}" if what else str(path)
    try:
        mode = path.stat().st_mode
    except FileNotFoundError as error:
        raise InputError(f"{name}: there is no such file. Check the path.") from error
    except (OSError, ValueError) as error:  # a part of it is no folder, or no path looks so
        raise InputError(f"{name}: cannot be read ({reason_of(error)}). Check the path.") from error
    if stat.S_ISDIR(mode) and folder is not None:
        raise InputError(f"{name}: this is a folder. {folder}")
    for is_kind, kind in _KINDS:
        if is_kind(mode):
            raise InputError(
                f"{name}: this is {kind}, not a file. Write what it holds to a file, and give that."
            )
    if not os.access(path, os.R_OK):
        raise InputError(f"{name}: cannot be read (Permission denied). Check its permissions.")


def reason_of(error: Exception) -> str:
    """What an error of the operating system says, without numbers and paths."""
    return (isinstance(error, OSError) and error.strerror) or str(error) or type(error).__name__
