"""Samples: inputs that a model is measured, fitted and compared on, and their labels.

    .npz    keys are the model's input names, first axis the samples; optionally `labels`, and
            `groups`, one whole number a sample: samples of the same photograph, recording or
            patient have the same one, and stay together where samples are split.
    .npy    for a model with one input.
    folder  of ONNX test data sets, `test_data_set_*/input_*.pb`, one behind the other.

They are read in batches; an .npz or .npy is never in memory as a whole. What else samples may be
given as, arrays and feeds from Python, is in `samples/sources`.
"""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import prod
from pathlib import Path

import numpy as np

from onnx_relusv.core.blocks import InputSpec
from onnx_relusv.core.errors import InputError
from onnx_relusv.samples.files import GROUPS, LABELS, MOST_SAMPLES, Column, reading
from onnx_relusv.samples.sources import SampleFiles, SampleSource, check_there

_CHUNK = 1 << 20
_LARGEST_LABELS = 2 << 30


@dataclass(frozen=True)
class Batch:
    """One run's worth of samples.

    Attributes:
        feeds: By input name, in the model's types; padded where the model's batch is fixed.
        count: How many of the samples are real; the rest repeat the last one.
        start: Index of the first one.
        size: Samples in the feeds, padding included.
        stacked: Whether the model takes one sample at a time and these are the feeds of `count`
            runs, stacked along a further axis in front.
    """

    feeds: dict[str, np.ndarray]
    count: int
    start: int
    size: int
    stacked: bool = False


