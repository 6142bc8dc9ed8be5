"""The search for the smallest file that loses little, and the certificate of what it loses.

Factors are fitted to one part of the samples, and what a trial loses is counted on another, by a
bisection over sizes. What is looked for is the smallest file that could be certified if the third
part, which the search never looks at, came out as the second: a file that keeps the limit barely on
the second part would not.

What is chosen on few samples looks better on them than it is. Certification begins with the largest
trial, and where that fails there is nothing to fall back on; so a larger one is tried as a reserve.

Trials that keep the limit on the samples for choosing are tested from the largest file down, and
the first that fails ends it; the last that passed is taken. The order is settled before the samples
for certifying are looked at, so every test may have all of the error: if a file is taken that loses
too much, then the first such file in the order has passed, and that has the error's probability
(testing in a fixed sequence; Maurer, Hothorn, Lehmacher 1995). What runs is the graph that is
written.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from onnx_relusv.core.blocks import Runnable
from onnx_relusv.core.errors import BudgetError, InputError, UsageError
from onnx_relusv.core.metric import LossBound, Metric, MetricChange, Trial
from onnx_relusv.core.plans import Budgets, Choice, Plan
from onnx_relusv.core.reduction import FittedPlan
from onnx_relusv.fitting.plan import fit_plan
from onnx_relusv.graph.reference import runnable
from onnx_relusv.measuring.bounds import (
    GROUPS,
    LEAST_IN_GROUP,
    Discordance,
    Loss,
    samples_needed,
)
from onnx_relusv.measuring.case import BlockMoments, Case, Workspace
from onnx_relusv.measuring.held_out import HeldOut, HeldOutMetric, answers_output
from onnx_relusv.measuring.inputs import Inputs
from onnx_relusv.planning.offer import Offer
from onnx_relusv.rewrites.apply import composed, rewritten
from onnx_relusv.samples.samples import Samples
from onnx_relusv.samples.split import samples_for
from onnx_relusv.work.executors import Advance, Progress

DEFAULT_CONFIDENCE = 0.95


@dataclass(frozen=True)
class DropLimit:
    """What a file may lose.

    Attributes:
        points: Points of accuracy; without labels, of answers that change; with a metric, what it
            may lose, in its own units.
        confidence: The probability with which that has to hold, at least; with a metric, near
            enough.
        judged_by: The model's output with answers, by name, or a metric.
    """

    points: float
    confidence: float
    judged_by: str | Metric

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
            scores, or the labels are none of its classes.
    """
    points, confidence = budgets.max_drop, budgets.confidence
    if points is None:
        return None
    samples, parts = inputs.samples, inputs.split
    if samples is None or parts is None:
        raise UsageError("--max-drop needs --samples: answers are counted on them.")
    if samples.groups is not None:
        raise InputError(
            f"{samples.path}: --max-drop counts samples that do not depend on each other, and "
            "these have groups. Keep one of each group and leave `groups` out, or use --size, "
            "--macs or --tolerance."
        )
    confidence = DEFAULT_CONFIDENCE if confidence is None else confidence
    certified = 0 if parts.certify is None else parts.certify.count
    if inputs.metric is not None:
        needed = GROUPS * LEAST_IN_GROUP
        if certified < needed:
            raise BudgetError(
                f"{samples.path}: {samples.count} samples are too few for --max-drop with a "
                f"--metric. It takes {samples_for(needed)}, of which {needed} are set aside: what "
                f"is lost is estimated from {GROUPS} groups of {LEAST_IN_GROUP} of them. Nothing "
                "was written."
            )
        return DropLimit(points, confidence, inputs.metric)
    needed = samples_needed(points / 100, 1 - confidence, labelled=samples.labels is not None)
    if certified < needed or parts.select is None:
        raise BudgetError(
            f"{samples.path}: {samples.count} samples are too few for --max-drop {points:g} at a "
            f"confidence of {confidence:g}. It takes {samples_for(needed)}, of which {needed} are "
            "set aside for certifying; with fewer, not even a file that changes no answer could "
            "be certified. Nothing was written."
        )
    found = answers_output(workspace.session(case.model), parts.select)
    if found is None:
        raise InputError(
            f"{case.model.path}: no output has class scores, (samples, classes), or a label a "
            "sample, so there are no answers that --max-drop could count. Give a --metric to judge "
            "by, or use --size, --macs or --tolerance."
        )
    if samples.labels is not None and not found.check_labels(samples):
        raise InputError(
            f"{samples.path}: output {found.name} answers in text, which no label equals. Leave "
            "the labels out, and --max-drop counts the answers that change."
        )
    return DropLimit(points, confidence, found.name)


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
        InputError: A metric fails.
    """
    if isinstance(limit.judged_by, str):
        return HeldOut(case, workspace, samples, limit.judged_by).discordance
    return HeldOutMetric(case, workspace, samples, limit.judged_by).loss


_STEPS = 5
MOST_TRIES = _STEPS + 1
# What as many steps of a bisection can tell apart.
_SIZES = 2**_STEPS - 1
# A larger file is hardly worth a second one.
_LARGEST = 0.95


@dataclass(frozen=True, eq=False)
class SizeTrial:
    """A size that was tried.

    Attributes:
        plan: For that size.
        found: On the samples for choosing.
        fitted: Its factors; None where it loses too much already there.
    """

    plan: Plan
    found: Loss
    fitted: FittedPlan | None


def search(
    case: Case,
    inputs: Inputs,
    workspace: Workspace,
    offer: Offer,
    moments: BlockMoments,
    budgets: Budgets,
    limit: DropLimit,
    progress: Progress,
) -> tuple[SizeTrial, ...]:
    """Tries sizes on a geometric grid, from that of the size budget down if there is one.

    Args:
        case: The model, its samples split for certifying.
        inputs: Its samples.
        workspace: Where it runs, and what is kept.
        offer: What plans are made of.
        moments: Of the blocks' inputs.
        budgets: As asked for; every plan keeps all of them.
        limit: What may be lost.
        progress: Shows the trials.

    Returns:
        All trials, the largest first.

    Raises:
        BudgetError: No plan keeps the other budgets.
        UsageError: The samples are not split for certifying.
    """
    loss = judge(case, workspace, inputs.selection, limit)
    to_certify = inputs.certification.count
    trials: dict[tuple[Choice, ...], SizeTrial] = {}

    def tried(size: float, advance: Advance) -> SizeTrial:
        plan = offer.plan(replace(budgets, size=size))
        # Where few ranks are to choose from, several sizes have one plan.
        if plan.choices not in trials:
            plan = replace(plan, budgets=budgets)
            fitted = fit_plan(case, inputs, workspace, plan, moments, progress)
            found = loss(_run(case, inputs, workspace, fitted))
            kept = fitted if found.drop <= limit.share else None
            trials[plan.choices] = SizeTrial(plan, found, kept)
            advance(1)
        return trials[plan.choices]

    def promises(trial: SizeTrial) -> bool:
        """Whether it would be certified at the rates that the search sees."""
        return trial.found.expected(to_certify).bound(limit.error) <= limit.share

    largest = min(_LARGEST, budgets.size or 1)
    # Not to miss the smallest plan by a rounding.
    least = offer.least_size(budgets.tolerance) * (1 + 1e-9)
    sizes = [largest] if least >= largest else np.geomspace(least, largest, _SIZES).tolist()
    with progress.stage("Search for the smallest file", MOST_TRIES) as advance:
        # The smallest size that promises, as if all above it did, too.
        problem: BudgetError | None = None
        low, high = 0, len(sizes)
        while low < high:
            middle = (low + high) // 2
            try:
                passes = promises(tried(sizes[middle], advance))
            except BudgetError as error:
                passes, problem = False, error
            low, high = (low, middle) if passes else (middle + 1, high)
        if not trials and problem is not None:
            raise problem
        # The reserve: half-way from the largest that promises to the largest of all.
        promising = [trial.plan.size for trial in trials.values() if promises(trial)]
        if promising:
            tried(math.sqrt(max(promising) * largest), advance)
    return tuple(sorted(trials.values(), key=lambda trial: trial.plan.size, reverse=True))


def _run(case: Case, inputs: Inputs, workspace: Workspace, fitted: FittedPlan) -> Runnable:
    """What is run of a fitted plan; with other numbers, no other graph answers as they do."""
    if fitted.has_integers or fitted.plan.uses_fp16:
        return runnable(case.model, rewritten(case, inputs, workspace, fitted))
    return composed(case, fitted)


def certified(
    case: Case,
    inputs: Inputs,
    workspace: Workspace,
    tries: Sequence[SizeTrial],
    limit: DropLimit,
    progress: Progress,
) -> tuple[FittedPlan, LossBound]:
    """The smallest of the tries that can be certified, and what it loses at most.

    With a metric all of it goes the same way, but the bounds are estimates and certify nothing.

    Args:
        case: The model, its samples split for certifying.
        inputs: Its samples.
        workspace: Where it runs, and what is kept.
        tries: The largest first.
        limit: What may be lost.
        progress: Shows the looks.

    Raises:
        BudgetError: None can.
        UsageError: The samples are not split for certifying.
    """
    within = [(one, one.fitted) for one in tries if one.fitted is not None]
    if not within:
        raise BudgetError(_how_far(tries, {}, limit))
    seen: dict[SizeTrial, Loss] = {}
    bounds: dict[SizeTrial, float] = {}
    passed: tuple[SizeTrial, FittedPlan] | None = None
    with progress.stage("Certification", len(within)) as advance:
        loss = judge(case, workspace, inputs.certification, limit)
        for one, fitted in within:
            seen[one] = loss(runnable(case.model, rewritten(case, inputs, workspace, fitted)))
            bounds[one] = limit.scale * seen[one].bound(limit.error)
            advance(1)
            if bounds[one] > limit.points:
                break
            passed = one, fitted
    if passed is None:
        raise BudgetError(_how_far(tries, seen, limit))
    taken, fitted = passed
    return fitted, _bound(tries, taken, seen[taken], bounds, limit, inputs)


def _bound(
    tries: Sequence[SizeTrial],
    taken: SizeTrial,
    found: Loss,
    bounds: Mapping[SizeTrial, float],
    limit: DropLimit,
    inputs: Inputs,
) -> LossBound:
    bound = LossBound(
        exact=limit.metric is None,
        max_drop=limit.points,
        confidence=limit.confidence,
        fit_samples=0 if inputs.calibration is None else inputs.calibration.count,
        select_samples=taken.found.samples,
        certify_samples=found.samples,
        drop=limit.scale * found.drop,
        bound=bounds[taken],
        select_drop=limit.scale * taken.found.drop,
        trials=tuple(
            Trial(
                size=one.plan.size,
                select_drop=limit.scale * one.found.drop,
                bound=bounds.get(one),
            )
            for one in tries
        ),
    )
    if isinstance(found, Discordance):
        gained = None if found.gained is None else int(found.gained)
        return replace(bound, lost=int(found.lost), gained=gained)
    change = MetricChange(
        name=found.metric,
        samples=found.samples,
        part="certifying",
        before=found.before,
        after=found.after,
    )
    return replace(bound, metric=change, groups=found.groups, standard_error=found.standard_error)


def _how_far(tries: Sequence[SizeTrial], seen: Mapping[SizeTrial, Loss], limit: DropLimit) -> str:
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
