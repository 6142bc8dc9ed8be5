"""Adds up, run by run, how far an output of one model is from the same output of another.

Whether a model's output is the same for all samples, to rounding.

Where it is, it says nothing of what the model does: a threshold among the inputs that masks
everything, a Clip or a Relu that is at its end, the largest of classes for noise.

How far one output is from another, and what rounding explains.
"""

from collections import Counter
from itertools import zip_longest

import ml_dtypes
import numpy as np

from onnx_relusv.core.blocks import Floats
from onnx_relusv.core.outcomes import NotFinite, OutputChange, OutputForm, OutputKind
from onnx_relusv.runtime.outputs import OutputValue, aligned

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


class OutputDifference:
    """Running sums over runs for one output.

    Args:
        name: The output's.
        list_axis: The axis whose length depends on values, so that what lies along it is there or
            not; None where all lengths are those of the inputs.
    """

    def __init__(self, name: str, list_axis: int | None = None) -> None:
        self._name = name
        self._list_axis = list_axis
        self._form: OutputForm = "nothing"
        self._kind: OutputKind = "nothing"
        self._runs = self._other_shape = 0
        self._gap = self._norm = self._absolute = self._largest = 0.0
        self._compared = self._rows_seen = self._entries = self._equal = self._mismatched = 0
        self._before, self._after = np.zeros(2, int), np.zeros(2, int)
        self._variation = OutputVariation()

    def add(self, first: OutputValue, second: OutputValue, count: int) -> None:
        """Adds a run's values of both models for `count` samples."""
        self._runs += 1
        self._variation.add(first, count)
        if self._form == "nothing":
            self._form = first.form if first.form != "nothing" else second.form
        first, second = aligned(first, second)
        self._other_shape += [one.shape for one in first.arrays] != [
            one.shape for one in second.arrays
        ]
        for one, other in zip_longest(first.arrays, second.arrays):
            self._add(one, other)

    def _add(self, first: np.ndarray | None, second: np.ndarray | None) -> None:
        known = first if first is not None else second
        assert known is not None  # one of the two is longer
        kind = _kind(known)
        numbers = kind == "values"
        if self._list_axis is not None and kind in ("labels", "values"):
            kind = "list"
        self._kind = kind if self._kind == "nothing" else self._kind
        nothing = np.zeros(0, known.dtype)
        one, other = (nothing if each is None else each for each in (first, second))
        if kind == "list" and numbers:
            # Where one has a row more, all that follow are out of step, and only counts tell.
            lengths = [
                each.shape[self._list_axis or 0] if each.ndim else 0 for each in (one, other)
            ]
            self._equal, self._rows_seen = (
                self._equal + min(lengths),
                self._rows_seen + max(lengths),
            )
            if one.shape == other.shape:
                self._add_numbers(one, other)
        elif numbers and _kind(other) == "values":
            self._add_numbers(one, other)
        elif kind == "list":
            rows, others = (self._rows(each) for each in (one, other))
            self._equal += (rows & others).total()
            self._rows_seen += (rows | others).total()
        else:
            one, other, overlap = in_one_shape(one, other)
            self._equal += int(np.sum((one == other) & overlap))
            self._rows_seen += one.size

    # What is not finite is counted; numbers of float64 whose squares overflow give no figure.
    @np.errstate(invalid="ignore", over="ignore")
    def _add_numbers(self, first: np.ndarray, second: np.ndarray) -> None:
        exact, changed, _ = in_one_shape(
            np.asarray(first, np.float64), np.asarray(second, np.float64)
        )
        self._entries += exact.size
        for counts, values in ((self._before, exact), (self._after, changed)):
            counts += [int(np.isnan(values).sum()), int(np.isinf(values).sum())]
        finite = np.isfinite(exact) & np.isfinite(changed)
        same = (exact == changed) | (np.isnan(exact) & np.isnan(changed))
        self._mismatched += int(np.sum(~finite & ~same))
        gap: Floats = np.abs(changed[finite] - exact[finite])
        self._compared += gap.size + int(np.sum(~finite & (exact == changed)))
        self._gap += float(np.sum(gap**2))
        self._norm += float(np.sum(exact[finite] ** 2))
        self._absolute += float(np.sum(gap))
        self._largest = max(self._largest, float(gap.max(initial=0.0)))

    def change(self, *, top_1: float | None = None) -> OutputChange:
        """What was found so far.

        Args:
            top_1: The share of samples with the same top-1 where the output holds class scores.
        """
        numbers = self._kind == "values"
        agreement = top_1
        if not numbers and self._kind != "nothing":
            agreement = self._equal / self._rows_seen if self._rows_seen else 1.0
        return OutputChange(
            name=self._name,
            kind="scores" if top_1 is not None and numbers else self._kind,
            form=self._form,
            agreement=agreement,
            relative=self._figure(self._relative),
            mean=self._figure(self._absolute / max(self._compared, 1)),
            largest=self._figure(self._largest),
            entries=self._entries or self._rows_seen,
            before=NotFinite(nan=int(self._before[0]), infinite=int(self._before[1])),
            after=NotFinite(nan=int(self._after[0]), infinite=int(self._after[1])),
            mismatched=self._mismatched,
            runs=self._runs,
            other_shape=self._other_shape,
            varies=self._variation.found,
        )

    def _length(self, values: np.ndarray) -> int:
        axis = self._list_axis or 0
        return values.shape[axis] if values.ndim > axis else values.size

    def _rows(self, values: np.ndarray) -> Counter[bytes]:
        """What lies in a list, by what lies at each of its places."""
        axis = self._list_axis or 0
        if values.ndim <= axis:
            return Counter(one.tobytes() for one in values.reshape(-1))
        return Counter(one.tobytes() for one in np.moveaxis(values, axis, 0))

    def _figure(self, value: float) -> float | None:
        """NaN where nothing could be compared, None where numbers are not."""
        if self._kind not in ("values", "list") or (self._kind == "list" and not self._entries):
            return None
        return value if self._compared or not self._entries else float("nan")

    @property
    def _relative(self) -> float:
        if not (np.isfinite(self._norm) and np.isfinite(self._gap)):
            return float("nan")
        if self._norm == 0:
            return 0.0 if self._gap == 0 else float("inf")
        return float(np.sqrt(self._gap / self._norm))


