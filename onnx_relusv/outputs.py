"""Checks before any work that everything a run will write can be written."""

import os
from collections.abc import Iterable
from pathlib import Path

from onnx_relusv.errors import UsageError


def check_output(path: Path, *, force: bool, inputs: Iterable[Path] = ()) -> None:
    """Checks that a file can be written, and that nothing is lost by it.

    Args:
        path: The file.
        force: Whether an existing one may be overwritten.
        inputs: Files that are read, which are never overwritten.

    Raises:
        UsageError: With what to do.
    """
    if any(path.exists() and path.samefile(other) for other in inputs if other.exists()):
        raise UsageError(f"{path}: the output is an input too; choose another name.")
    if path.is_dir():
        raise UsageError(f"{path}: is a folder; name a file in it.")
    if path.exists() and not force:
        raise UsageError(f"{path}: exists already; choose another name, or overwrite with --force.")
    _check_folder(path, path.parent)


def check_report_folder(folder: Path, *, force: bool) -> None:
    """Checks that a report can be written into a folder, which may not exist yet.

    Raises:
        UsageError: With what to do.
    """
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"{folder}: is a file; name a folder for the report.")
    for name in ("report.json", "report.html"):
        if (folder / name).exists() and not force:
            raise UsageError(
                f"{folder / name}: exists already; choose another folder, or overwrite with "
                "--force."
            )
    existing = folder if folder.exists() else folder.parent
    _check_folder(folder, existing)


def _check_folder(path: Path, folder: Path) -> None:
    if not folder.is_dir():
        raise UsageError(f"{path}: the folder {folder} does not exist; create it first.")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise UsageError(f"{path}: the folder {folder} is not writable.")
