"""What plans are for, and what their budgets allow.

A budget on latency is one on what is measured, and the times that a plan is made with are
estimates, block by block. So what the whole planned model takes is measured before anything is
fitted, and the limit for the next plan moves in proportion: down while the model is over the
budget, up where it leaves room, and always between limits that are known to be too low and too
high.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from math import sqrt

from onnx_relusv.core.errors import BudgetError
from onnx_relusv.core.plans import (
    COST_BUDGETS,
    Budget,
    Budgets,
    Choice,
    Cost,
    Effort,
    GroupChoice,
    Int8Format,
    Method,
    Plan,
    Precision,
    TimedOn,
    WithPrecision,
)

# Bytes of a number in half precision, as a share of those of a float32.
HALF = 0.5


@dataclass(frozen=True)
class Origin(WithPrecision):
    """What a plan was made for.

    Attributes:
        model_sha256: Of the model.
        samples_sha256: Of the samples, or None.
        total: What the whole original costs; `bytes` with everything that cannot shrink.
        added_bytes: What the file gains besides blocks (provenance, refits), an upper bound.
        precision: As asked for.
        int8_format: What layers of 8-bit integers read.
        halved_bytes: What half precision takes off the original's bytes; 0 where it is not used.
        reserved_bytes: What of it is for refits, of all blocks together.
        seed: In force.
        effort: In force.
        method: In force.
        batch: Samples in a run that latency is measured at.
        pack: Channels that kernels compute at once, where plans go by their times.
        timed_on: Whose times these are; None where nothing was timed.
        assumed: Whether relative errors are measured on assumed statistics, for want of samples.
        input_range: Between which numbers all inputs lie; None where that was not declared.
    """

    model_sha256: str
    samples_sha256: str | None
    total: Cost
    added_bytes: int
    seed: int
    method: Method
    effort: Effort = "normal"
    batch: int = 1
    pack: int | None = None
    timed_on: TimedOn | None = None
    assumed: bool = False
    input_range: tuple[float, float] | None = None
    reserved_bytes: int = 0
    int8_format: Int8Format = "u8s8"
    precision: Precision = "keep"
    halved_bytes: int = 0

    @property
    def number_share(self) -> float:
        """Bytes of a number in the file, as a share of those in the original."""
        return HALF if self.uses_fp16 else 1.0


def limits(budgets: Budgets, total: Cost) -> dict[str, float]:
    """What the budgets that are set allow, by the name of the cost; `total` is the original's."""
    return {
        budget.cost: share * getattr(total, budget.cost) for budget, share in budgets.shares.items()
    }


def shares_of(cost: Cost, total: Cost) -> dict[Budget, float]:
    """What the model costs as shares of the original's; of the costs that are known."""
    known = {budget: getattr(total, budget.cost) for budget in COST_BUDGETS}
    return {
        budget: getattr(cost, budget.cost) / (whole or 1)
        for budget, whole in known.items()
        if not math.isnan(whole) and not math.isnan(getattr(cost, budget.cost))
    }


def in_words(shares: Mapping[Budget, float], *, planned: bool = False) -> str:
    """Shares of costs, in words; of a plan, those that are estimates are called so."""
    return " and ".join(
        f"{'an estimated ' * (planned and budget.estimated)}{share:.4g} of the {budget.words}"
        for budget, share in shares.items()
    )


def how_far(cost: Cost, budgets: Budgets, total: Cost) -> str:
    """Says that budgets cannot be reached, and how far one gets."""
    limit = budgets.tolerance
    within = "" if limit is None else f" within a relative error of {limit:.4g}"
    return (
        f"{in_words(budgets.shares)} cannot be reached{within}: the least is "
        f"{in_words(shares_of(cost, total), planned=True)}. Ask for less, or allow more blocks."
    )


MOST_PLANS = 5
_MOST_PLANS = 12
# A model that takes this share of the budget or more is near enough to it.
_NEAR = 0.95
# The next limit is a little lower than proportion says, so that noise does not decide.
_CAUTION = 0.98
# No limit lies above: a plan may cost a little more time than the original by its estimate.
_HIGHEST = 1.1
# Limits that are nearer to each other than this ratio are one.
_APART = 1.01


def plan_within(
    make: Callable[[Budgets], Plan],
    budgets: Budgets,
    target: float,
    measure: Callable[[Plan], float],
) -> Plan:
    """The plan with the least loss, among a few, whose measured latency keeps the budget.

    Args:
        make: Makes a plan with a limit on its estimated latency, or raises a BudgetError.
        budgets: The user's, one on latency among them.
        target: That one.
        measure: Measures a plan's latency, as a share of the original's.

    Returns:
        The plan, whose latency is what was measured, and not what was estimated.

    Raises:
        BudgetError: No plan keeps the budgets.
    """
    low, high, limit = 0.0, _HIGHEST, target
    shares: dict[tuple[tuple[Choice, ...], tuple[GroupChoice, ...]], float] = {}
    best: Plan | None = None
    problem: BudgetError | None = None
    for _ in range(_MOST_PLANS):
        try:
            plan = make(replace(budgets, latency=limit))
        except BudgetError as error:
            problem, low = problem or error, limit
            limit = sqrt(low * high)
            if high < _APART * low:
                break
            continue
        decided = plan.choices, plan.groups
        is_known = decided in shares
        share = shares[decided] if is_known else measure(plan)
        shares[decided] = share
        if share <= target:
            best, low = replace(plan, latency=share), limit
            # Where another budget binds, more room makes no other plan.
            if is_known or share >= _NEAR * target:
                break
        else:
            high = limit
        if len(shares) == MOST_PLANS or high < _APART * low:
            break
        limit *= _CAUTION * target / share
        if not low < limit < high:
            limit = sqrt(low * high)
    if best is not None:
        return replace(best, budgets=budgets)
    if problem is not None and not shares:
        raise problem
    raise BudgetError(
        f"{target:.4g} of the latency cannot be reached: the smallest share that was measured is "
        f"{min(shares.values()):.4g}. Ask for less, or allow more blocks."
    )
