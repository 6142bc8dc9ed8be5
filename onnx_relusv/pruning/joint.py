"""The least damage within budgets where costs do not add up over what is chosen.

What a group of units saves depends on the groups before and behind it, whose weights it shares, so
a plan is no knapsack. It is searched for: from a start, the step with the least damage for what it
saves is taken again and again, until the budgets are kept; then exchanges of one step against
another are made as long as they take damage away. That finds a good plan, not surely the best.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from onnx_relusv.records import Floats, ReadOnlyArrays

State = tuple[int, ...]
# Told the option of every item, says what all of it costs: one number a budget.
CostOf = Callable[[State], Floats]
# How far a step of an exchange may go, in options.
_REACH = 4
_LEAST_SAVING = 1e-9
_LEAST_GAIN = 1e-9


@dataclass(frozen=True, eq=False)
class Joint(ReadOnlyArrays):
    """Items with options, the first of which is to stay as one is.

    Attributes:
        damages: Of every item, (options,) float64 from 0 on; they add up.
        cost: What a state costs.
        limits: (budgets,) float64, positive.
    """

    damages: Sequence[Floats]
    cost: CostOf
    limits: Floats

    def damage(self, state: State) -> float:
        """The sum of a state's damages."""
        return float(sum(own[place] for own, place in zip(self.damages, state, strict=True)))

    def excess(self, state: State) -> float:
        """What is spent of the budget that is missed most; at most 1 where all are kept."""
        return float(np.max(self.cost(state) / self.limits))

    def best(self, starts: Sequence[State]) -> State | None:
        """The state with the least damage that is found from any of the starts.

        Returns:
            None where no start leads to one that keeps the budgets.
        """
        found = []
        for start in starts:
            reached = self._descended(start)
            if reached is not None:
                found.append(self._exchanged(reached))
        return min(found, key=self.damage, default=None)

    def cheapest(self, start: State) -> State:
        """The state that misses the budgets least, each item moved to its cheapest option."""
        state = start
        for item in range(len(self.damages)):
            state = min(self._moves(state, item), key=self.excess)
        return state

    def _descended(self, state: State) -> State | None:
        spent = self.cost(state)
        while np.any(spent > self.limits):
            best, least, reached = None, np.inf, spent
            for item in range(len(self.damages)):
                for moved in self._moves(state, item):
                    costs = self.cost(moved)
                    # No more is wanted than what is missing. What another budget then misses counts
                    # against it: so every step brings the budgets nearer, and there is an end.
                    saved = np.maximum(spent, self.limits) - np.maximum(costs, self.limits)
                    price = float(np.sum(saved / self.limits))
                    if price <= _LEAST_SAVING:
                        continue
                    more = self.damages[item][moved[item]] - self.damages[item][state[item]]
                    rate = max(more, 0.0) / price
                    if rate < least:
                        best, least, reached = moved, rate, costs
            if best is None:
                return None
            state, spent = best, reached
        return state

    def _exchanged(self, state: State) -> State:
        while True:
            better = self._relaxed(state) or self._swapped(state)
            if better is None:
                return state
            state = better

    def _relaxed(self, state: State) -> State | None:
        """A single step that takes damage away and keeps the budgets."""
        now = self.damage(state)
        found = [
            moved
            for item in range(len(self.damages))
            for moved in self._moves(state, item)
            if self.damage(moved) < now * (1 - _LEAST_GAIN) and self.excess(moved) <= 1
        ]
        return min(found, key=self.damage, default=None)

    def _swapped(self, state: State) -> State | None:
        """Two steps, one of which does harm, that together take damage away."""
        now = self.damage(state)
        for first in range(len(self.damages)):
            for paid in self._near(state, first):
                if self.damage(paid) >= now * 2:
                    continue
                for second in range(len(self.damages)):
                    if second == first:
                        continue
                    for moved in self._near(paid, second):
                        if self.damage(moved) < now * (1 - _LEAST_GAIN) and self.excess(moved) <= 1:
                            return moved
        return None

    def _moves(self, state: State, item: int) -> list[State]:
        return [_with(state, item, place) for place in range(len(self.damages[item]))]

    def _near(self, state: State, item: int) -> list[State]:
        low, high = state[item] - _REACH, state[item] + _REACH + 1
        places = range(max(low, 0), min(high, len(self.damages[item])))
        return [_with(state, item, place) for place in places if place != state[item]]


def _with(state: State, item: int, place: int) -> State:
    return (*state[:item], place, *state[item + 1 :])
