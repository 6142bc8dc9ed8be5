"""A sweep's folder: the report, and the files themselves where they are kept.

All of it is made in a hidden folder, which is gone afterwards, and renamed into place at the end.
"""

import fnmatch
import os
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from onnx_relusv.errors import UsageError
from onnx_relusv.graph.writing import staged
from onnx_relusv.outputs import check_report_folder
from onnx_relusv.report.folder import write_sweep
from onnx_relusv.sweeps import Sweep

MODELS = "models"
_OWN_FILES = ("*.onnx", "*.onnx.????????.data")


def check_sweep_folder(
    report: Path | None, *, keep: bool, force: bool, inputs: Iterable[Path]
) -> None:
    """Checks before any work that the report, and the models, can be written.

    Args:
        report: The folder, which may not exist yet.
        keep: Whether models are kept in it.
        force: Whether existing ones may be replaced.
        inputs: Files that are read, which are never replaced.

    Raises:
        UsageError: With what to do.
    """
    if report is None:
        if keep:
            raise UsageError("--keep puts the models into the folder of --report; give one.")
        return
    check_report_folder(report, force=force)
    models = report / MODELS
    if not keep or not models.exists():
        return
    if not force:
        raise UsageError(
            f"{models}: exists already; choose another folder, or replace it with --force."
        )
    if any(models.resolve() in path.resolve().parents for path in inputs):
        raise UsageError(f"{models}: an input is in there; choose another folder for the report.")
    if not models.is_dir() or any(not _is_own(path) for path in models.iterdir()):
        raise UsageError(
            f"{models}: holds more than models, and is not replaced; choose another folder."
        )


def _is_own(path: Path) -> bool:
    return path.is_file() and any(fnmatch.fnmatch(path.name, one) for one in _OWN_FILES)


@contextmanager
def workplace(report: Path | None) -> Iterator[Path]:
    """A folder from which files can be renamed into the report's; gone afterwards.

    Raises:
        UsageError: No folder can be made there.
    """
    if report is None:
        with tempfile.TemporaryDirectory(prefix="onnx-relusv-") as folder:
            yield Path(folder)
        return
    # A folder that exists may be on another disk than what it is in.
    with staged(report / MODELS if report.is_dir() else report) as place:
        yield place


def publish(found: Sweep, report: Path, models: Path, place: Path) -> None:
    """Puts models and report where they belong, the report last.

    Args:
        found: The sweep.
        report: The folder.
        models: Where the models are that are kept.
        place: The folder in which all was made.

    Raises:
        UsageError: Something cannot be written; what was there before is still there.
    """
    fresh, target, replaced = place / "report", report / MODELS, place / "replaced"
    write_sweep(found, fresh)
    try:
        report.mkdir(exist_ok=True)
        if found.kept:
            if target.exists():
                os.replace(target, replaced)
            os.replace(models, target)
        for file in sorted(fresh.iterdir()):
            os.replace(file, report / file.name)
    except OSError as error:
        if found.kept and not models.exists():
            os.replace(target, models)
        if replaced.exists():
            os.replace(replaced, target)
        raise UsageError(f"{report}: cannot be written ({error.strerror}).") from error
