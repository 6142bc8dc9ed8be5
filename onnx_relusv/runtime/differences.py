"""How far the outputs of one model are from the same outputs of another.

`OutputDifference` adds that up, run by run, for one output. `OutputVariation` tells whether an
output is the same for all samples, to rounding: then it says nothing of the model's work, as behind
a threshold among the inputs that masks everything, a Clip or a Relu at its end, or for noise whose
largest class is always the same. The functions compare single tensors.
"""

from collections import Counter
from itertools import zip_longest
from typing import Any

import ml_dtypes
import numpy as np

from onnx_relusv.core.blocks import Floats
from onnx_relusv.core.measures import NotFinite, OutputChange, OutputForm, OutputKind
from onnx_relusv.runtime.outputs import OutputValue, aligned, output_value

# Of the L2 norm of a sample's output: some float32 roundings.
_ROUNDING = 1e-6


class OutputVariation:
    """Whether an output of a model varies, run by run.

    Attributes:
        varies: Whether two samples so far had different outputs.
    """

    def __init__(self) -> None:
        self.varies = False
        self._first: list[np.ndarray] | None = None

    def add(self, value: OutputValue, count: int) -> None:
        """Adds a run's value for `count` samples."""
        if self.varies:
            return
        rows = [_rows(array, count) for array in value.arrays]
        if self._first is None:
            self._first = [np.array(each[0]) for each in rows if len(each)]
        # A sequence of another length, or no row at all, is a difference too.
        self.varies = len(rows) != len(self._first) or any(map(_differ, rows, self._first))


def _rows(array: np.ndarray, count: int) -> np.ndarray:
    """One row a sample, or one row of all where the first axis is not that of the samples."""
    return array if array.ndim and len(array) == count else array[None]


def _differ(rows: np.ndarray, first: np.ndarray) -> bool:
    if rows.shape[1:] != first.shape:
        return True
    if rows.dtype.kind not in "fV":
        return bool((rows != first).any())
    exact, others = first.astype(np.float64), rows.astype(np.float64)
    finite = np.isfinite(exact)
    if (np.isfinite(others) != finite).any():
        return True
    gaps = np.linalg.norm(others[:, finite] - exact[finite], axis=1)
    return bool((gaps > _ROUNDING * np.linalg.norm(exact[finite])).any())


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
        self._other_shape += [a.shape for a in first.arrays] != [a.shape for a in second.arrays]
        for exact, changed in zip_longest(first.arrays, second.arrays):
            present = exact if exact is not None else changed
            nothing = np.zeros(0, present.dtype)
            self._add(
                _kind(present),
                nothing if exact is None else exact,
                nothing if changed is None else changed,
            )

    def _add(self, kind: OutputKind, first: np.ndarray, second: np.ndarray) -> None:
        """Adds a run's arrays; an array that only one model gave is compared with an empty one."""
        numbers = kind == "values"
        if self._list_axis is not None and kind in ("labels", "values"):
            kind = "list"
        self._kind = kind if self._kind == "nothing" else self._kind
        if kind == "list" and numbers:
            # Where one has a row more, all that follow are out of step, and only counts tell.
            axis = self._list_axis or 0
            lengths = [each.shape[axis] if each.ndim else 0 for each in (first, second)]
            self._equal += min(lengths)
            self._rows_seen += max(lengths)
            if first.shape == second.shape:
                self._add_numbers(first, second)
        elif numbers and _kind(second) == "values":
            self._add_numbers(first, second)
        elif kind == "list":
            rows, others = self._rows(first), self._rows(second)
            self._equal += (rows & others).total()
            self._rows_seen += (rows | others).total()
        else:
            first, second, overlap = in_one_shape(first, second)
            self._equal += int(np.sum((first == second) & overlap))
            self._rows_seen += first.size

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
        """The change so far.

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
            varies=self._variation.varies,
        )

    def _rows(self, values: np.ndarray) -> Counter[bytes]:
        """The rows of a list, and how often each is in it."""
        axis = self._list_axis or 0
        flat = values.ndim <= axis
        rows = values.reshape(-1) if flat else np.moveaxis(values, axis, 0)
        return Counter(row.tobytes() for row in rows)

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
    # Whole numbers of 8 and 16 bits are pictures and quantised numbers; classes and indices have 32
    # or 64.
    if values.dtype.kind == "b" or (values.dtype.kind in "iu" and values.dtype.itemsize >= 4):
        return "labels"
    return "values"


def in_one_shape(first: np.ndarray, second: np.ndarray) -> tuple[np.ndarray, np.ndarray, Floats]:
    """Both in the larger shape of the two, padded with zeros; and where both have entries."""
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
    # An infinity of the other sign is no difference here.
    gap, norm = _finite_gap(value, exact), norm_of(exact)
    return gap / norm if norm > 0 else gap


def gap_between(value: np.ndarray, exact: np.ndarray) -> float:
    """L2 of the difference of two float tensors; infinite where a NaN or a shape differs."""
    if value.shape != exact.shape:
        return float("inf")
    a, b = value.astype(np.float64), exact.astype(np.float64)
    same = np.array_equal(a[~np.isfinite(a)], b[~np.isfinite(b)], equal_nan=True)
    return _finite_gap(a, b) if same else float("inf")


def _finite_gap(value: np.ndarray, exact: np.ndarray) -> float:
    """L2 of the difference of the finite entries; infinite where others are finite in each."""
    a, b = value.astype(np.float64, copy=False), exact.astype(np.float64, copy=False)
    finite = np.isfinite(b)
    if not np.array_equal(finite, np.isfinite(a)):
        return float("inf")
    return float(np.linalg.norm(a[finite] - b[finite]))


def norm_of(value: np.ndarray) -> float:
    """L2 of the finite entries of a float tensor."""
    exact = value.astype(np.float64)
    return float(np.linalg.norm(exact[np.isfinite(exact)]))


def change_of(value: np.ndarray, exact: np.ndarray) -> float:
    """L2 of the difference over L2 of the exact value, entries of only one compared with zero."""
    first, second, _ = in_one_shape(value, exact)
    return relative_error(first, second)


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


def same_answers(first: Any, second: Any, roundings: float = 0.0) -> bool:
    """Whether two values of an output, of whatever kind, are the same.

    Args:
        first: As onnxruntime gives it.
        second: Likewise.
        roundings: How many roundings arrays of floats may be apart, in the L2 norm; bit by bit the
            same if 0.
    """
    one, other = output_value(first), output_value(second)
    if (one.form, one.keys, len(one.arrays)) != (other.form, other.keys, len(other.arrays)):
        return False
    return all(
        identical(left, right) or _is_near(left, right, roundings)
        for left, right in zip(one.arrays, other.arrays, strict=True)
    )


def _is_near(first: np.ndarray, second: np.ndarray, roundings: float) -> bool:
    if not roundings or first.dtype.kind not in "fV" or first.shape != second.shape:
        return False
    return gap_between(first, second) <= roundings * rounding_of(first) * (norm_of(second) or 1.0)
