"""Keeps a budget on measured latency: plans are made, timed, and made again.

The times that a plan is made with are estimates, block by block. So what the whole planned model
takes is measured before anything is fitted, and the limit for the next plan moves in proportion:
down while the model is over the budget, up where it leaves room, and always between limits that are
known to be too low and too high.
"""

from collections.abc import Callable
from dataclasses import replace
from math import sqrt

from onnx_relusv.decisions import Budgets, Choice, Plan
from onnx_relusv.errors import BudgetError

MOST_MEASURED = 5
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
    make: Callable[[Budgets], Plan], budgets: Budgets, measure: Callable[[Plan], float]
) -> Plan:
    """The plan with the least loss, among a few, whose measured latency keeps the budget.

    Args:
        make: Makes a plan with a limit on its estimated latency, or raises a BudgetError.
        budgets: As asked for, one on latency among them.
        measure: Measures a plan's latency, as a share of the original's.

    Raises:
        BudgetError: No plan keeps the budgets.
    """
    wanted = budgets.latency
    assert wanted is not None  # nobody calls it without
    low, high, limit = 0.0, _HIGHEST, wanted
    shares: dict[tuple[Choice, ...], float] = {}
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
        is_known = plan.choices in shares
        share = shares[plan.choices] if is_known else measure(plan)
        shares[plan.choices] = share
        if share <= wanted:
            best, low = plan, limit
            # Where another budget binds, more room makes no other plan.
            if is_known or share >= _NEAR * wanted:
                break
        else:
            high = limit
        if len(shares) == MOST_MEASURED or high < _APART * low:
            break
        limit *= _CAUTION * wanted / share
        if not low < limit < high:
            limit = sqrt(low * high)
    if best is not None:
        return replace(best, budgets=budgets)
    if problem is not None and not shares:
        raise problem
    raise BudgetError(
        f"{wanted:.4g} of the latency cannot be reached: the smallest share that was measured is "
        f"{min(shares.values()):.4g}. Ask for less, or allow more blocks."
    )
