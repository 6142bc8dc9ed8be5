"""The search for a plan against all plans there are, on problems small enough to list them."""

from collections.abc import Callable, Iterator, Sequence
from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from onnx_relusv.core.blocks import Floats
from onnx_relusv.planning.search import Joint, State


class Priced:
    """Costs by a function of the whole state.

    Args:
        cost: The function.
        lengths: How many options every item has.
    """

    def __init__(self, cost: Callable[[State], Floats], lengths: Sequence[int]) -> None:
        self.of = cost
        self._lengths = lengths

    def options(self, state: State, item: int) -> Floats:
        places = range(self._lengths[item])
        return np.array([self.of((*state[:item], place, *state[item + 1 :])) for place in places])


def joint_of(damages: Sequence[Floats], cost: Callable[[State], Floats], limits: Floats) -> Joint:
    return Joint(damages, Priced(cost, [len(own) for own in damages]), limits)


class Network:
    """Layers one behind the other: a weight's size is the product of what is left on its sides.

    Args:
        rng: Draws widths and the options of every group of units.
        layers: How many groups there are.
        options: How many counts of each may be kept.
        budgets: One for weights alone, or two, the second with other weights' costs.
    """

    def __init__(
        self, rng: np.random.Generator, layers: int = 4, options: int = 5, budgets: int = 1
    ) -> None:
        widths = rng.integers(8, 64, layers)
        shares = np.linspace(1, 0.1, options)
        self.counts = [np.maximum((width * shares).round(), 1) for width in widths]
        self.rates = rng.uniform(0.2, 5, (budgets, layers + 1))
        # Convex and increasing, of very different sizes, as damages are.
        self.damages = [
            10 ** rng.uniform(-3, 0) * (1 - own / own[0]) ** rng.uniform(1.5, 4)
            for own in self.counts
        ]

    def cost(self, state: State) -> Floats:
        left = [own[place] for own, place in zip(self.counts, state, strict=True)]
        sides = np.array([10, *left, 10])
        return np.asarray(self.rates @ (sides[:-1] * sides[1:]))

    def joint(self, share: float) -> Joint:
        whole = self.cost((0,) * len(self.counts))
        return joint_of(self.damages, self.cost, share * whole)

    def states(self) -> Iterator[State]:
        return product(*(range(len(own)) for own in self.counts))


def keeps(joint: Joint, state: State) -> bool:
    return bool(np.all(joint.costs.of(state) <= joint.limits))


def enumerated(network: Network, joint: Joint) -> State | None:
    """The best of all states that keep the budgets, by looking at each of them."""
    found = [state for state in network.states() if keeps(joint, state)]
    return min(found, key=joint.damage, default=None)


@pytest.mark.parametrize("budgets", [1, 2])
def test_it_is_nearly_always_the_best_of_all(budgets: int) -> None:
    """Optimal in 85 % of the problems, not far from it in the others, never over the budgets."""
    rng = np.random.default_rng(budgets)
    exact, ratios = 0, []
    for _ in range(40):
        network = Network(rng, budgets=budgets)
        joint = network.joint(rng.uniform(0.1, 0.8))
        best = enumerated(network, joint)
        found = joint.best([(0,) * 4])
        assert (found is None) == (best is None)
        if found is None or best is None:
            continue
        assert keeps(joint, found)
        assert joint.damage(found) >= joint.damage(best)
        exact += found == best
        ratios.append(joint.damage(found) / joint.damage(best))
    assert len(ratios) >= 30
    assert exact >= 0.85 * len(ratios)
    assert max(ratios) < 1.5
    assert np.mean(ratios) < 1.05


def test_exchanges_are_worth_their_while() -> None:
    """Without them the descent alone is the best in fewer problems."""
    rng = np.random.default_rng(5)
    better = 0
    for _ in range(30):
        network = Network(rng)
        joint = network.joint(rng.uniform(0.1, 0.8))
        descended = joint._descended((0,) * 4)
        found = joint.best([(0,) * 4])
        assert (descended is None) == (found is None)
        if descended is not None and found is not None:
            assert joint.damage(found) <= joint.damage(descended)
            better += joint.damage(found) < joint.damage(descended)
    assert better >= 5


@given(st.integers(0, 2**32), st.floats(0.001, 1.2), st.integers(1, 3))
def test_what_is_found_keeps_the_budgets(seed: int, share: float, budgets: int) -> None:
    rng = np.random.default_rng(seed)
    network = Network(rng, layers=3, options=4, budgets=budgets)
    joint = network.joint(share)
    found = joint.best([(0, 0, 0), (3, 0, 1)])
    if found is not None:
        assert keeps(joint, found)
        assert joint.excess(found) <= 1
    else:
        # With costs that fall with every option, the last of each is the cheapest there is.
        assert joint.excess((3, 3, 3)) > 1
    if share >= 1:
        assert found == (0, 0, 0)
        assert joint.damage(found) == 0


def test_the_better_of_two_starts_is_taken() -> None:
    """One option does nothing alone, and two of them together everything: no step leads there."""
    damages = [np.array([0.0, 1.0, 10.0]), np.array([0.0, 1.0, 10.0])]

    def cost(state: State) -> Floats:
        # Either both at 1, or one at 2.
        cheap = state == (1, 1) or 2 in state
        return np.array([1.0 if cheap else 5.0])

    joint = joint_of(damages, cost, np.array([2.0]))
    assert joint.best([(2, 0)]) is not None
    found = joint.best([(2, 0), (1, 1)])
    assert found == (1, 1)
    assert joint.damage(found) == 2.0


def test_budgets_that_pull_in_opposite_directions_end() -> None:
    """Each option misses one of the budgets: there is no plan, and the search has an end."""
    costs = np.array([[10.0, 0.0], [0.0, 10.0]])
    joint = joint_of([np.zeros(2)], lambda state: costs[state[0]], np.array([5.0, 5.0]))
    assert joint.best([(0,), (1,)]) is None


def test_opposite_budgets_are_kept_by_a_mixture() -> None:
    costs = np.array([[10.0, 10.0], [1.0, 9.0], [9.0, 1.0]])

    def cost(state: State) -> Floats:
        return np.asarray(sum(costs[place] for place in state))

    joint = joint_of([np.array([0.0, 1.0, 1.0])] * 2, cost, np.array([10.0, 10.0]))
    assert joint.best([(0, 0)]) in ((1, 2), (2, 1))


def test_no_start_and_no_item() -> None:
    def free(state: State) -> Floats:
        return np.array([0.5])

    assert joint_of([np.zeros(1)], free, np.array([1.0])).best([]) is None
    assert joint_of([], free, np.array([1.0])).best([()]) == ()


def test_the_cheapest_state_misses_a_budget_least() -> None:
    rng = np.random.default_rng(7)
    for _ in range(10):
        network = Network(rng, layers=3, options=4)
        joint = network.joint(1e-4)
        assert joint.best([(0, 0, 0)]) is None
        least = min(joint.excess(state) for state in network.states())
        assert joint.excess(joint.cheapest((0, 0, 0))) == pytest.approx(least)
