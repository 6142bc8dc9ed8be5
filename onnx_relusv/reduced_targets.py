"""What a block of which channels are gone is fitted to: parts of what the whole one sees."""

from dataclasses import replace

import numpy as np

from onnx_relusv.decisions import Kept
from onnx_relusv.records import Geometry
from onnx_relusv.reduction import kept_columns, kept_rows
from onnx_relusv.spectra.target_moments import TargetMoments
from onnx_relusv.spectra.target_rows import Rows


def reduced_targets(geometry: Geometry, means: TargetMoments, kept: Kept | None) -> TargetMoments:
    """The moments of the kept inputs, and of the targets of the kept outputs.

    Args:
        geometry: The whole block's.
        means: Its moments.
        kept: What is left.
    """
    if kept is None:
        return means
    columns, rows = kept_columns(geometry, kept), kept_rows(geometry, kept)
    return TargetMoments(
        second=means.second[:, columns[:, None], columns],
        cross=np.take_along_axis(means.cross, rows[:, :, None], axis=1)[:, :, columns],
        mean=means.mean[:, columns],
        target=np.take_along_axis(means.target, rows, axis=1),
        rows=means.rows,
    )


def reduced_rows(geometry: Geometry, rows: Rows, kept: Kept | None) -> Rows:
    """The kept inputs of patches, with the targets of the kept outputs; arguments likewise."""
    if kept is None:
        return rows
    places = kept_rows(geometry, kept)[:, None, :]
    shift = None if rows.shift is None else np.take_along_axis(rows.shift, places, axis=2)
    return replace(
        rows,
        z=rows.z[:, :, kept_columns(geometry, kept)],
        target=np.take_along_axis(rows.target, places, axis=2),
        shift=shift,
    )
