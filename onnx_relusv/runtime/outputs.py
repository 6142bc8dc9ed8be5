"""The outputs of a model's runs: in files, as arrays of whatever kind they are, and as answers.

`CollectedOutputs` joins outputs of all batches along the samples' axis, in temporary files without
a name. These are mapped into memory to be read, so outputs need not fit into it; the files go with
the arrays.

`OutputValue` is an output of one run as arrays. onnxruntime gives arrays for tensors, lists for
sequences, dictionaries for maps, lists of these for sequences of maps, such as a ZipMap makes, and
None for an optional value that is absent.

`AnswerOutput` is the output that holds a model's answers, one a sample, and says whether labels fit
them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import prod
from typing import Any

import numpy as np

from onnx_relusv.core.errors import InputError
from onnx_relusv.core.measures import OutputForm
from onnx_relusv.runtime.session import Session
from onnx_relusv.runtime.stacks import run_batch
from onnx_relusv.samples.samples import Samples
from onnx_relusv.work.disk_arrays import ArrayFile

_BATCH = 64


class CollectedOutputs:
    """Collects a model's outputs batch by batch.

    Args:
        names: Of the outputs, in the order of `arrays`.
    """

    def __init__(self, names: Sequence[str]) -> None:
        self._rows: dict[str, _Rows | None] = dict.fromkeys(names)

    def add(self, values: Mapping[str, np.ndarray], count: int, size: int) -> None:
        """Adds the outputs of a batch of `size` samples, of which `count` are real.

        Raises:
            InputError: An output's first axis is not that of the samples, or its other axes have
                other lengths than in the batches before.
            UsageError: There is no room for them.
        """
        for name, before in self._rows.items():
            value = values[name]
            if not isinstance(value, np.ndarray) or not value.ndim or len(value) != size:
                shape = getattr(value, "shape", type(value).__name__)
                raise InputError(
                    f"output {name} is {shape} for {size} samples: its first axis is not that of "
                    "the samples, so no --metric can be given it for all of them. Take it out of "
                    "the model's outputs."
                )
            rows = before or _Rows(value)
            self._rows[name] = rows
            if value.shape[1:] != rows.shape:
                raise InputError(
                    f"output {name} is {rows.shape} for some samples and {value.shape[1:]} for "
                    "others, so no --metric can be given it for all of them. Pad it to one shape "
                    "in the model, or take it out of the outputs."
                )
            rows.add(value[:count])

    def arrays(self) -> list[np.ndarray]:
        """All of them, (samples, ...) each, read-only; nothing may be added afterwards."""
        return [rows.array() for rows in self._rows.values() if rows is not None]


def collected(session: Session, samples: Samples, names: Sequence[str]) -> list[np.ndarray]:
    """Runs a model on all samples; of every output that is named, (samples, ...), read-only.

    Raises:
        InputError: An output's first axis is not that of the samples.
        UsageError: There is no room for the outputs.
    """
    taken = CollectedOutputs(names)
    for batch in samples.batches(_BATCH, stacked=True):
        taken.add(run_batch(session, batch, names), batch.count, batch.size)
    return taken.arrays()


def picked(
    arrays: Sequence[np.ndarray], positions: np.ndarray, *, chunk_bytes: int = 16 << 20
) -> list[np.ndarray]:
    """The rows of all arrays at some positions, in temporary files as well, copied in chunks."""
    picked_arrays = []
    for values in arrays:
        rows = _Rows(values)
        row_bytes = max(1, prod(values.shape[1:]) * values.dtype.itemsize)
        length = max(1, chunk_bytes // row_bytes)
        for start in range(0, len(positions), length):
            rows.add(values[positions[start : start + length]])
        picked_arrays.append(rows.array())
    return picked_arrays


class _Rows:
    """Rows of one shape and type; text stays in memory, for its length is not known before."""

    def __init__(self, example: np.ndarray) -> None:
        self.shape = example.shape[1:]
        self._kept: list[np.ndarray] = []
        self._file = None if example.dtype.hasobject else ArrayFile()
        self._place = None if self._file is None else self._file.put(example[:0])

    def add(self, rows: np.ndarray) -> None:
        if self._file is None or self._place is None:
            self._kept.append(rows)
        else:
            self._place = self._file.added(self._place, rows)

    def array(self) -> np.ndarray:
        if self._file is not None and self._place is not None:
            values = self._file.mapped(self._place)
            self._file.close()
        else:
            values = np.concatenate(self._kept)
        values.flags.writeable = False
        return values


Key = int | str


@dataclass(frozen=True, eq=False)
class OutputValue:
    """One output of one run.

    Attributes:
        form: Its kind.
        arrays: Of a tensor its array; of a sequence one a member; of maps a single array, (maps,
            keys), or (keys,) of a single map.
        keys: Of maps, in the order of the last axis.
    """

    form: OutputForm
    arrays: tuple[np.ndarray, ...]
    keys: tuple[Key, ...] = ()


def output_value(value: Any) -> OutputValue:
    """Reads an output of a run, as onnxruntime gives it."""
    if value is None:
        return OutputValue("nothing", ())
    if isinstance(value, Mapping):
        keys = _in_order(value)
        return OutputValue("map", (np.asarray([value[key] for key in keys]),), keys)
    if isinstance(value, list | tuple):
        if value and all(isinstance(member, Mapping) for member in value):
            keys = _in_order({key: None for member in value for key in member})
            rows = [[member.get(key, 0) for key in keys] for member in value]
            return OutputValue("map", (np.asarray(rows).reshape(len(rows), len(keys)),), keys)
        return OutputValue("sequence", tuple(map(_array, value)))
    return OutputValue("tensor", (_array(value),))


def real_part(value: OutputValue, count: int, size: int) -> OutputValue:
    """An output without the values of samples that only pad a fixed batch.

    Args:
        value: Of a batch.
        count: How many samples of the batch are real.
        size: How many it has.
    """
    if count == size:
        return value
    arrays = value.arrays
    if value.form == "sequence" and len(arrays) == size:
        return replace(value, arrays=arrays[:count])
    return replace(
        value,
        arrays=tuple(a[:count] if a.ndim and len(a) == size else a for a in arrays),
    )


def aligned(first: OutputValue, second: OutputValue) -> tuple[OutputValue, OutputValue]:
    """Two maps with the keys of both in the same order, zero where a map has no such key."""
    if first.keys == second.keys or "map" not in (first.form, second.form):
        return first, second
    keys = _in_order({**dict.fromkeys(first.keys), **dict.fromkeys(second.keys)})
    return _with_keys(first, keys), _with_keys(second, keys)


def _with_keys(value: OutputValue, keys: tuple[Key, ...]) -> OutputValue:
    if value.form != "map":
        return value
    (array,) = value.arrays
    spread = np.zeros((*array.shape[:-1], len(keys)), array.dtype)
    spread[..., [keys.index(key) for key in value.keys]] = array
    return OutputValue("map", (spread,), keys)


def _in_order(keys: Mapping[Key, Any]) -> tuple[Key, ...]:
    return tuple(sorted(keys, key=lambda key: (isinstance(key, str), key)))


def _array(value: Any) -> np.ndarray:
    if isinstance(value, np.ndarray | np.generic):
        return np.asarray(value)
    # A single text, or a member that is no array.
    return np.asarray(value, dtype=object if isinstance(value, str | list) else None)


def real_rows(values: Mapping[str, Any], count: int, size: int) -> dict[str, np.ndarray]:
    """Outputs of a batch without those of the samples that only pad it, as of `real_part`.

    Returns:
        The tensors among them, and of maps, one a sample, their values, (samples, keys).
    """
    read = {name: real_part(output_value(value), count, size) for name, value in values.items()}
    return {
        name: value.arrays[0] for name, value in read.items() if value.form in ("tensor", "map")
    }


def class_scores(values: Mapping[str, np.ndarray], count: int) -> str | None:
    """The first output of shape (samples, classes), with two classes or more; None without."""
    return next((name for name, value in values.items() if _has_scores(value, count)), None)


def _has_scores(value: np.ndarray, count: int) -> bool:
    # Whole numbers are places or classes themselves. Kind V is bfloat16.
    numbers = value.dtype.kind in "fV"
    return numbers and value.ndim == 2 and value.shape[0] == count and value.shape[1] > 1


@dataclass(frozen=True)
class AnswerOutput:
    """The output that holds a model's answers, one a sample.

    Attributes:
        name: The output's.
        scores: Whether it holds class scores, of which the largest is the answer; otherwise it
            holds the answers themselves, whole numbers, truth values or text.
        classes: How many classes it has scores of; None where it holds no scores.
        keys: Of scores in maps, the classes.
        text: Whether the answers are text, which no label equals.
    """

    name: str
    scores: bool
    classes: int | None = None
    keys: tuple[Key, ...] = ()
    text: bool = False

    def fits(self, value: OutputValue, count: int) -> bool:
        """Whether a batch's output is like that of the first one."""
        output = _answer_output(self.name, value, count)
        return output is not None and (output.scores, output.classes) == (self.scores, self.classes)

    def answers(self, value: OutputValue) -> tuple[np.ndarray, np.ndarray]:
        """A batch's answers, (samples,), and which of them are valid, (samples,) bool.

        An answer is not valid where a score is NaN: the largest of the others could pass for right.
        Classes are numbered from 0 on, but for those of maps with whole numbers as keys.
        """
        (array,) = value.arrays
        if not self.scores:
            answers = array.reshape(len(array))
            return answers, np.ones(len(answers), bool)
        scores = np.asarray(array, np.float64)
        places = scores.argmax(axis=1)
        if self.keys and all(isinstance(key, int) for key in self.keys):
            places = np.asarray(self.keys)[places]
        return places, np.asarray(~np.isnan(scores).any(axis=1))

    def check_labels(self, samples: Samples) -> bool:
        """Whether samples have labels that answers can be compared with.

        Raises:
            InputError: A label is no class.
        """
        if samples.labels is None or self.text:
            return False
        if self.classes is None or (self.keys and isinstance(self.keys[0], int)):
            return True
        check_labels(samples, self.classes)
        return True