def _kind(values: np.ndarray) -> OutputKind:
    if values.dtype.kind in "OUST":
        return "text"
    # Whole numbers of 8 and 16 bits are pictures and quantised numbers; classes and places have 32
    # or 64.
    if values.dtype.kind == "b" or (values.dtype.kind in "iu" and values.dtype.itemsize >= 4):
        return "labels"
    return "values"


def in_one_shape(first: np.ndarray, second: np.ndarray) -> tuple[np.ndarray, np.ndarray, Floats]:
    """Both with the larger shape of the two, zero where one has nothing; and where both have."""
    if first.shape == second.shape:
        return first, second, np.ones(first.shape, bool)
    if first.ndim != second.ndim:
        first, second = first.reshape(-1), second.reshape(-1)
    shape = tuple(max(pair) for pair in zip(first.shape, second.shape, strict=True))
    both = tuple(slice(min(pair)) for pair in zip(first.shape, second.shape, strict=True))
    overlap = np.zeros(shape, bool)
    overlap[both] = True
    return _padded(first, shape), _padded(second, shape), overlap


def _padded(values: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    padded = np.zeros(shape, values.dtype)
    padded[tuple(slice(length) for length in values.shape)] = values
    return padded


def relative_error(value: np.ndarray, exact: np.ndarray) -> float:
    """L2 of the difference over L2 of the exact value; infinite where a NaN or a shape differs."""
    if value.shape != exact.shape:
        return float("inf")
    if exact.dtype.kind in "biu":
        return 0.0 if np.array_equal(value, exact) else float(np.mean(value != exact))
    a, b = value.astype(np.float64), exact.astype(np.float64)
    known = np.isfinite(b)
    if not np.array_equal(known, np.isfinite(a)):
        return float("inf")
    gap, norm = np.linalg.norm(a[known] - b[known]), np.linalg.norm(b[known])
    return float(gap / norm) if norm > 0 else float(gap)


def gap_between(value: np.ndarray, exact: np.ndarray) -> float:
    """L2 of the difference of two float tensors; infinite where a NaN or a shape is another one."""
    if value.shape != exact.shape:
        return float("inf")
    a, b = value.astype(np.float64), exact.astype(np.float64)
    known = np.isfinite(b)
    if not np.array_equal(known, np.isfinite(a)) or not np.array_equal(
        a[~known], b[~known], equal_nan=True
    ):
        return float("inf")
    return float(np.linalg.norm(a[known] - b[known]))


def norm_of(value: np.ndarray) -> float:
    """L2 of the finite entries of a float tensor."""
    exact = value.astype(np.float64)
    return float(np.linalg.norm(exact[np.isfinite(exact)]))


def change_of(value: np.ndarray, exact: np.ndarray) -> float:
    """L2 of the difference over L2 of the exact value, what only one has compared with zero."""
    one, other, _ = in_one_shape(value, exact)
    return relative_error(one, other)


def identical(first: np.ndarray, second: np.ndarray) -> bool:
    """Whether two arrays agree bit by bit; text, letter by letter."""
    if first.dtype.hasobject or second.dtype.hasobject:
        return first.shape == second.shape and bool(np.array_equal(first, second))
    return first.shape == second.shape and first.tobytes() == second.tobytes()


def rounding_of(value: np.ndarray) -> float:
    """One rounding of a tensor's own type, relative."""
    return epsilon(value.dtype) if value.dtype.kind not in "biu" else 1e-3


def epsilon(dtype: np.dtype[np.generic]) -> float:
    """The distance from 1 to the next larger number of a type."""
    return float(ml_dtypes.finfo(dtype).eps)  # type: ignore[no-untyped-call]