@dataclass(frozen=True, eq=False, kw_only=True)
class Samples:
    """Samples that fit a model's inputs; made by `open_samples`.

    Attributes:
        source: Where they come from.
        sha256: Of all names, types and values, whatever they are given as.
        inputs: The model's inputs.
        columns: By input name, all values in the file.
        positions: (count,) the numbers that these samples have in the file, from 0 on, increasing.
        labels: (count, ...), or None.
        groups: (count,) int64, or None.
        alike: Whether all tensors of the model have the same shapes for every sample, and samples
            along the first axis where it takes several: then what it makes of one sample at a time
            can be put together.

    Raises:
        InputError: The inputs' batch axes have different fixed lengths.
    """

    source: SampleSource
    sha256: str
    inputs: Sequence[InputSpec]
    columns: Mapping[str, Column]
    positions: np.ndarray
    labels: np.ndarray | None
    groups: np.ndarray | None
    alike: bool = False
    fixed_batch: int | None = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "fixed_batch", fixed_batch(self.inputs))

    @property
    def name(self) -> str:
        """What messages call them."""
        return self.source.name

    @property
    def count(self) -> int:
        """How many samples these are."""
        return len(self.positions)

    @property
    def total(self) -> int:
        """How many the file holds, of which these may be a part."""
        return int(next(iter(self.columns.values())).shape[0])

    def part(self, places: np.ndarray) -> "Samples":
        """Some of the samples; places among these, increasing, at least one."""
        return replace(
            self,
            positions=self.positions[places],
            labels=None if self.labels is None else self.labels[places],
            groups=None if self.groups is None else self.groups[places],
        )

    @property
    def independent(self) -> int:
        """How many do not depend on each other: groups, where there are some."""
        return self.count if self.groups is None else len(np.unique(self.groups))

    @property
    def stacks(self) -> bool:
        """Whether samples run one at a time, and what comes of several can be put together."""
        return self.alike and self.fixed_batch == 1

    def batch_size(self, length: int, *, stacked: bool = False) -> int:
        """The model's own batch where that is fixed, otherwise `length`, or all samples.

        Args:
            length: Of a batch, at most.
            stacked: As of `batches`.
        """
        fixed = None if stacked and self.stacks else self.fixed_batch
        return fixed or min(length, self.count)

    def batches(
        self, length: int, limit: int | None = None, *, stacked: bool = False
    ) -> Iterator[Batch]:
        """All samples, or the first `limit` of them, in batches of at most `length`.

        Args:
            length: Of a batch, at most.
            limit: How many samples, or all.
            stacked: Whether samples that run one at a time come as stacks of so many runs, where
                what comes of them can be put together; `runtime/stacks` runs these.

        Raises:
            InputError: The file is damaged, or a value is NaN, infinite or out of range.
        """
        stacking = stacked and self.stacks
        size = self.batch_size(length, stacked=stacked)
        start, end = 0, self.count if limit is None else min(limit, self.count)
        readers = {
            name: _picked(column.rows(size), self.positions, size)
            for name, column in self.columns.items()
        }
        padded = 0 if stacking else self.fixed_batch or 0
        while start < end:
            with reading(self.name):
                pieces = {name: next(reader) for name, reader in readers.items()}
            count = min(end - start, len(next(iter(pieces.values()))))
            checked = {
                name: self._checked(name, piece[:count], start) for name, piece in pieces.items()
            }
            feeds = {
                name: self._stack(name, rows) if stacking else self._ready(name, rows)
                for name, rows in checked.items()
            }
            yield Batch(feeds, count, start, max(count, padded), stacking)
            start += count

    def first(self) -> dict[str, np.ndarray]:
        """The feeds of the first sample, or of the first batch where its size is fixed."""
        return next(iter(self.batches(1, limit=1))).feeds

    def rows(self, batch: Batch) -> dict[str, np.ndarray]:
        """The feeds of one of these samples' batches, samples along axis 0, without padding."""
        rows = {}
        for name, values in batch.feeds.items():
            axis = self._input(name).samples_axis
            if batch.stacked:
                moved = values if axis is None else values.squeeze(axis + 1)
            else:
                moved = values[None] if axis is None else np.moveaxis(values, axis, 0)
            rows[name] = moved[: batch.count]
        return rows

    def _input(self, name: str) -> InputSpec:
        return next(spec for spec in self.inputs if spec.name == name)

    def _checked(self, name: str, values: np.ndarray, start: int) -> np.ndarray:
        """Samples of an input in the model's type, samples along the first axis."""
        spec = self._input(name)
        first, last = self.positions[[start, start + len(values) - 1]]
        where = f"the samples from {first} to {last}"
        # Overflow gives infinities, which are refused; so are NaN and numbers that were changed.
        with np.errstate(over="ignore", invalid="ignore"):
            ready = np.ascontiguousarray(values, dtype=spec.dtype)
        if spec.dtype.kind not in "biuO" and not np.isfinite(ready).all():
            raise InputError(self._not_finite(name, values, ready, start))
        if spec.dtype.kind in "biu" and not np.array_equal(ready, values):
            raise InputError(
                f"{self.name}: input {name} has numbers in {where} that do not become the model's "
                f"{spec.dtype} without loss."
            )
        return ready

    def _ready(self, name: str, rows: np.ndarray) -> np.ndarray:
        """Samples as the model takes them in one run."""
        spec = self._input(name)
        if spec.samples_axis is None:
            return np.array(rows[0], spec.dtype)
        missing = (self.fixed_batch or 0) - len(rows)
        if missing > 0:
            rows = np.concatenate([rows, np.repeat(rows[-1:], missing, 0)])
        if not spec.samples_axis:
            return rows
        return np.ascontiguousarray(np.moveaxis(rows, 0, spec.samples_axis))

    def _stack(self, name: str, rows: np.ndarray) -> np.ndarray:
        """Samples as the model takes them one at a time, along a further axis in front."""
        axis = self._input(name).samples_axis
        return rows if axis is None else np.expand_dims(rows, axis + 1)

    def _not_finite(self, name: str, values: np.ndarray, ready: np.ndarray, start: int) -> str:
        """That a batch of an input, as it is in the file and in the model's type, is not finite."""
        each = np.isfinite(ready.reshape(len(ready), -1)).all(axis=1)
        place = int(np.argmin(each))
        where = f"{self.name}: input {name}, sample {self.positions[start + place]},"
        with np.errstate(over="ignore", invalid="ignore"):
            stored = np.asarray(values[place], np.float64)
        if np.isfinite(stored).all():
            return (
                f"{where} holds numbers up to {np.abs(stored).max():.2g}, which are infinite in "
                f"the model's {ready.dtype}. Scale them as the model expects, or leave the "
                "sample out."
            )
        return f"{where} holds NaN or infinite values. Leave the sample out, or mend it."