def answer_output(values: Mapping[str, OutputValue], count: int) -> AnswerOutput | None:
    """The first output with class scores, one row a sample, else the first with answers themselves.

    The values are of a batch of `count` samples, without padding.
    """
    candidates = [_answer_output(name, value, count) for name, value in values.items()]
    outputs = [output for output in candidates if output is not None]
    return next((output for output in outputs if output.scores), next(iter(outputs), None))


def _answer_output(name: str, value: OutputValue, count: int) -> AnswerOutput | None:
    if value.form not in ("tensor", "map"):
        return None
    (array,) = value.arrays
    if _has_scores(array, count):
        return AnswerOutput(name, True, array.shape[1], value.keys)
    alone = array.ndim > 0 and len(array) == count == array.size
    if value.form == "tensor" and alone and array.dtype.kind in "iubOUS":
        return AnswerOutput(name, False, text=array.dtype.kind in "OUS")
    return None


def check_labels(samples: Samples, classes: int) -> None:
    """Checks the labels of samples, if they have some.

    Raises:
        InputError: A label is no class.
    """
    labels = samples.labels
    if labels is None:
        return
    if labels.min() < 0 or labels.max() >= classes:
        raise InputError(
            f"{samples.name}: labels go from {labels.min()} to {labels.max()}, but the model has "
            f"{classes} classes, 0 to {classes - 1}."
        )
