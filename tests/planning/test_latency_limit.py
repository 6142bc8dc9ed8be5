"""The limit on estimated latency moves until the measured one keeps the budget."""

from collections.abc import Callable
from math import sqrt

import pytest

from onnx_relusv.core.errors import BudgetError
from onnx_relusv.core.plans import Budgets, Choice, Plan
from onnx_relusv.planning.limits import MOST_PLANS, plan_within

BUDGETS = Budgets(size=0.5, latency=0.6)


def plan_at(limit: float, *, steps: int = 1000, least: float = 0.0) -> Plan:
    """A plan whose estimate is the limit, in steps, and whose damage is what it saves."""
    if limit < least:
        raise BudgetError(f"the least is {least}")
    estimate = int(min(limit, 1.0) * steps) / steps
    return Plan(
        model_sha256="",
        samples_sha256=None,
        budgets=Budgets(latency=limit),
        method="double-layer",
        seed=0,
        allocation="damage",
        level=0.0,
        size=1.0,
        macs=1.0,
        choices=(Choice(key="a", level=estimate),),
        damage=1 - estimate,
        curves=(),
        latency=estimate,
    )


def estimate_of(plan: Plan) -> float:
    """What a plan of these tests was made for."""
    return plan.choices[0].level


class World:
    """Plans, and what they really take."""

    def __init__(
        self, real: Callable[[float], float], *, steps: int = 1000, least: float = 0.0
    ) -> None:
        self._real = real
        self._steps, self._least = steps, least
        self.limits: list[float] = []
        self.measured: list[float] = []

    def make(self, budgets: Budgets) -> Plan:
        assert budgets.size == 0.5
        assert budgets.latency is not None
        self.limits.append(budgets.latency)
        return plan_at(budgets.latency, steps=self._steps, least=self._least)

    def measure(self, plan: Plan) -> float:
        assert plan.latency is not None
        self.measured.append(self._real(plan.latency))
        return self.measured[-1]

    def settled(self, budgets: Budgets = BUDGETS) -> Plan:
        plan = plan_within(self.make, budgets, budgets.latency or 1.0, self.measure)
        # What it says to take is what was measured.
        assert plan.latency in self.measured
        return plan


def test_a_right_estimate_is_taken_at_once() -> None:
    world = World(lambda estimate: estimate)
    plan = world.settled()
    assert (world.limits, world.measured) == ([0.6], [0.6])
    # The plan says what was asked for, and what it expects.
    assert (plan.budgets, plan.latency) == (BUDGETS, 0.6)


@pytest.mark.parametrize("factor", [0.4, 0.7, 0.9, 1.05, 1.3, 2.0])
def test_a_wrong_estimate_is_corrected_in_proportion(factor: float) -> None:
    world = World(lambda estimate: factor * estimate)
    plan = world.settled()
    assert plan.latency is not None
    assert plan.latency == pytest.approx(factor * estimate_of(plan))
    # Nothing is faster than asked for without need, unless there is nothing to lose.
    assert plan.latency <= 0.6
    assert plan.latency >= 0.57 or estimate_of(plan) == 1.0
    assert len(world.measured) <= MOST_PLANS
    if factor == 1.3:
        assert world.limits[1] == pytest.approx(0.6 * 0.98 * 0.6 / world.measured[0])


def test_what_does_not_shrink_with_the_estimate_takes_several_rounds() -> None:
    world = World(lambda estimate: 0.3 + 0.7 * estimate)
    plan = world.settled()
    assert plan.latency is not None
    assert 0.57 <= plan.latency <= 0.6
    assert 2 < len(world.measured) <= MOST_PLANS


def test_the_best_within_the_budget_is_taken() -> None:
    # Real times jump, so no estimate comes near the budget.
    world = World(lambda estimate: 0.9 if estimate > 0.5 else 0.4)
    plan = world.settled()
    within = [limit for limit in world.limits if limit <= 0.5]
    assert 0.4 <= estimate_of(plan) <= 0.5
    assert estimate_of(plan) == pytest.approx(max(within), abs=1e-3)


def test_an_estimate_that_is_too_high_is_no_reason_to_give_up() -> None:
    # By its estimate no plan takes less than 0.8; really that takes 0.5.
    world = World(lambda estimate: estimate * 0.5 / 0.8, least=0.8)
    plan = world.settled()
    assert estimate_of(plan) >= 0.8
    assert world.limits[1] == pytest.approx(sqrt(0.6 * 1.1))
    assert world.measured[-1] <= 0.6


def test_another_budget_that_binds_ends_it() -> None:
    # Whatever the limit, the plan is the one that the size needs.
    world = World(lambda estimate: 0.2, steps=1)
    world.settled()
    assert len(world.measured) == 1
    assert len(world.limits) == 2


def test_an_error_says_how_far_one_got() -> None:
    world = World(lambda estimate: max(0.7, estimate))
    with pytest.raises(BudgetError, match=r"0\.6 of the latency .* measured is 0\.7\."):
        world.settled()
    assert len(world.measured) <= MOST_PLANS


def test_budgets_that_no_plan_keeps() -> None:
    world = World(lambda estimate: estimate, least=2.0)
    with pytest.raises(BudgetError, match=r"the least is 2\.0"):
        world.settled()
    assert world.measured == []


def test_noise_cannot_go_on_for_ever() -> None:
    times = iter([0.9, 0.1, 0.9, 0.1, 0.9, 0.1, 0.9])
    world = World(lambda estimate: next(times))
    world.settled()
    assert len(world.measured) <= MOST_PLANS
