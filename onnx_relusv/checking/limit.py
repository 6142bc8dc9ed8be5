"""What a file may lose, and the judge of it on a part of the samples."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from onnx_relusv.core.blocks import Runnable
from onnx_relusv.core.errors import BudgetError, InputError, UsageError
from onnx_relusv.core.metric import Metric
from onnx_relusv.core.plans import Budgets
from onnx_relusv.measuring.bounds import (
    GROUPS,
    LEAST_IN_GROUP,
    Discordance,
    ExpectedDrop,
    Loss,
    samples_needed,
)
from onnx_relusv.measuring.case import Case, Workspace
from onnx_relusv.measuring.held_out import (
    HeldOut,
    HeldOutMetric,
    HeldOutProbabilities,
    answers_output,
)
from onnx_relusv.measuring.inputs import Inputs
from onnx_relusv.samples.samples import Samples
from onnx_relusv.samples.split import samples_for

DEFAULT_CONFIDENCE = 0.95


@dataclass(frozen=True)
class DropLimit:
    """What a file may lose.

    Attributes:
        points: Points of accuracy; without labels, of answers that change unless something is
            presumed; with a metric, what it may lose, in its own units.
        confidence: The probability with which that has to hold, at least; with a metric, near
            enough.
        judged_by: The model's output with answers, by name, or a metric.
        presumed: Whether changed answers count by the original's probabilities of the classes,
            which are presumed to be right, or too far apart.
    """

    points: float
    confidence: float
    judged_by: str | Metric
    presumed: bool = False

    @property
    def metric(self) -> Metric | None:
        """What is judged by in place of top-1, or None."""
        return None if isinstance(self.judged_by, str) else self.judged_by

    @property
    def scale(self) -> float:
        """What a loss that was seen times this is in the unit of the points."""
        return 100 if self.metric is None else 1

    @property
    def unit(self) -> str:
        """What the points are."""
        return "points" if self.metric is None else f"units of {self.metric.name}"

    @property
    def share(self) -> float:
        """The points as losses are seen: as a share, or in a metric's own units."""
        return self.points / self.scale

    @property
    def error(self) -> float:
        """The probability with which the certificate may be wrong."""
        return 1 - self.confidence


def drop_limit(
    case: Case, inputs: Inputs, workspace: Workspace, budgets: Budgets
) -> DropLimit | None:
    """Reads the limit, and looks whether it can be certified before anything is measured.

    Args:
        case: The model, its samples split for certifying.
        inputs: Its samples.
        workspace: Where it runs, and what is kept.
        budgets: As asked for.

    Returns:
        None where no limit was asked for.

    Raises:
        UsageError: There are no samples.
        BudgetError: There are too few to certify even a file that changes no answer.
        InputError: The samples have groups; or there is no metric, and the model has no class
            scores, or the labels are none of its classes, or make presumptions needless.
    """
    points, confidence = budgets.max_drop, budgets.confidence
    if points is None:
        return None
    samples, parts = inputs.samples, inputs.split
    if samples is None or parts is None:
        raise UsageError("--max-drop needs --samples: answers are counted on them.")
    if samples.groups is not None:
        raise InputError(
            f"{samples.name}: --max-drop counts samples that do not depend on each other, and "
            "these have groups. Keep one of each group and leave `groups` out, or use --size, "
            "--macs or --tolerance."
        )
    confidence = DEFAULT_CONFIDENCE if confidence is None else confidence
    certified = 0 if parts.certify is None else parts.certify.count
    if inputs.metric is not None:
        needed = GROUPS * LEAST_IN_GROUP
        if certified < needed:
            raise BudgetError(
                f"{samples.name}: {samples.count} samples are too few for --max-drop with a "
                f"--metric. It takes {samples_for(needed)}, of which {needed} are set aside: what "
                f"is lost is estimated from {GROUPS} groups of {LEAST_IN_GROUP} of them. Nothing "
                "was written."
            )
        return DropLimit(points, confidence, inputs.metric)
    presumed, labelled = budgets.drop_by == "probabilities", samples.labels is not None
    if presumed and labelled:
        raise InputError(
            f"{samples.name}: with labels, --max-drop bounds the accuracy that is lost, and "
            "presumes nothing. Leave --drop-by away, or take the labels out of the samples."
        )
    blank = ExpectedDrop(0, np.zeros(0)) if presumed else Discordance(0, 0, 0 if labelled else None)
    needed = samples_needed(points / 100, 1 - confidence, blank)
    if certified < needed or parts.select is None:
        raise BudgetError(
            f"{samples.name}: {samples.count} samples are too few for --max-drop {points:g} at a "
            f"confidence of {confidence:g}. It takes {samples_for(needed)}, of which {needed} are "
            "set aside for certifying; with fewer, not even a file that changes no answer could "
            "be certified. Nothing was written."
        )
    found = answers_output(workspace.session(case.model), parts.select)
    if found is None:
        raise InputError(
            f"{case.model.name}: no output has class scores, (samples, classes), or a label a "
            "sample, so there are no answers that --max-drop could count. Give a --metric to judge "
            "by, or use --size, --macs or --tolerance."
        )
    if samples.labels is not None and not found.check_labels(samples):
        raise InputError(
            f"{samples.name}: output {found.name} answers in text, which no label equals. Leave "
            "the labels out, and --max-drop counts the answers that change."
        )
    return DropLimit(points, confidence, found.name, presumed)


def judge(
    case: Case, workspace: Workspace, samples: Samples, limit: DropLimit
) -> Callable[[Runnable], Loss]:
    """Runs the original, and returns the function from a smaller model to what it loses.

    Args:
        case: The original.
        workspace: Where it runs, and what is kept.
        samples: A part of its samples.
        limit: What may be lost.

    Raises:
        InputError: A metric fails, or there are no probabilities where these count.
    """
    if isinstance(limit.judged_by, str) and limit.presumed:
        return HeldOutProbabilities(case, workspace, samples, limit.judged_by).expected_drop
    if isinstance(limit.judged_by, str):
        return HeldOut(case, workspace, samples, limit.judged_by).discordance
    return HeldOutMetric(case, workspace, samples, limit.judged_by).loss
