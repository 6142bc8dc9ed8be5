"""What a change's damage is: a divergence of the outputs, or what a metric loses by it."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np

from onnx_relusv.core.errors import UsageError
from onnx_relusv.core.metric import Metric
from onnx_relusv.core.options import DivergenceName, PlanOptions
from onnx_relusv.measuring.answers import Answers, Divergence, judged_answers
from onnx_relusv.measuring.case import Case, Workspace
from onnx_relusv.measuring.held_out import original_metric
from onnx_relusv.measuring.inputs import Inputs
from onnx_relusv.runtime.outputs import CollectedOutputs
from onnx_relusv.samples.samples import Samples

_BATCH = 64

Values = Mapping[str, np.ndarray]


class Distance(Protocol):
    """How far a changed network's outputs are from the original's, batch by batch."""

    def add(self, before: Values, after: Values, count: int, size: int) -> None:
        """Adds a batch of `size` samples, of which `count` are real."""
        ...

    @property
    def value(self) -> float:
        """The damage, from 0 on, once all batches are there."""
        ...


class DamageMeasure(Protocol):
    """What damage is."""

    @property
    def outputs(self) -> tuple[str, ...]:
        """The tensors that are looked at: outputs, or what decides them."""
        ...

    @property
    def words(self) -> str:
        """What damages are, for reports."""
        ...

    @property
    def repeats(self) -> bool:
        """Whether all that decides a damage is known, so that it can be kept for another run."""
        ...

    @property
    def noticeable(self) -> float:
        """The damage beyond which 8-bit integers are said to hurt a block."""
        ...

    def distances(
        self, samples: Samples, exact: Iterable[Values], sizes: Sequence[tuple[int, int]]
    ) -> Callable[[], Distance]:
        """A function that begins to measure one change, with nothing added yet.

        Args:
            samples: What everything is measured on.
            exact: The original's outputs, batch by batch.
            sizes: Of every batch, how many of its samples are real, and how many it has.

        Raises:
            InputError: The metric fails on the original's outputs.
        """
        ...


@dataclass(frozen=True, eq=False)
class DivergenceMeasure:
    """How far outputs are from the original's.

    Attributes:
        answers: What of the outputs is compared, and how.
    """

    answers: Answers
    repeats = True
    noticeable = 1e-3

    @property
    def outputs(self) -> tuple[str, ...]:
        """The tensors that are compared."""
        return self.answers.outputs

    @property
    def words(self) -> str:
        """What damages are, for reports."""
        return self.answers.words

    def distances(
        self, samples: Samples, exact: Iterable[Values], sizes: Sequence[tuple[int, int]]
    ) -> Callable[[], Distance]:
        """A function that begins to measure one change."""
        return lambda: Divergence(self.answers)


@dataclass(frozen=True, eq=False)
class MetricMeasure:
    """What a metric loses.

    Attributes:
        metric: The user's.
        outputs: The model's, all of which it gets.
    """

    metric: Metric
    outputs: tuple[str, ...]
    # What its code depends on is not known.
    repeats = False
    noticeable = 1e-3

    @property
    def words(self) -> str:
        """What damages are, for reports."""
        return f"loss of {self.metric.name}"

    def distances(
        self, samples: Samples, exact: Iterable[Values], sizes: Sequence[tuple[int, int]]
    ) -> Callable[[], Distance]:
        """A function that begins to measure one change; the original is judged first."""
        outputs = CollectedOutputs(self.outputs)
        for values, (count, size) in zip(exact, sizes, strict=True):
            outputs.add(values, count, size)
        before = self.metric.value(outputs.arrays(), samples.labels)
        return lambda: _MetricLoss(self.metric, self.outputs, samples.labels, before)


class _MetricLoss:
    """What a metric loses; where it gains, nothing is damaged."""

    def __init__(
        self, metric: Metric, names: Sequence[str], labels: np.ndarray | None, before: float
    ) -> None:
        self._metric = metric
        self._labels = labels
        self._before = before
        self._outputs = CollectedOutputs(names)

    def add(self, before: Values, after: Values, count: int, size: int) -> None:
        self._outputs.add(after, count, size)

    @property
    def value(self) -> float:
        after = self._metric.value(self._outputs.arrays(), self._labels)
        return max(self._before - after, 0.0)


# Makes a measure for a model that was opened, from the samples that damage is measured on.
_Maker = Callable[[Case, Inputs, Workspace, Samples], DamageMeasure]


def _divergence(kind: Literal["auto", "kl", "l2"]) -> _Maker:
    def make(case: Case, inputs: Inputs, workspace: Workspace, samples: Samples) -> DamageMeasure:
        batch = next(iter(samples.batches(_BATCH, limit=_BATCH)))
        return DivergenceMeasure(judged_answers(case, workspace, batch, kind))

    return make


def _metric(case: Case, inputs: Inputs, workspace: Workspace, samples: Samples) -> DamageMeasure:
    if inputs.metric is None:
        raise UsageError("--divergence metric needs a --metric.")
    return MetricMeasure(inputs.metric, case.model.output_names)


# By the name that --divergence has for it.
MEASURES: Mapping[DivergenceName, _Maker] = {
    "auto": _divergence("auto"),
    "kl": _divergence("kl"),
    "l2": _divergence("l2"),
    "metric": _metric,
}


def damage_measure(
    case: Case, inputs: Inputs, workspace: Workspace, samples: Samples, planning: PlanOptions
) -> DamageMeasure:
    """Decides what damage is, from a batch of the original's outputs and its graph.

    Args:
        case: The model.
        inputs: Its samples.
        workspace: Where it runs, and what is kept.
        samples: What damage is measured on.
        planning: Whose divergence is meant.

    Raises:
        InputError: The divergence of class scores is meant, and there are none.
        UsageError: A metric is meant, and there is none.
    """
    return MEASURES[planning.divergence](case, inputs, workspace, samples)


def check_measures(case: Case, inputs: Inputs, workspace: Workspace, planning: PlanOptions) -> None:
    """Looks before anything is measured whether what was asked for can be.

    Raises:
        UsageError: A metric or a divergence was asked for without samples to choose by.
        InputError: The metric fails on the original, or there are no class scores to compare.
    """
    asked = "--metric" if planning.metric is not None else f"--divergence {planning.divergence}"
    if planning.metric is None and planning.divergence == "auto":
        return
    select = None if inputs.split is None else inputs.split.select
    if select is None:
        raise UsageError(f"{asked} needs --samples, two at least.")
    original_metric(case, inputs, workspace)
    if planning.divergence == "kl":
        damage_measure(case, inputs, workspace, select, planning)
