"""Adds up, run by run, how far an output of one model is from the same output of another."""

from collections import Counter
from itertools import zip_longest

import numpy as np

from onnx_relusv.output_change import NotFinite, OutputChange, OutputForm, OutputKind
from onnx_relusv.output_values import OutputValue, aligned
from onnx_relusv.output_variation import OutputVariation
from onnx_relusv.records import Floats


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
