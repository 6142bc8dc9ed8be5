"""Whether a model's output is the same for all samples, to rounding.

Where it is, it says nothing of what the model does: a threshold among the inputs that masks
everything, a Clip or a Relu that is at its end, the largest of classes for noise.
"""

import numpy as np

from onnx_relusv.output_values import OutputValue

# Of the L2 norm of a sample's output: some float32 roundings.
_ROUNDING = 1e-6


class OutputVariation:
    """Looks at an output of one model, run by run.

    Attributes:
        found: Whether two samples so far had different outputs.
    """

    def __init__(self) -> None:
        self.found = False
        self._first: list[np.ndarray] | None = None

    def add(self, value: OutputValue, count: int) -> None:
        """Adds a run's value for `count` samples."""
        if self.found:
            return
        rows = [_rows(array, count) for array in value.arrays]
        if self._first is None:
            self._first = [np.array(each[0]) for each in rows if len(each)]
        if len(rows) != len(self._first):
            # A sequence of another length, or no row at all.
            self.found = True
            return
        self.found = any(
            _differ(each, first) for each, first in zip(rows, self._first, strict=True)
        )


def _rows(array: np.ndarray, count: int) -> np.ndarray:
    """One row a sample, or one row of all where the first axis is not that of the samples."""
    return array if array.ndim and len(array) == count else array[None]


def _differ(rows: np.ndarray, first: np.ndarray) -> bool:
    if rows.shape[1:] != first.shape:
        return True
    if rows.dtype.kind not in "fV":
        return bool((rows != first).any())
    exact, found = first.astype(np.float64), rows.astype(np.float64)
    finite = np.isfinite(exact)
    if (np.isfinite(found) != finite).any():
        return True
    exact, found = exact[finite], found[:, finite]
    gaps = np.linalg.norm(found - exact, axis=1)
    return bool((gaps > _ROUNDING * np.linalg.norm(exact)).any())
