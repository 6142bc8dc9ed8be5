"""A sweep's folder: the report, and the files themselves where they are kept.

All of it is made in a hidden folder, which is gone afterwards, and renamed into place at the end.
"""

import fnmatch
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from onnx_relusv.errors import UsageError
from onnx_relusv.outputs import check_outputs
from onnx_relusv.publishing import Publication, staged
from onnx_relusv.report.folder import make_sweep
from onnx_relusv.sweeps import Sweep
from onnx_relusv.temporary_files import temporary_folder

MODELS = "models"
_OWN_FILES = ("*.onnx", "*.onnx.????????.data")


def check_sweep_folder(
    report: Path | None,
    *,
    keep: bool,
    force: bool,
    inputs: Iterable[Path],
    cache: Path | None = None,
) -> None:
    """Checks before any work that the report, and the models, can be written.

    Args:
        report: The folder, which may not exist yet.
        keep: Whether models are kept in it.
        force: Whether existing ones may be replaced.
        inputs: Files that are read, which are never replaced.
        cache: The folder of the cache.

    Raises:
        UsageError: With what to do.
    """
    inputs = list(inputs)
    if report is None:
        if keep:
            raise UsageError("--keep puts the models into the folder of --report; give one.")
        return
    check_outputs({}, report, force=force, inputs=inputs, cache=cache)
    models = report / MODELS
    if not keep or not os.path.lexists(models):
        return
    if not force:
        raise UsageError(
            f"{models}: exists already; choose another folder, or replace it with --force."
        )
    if any(models.resolve() in path.resolve().parents for path in inputs):
        raise UsageError(f"{models}: an input is in there; choose another folder for the report.")
    _check_own(models)


def _check_own(models: Path) -> None:
    """Checks that a folder that is to be replaced holds models alone."""
    if models.is_symlink() or not models.is_dir() or not all(map(_is_own, models.iterdir())):
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
    # In the report's folder where that is there, as may be the models' place.
    with temporary_folder() if report is None else staged(report) as place:
        yield place


def publish(found: Sweep, report: Path, models: Path, place: Path, *, force: bool) -> None:
    """Puts models and report where they belong, all or none.

    Args:
        found: The sweep.
        report: The folder.
        models: Where the models are that are kept.
        place: The folder in which all was made.
        force: Whether those of an earlier sweep may be replaced.

    Raises:
        UsageError: Something cannot be written, or may not be replaced; what was there before is
            still there.
    """
    fresh = place / "report"
    make_sweep(found, fresh, report)
    if found.kept:
        target = report / MODELS
        if force and os.path.lexists(target):
            _check_own(target)
        os.rename(models, fresh / MODELS)
    publication = Publication(force=force)
    publication.add(fresh, report)
    publication.commit()
