"""The search for the smallest file that loses little: a bisection over sizes.

Factors are fitted to one part of the samples, and what a try loses is counted on another. What is
looked for is the smallest file that could be certified if the third part, which the search never
looks at, came out as the second: a file that keeps the limit barely on the second part would not.

What is chosen on few samples looks better on them than it is. Certification begins with the largest
try, and where that fails there is nothing to fall back on; so a larger one is tried as a reserve.

How much accuracy may be lost, and whether the samples can ever certify that.

What a smaller model loses on samples set aside: answers that are counted, or of a metric.

Certifies the best of several tries on samples that nothing has looked at before.

Tries that keep the limit on the samples for choosing are tested from the largest file down, and
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
    MetricLoss,
    samples_needed,
)
from onnx_relusv.measuring.case import BlockMoments, Case, Workspace
from onnx_relusv.measuring.held_out import HeldOut, HeldOutMetric, answers_output
from onnx_relusv.measuring.inputs import Inputs
from onnx_relusv.planning.offer import Offer
from onnx_relusv.rewrites.apply import composed, rewritten
from onnx_relusv.samples.samples import Samples
from onnx_relusv.samples.split import Split, samples_for
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
    if inputs.metric is not None:
        _check_groups(inputs, 0 if parts.certify is None else parts.certify.count)
        return DropLimit(points, confidence, None, inputs.metric)
    needed = samples_needed(points / 100, 1 - confidence, labelled=samples.labels is not None)
    certified = 0 if parts.certify is None else parts.certify.count
    if certified < needed or parts.select is None:
        raise BudgetError(
            f"{samples.path}: {samples.count} samples are too few for --max-drop {points:g} at a "
            f"confidence of {confidence:g}. It takes {samples_for(needed)}, of which {needed} are "
            "set aside for certifying; with fewer, not even a file that changes no answer could "
            "be certified. Nothing was written."
        )
    found = answers_output(case, workspace, parts.select)
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


def _check_groups(inputs: Inputs, certified: int) -> None:
    needed = GROUPS * LEAST_IN_GROUP
    if certified < needed:
        assert inputs.samples is not None  # the caller looked
        raise BudgetError(
            f"{inputs.samples.path}: {inputs.samples.count} samples are too few for --max-drop "
            f"with a --metric. It takes {samples_for(needed)}, of which {needed} are set aside: "
            f"what is lost is estimated from {GROUPS} groups of {LEAST_IN_GROUP} of them. Nothing "
            "was written."
        )


def judge(
    case: Case, inputs: Inputs, workspace: Workspace, samples: Samples, limit: DropLimit
) -> Callable[[Runnable], Loss]:
    """Runs the original, and gives a function that tells what a smaller model loses against it.

    Args:
        case: The original.
        inputs: Its samples.
        workspace: Where it runs, and what is kept.
        samples: A part of its samples.
        limit: What may be lost.

    Raises:
        InputError: A metric fails.
    """
    if inputs.metric is not None:
        return HeldOutMetric(case, workspace, samples, inputs.metric).loss
    assert limit.scores is not None  # without a metric, drop_limit has found them
    return HeldOut(case, workspace, samples, limit.scores).discordance


_STEPS = 5
MOST_TRIES = _STEPS + 1
# What as many steps of a bisection can tell apart.
_RUNGS = 2**_STEPS - 1
# A larger file is hardly worth a second one.
_LARGEST = 0.95


@dataclass(frozen=True, eq=False)
class Try:
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
) -> tuple[Try, ...]:
    """Tries sizes on a geometric ladder, from that of the size budget down if there is one.

    Args:
        case: The model, its samples split for certifying.
        inputs: Its samples.
        workspace: Where it runs, and what is kept.
        offer: What plans are made of.
        moments: Of the blocks' inputs.
        budgets: As asked for; every plan keeps all of them.
        limit: What may be lost.
        progress: Shows the tries.

    Returns:
        All tries, the largest first.

    Raises:
        BudgetError: No plan keeps the other budgets.
    """
    searching = _Search(case, inputs, workspace, offer, moments, budgets, limit, progress)
    largest = min(_LARGEST, budgets.size or 1)
    # Not to miss the smallest plan by a rounding.
    least = offer.least_size(budgets.tolerance) * (1 + 1e-9)
    rungs = [largest] if least >= largest else np.geomspace(least, largest, _RUNGS).tolist()
    with progress.stage("Search for the smallest file", MOST_TRIES) as advance:
        searching.bisect(rungs, advance)
        searching.reserve(largest, advance)
    return searching.tries


class _Search:
    def __init__(
        self,
        case: Case,
        inputs: Inputs,
        workspace: Workspace,
        offer: Offer,
        moments: BlockMoments,
        budgets: Budgets,
        limit: DropLimit,
        progress: Progress,
    ) -> None:
        parts = inputs.split
        assert parts is not None  # drop_limit has looked for all parts
        assert parts.select is not None
        assert parts.certify is not None
        self._case = case
        self._inputs = inputs
        self._workspace = workspace
        self._offer = offer
        self._moments = moments
        self._budgets = budgets
        self._limit = limit
        self._progress = progress
        self._certified = parts.certify.count
        self._loss = judge(case, inputs, workspace, parts.select, limit)
        self._tries: dict[tuple[Choice, ...], Try] = {}

    @property
    def tries(self) -> tuple[Try, ...]:
        """All so far, the largest first."""
        return tuple(sorted(self._tries.values(), key=lambda one: one.plan.size, reverse=True))

    def bisect(self, rungs: Sequence[float], advance: Advance) -> None:
        """Looks for the lowest rung that promises, as if all above it did, too."""
        problem: BudgetError | None = None
        low, high = 0, len(rungs)
        while low < high:
            middle = (low + high) // 2
            try:
                promises = self._promises(self._tried(rungs[middle], advance))
            except BudgetError as error:
                promises, problem = False, error
            low, high = (low, middle) if promises else (middle + 1, high)
        if not self._tries and problem is not None:
            raise problem

    def reserve(self, largest: float, advance: Advance) -> None:
        """Tries a size half-way from the largest that promises to the largest of all."""
        promising = [one.plan.size for one in self.tries if self._promises(one)]
        if promising:
            self._tried(math.sqrt(promising[0] * largest), advance)

    def _promises(self, one: Try) -> bool:
        """Whether a try would be certified at the rates that the search sees."""
        expected = one.found.expected(self._certified)
        return expected.bound(self._limit.error) <= self._limit.share

    def _tried(self, size: float, advance: Advance) -> Try:
        plan = self._offer.plan(replace(self._budgets, size=size))
        # Where few ranks are to choose from, several sizes have one plan.
        if plan.choices not in self._tries:
            self._tries[plan.choices] = self._try(replace(plan, budgets=self._budgets))
            advance(1)
        return self._tries[plan.choices]

    def _try(self, plan: Plan) -> Try:
        fitted = fit_plan(
            self._case, self._inputs, self._workspace, plan, self._moments, self._progress
        )
        found = self._loss(composed(self._case, fitted))
        return Try(plan, found, fitted if found.drop <= self._limit.share else None)


def certified(
    case: Case,
    inputs: Inputs,
    workspace: Workspace,
    tries: Sequence[Try],
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
    """
    parts = inputs.split
    assert parts is not None  # drop_limit has looked for all parts
    assert parts.certify is not None
    within = [(one, one.fitted) for one in tries if one.fitted is not None]
    if not within:
        raise BudgetError(_how_far(tries, {}, limit))
    seen: dict[Try, Loss] = {}
    bounds: dict[Try, float] = {}
    passed: tuple[Try, FittedPlan] | None = None
    with progress.stage("Certification", len(within)) as advance:
        loss = judge(case, inputs, workspace, parts.certify, limit)
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
    return fitted, _bound(tries, taken, seen[taken], bounds, limit, parts)


def _bound(
    tries: Sequence[Try],
    taken: Try,
    found: Loss,
    bounds: Mapping[Try, float],
    limit: DropLimit,
    parts: Split,
) -> LossBound:
    bound = LossBound(
        exact=limit.metric is None,
        max_drop=limit.points,
        confidence=limit.confidence,
        fit_samples=parts.fit.count,
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
    assert isinstance(found, MetricLoss)  # the only other kind
    assert limit.metric is not None  # whose loss it is
    change = MetricChange(
        name=limit.metric.name,
        samples=found.samples,
        part="certifying",
        before=found.before,
        after=found.after,
    )
    return replace(bound, metric=change, groups=found.groups, standard_error=found.standard_error)


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
