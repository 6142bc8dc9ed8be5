"""Feeds that a model takes one by one, kept in temporary files as columns of samples.

They come once, and may be more than memory holds: numbers of each input are written one behind the
other, and mapped. Text is kept in memory. Along which axis samples lie is known only when it is
known how the model reads its inputs, so that arrays are stored as they come.
"""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from itertools import groupby
from math import prod
from pathlib import Path

import numpy as np

from onnx_relusv.core.blocks import InputSpec
from onnx_relusv.core.errors import InputError
from onnx_relusv.core.metric import apart, what_went_wrong
from onnx_relusv.samples.files import GROUPS, LABELS, MOST_SAMPLES, Column, DiskColumn
from onnx_relusv.work.disk_arrays import ArrayFile, Place, release
from onnx_relusv.work.executors import Advance, unseen

Shape = tuple[int, ...]


def as_numbers(name: str, value: object) -> np.ndarray:
    """An array of numbers or text, read-only, which shares its memory with what was given.

    Args:
        name: What messages call it.
        value: As numpy takes it.

    Raises:
        InputError: It is no such array.
    """
    try:
        array = np.asarray(value)
    except Exception as error:  # of what was given, or of numpy
        raise InputError(f"{name}: cannot be read as an array ({error}).") from error
    if array.dtype.hasobject and not all(isinstance(each, str) for each in array.flat):
        raise InputError(f"{name}: holds Python objects; give an array of numbers, or of text.")
    view = array.view()
    view.flags.writeable = False
    return view


class Fed:
    """All feeds of an iterator, by input.

    Args:
        name: What messages call them.
        begin: Gives the iterator.
        inputs: Names of the model's inputs.
        path: The file of the code that gives them; None where there is none.
        advance: Called with 1 after each.

    Raises:
        InputError: There are none, one is no dict of arrays, or names, types or numbers of axes
            differ; or what gives them fails.
        UsageError: There is no room for them.
    """

    def __init__(
        self,
        name: str,
        begin: Callable[[], Iterator[object]],
        inputs: Collection[str],
        path: Path | None = None,
        advance: Advance = unseen,
    ) -> None:
        self._name = name
        self._stored: dict[str, _Stored] = {}
        for number, feed in enumerate(_each(name, begin, path)):
            if number >= MOST_SAMPLES:
                raise InputError(f"{name}: gives more than {MOST_SAMPLES} feeds; give fewer.")
            self._add(number, feed, inputs)
            advance(1)
        if not self._stored:
            raise InputError(
                f"{name}: gives no feeds; at least one is needed. An iterator that was gone "
                "through before is at its end: make a new one, or give a list."
            )

    def _add(self, number: int, feed: object, inputs: Collection[str]) -> None:
        where = f"{self._name}: feed {number}"
        if not isinstance(feed, Mapping):
            raise InputError(
                f"{where} is {type(feed).__name__}; let each be a dict of arrays by input name, as "
                "the model takes them in one run."
            )
        names = [str(key) for key in feed]
        if not number:
            unknown = sorted({*names} - {*inputs, LABELS, GROUPS})
            missing = sorted({*inputs} - {*names})
            if unknown or missing:
                raise InputError(
                    f"{where} holds {', '.join(names) or 'nothing'}, but the model's inputs are "
                    f"{', '.join(inputs)}. Name the arrays after the inputs."
                )
            self._stored = {key: _Stored() for key in names}
        elif {*names} != {*self._stored}:
            raise InputError(
                f"{where} holds {', '.join(names) or 'nothing'}, and feed 0 "
                f"{', '.join(self._stored)}; let all of them have the same names."
            )
        for key, value in feed.items():
            array = as_numbers(f"{where}, {key}", value)
            problem = self._stored[str(key)].add(array)
            if problem is not None:
                raise InputError(f"{where}: {key} {problem}.")

    def columns(self, inputs: Sequence[InputSpec]) -> dict[str, Column]:
        """The samples of all feeds, by name.

        Args:
            inputs: The model's inputs, which say along which axis samples lie.

        Raises:
            InputError: Feeds differ in another length than the number of their samples, or inputs
                of one feed have different numbers of samples.
        """
        axes: dict[str, int | None] = {spec.name: spec.samples_axis for spec in inputs}
        columns: dict[str, Column] = {}
        first: tuple[str, list[tuple[int, int]]] | None = None
        for name, stored in self._stored.items():
            axis = axes.get(name, 0)
            where = stored.odd_feed(axis)
            if where is not None:
                number, shape, usual = where
                raise InputError(
                    f"{self._name}: feed {number}: {name} has the shape {shape}, where that of "
                    f"feed 0 is {usual}; feeds may only differ in how many samples they hold."
                )
            lengths = stored.lengths(axis)
            if first is not None and lengths != first[1]:
                raise InputError(
                    f"{self._name}: {first[0]} and {name} have different numbers of samples in a "
                    "feed; let all arrays of a feed have the same."
                )
            first = first or (name, lengths)
            columns[name] = stored.column(axis)
        return columns


