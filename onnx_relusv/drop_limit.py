"""How much accuracy may be lost, and whether the samples can ever certify that."""

from dataclasses import dataclass

from onnx_relusv.certify import samples_needed
from onnx_relusv.decisions import Budgets
from onnx_relusv.errors import BudgetError, InputError, UsageError
from onnx_relusv.held_out import answers_output
from onnx_relusv.jackknife import GROUPS, LEAST_IN_GROUP
from onnx_relusv.metric import Metric
from onnx_relusv.opened import Opened
from onnx_relusv.split import samples_for

DEFAULT_CONFIDENCE = 0.95


@dataclass(frozen=True)
class DropLimit:
    """What a file may lose.

    Attributes:
        points: Points of accuracy; without labels, of answers that change; with a metric, what it
            may lose, in its own units.
        confidence: The probability with which that has to hold, at least; with a metric, near
            enough.
        scores: The model's output with answers; None with a metric.
        metric: What is judged by in place of top-1, or None.
    """

    points: float
    confidence: float
    scores: str | None
    metric: Metric | None = None

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


def drop_limit(opened: Opened, budgets: Budgets) -> DropLimit | None:
    """Reads the limit, and looks whether it can be certified before anything is measured.

    Args:
        opened: The model, its samples split for certifying.
        budgets: As asked for.

    Returns:
        None where no limit was asked for.

    Raises:
        UsageError: There are no samples.
        BudgetError: There are too few to certify even a file that changes no answer.
        InputError: The samples have groups; or there is no metric, and the model has no class
            scores, or the labels are none of its classes.
    """
    points, confidence = budgets.max_drop, budgets.confidence
    if points is None:
        return None
    samples, parts = opened.samples, opened.split
    if samples is None or parts is None:
        raise UsageError("--max-drop needs --samples: answers are counted on them.")
    if samples.groups is not None:
        raise InputError(
            f"{samples.path}: --max-drop counts samples that do not depend on each other, and "
            "these have groups. Keep one of each group and leave `groups` out, or use --size, "
            "--macs or --tolerance."
        )
    confidence = DEFAULT_CONFIDENCE if confidence is None else confidence
    if opened.metric is not None:
        _check_groups(opened, 0 if parts.certify is None else parts.certify.count)
        return DropLimit(points, confidence, None, opened.metric)
    needed = samples_needed(points / 100, 1 - confidence, labelled=samples.labels is not None)
    certified = 0 if parts.certify is None else parts.certify.count
    if certified < needed or parts.select is None:
        raise BudgetError(
            f"{samples.path}: {samples.count} samples are too few for --max-drop {points:g} at a "
            f"confidence of {confidence:g}. It takes {samples_for(needed)}, of which {needed} are "
            "set aside for certifying; with fewer, not even a file that changes no answer could "
            "be certified. Nothing was written."
        )
    found = answers_output(opened, parts.select)
    if found is None:
        raise InputError(
            f"{opened.model.path}: no output has class scores, (samples, classes), or a label a "
            "sample, so there are no answers that --max-drop could count. Give a --metric to judge "
            "by, or use --size, --macs or --tolerance."
        )
    if samples.labels is not None and not found.check_labels(samples):
        raise InputError(
            f"{samples.path}: output {found.name} answers in text, which no label equals. Leave "
            "the labels out, and --max-drop counts the answers that change."
        )
    return DropLimit(points, confidence, found.name)


def _check_groups(opened: Opened, certified: int) -> None:
    needed = GROUPS * LEAST_IN_GROUP
    if certified < needed:
        assert opened.samples is not None  # the caller looked
        raise BudgetError(
            f"{opened.samples.path}: {opened.samples.count} samples are too few for --max-drop "
            f"with a --metric. It takes {samples_for(needed)}, of which {needed} are set aside: "
            f"what is lost is estimated from {GROUPS} groups of {LEAST_IN_GROUP} of them. Nothing "
            "was written."
        )