def open_samples(
    source: SampleSource | Path, inputs: Sequence[InputSpec], *, any_labels: bool = False
) -> Samples:
    """Opens samples and checks that they fit a model.

    Args:
        source: Where they come from: what was given, or the path of an .npz or .npy file, or of a
            folder of test data sets.
        inputs: The model's inputs.
        any_labels: Whether labels may be any array whose first axis is the samples, numbers or
            text, which a metric interprets; otherwise they are one whole number a sample.

    Raises:
        InputError: They cannot be read, or names, shapes, types or counts do not fit.
    """
    source = SampleFiles(source) if isinstance(source, Path) else source
    columns, names, called = source.columns(inputs), {spec.name for spec in inputs}, source.name
    beside = {
        name: columns.pop(name) for name in (LABELS, GROUPS) if name in columns.keys() - names
    }
    # Before anything is read, so that no array is longer than the samples are many.
    _check(called, inputs, columns, beside)
    labels = _read_labels(called, beside.get(LABELS), any_labels)
    groups = _read_numbers(called, GROUPS, beside.get(GROUPS))
    count = next(iter(columns.values())).shape[0]
    return Samples(
        source=source,
        sha256=_digest(called, {**columns, **beside}),
        inputs=inputs,
        columns=columns,
        positions=np.arange(count),
        labels=labels,
        groups=groups,
    )


def ranked(source: SampleSource | Path, inputs: Sequence[InputSpec]) -> tuple[InputSpec, ...]:
    """The inputs, with the samples' number of axes where the model's file leaves it open.

    Args:
        source: As of `open_samples`.
        inputs: The model's inputs.

    Raises:
        InputError: The samples cannot be read.
    """
    if all(spec.has_rank for spec in inputs):
        return tuple(inputs)
    source = SampleFiles(source) if isinstance(source, Path) else source
    check_there(source)
    ranks = {name: len(column.shape) for name, column in source.columns(inputs).items()}
    return tuple(
        spec if spec.has_rank else replace(spec, shape=(None,) * ranks.get(spec.name, 1))
        for spec in inputs
    )


def _picked(pieces: Iterator[np.ndarray], positions: np.ndarray, size: int) -> Iterator[np.ndarray]:
    """The rows at some positions, `size` at a time, of an array that comes in pieces."""
    waiting: list[np.ndarray] = []
    count = start = 0
    for piece in pieces:
        first, behind = np.searchsorted(positions, [start, start + len(piece)])
        rows = positions[first:behind] - start
        start += len(piece)
        waiting.append(piece if len(rows) == len(piece) else piece[rows])
        count += len(rows)
        while count >= size:
            joined = waiting[0] if len(waiting) == 1 else np.concatenate(waiting)
            yield joined[:size]
            waiting, count = [joined[size:]], count - size
        if start > positions[-1]:
            break
    if count:
        yield np.concatenate(waiting)


def _read_labels(called: str, column: Column | None, any_labels: bool) -> np.ndarray | None:
    if column is not None and any_labels and column.shape:
        size = prod(column.shape) * column.dtype.itemsize
        if size > _LARGEST_LABELS:
            raise InputError(
                f"{called}: the labels take {size >> 30} GiB, and {_LARGEST_LABELS >> 30} at most "
                "are read into memory. Give fewer, or smaller ones."
            )
        with reading(called):
            pieces = [*column.rows(max(column.shape[0], 1))]
            return np.concatenate(pieces) if pieces else np.zeros(column.shape, column.dtype)
    return _read_numbers(called, LABELS, column)


def _read_numbers(called: str, name: str, column: Column | None) -> np.ndarray | None:
    """(samples,) int64, or None where there is no such array."""
    if column is None:
        return None
    if len(column.shape) != 1 or column.dtype.kind not in "iu":
        raise InputError(
            f"{called}: {name} are {column.dtype} of shape {column.shape}; "
            "they have to be one whole number a sample."
        )
    with reading(called):
        pieces = [*column.rows(max(column.shape[0], 1))]
    largest = max(int(piece.max()) for piece in pieces)
    if largest > np.iinfo(np.int64).max:
        raise InputError(f"{called}: {name} go up to {largest}, which is no number of 64 bits.")
    return np.concatenate([piece.astype(np.int64) for piece in pieces])


