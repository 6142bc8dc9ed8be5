"""Certifies the best of several tries on samples that nothing has looked at before.

Tries that keep the limit on the samples for choosing are tested from the largest file down, and
the first that fails ends it; the last that passed is taken. The order is settled before the samples
for certifying are looked at, so every test may have all of the error: if a file is taken that loses
too much, then the first such file in the order has passed, and that has the error's probability
(testing in a fixed sequence; Maurer, Hothorn, Lehmacher 1995). What runs is the graph that is
written.
"""

from collections.abc import Mapping, Sequence

from onnx_relusv.certify import Discordance
from onnx_relusv.drop_limit import DropLimit
from onnx_relusv.errors import BudgetError
from onnx_relusv.fitted import FittedPlan
from onnx_relusv.graph.expose import runnable
from onnx_relusv.jackknife import MetricLoss
from onnx_relusv.judging import judge
from onnx_relusv.loss import Loss
from onnx_relusv.metric_results import DropEstimate, MetricChange, MetricTrial
from onnx_relusv.opened import Opened
from onnx_relusv.outcomes import Certificate, Trial
from onnx_relusv.progress import Progress
from onnx_relusv.rewriting import rewritten
from onnx_relusv.search import Try
from onnx_relusv.split import Split


def certified(
    opened: Opened, tries: Sequence[Try], limit: DropLimit, progress: Progress
) -> tuple[FittedPlan, Certificate | DropEstimate]:
    """The smallest of the tries that can be certified, and its certificate.

    With a metric all of it goes the same way, but the bounds are estimates and certify nothing.

    Args:
        opened: The model, its samples split for certifying.
        tries: The largest first.
        limit: What may be lost.
        progress: Told of the looks.

    Raises:
        BudgetError: None can.
    """
    parts = opened.split
    assert parts is not None  # drop_limit has looked for all parts
    assert parts.certify is not None
    within = [(one, one.fitted) for one in tries if one.fitted is not None]
    if not within:
        raise BudgetError(_how_far(tries, {}, limit))
    seen: dict[Try, Loss] = {}
    bounds: dict[Try, float] = {}
    passed: tuple[Try, FittedPlan] | None = None
    with progress.stage("Certification", len(within)) as advance:
        loss = judge(opened, parts.certify, limit)
        for one, fitted in within:
            seen[one] = loss(runnable(opened.model, rewritten(opened, fitted)))
            bounds[one] = limit.scale * seen[one].bound(limit.error)
            advance(1)
            if bounds[one] > limit.points:
                break
            passed = one, fitted
    if passed is None:
        raise BudgetError(_how_far(tries, seen, limit))
    taken, fitted = passed
    found = seen[taken]
    if isinstance(found, MetricLoss):
        return fitted, _estimate(tries, taken, found, bounds, limit, parts)
    trials = tuple(
        Trial(size=one.plan.size, select_drop=100 * one.found.drop, bound=bounds.get(one))
        for one in tries
    )
    assert isinstance(found, Discordance)  # without a metric, answers are counted
    return fitted, Certificate(
        max_drop=limit.points,
        confidence=limit.confidence,
        labelled=found.gained is not None,
        fit_samples=parts.fit.count,
        select_samples=taken.found.samples,
        certify_samples=found.samples,
        lost=int(found.lost),
        gained=None if found.gained is None else int(found.gained),
        drop=100 * found.drop,
        bound=bounds[taken],
        select_drop=100 * taken.found.drop,
        trials=trials,
    )


def _estimate(
    tries: Sequence[Try],
    taken: Try,
    found: MetricLoss,
    bounds: Mapping[Try, float],
    limit: DropLimit,
    parts: Split,
) -> DropEstimate:
    assert limit.metric is not None  # whose loss it is
    return DropEstimate(
        max_drop=limit.points,
        confidence=limit.confidence,
        change=MetricChange(
            name=limit.metric.name,
            samples=found.samples,
            part="certifying",
            before=found.before,
            after=found.after,
        ),
        fit_samples=parts.fit.count,
        select_samples=taken.found.samples,
        groups=found.groups,
        standard_error=found.standard_error,
        bound=bounds[taken],
        select_drop=taken.found.drop,
        trials=tuple(
            MetricTrial(size=one.plan.size, select_drop=one.found.drop, bound=bounds.get(one))
            for one in tries
        ),
    )


def _how_far(tries: Sequence[Try], seen: Mapping[Try, Loss], limit: DropLimit) -> str:
    known = seen or {one: one.found for one in tries}
    best = min(known, key=lambda one: known[one].bound(limit.error))
    found = known[best]
    part = "set aside for certifying" if seen else "for choosing, where no try stayed within it"
    standing = "certified" if limit.metric is None else "estimated"
    bound = limit.scale * found.bound(limit.error)
    return (
        f"no file is {standing} to lose at most {limit.points:g} {limit.unit} at a confidence of "
        f"{limit.confidence:g}: the smallest bound is {bound:.3g} {limit.unit}, "
        f"with {best.plan.size:.4g} of the bytes, on the {found.samples} samples {part}. Nothing "
        "was written. Allow a larger --max-drop, or give more samples."
    )
