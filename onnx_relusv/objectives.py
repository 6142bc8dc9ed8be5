"""What a refinement descends, and how much of it is rounding."""

from collections.abc import Iterator, Mapping
from typing import NamedTuple, Protocol

import numpy as np

from onnx_relusv import forms
from onnx_relusv.decisions import Factors
from onnx_relusv.records import Activation, Floats, Geometry
from onnx_relusv.runtime.session import Session
from onnx_relusv.spectra.target_rows import Rows

ROWS_A_STEP = 1024
# Beside what an error of float32 makes of targets. Of less than this there is nothing to refine.
ROUNDINGS = 8 * float(np.finfo(np.float32).eps)


class Slopes(NamedTuple):
    """Derivatives of an objective's mean, or half of them where it is a square.

    Attributes:
        map: (groups, rows, columns) float32, with respect to the composed kernel.
        bias: (out,) float64.
        others: With respect to what else is moved, float64.
    """

    map: np.ndarray
    bias: Floats
    others: tuple[Floats, ...]


class Objective(Protocol):
    """How far factors are from what is wanted, over rows.

    Beside the factors, other numbers may be moved that the block itself does not have; they begin
    with `others`, and what comes of them is nobody's.
    """

    @property
    def geometry(self) -> Geometry:
        """Of what is left of the block."""
        ...

    def others(self, start: Factors, rows: Rows, selecting: Rows) -> tuple[Floats, ...]:
        """What else is moved, to begin with: found on rows, chosen on others."""
        ...

    def value(self, factors: Factors, rows: Rows, others: tuple[Floats, ...] = ()) -> float:
        """The mean over rows."""
        ...

    def slopes(
        self, factors: Factors, rows: Rows, chosen: slice, others: tuple[Floats, ...] = ()
    ) -> Slopes:
        """The derivatives of the mean over some rows."""
        ...

    def rounding(self, rows: Rows) -> float:
        """A value that rounding alone can make."""
        ...

    def settled(self, factors: Factors, rows: Rows) -> Factors:
        """Refined factors with what the objective does not see put right."""
        ...


def steps_over(rows: Rows) -> Iterator[slice]:
    """All rows, as many at a time as a step takes."""
    for start in range(0, rows.count, ROWS_A_STEP):
        yield slice(start, start + ROWS_A_STEP)


def map_feeds(geometry: Geometry, factors: Factors, rows: Rows, chosen: slice) -> dict[str, Floats]:
    """The inputs of a kernel that every objective has: some rows, and the composed map."""
    singles = [matrix.astype(np.float32) for matrix in factors.matrices]
    return {
        "z": rows.z[:, chosen],
        "target": rows.target[:, chosen],
        "map": forms.compose(factors.form, geometry, *singles),
        "bias": factors.bias.reshape(geometry.groups, 1, geometry.rows),
    }


def slopes_feed(activation: Activation, geometry: Geometry) -> Floats:
    """The activation's slopes for negative arguments, (groups, 1, rows)."""
    slopes = np.broadcast_to(activation.slopes, (geometry.out_channels,))
    return slopes.reshape(geometry.groups, 1, geometry.rows)


def run(kernel: Session, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Runs a kernel in float32."""
    ready = {name: np.ascontiguousarray(each, np.float32) for name, each in feeds.items()}
    return kernel.run(ready)
