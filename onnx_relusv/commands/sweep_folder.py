"""A sweep's folder: the report, and the files themselves where they are kept.

All of it is made in a hidden folder, which is gone afterwards, and renamed into place at the end.

The knee is where a curve of loss over size bends most: beyond it, bytes cost more than before.
After Satopaa, Albrecht, Irwin, Raghavan, "Finding a 'kneedle' in a haystack: detecting knee points
in system behavior" (2011), without their smoothing, for curves of few points. Both axes are
normalised to what the curve spans, and the knee is the point farthest from the chord between its
ends. What lies above the lower-left convex hull is no bend but noise, or a bad size, and is passed
over. It is a heuristic: it depends on which sizes were asked for, and knows nothing of intervals.
"""

import fnmatch
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from onnx_relusv.core.errors import UsageError
from onnx_relusv.core.sweeps import Sweep
from onnx_relusv.graph.model import data_files
from onnx_relusv.graph.writing import check_places
from onnx_relusv.report.files import make_report
from onnx_relusv.work.files import Publication, staged
from onnx_relusv.work.temporary_files import temporary_folder

MODELS = "models"
_OWN_FILES = ("*.onnx", "*.onnx.????????.data")


def check_sweep_folder(
    report: Path | None,
    *,
    keep: bool,
    force: bool,
    model: Path,
    read: Sequence[Path | None],
    cache: Path | None = None,
) -> None:
    """Checks before any work that the report, and the models, can be written.

    Args:
        report: The folder, which may not exist yet.
        keep: Whether models are kept in it.
        force: Whether existing ones may be replaced.
        model: The model, which is never replaced, nor is its external data.
        read: What else is read; None where there is nothing.
        cache: The folder of the cache.

    Raises:
        UsageError: With what to do.
    """
    if report is None:
        if keep:
            raise UsageError("--keep puts the models into the folder of --report; give one.")
        return
    check_places({}, report, models=[model], read=read, cache=cache, force=force)
    models = report / MODELS
    if not keep or not os.path.lexists(models):
        return
    if not force:
        raise UsageError(
            f"{models}: exists already; choose another folder, or replace it with --force."
        )
    inputs = [model, *data_files(model), *(path for path in read if path is not None)]
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
    make_report(found, fresh, report)
    if found.kept:
        target = report / MODELS
        if force and os.path.lexists(target):
            _check_own(target)
        os.rename(models, fresh / MODELS)
    publication = Publication(force=force)
    publication.add(fresh, report)
    publication.commit()


# A share of the normalised axes: what bends less looks straight.
LEAST_BEND = 0.05
_FEWEST = 3


def knee(sizes: Sequence[float], losses: Sequence[float]) -> int | None:
    """The place of the knee.

    Args:
        sizes: Different shares, in any order.
        losses: Finite, in any unit; they mostly rise as sizes fall.

    Returns:
        None where there are fewer than three points, or where the curve is flat or straight.
    """
    hull = _lower_left_hull(sizes, losses)
    if len(sizes) < _FEWEST or len(hull) < _FEWEST:
        return None
    x, y = (np.asarray(values, np.float64)[hull] for values in (sizes, losses))
    # Along the hull, sizes rise and losses fall: its chord goes from (0, 1) to (1, 0).
    across, up = (x - x[0]) / (x[-1] - x[0]), (y - y[-1]) / (y[0] - y[-1])
    bends = 1 - across - up
    place = int(bends.argmax())
    return hull[place] if bends[place] >= LEAST_BEND else None


def _lower_left_hull(sizes: Sequence[float], losses: Sequence[float]) -> list[int]:
    """Places on the convex hull that no other point beats in both, from the smallest size on."""
    hull: list[int] = []
    for place in np.lexsort((losses, sizes)).tolist():
        if hull and losses[place] >= losses[hull[-1]]:
            continue
        while len(hull) > 1 and _lies_above(sizes, losses, hull[-2], hull[-1], place):
            hull.pop()
        hull.append(place)
    return hull


def _lies_above(
    sizes: Sequence[float], losses: Sequence[float], first: int, middle: int, last: int
) -> bool:
    """Whether the middle one of three points lies on the line between the others, or above."""
    share = (sizes[middle] - sizes[first]) / (sizes[last] - sizes[first])
    return losses[middle] >= losses[first] + share * (losses[last] - losses[first])
