"""The search for the smallest file that loses little: a bisection over sizes.

Factors are fitted to one part of the samples, and what a try loses is counted on another. What is
looked for is the smallest file that could be certified if the third part, which the search never
looks at, came out as the second: a file that keeps the limit barely on the second part would not.

What is chosen on few samples looks better on them than it is. Certification begins with the largest
try, and where that fails there is nothing to fall back on; so a larger one is tried as a reserve.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from onnx_relusv.decisions import Budgets, Choice, Plan
from onnx_relusv.drop_limit import DropLimit
from onnx_relusv.errors import BudgetError
from onnx_relusv.fitted import FittedPlan
from onnx_relusv.judging import judge
from onnx_relusv.loss import Loss
from onnx_relusv.opened import BlockMoments, Opened
from onnx_relusv.planning import Planner
from onnx_relusv.progress import Advance, Progress
from onnx_relusv.rewriting import composed, fit_plan

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
    opened: Opened,
    offer: Planner,
    moments: BlockMoments,
    budgets: Budgets,
    limit: DropLimit,
    progress: Progress,
) -> tuple[Try, ...]:
    """Tries sizes on a geometric ladder, from that of the size budget down if there is one.

    Args:
        opened: The model, its samples split for certifying.
        offer: What plans are made of.
        moments: Of the blocks' inputs.
        budgets: As asked for; every plan keeps all of them.
        limit: What may be lost.
        progress: Told of the tries.

    Returns:
        All tries, the largest first.

    Raises:
        BudgetError: No plan keeps the other budgets.
    """
    searching = _Search(opened, offer, moments, budgets, limit, progress)
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
        opened: Opened,
        offer: Planner,
        moments: BlockMoments,
        budgets: Budgets,
        limit: DropLimit,
        progress: Progress,
    ) -> None:
        parts = opened.split
        assert parts is not None  # drop_limit has looked for all parts
        assert parts.select is not None
        assert parts.certify is not None
        self._opened = opened
        self._offer = offer
        self._moments = moments
        self._budgets = budgets
        self._limit = limit
        self._progress = progress
        self._certified = parts.certify.count
        self._loss = judge(opened, parts.select, limit)
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
        opened = self._opened
        fitted = fit_plan(opened, plan, self._moments, self._progress)
        found = self._loss(composed(opened, fitted))
        return Try(plan, found, fitted if found.drop <= self._limit.share else None)