def _check(
    called: str,
    inputs: Sequence[InputSpec],
    columns: dict[str, Column],
    beside: dict[str, Column],
) -> None:
    names = [spec.name for spec in inputs]
    if set(names) != set(columns):
        raise InputError(
            f"{called}: holds {', '.join(columns) or 'nothing'}, but the model's inputs are "
            f"{', '.join(names)}. Name the arrays after the inputs."
        )
    for spec in inputs:
        _check_column(called, spec, columns[spec.name])
    # Labels and groups without an axis are refused when they are read.
    arrays = {**columns, **{name: column for name, column in beside.items() if column.shape}}
    counts = {name: column.shape[0] for name, column in arrays.items()}
    if len(set(counts.values())) > 1:
        listed = ", ".join(f"{name} {count}" for name, count in counts.items())
        raise InputError(f"{called}: the numbers of samples differ: {listed}.")
    if not min(counts.values()):
        raise InputError(f"{called}: there are no samples in it; at least one is needed.")
    if max(counts.values()) > MOST_SAMPLES:
        raise InputError(
            f"{called}: claims {max(counts.values())} samples; up to {MOST_SAMPLES} are read. "
            "Give a part of them."
        )


def _check_column(called: str, spec: InputSpec, column: Column) -> None:
    expected, axes = spec.sample_shape, column.shape[1:]
    fits = len(column.shape) == 1 + len(expected) and all(
        known is None or known == length for known, length in zip(expected, axes, strict=False)
    )
    if not fits:
        shown = ", ".join("any" if length is None else str(length) for length in expected)
        raise InputError(
            f"{called}: {spec.name} has shape {column.shape}, but the model takes "
            f"({', '.join(['samples', *([shown] if shown else [])])})."
        )
    kinds = "UO" if spec.dtype.kind == "O" else "biu" if spec.dtype.kind in "biu" else "biuf"
    if column.dtype != spec.dtype and column.dtype.kind not in kinds:
        held = "text" if spec.dtype.kind == "O" else str(spec.dtype)
        raise InputError(
            f"{called}: {spec.name} is {column.dtype}, which does not become the model's "
            f"{held} without loss."
        )


def fixed_batch(inputs: Sequence[InputSpec]) -> int | None:
    """The only number of samples that run at once; None where it is open.

    Raises:
        InputError: Inputs have different ones.
    """
    lengths = {
        spec.shape[spec.samples_axis]
        for spec in inputs
        if spec.samples_axis is not None and spec.samples_axis < len(spec.shape)
    }
    fixed = sorted(length for length in lengths if length is not None)
    if len(fixed) > 1:
        raise InputError(f"the inputs' batch axes have different fixed lengths {fixed}.")
    if fixed:
        return fixed[0]
    # An input without an axis of samples differs from sample to sample: they run one by one.
    return 1 if any(spec.samples_axis is None for spec in inputs) else None


def _digest(called: str, columns: Mapping[str, Column]) -> str:
    """A hash of arrays by name, which does not depend on what they lie in."""
    digest = hashlib.sha256()
    for name, column in sorted(columns.items()):
        is_text = column.dtype.kind in "UO"
        dtype = "text" if is_text else f"{column.dtype.str} {column.dtype.name}"
        digest.update(repr((name, dtype, column.shape)).encode())
        row_bytes = prod(column.shape[1:]) * column.dtype.itemsize
        with reading(called):
            for rows in column.rows(max(1, _CHUNK // max(row_bytes, 1))):
                if is_text:
                    for text in rows.ravel().tolist():
                        # By their lengths, no two lists of texts are joined to the same.
                        digest.update(f"{len(text)} {text}".encode("utf-8", "surrogatepass"))
                else:
                    digest.update(np.ascontiguousarray(rows).reshape(-1).view(np.uint8).data)
    return digest.hexdigest()