def _each(name: str, begin: Callable[[], Iterator[object]], path: Path | None) -> Iterator[object]:
    """What an iterator of the user's gives; InputError where it fails."""
    number = 0
    feeds: Iterator[object] = iter(())
    while True:
        try:
            with apart():
                feeds = feeds if number else begin()
                feed = next(feeds)
        except StopIteration:
            return
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # the user's code may raise anything, or exit
            raise InputError(
                f"{name}: feed {number} cannot be made: {what_went_wrong(error, path)}"
            ) from error
        yield feed
        number += 1


class _Stored:
    """One input's arrays, as they came."""

    def __init__(self) -> None:
        # Of feeds of one shape that follow each other, the shape and how many they are.
        self._runs: list[tuple[Shape, int]] = []
        self._dtype: np.dtype[np.generic] | None = None
        self._texts: list[np.ndarray] = []
        self._file: ArrayFile | None = None
        self._place: Place | None = None
        self._mapped: np.ndarray | None = None

    def add(self, array: np.ndarray) -> str | None:
        """Stores an array; what is wrong with it in words, if anything is."""
        dtype = np.dtype(object) if array.dtype.kind == "U" else array.dtype
        if self._dtype is None:
            self._dtype = dtype
        if dtype != self._dtype:
            return f"is {dtype}, and {self._dtype} in feed 0"
        if self._runs and len(self._runs[0][0]) != array.ndim:
            return f"has {array.ndim} axes, and {len(self._runs[0][0])} in feed 0"
        if self._runs and self._runs[-1][0] == array.shape:
            self._runs[-1] = array.shape, self._runs[-1][1] + 1
        else:
            self._runs.append((array.shape, 1))
        flat = array.reshape(-1)
        if dtype.hasobject:
            self._texts.append(flat.astype(object))
        elif self._file is None or self._place is None:
            self._file = ArrayFile()
            self._place = self._file.put(flat)
        else:
            self._place = self._file.added(self._place, flat)
        return None

    def odd_feed(self, axis: int | None) -> tuple[int, Shape, Shape] | None:
        """A feed with another shape of a sample than the first one: its number, both shapes."""
        number, usual = 0, self._runs[0][0]
        for shape, count in self._runs:
            if _samples_first(shape, axis)[1:] != _samples_first(usual, axis)[1:]:
                return number, shape, usual
            number += count
        return None

    def lengths(self, axis: int | None) -> list[tuple[int, int]]:
        """How many samples feeds hold, and how many feeds in a row hold so many."""
        each = ((_samples_first(shape, axis)[0], count) for shape, count in self._runs)
        return [
            (length, sum(count for _, count in run))
            for length, run in groupby(each, key=lambda one: one[0])
        ]

    def column(self, axis: int | None) -> Column:
        """All samples one behind the other."""
        flat = self._flat()
        if _place_of(self._runs[0][0], axis) == 0:
            total = sum(_samples_first(shape, axis)[0] * count for shape, count in self._runs)
            return DiskColumn(flat.reshape(total, *_samples_first(self._runs[0][0], axis)[1:]))
        return _MovedColumn(flat, self._runs, axis)

    def _flat(self) -> np.ndarray:
        if self._dtype is not None and self._dtype.hasobject:
            return np.concatenate(self._texts)
        if self._mapped is None and self._file is not None and self._place is not None:
            self._mapped = self._file.mapped(self._place)
            self._file.close()
        assert self._mapped is not None
        return self._mapped


class _MovedColumn:
    """Samples that lie along another axis than the first in every feed."""

    def __init__(
        self, flat: np.ndarray, runs: Sequence[tuple[Shape, int]], axis: int | None
    ) -> None:
        self._flat, self._runs, self._axis = flat, runs, axis
        total = sum(_samples_first(shape, axis)[0] * count for shape, count in runs)
        self.shape = (total, *_samples_first(runs[0][0], axis)[1:])
        self.dtype = flat.dtype

    def rows(self, size: int) -> Iterator[np.ndarray]:
        """The samples of one feed after the other, however many these are."""
        start = 0
        for shape, count in self._runs:
            length = prod(shape)
            for _ in range(count):
                feed = self._flat[start : start + length].reshape(shape)
                yield np.moveaxis(feed, _place_of(shape, self._axis), 0)
                start += length
                release([self._flat])


def _place_of(shape: Shape, axis: int | None) -> int:
    """Where the axis of samples lies in a feed; 0 also where it has none, and is one sample."""
    return 0 if axis is None or not shape else min(axis, len(shape) - 1)


def _samples_first(shape: Shape, axis: int | None) -> Shape:
    """The shape of a feed with its samples along the first axis."""
    if axis is None or not shape:
        return (1, *shape)
    place = _place_of(shape, axis)
    return (shape[place], *shape[:place], *shape[place + 1 :])
