"""How far a changed network's outputs are from the original's, as one number that adds up.

Class scores: the mean Kullback-Leibler divergence of the changed answers from the original's, in
nats. Other outputs: the squared relative L2 error, the mean over the outputs. Both grow with the
square of small errors, so the damages of several small changes nearly add up.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import scipy.special

from onnx_relusv.class_scores import class_scores, real_rows
from onnx_relusv.graph.model import Model
from onnx_relusv.records import Floats

_PASSES_VALUES = {"Identity", "Cast", "Reshape", "Squeeze", "Unsqueeze", "Flatten", "Dropout"}
_SMALLEST = 1e-30
# Of outputs that are of no use at all; JSON has no infinity.
WORST = 1e30


@dataclass(frozen=True)
class Answers:
    """What of the outputs is compared.

    Attributes:
        outputs: Their names.
        scores: The one that holds class scores; None where all are compared by L2.
        probabilities: Whether it comes out of a Softmax, and is not what goes into one.
    """

    outputs: tuple[str, ...]
    scores: str | None
    probabilities: bool


def answers_of(model: Model, values: Mapping[str, np.ndarray], count: int, size: int) -> Answers:
    """Decides how outputs are compared, from a batch of them and the graph.

    Args:
        model: The model.
        values: Its outputs.
        count: How many samples of the batch are real.
        size: How many it has.
    """
    scores = class_scores(real_rows(values, count, size), count)
    return Answers(
        outputs=tuple(model.output_names),
        scores=scores,
        probabilities=scores is not None and _is_softmax(model, scores),
    )


def _is_softmax(model: Model, name: str) -> bool:
    makers = {output: node for node in model.proto.graph.node for output in node.output}
    while name in makers:
        node = makers[name]
        if node.op_type not in _PASSES_VALUES:
            return node.op_type == "Softmax"
        name = node.input[0]
    return False


class Divergence:
    """Adds up, batch by batch, how far outputs are from the original's."""

    def __init__(self, answers: Answers) -> None:
        self._answers = answers
        self._samples = 0
        self._total = 0.0
        self._errors: dict[str, list[float]] = {name: [0.0, 0.0] for name in answers.outputs}

    # What is infinite becomes NaN, and the value says so.
    @np.errstate(invalid="ignore", over="ignore")
    def add(
        self,
        before: Mapping[str, np.ndarray],
        after: Mapping[str, np.ndarray],
        count: int,
        size: int,
    ) -> None:
        """Adds a batch of `size` samples, of which `count` are real."""
        first, second = real_rows(before, count, size), real_rows(after, count, size)
        scores = self._answers.scores
        if scores is not None:
            pair = (_logarithms(v[scores], self._answers.probabilities) for v in (first, second))
            self._total += float(_divergences(*pair).sum())
            self._samples += count
            return
        for name, sums in self._errors.items():
            exact = np.asarray(first[name], np.float64)
            sums[0] += float(np.sum((np.asarray(second[name], np.float64) - exact) ** 2))
            sums[1] += float(np.sum(exact**2))

    @property
    def value(self) -> float:
        """The divergence so far; `WORST` where outputs are not finite."""
        if self._answers.scores is not None:
            found = self._total / max(self._samples, 1)
        else:
            shares = [error / max(whole, _SMALLEST) for error, whole in self._errors.values()]
            found = float(np.mean(shares))
        # Of equal outputs rounding may leave less than nothing.
        return min(max(found, 0.0), WORST) if np.isfinite(found) else WORST


def _logarithms(scores: np.ndarray, probabilities: bool) -> Floats:
    values = np.asarray(scores, np.float64)
    if probabilities:
        return np.asarray(np.log(np.maximum(values, _SMALLEST)))
    return np.asarray(scipy.special.log_softmax(values, axis=1))


def _divergences(first: Floats, second: Floats) -> Floats:
    shares = np.exp(first)
    # A class that is ruled out, with a score of minus infinity, adds nothing.
    return np.asarray(np.sum(np.where(shares > 0, shares * (first - second), 0), axis=1))
