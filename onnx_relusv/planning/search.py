"""The least damage within budgets where costs do not add up over what is chosen.

What a group of units saves depends on the groups before and behind it, whose weights it shares, so
a plan is no knapsack. It is searched for: from a start, the step with the least damage for what it
saves is taken again and again, until the budgets are kept; then single steps and pairs of them are
taken as long as they take damage away. That finds a good plan, not surely the best.

A search tells some forty options of every item apart, a geometric ladder; once it has found a
state, ladders around it are as much finer, until they have every option.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from onnx_relusv.core.blocks import Floats, ReadOnlyArrays

# The place of one option of every item.
State = tuple[int, ...]
# How far a step of a pair may go, in options.
_REACH = 4
# Pairs are picked by what their steps cost one by one, and so many are looked at closely.
_LOOKED_AT = 48
_LEAST_SAVING = 1e-9
_LEAST_GAIN = 1e-4


class Costs(Protocol):
    """What states cost."""

    def of(self, state: State) -> Floats:
        """(budgets,) of a state."""
        ...

    def options(self, state: State, item: int) -> Floats:
        """(options, budgets): of the state with one item at each of its options."""
        ...


@dataclass(frozen=True, eq=False)
class Joint(ReadOnlyArrays):
    """Items with options, the first of which is to stay as one is.

    Attributes:
        damages: Of every item, (options,) float64 from 0 on; they add up.
        costs: What states cost.
        limits: (budgets,) float64, positive.
        moving: The items that may leave where they start; None for all.
    """

    damages: Sequence[Floats]
    costs: Costs
    limits: Floats
    moving: tuple[int, ...] | None = None

    @property
    def items(self) -> tuple[int, ...]:
        """The items that may move."""
        return tuple(range(len(self.damages))) if self.moving is None else self.moving

    def damage(self, state: State) -> float:
        """The sum of a state's damages."""
        return float(sum(own[place] for own, place in zip(self.damages, state, strict=True)))

    def excess(self, state: State) -> float:
        """What is spent of the budget that is missed most; at most 1 where all are kept."""
        return float(np.max(self.costs.of(state) / self.limits))

    def best(self, starts: Sequence[State]) -> State | None:
        """The state with the least damage that is found from any of the starts.

        Returns:
            None where no start leads to one that keeps the budgets.
        """
        reached = {self._descended(start) for start in starts} - {None}
        found = [self._exchanged(state) for state in reached if state is not None]
        return min(found, key=lambda state: (self.damage(state), state), default=None)

    def cheapest(self, start: State) -> State:
        """A state that misses the budgets least, each item moved to its cheapest option."""
        state = start
        for item in self.items:
            excess = np.max(self.costs.options(state, item) / self.limits, axis=1)
            state = _with(state, item, int(np.argmin(excess)))
        return state

    def _descended(self, state: State) -> State | None:
        spent = self.costs.of(state)
        while np.any(spent > self.limits):
            best, least, reached = None, np.inf, spent
            for item in self.items:
                own = self.damages[item]
                costs = self.costs.options(state, item)
                # No more is wanted than what is missing. What another budget then misses counts
                # against it: so every step brings the budgets nearer, and there is an end.
                saved = np.maximum(spent, self.limits) - np.maximum(costs, self.limits)
                price = (saved / self.limits).sum(axis=1)
                more = np.maximum(own - own[state[item]], 0)
                rates = np.where(
                    price > _LEAST_SAVING, more / np.maximum(price, _LEAST_SAVING), np.inf
                )
                place = int(np.argmin(rates))
                if rates[place] < least:
                    best, least, reached = _with(state, item, place), rates[place], costs[place]
            if best is None:
                return None
            state, spent = best, reached
        return state

    def _exchanged(self, state: State) -> State:
        while True:
            steps = _Steps(self, state)
            better = next(self._better(state, steps), None)
            if better is None:
                return state
            state = better

    def _better(self, state: State, steps: "_Steps") -> Iterator[State]:
        """States with less damage that keep the budgets, what gains most first."""
        enough = -_LEAST_GAIN * self.damage(state)
        single = np.flatnonzero(
            (steps.damages < enough) & np.all(steps.costs <= steps.left, axis=1)
        )
        if len(single):
            yield steps.taken(int(single[np.argmin(steps.damages[single])]))
        near = np.flatnonzero(steps.is_near)
        gains = steps.damages[near][:, None] + steps.damages[near]
        apart = steps.items[near][:, None] != steps.items[near]
        fits = np.ones_like(apart)
        for own, left in zip(steps.costs[near].T, steps.left, strict=True):
            fits &= own[:, None] + own <= left
        firsts, seconds = np.nonzero((gains < enough) & apart & fits)
        for place in np.argsort(gains[firsts, seconds], kind="stable")[: 2 * _LOOKED_AT : 2]:
            # Each pair is there in both orders.
            moved = steps.taken(int(near[firsts[place]]), int(near[seconds[place]]))
            if self.excess(moved) <= 1:
                yield moved


