"""Which of a model's outputs holds its answers, one a sample, and whether labels fit them."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from onnx_relusv.errors import InputError
from onnx_relusv.output_values import Key, OutputValue, output_value, real_part
from onnx_relusv.samples import Samples


def real_rows(values: Mapping[str, Any], count: int, size: int) -> dict[str, np.ndarray]:
    """Outputs without those of the samples that only pad a fixed batch.

    Args:
        values: A batch's outputs.
        count: How many samples of the batch are real.
        size: How many it has.

    Returns:
        The tensors among them, and of maps, one a sample, their values, (samples, keys).
    """
    read = {name: real_part(output_value(value), count, size) for name, value in values.items()}
    return {
        name: value.arrays[0] for name, value in read.items() if value.form in ("tensor", "map")
    }


def class_scores(values: Mapping[str, np.ndarray], count: int) -> str | None:
    """The first output of shape (samples, classes), with two classes or more; None without."""
    for name, value in values.items():
        if _has_scores(value, count):
            return name
    return None


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
        found = _answer_output(self.name, value, count)
        return found is not None and (found.scores, found.classes) == (self.scores, self.classes)

    def answers(self, value: OutputValue) -> tuple[np.ndarray, np.ndarray]:
        """A batch's answers, (samples,), and which of them there are, (samples,) bool.

        The answer is missing where a score is NaN: the largest of others would pass for right.
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
            InputError: A label is none of the classes.
        """
        if samples.labels is None or self.text:
            return False
        if self.classes is None or (self.keys and isinstance(self.keys[0], int)):
            return True
        check_labels(samples, self.classes)
        return True


def answer_output(values: Mapping[str, OutputValue], count: int) -> AnswerOutput | None:
    """The first output with class scores, one row a sample, else the first with answers themselves.

    Args:
        values: A batch's outputs, without what pads it.
        count: How many samples it has.
    """
    found = [_answer_output(name, value, count) for name, value in values.items()]
    known = [one for one in found if one is not None]
    return next((one for one in known if one.scores), known[0] if known else None)


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
    """Checks the labels, which the samples must have.

    Raises:
        InputError: One of them is no class.
    """
    labels = samples.labels
    assert labels is not None  # the caller looked
    if labels.min() < 0 or labels.max() >= classes:
        raise InputError(
            f"{samples.path}: labels go from {labels.min()} to {labels.max()}, but the model has "
            f"{classes} classes, 0 to {classes - 1}."
        )
