"""Limits on how far two models may be apart, for pipelines that have to stop there."""

import math
from dataclasses import dataclass

from onnx_relusv.core.errors import InputError, LimitExceededError, UsageError
from onnx_relusv.core.results import Comparison, Evaluation


@dataclass(frozen=True, kw_only=True)
class ComparisonLimits:
    """What a comparison has to keep; None where there is no limit.

    Attributes:
        agreement: Least share of samples with equal answers, from 0 to 1.
        change: Largest change of any output: of numbers relative L2, of labels, text and lists the
            share that differs. A NaN in the second model exceeds any limit.
        drop: Largest loss of accuracy in points; with a metric, of it, in its own units.

    Raises:
        UsageError: A limit is out of its range.
    """

    agreement: float | None = None
    change: float | None = None
    drop: float | None = None

    def __post_init__(self) -> None:
        if self.agreement is not None and not 0 <= self.agreement <= 1:
            raise UsageError(f"--fail-below-agreement {self.agreement}: give a share from 0 to 1.")
        for option, limit in (("change", self.change), ("drop", self.drop)):
            if limit is not None and not (math.isfinite(limit) and limit >= 0):
                raise UsageError(f"--fail-above-{option} {limit}: give a finite number from 0 on.")


def check_limits_tell(evaluation: Evaluation, limits: ComparisonLimits) -> None:
    """Checks that what is limited was measured.

    Raises:
        InputError: There are no answers that could agree, or no accuracy that could drop.
    """
    if limits.agreement is not None and evaluation.agreement is None:
        raise InputError(
            "--fail-below-agreement counts equal answers, but no output has one answer a sample "
            "in both models. Use --fail-above-change, or --metric with --fail-above-drop."
        )
    if limits.drop is not None and _drop(evaluation) is None:
        raise InputError(
            "--fail-above-drop counts right answers, but no output has answers that the samples' "
            "labels could be compared with. Give a --metric, or use --fail-above-change."
        )


def check_limits(comparison: Comparison, limits: ComparisonLimits) -> None:
    """Holds a comparison to its limits.

    Raises:
        LimitExceededError: Some are exceeded; the message names all of them.
        InputError: What is limited was not measured.
    """
    evaluation = comparison.evaluation
    check_limits_tell(evaluation, limits)
    found = []
    agreement, drop = evaluation.agreement, _drop(evaluation)
    # A figure that is no number exceeds every limit.
    if limits.agreement is not None and agreement is not None and not agreement >= limits.agreement:
        found.append(
            f"the answers agree in {agreement:.4g}, at least {limits.agreement:g} is asked"
        )
    for one in evaluation.outputs:
        if limits.change is not None and not one.change <= limits.change:
            much = "to what is not finite" if math.isinf(one.change) else f"by {one.change:.3g}"
            found.append(f"output {one.name} changes {much}, at most {limits.change:g} is allowed")
    if limits.drop is not None and drop is not None and not drop <= limits.drop:
        unit = "points of accuracy" if evaluation.metric is None else evaluation.metric.name
        found.append(f"{drop:.4g} {unit} are lost, at most {limits.drop:g} are allowed")
    if found:
        raise LimitExceededError(f"{'; '.join(found)}.")


def _drop(evaluation: Evaluation) -> float | None:
    return evaluation.drop if evaluation.metric is None else evaluation.metric.loss