class _Steps:
    """All single steps from a state.

    Attributes:
        items, places: (steps,) int64: which item goes to which option.
        damages: (steps,) float64: how much more damage there is.
        costs: (steps, budgets) float64: how much more is spent.
        left: (budgets,) float64: what is left to spend.
        is_near: (steps,) bool: whether a step is no longer than `_REACH`.
    """

    def __init__(self, joint: Joint, state: State) -> None:
        spent = joint.costs.of(state)
        self.left = joint.limits - spent
        self._state = state
        lengths = [len(joint.damages[item]) for item in joint.items]
        self.items: npt.NDArray[np.int64] = np.repeat(np.array(joint.items, np.int64), lengths)
        self.places: npt.NDArray[np.int64] = _joined([np.arange(n) for n in lengths], np.int64)
        gains = [joint.damages[item] - joint.damages[item][state[item]] for item in joint.items]
        self.damages: Floats = _joined(gains, np.float64)
        more = [joint.costs.options(state, item) - spent for item in joint.items]
        self.costs: Floats = np.concatenate([*more, np.zeros((0, len(spent)))])
        distance = np.abs(self.places - np.array(state, np.int64)[self.items])
        self.is_near = (distance > 0) & (distance <= _REACH)

    def taken(self, *steps: int) -> State:
        """The state after some steps."""
        state = self._state
        for step in steps:
            state = _with(state, int(self.items[step]), int(self.places[step]))
        return state


def _joined(parts: list[np.ndarray], dtype: type) -> np.ndarray:
    return np.concatenate([*parts, np.zeros(0, dtype)])


def _with(state: State, item: int, place: int) -> State:
    return (*state[:item], place, *state[item + 1 :])


# Options of an item that a search tells apart at a time.
_RUNGS = 40


def ladder(sizes: Floats, near: int | None = None) -> tuple[int, ...]:
    """Places in decreasing sizes that a search tells apart.

    Args:
        sizes: (options,) float64, of all options, decreasing, all positive.
        near: A place; the ladder then goes from the rung above it to the rung below, as they were,
            and is as much finer. None for a ladder over all sizes.

    Returns:
        Increasing; the first place, and the last or the one that is near, are among them.
    """
    everywhere = _rungs(sizes)
    if near is None:
        return everywhere
    above = [place for place in everywhere if place < near]
    below = [place for place in everywhere if place > near]
    first, last = max(above, default=near), min(below, default=near)
    inside = [first + place for place in _rungs(sizes[first : last + 1])]
    return tuple(sorted({0, near, *inside}))


def _rungs(sizes: Floats) -> tuple[int, ...]:
    if len(sizes) <= _RUNGS:
        return tuple(range(len(sizes)))
    marks = np.geomspace(sizes[0], sizes[-1], _RUNGS)
    places = np.unique([int(np.argmin(np.abs(sizes - mark))) for mark in marks])
    return tuple(int(place) for place in places)
