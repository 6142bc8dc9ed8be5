"""The search for the smallest file that loses little: which sizes are fitted, and in which order.

Factors are fitted to one part of the samples, and what a trial loses is counted on another, by a
bisection over sizes. The third part, which bounds what is lost, is not looked at here.

What the bisection sees is rough, since the samples for choosing are few. So it only says where to
begin: from there sizes go down in small steps, each fitted when all before it were certified
(`Descent`), and the many samples for certifying decide where that ends. What runs is the graph that
is written.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np

from onnx_relusv.checking.limit import DropLimit, judge
from onnx_relusv.core.blocks import Runnable
from onnx_relusv.core.errors import BudgetError
from onnx_relusv.core.plans import Budgets, Choice, Plan
from onnx_relusv.core.reduction import FittedPlan
from onnx_relusv.fitting.plan import fit_plan
from onnx_relusv.graph.reference import runnable
from onnx_relusv.measuring.bounds import Loss
from onnx_relusv.measuring.case import BlockMoments, Case, Workspace
from onnx_relusv.measuring.inputs import Inputs
from onnx_relusv.planning.offer import Offer
from onnx_relusv.rewrites.apply import composed, rewritten
from onnx_relusv.work.executors import Advance, Progress, unseen

STEPS = 4
# What as many steps of a bisection can tell apart.
_SIZES = 2**STEPS - 1
# A larger file is hardly worth a second one.
_LARGEST = 0.95
# Between sizes that are certified one after the other; those that are nearer are as good as one.
_RATIO = 1.12
# In steps of that ratio from where the bisection ended. Above it, since chance may have led it too
# far down, and nothing smaller is certified where a larger file fails; below it, since chance may
# have kept it from going there.
_ABOVE, _BELOW = 4, 12
# One more is far above it, to fall back on.
MOST_TRIES = STEPS + 1 + _ABOVE + _BELOW


@dataclass(frozen=True, eq=False)
class SizeTrial:
    """A size that was tried.

    Attributes:
        plan: For that size.
        found: On the samples for choosing.
        fitted: Its factors; None where it is not to be certified, since the search found that it
            loses too much.
    """

    plan: Plan
    found: Loss
    fitted: FittedPlan | None


@dataclass(frozen=True, eq=False)
class Descent:
    """Trials from the largest to the smallest, in the order in which they are certified.

    What was seen on the samples for fitting and choosing settles that order. Of the samples for
    certifying it is told one thing: that all before it have passed, since it is asked for the next.

    Attributes:
        tries: What the search has fitted.
        further: Sizes that are fitted when it is their turn.
        tried: Fits one.
    """

    tries: tuple[SizeTrial, ...]
    further: tuple[float, ...] = ()
    tried: Callable[[float], SizeTrial] | None = None

    def __len__(self) -> int:
        """How many trials there are at most."""
        return sum(one.fitted is not None for one in self.tries) + len(self.further)

    def __iter__(self) -> Iterator[tuple[SizeTrial, FittedPlan]]:
        """Those that have factors, with them, each smaller than the one before it."""
        fitted = {one.plan.size: one for one in self.tries if one.fitted is not None}
        smallest = float("inf")
        for size in sorted({*fitted, *self.further}, reverse=True):
            one = fitted.get(size) or self._further(size)
            if one is None or one.fitted is None:
                return
            if one.plan.size < smallest:
                smallest = one.plan.size
                yield one, one.fitted

    def _further(self, size: float) -> SizeTrial | None:
        try:
            return None if self.tried is None else self.tried(size)
        except BudgetError:  # the other budgets leave no plan of that size
            return None


def search(
    case: Case,
    inputs: Inputs,
    workspace: Workspace,
    offer: Offer,
    moments: BlockMoments,
    budgets: Budgets,
    limit: DropLimit,
    progress: Progress,
) -> Descent:
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
        All trials, and sizes around the smallest that promises to be certified.

    Raises:
        BudgetError: No plan keeps the other budgets.
        UsageError: The samples are not split for certifying.
    """
    loss = judge(case, workspace, inputs.selection, limit)
    to_certify = inputs.certification.count
    trials: dict[tuple[Choice, ...], SizeTrial] = {}

    def tried(size: float, advance: Advance = unseen) -> SizeTrial:
        plan = offer.plan(replace(budgets, size=size))
        # Where few ranks are to choose from, several sizes have one plan.
        if plan.choices not in trials:
            plan = replace(plan, budgets=budgets)
            fitted = fit_plan(case, inputs, workspace, plan, moments, progress)
            found = loss(_run(case, inputs, workspace, fitted))
            trials[plan.choices] = SizeTrial(plan, found, fitted)
            advance(1)
        return trials[plan.choices]

    def promises(trial: SizeTrial) -> bool:
        """Whether it would be certified at the rates that the search sees."""
        return trial.found.expected(to_certify).bound(limit.error) <= limit.share

    largest = min(_LARGEST, budgets.size or 1)
    # Not to miss the smallest plan by a rounding.
    least = offer.least_size(budgets.tolerance) * (1 + 1e-9)
    sizes = [largest] if least >= largest else np.geomspace(least, largest, _SIZES).tolist()
    with progress.stage("Search for the smallest file", STEPS) as advance:
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
    tries = tuple(
        one if one.found.drop <= limit.share else replace(one, fitted=None)
        for one in trials.values()
    )
    promising = [one.plan.size for one in tries if promises(one)]
    if not promising:
        return Descent(tries)
    further = [min(promising) * _RATIO**power for power in range(-_BELOW, _ABOVE + 1)]
    # Half-way from the largest that promises to the largest of all.
    further.append(math.sqrt(max(promising) * largest))
    known = [one.plan.size for one in tries if one.fitted is not None]
    return Descent(tries, tuple(_between(further, known, least, largest)), tried)


def _between(
    sizes: list[float], known: list[float], least: float, largest: float
) -> Iterator[float]:
    """Those of some sizes that there may be a plan for, and that are not near to a known one."""
    for size in sizes:
        near = any(max(size / other, other / size) < _RATIO**0.5 for other in known)
        if least <= size <= largest and not near:
            yield size


def _run(case: Case, inputs: Inputs, workspace: Workspace, fitted: FittedPlan) -> Runnable:
    """What is run of a fitted plan; with other numbers, no other graph answers as they do."""
    if fitted.has_integers or fitted.plan.uses_fp16:
        return runnable(case.model, rewritten(case, inputs, workspace, fitted))
    return composed(case, fitted)
