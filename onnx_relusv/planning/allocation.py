"""Which option every item takes within the budgets: by one common relative error, or least damage.

**One common error.** At an error every item takes the cheapest of its options that are no worse, or
stays. The error says what a change costs, not what it buys: truncating a small classifier hurts as
much as truncating a large layer and saves next to nothing. So an item stays where it would save
less than its kind's `least_saving` of what the changed items save on average. The model mostly
shrinks as the error rises, but not always: an item may fall below that average, or change to a form
that saves MACs and costs bytes. So where costs add up, all errors that occur are gone through from
below; where they do not, the smallest is found by bisection. What it leaves of the budgets on bytes
and MACs goes to the changed items, the one with the largest error first, step by step as long as
anything fits: an item may be better than the common error, and is never worse.

**Least damage.** Damages nearly add up, so a plan is a knapsack of items where costs do too
(`knapsack`), and is searched for where they do not (`search`).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
import numpy.typing as npt

from onnx_relusv.core.blocks import Floats, Item
from onnx_relusv.planning.cost import PlanCost
from onnx_relusv.planning.knapsack import Knapsack
from onnx_relusv.planning.search import Joint, State, ladder

# How often a plan is searched for again around what was found, among finer options: a ladder of
# forty over a factor of a thousand is then as fine as one of whole numbers.
_FINER = 2
# Errors that are looked at together, times items.
_TOGETHER = 1 << 20
# Limits are divided by: one of nothing is this.
_LEAST_LIMIT = 1e-12

Places = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Problem:
    """Items to choose options of, within limits.

    Attributes:
        items: What is decided on.
        limits: What may be spent in all, by the name of the cost.
        costs_of: What some of the items' options cost, by the names of costs.
        total: What the whole original costs, by the name of the cost.
    """

    items: tuple[Item, ...]
    limits: Mapping[str, float]
    costs_of: Callable[[Sequence[Item], Sequence[str]], PlanCost]
    total: Mapping[str, float]

    @property
    def most(self) -> Floats:
        """(budgets,) of the limits."""
        return np.array(list(self.limits.values()), np.float64)

    @property
    def nothing(self) -> State:
        """The state in which all items stay."""
        return (0,) * len(self.items)

    @cached_property
    def costs(self) -> PlanCost:
        """What the items' options cost."""
        return self.costs_of(self.items, tuple(self.limits))


@dataclass(frozen=True, eq=False)
class Allocation:
    """What was decided.

    Attributes:
        state: The option of every item.
        error: The common relative error; None where damage decided.
        better: Places of the items that are better than it, since the budgets leave room.
    """

    state: State
    error: float | None = None
    better: frozenset[int] = field(default_factory=frozenset)


class UnreachableError(Exception):
    """No choice keeps the limits; it carries the state that comes nearest."""

    def __init__(self, nearest: State) -> None:
        super().__init__("the limits cannot be kept")
        self.nearest = nearest


# By one common error.


def uniform_error(problem: Problem, without_limits: float) -> Allocation:
    """The allocation with the smallest common error that keeps the limits.

    Args:
        problem: Items within limits.
        without_limits: The error where there are none.

    Raises:
        UnreachableError: No error keeps them.
    """
    if not problem.items:
        if np.all(problem.costs.of(problem.nothing) <= problem.most):
            return Allocation(problem.nothing, 0.0)
        raise UnreachableError(problem.nothing)
    rule = _CommonError(problem)
    if not problem.limits:
        return Allocation(rule.state(without_limits), without_limits)
    if np.all(problem.costs.of(problem.nothing) <= problem.most):
        return Allocation(problem.nothing, 0.0)
    errors = np.unique(np.concatenate([item.errors[1:] for item in problem.items]))
    if not len(errors):
        raise UnreachableError(problem.nothing)
    adds_up = problem.costs.adds_up
    first = rule.first(errors) if adds_up else _bisected(problem, rule, errors)
    if first is None:
        raise UnreachableError(rule.nearest(errors) if adds_up else rule.state(errors[-1]))
    error = float(errors[first])
    least = rule.state(error)
    # A time is not known until it is measured, so what is left of it is left.
    state = least if "latency" in problem.limits else _filled(problem, least, rule.prices)
    better = {place for place, (a, b) in enumerate(zip(state, least, strict=True)) if a != b}
    return Allocation(state, error, frozenset(better))


class _CommonError:
    """Which options items take at a common error."""

    def __init__(self, problem: Problem) -> None:
        self._problem = problem
        names = tuple(problem.limits) or ("bytes",)
        costs = problem.costs_of(problem.items, names)
        whole = np.array([problem.total[name] or 1 for name in names], np.float64)
        start = costs.of(problem.nothing)
        # (options, budgets) of every item by itself, beyond what the original costs.
        self.more = [
            costs.options(problem.nothing, place) - start for place in range(len(problem.items))
        ]
        self._start = start
        # A cost in the currency of the budgets, as a share of the model; bytes without any.
        self.prices = [(own / whole).sum(axis=1) for own in self.more]
        self._steps = [self._cheapest(place) for place in range(len(problem.items))]

    def _cheapest(self, place: int) -> tuple[Floats, Places]:
        """Errors, increasing, and the cheapest option that is no worse than each."""
        item, prices = self._problem.items[place], self.prices[place]
        changes = np.arange(1, len(prices))
        order = changes[np.lexsort((prices[1:], item.errors[1:]))]
        best, cheapest = [0], 0
        for option in order.tolist():
            if cheapest == 0 or prices[option] < prices[cheapest]:
                cheapest = option
            best.append(cheapest)
        return np.array([-1.0, *item.errors[order]]), np.array(best, np.int64)

    def states(self, errors: Floats) -> Places:
        """(errors, items) int64: the options at each of some errors."""
        found = np.stack(
            [best[np.searchsorted(own, errors, side="right") - 1] for own, best in self._steps],
            axis=1,
        )
        saved = np.stack(
            [-own[places] for own, places in zip(self.prices, found.T, strict=True)], axis=1
        )
        changed = found > 0
        count = np.maximum(changed.sum(axis=1), 1)
        mean = np.where(changed, saved, 0).sum(axis=1) / count
        least = np.array([item.least_saving for item in self._problem.items])
        worth = changed & ((saved >= least * mean[:, None]) | (least == 0))
        return np.where(worth, found, 0)

    def state(self, error: float) -> State:
        """The options at an error."""
        return tuple(self.states(np.array([error]))[0].tolist())

    def first(self, errors: Floats) -> int | None:
        """The place of the first error that keeps the limits, where costs add up."""
        for start, costs in self._costs(errors):
            fits = np.flatnonzero(np.all(costs <= self._problem.most, axis=1))
            if len(fits):
                return start + int(fits[0])
        return None

    def nearest(self, errors: Floats) -> State:
        """The state of all errors that misses the limits least, where costs add up."""
        most = np.maximum(self._problem.most, _LEAST_LIMIT)
        spent = [np.max(costs / most, axis=1) for _, costs in self._costs(errors)]
        best = int(np.argmin(np.concatenate([[np.max(self._start / most)], *spent])))
        return self.state(float(errors[best - 1])) if best else self._problem.nothing

    def _costs(self, errors: Floats) -> "list[tuple[int, Floats]]":
        found = []
        step = max(_TOGETHER // max(len(self.more), 1), 1)
        for start in range(0, len(errors), step):
            states = self.states(errors[start : start + step])
            own = (more[places] for more, places in zip(self.more, states.T, strict=True))
            found.append((start, self._start + sum(own, np.zeros(len(self._start)))))
        return found


def _bisected(problem: Problem, rule: _CommonError, errors: Floats) -> int | None:
    """The place of the smallest error that keeps the limits, if more error never costs more."""
    low, high = 0, len(errors)
    while low < high:
        middle = (low + high) // 2
        fits = np.all(problem.costs.of(rule.state(errors[middle])) <= problem.most)
        low, high = (low, middle) if fits else (middle + 1, high)
    return low if low < len(errors) else None


def _filled(problem: Problem, state: State, prices: Sequence[Floats]) -> State:
    """With what is left of the limits spent, on the changed item with the largest error first."""
    while True:
        step = next(
            (
                (place, option)
                for place in _worst_first(problem.items, state)
                if (option := _better(problem, state, place, prices[place])) is not None
            ),
            None,
        )
        if step is None:
            return state
        state = (*state[: step[0]], step[1], *state[step[0] + 1 :])


def _worst_first(items: Sequence[Item], state: State) -> list[int]:
    changed = [place for place, option in enumerate(state) if option]
    return sorted(changed, key=lambda place: -items[place].errors[state[place]])


def _better(problem: Problem, state: State, place: int, prices: Floats) -> int | None:
    """The cheapest option with a lower error that fits; None where none does."""
    errors = problem.items[place].errors
    fits = np.all(problem.costs.options(state, place) <= problem.most, axis=1)
    options = np.flatnonzero(fits & (errors < errors[state[place]]))
    if not len(options):
        return None
    return int(options[np.lexsort((errors[options], prices[options]))[0]])


# By the least damage.


def least_damage(problem: Problem, near: State | None = None) -> Allocation:
    """The allocation with the least expected damage that keeps the limits.

    Args:
        problem: Items within limits.
        near: A state around which alone is searched, which is quicker, where that takes a search;
            None to search everywhere.

    Raises:
        UnreachableError: None was found that does.
    """
    if not problem.limits:
        return Allocation(tuple(int(np.argmin(item.damages)) for item in problem.items))
    if problem.costs.adds_up:
        return Allocation(_chosen(problem))
    found = _searched(problem) if near is None else _around(problem, near)
    if found is None:
        raise UnreachableError(problem.nothing if near is None else near)
    return Allocation(found)


# Steps of time that are looked for, as shares of it: the next where one is too long.
_STEPS, _MOST_STEPS = (0.85, 0.93), 8


def quicker(problem: Problem, slowest: State, most: float) -> list[tuple[float, State]]:
    """States that take less and less time, none of which does more than some damage.

    Kernels take whole packs of channels, so among plans that do as little damage some are much
    quicker. They are looked for step by step, each around the one before.

    Args:
        problem: Items within limits, none of them on time; their times are known.
        slowest: A state that keeps the limits.
        most: Damage that they may do.

    Returns:
        Shares of the original's time, decreasing, and the states.
    """
    found = [(time_share(problem, slowest), slowest)]
    # Shorter steps where one is too long, before which it is looked for everywhere.
    ways = [(step, everywhere) for step in _STEPS for everywhere in (False, True)]
    for _ in range(_MOST_STEPS):
        (step, everywhere), (share, state) = ways[0], found[-1]
        nearer = _within_time(problem, step * share, None if everywhere else state)
        if nearer is not None and _damage(problem, nearer) <= most:
            found.append((time_share(problem, nearer), nearer))
        elif len(ways) > 1:
            ways = ways[1:]
        else:
            break
    return found[1:]


def not_slower(problem: Problem, slow: State, most: float) -> State | None:
    """A state that takes no more time than the original; arguments as of `quicker`.

    Returns:
        None where none was found that does no more damage.
    """
    for near in (slow, None):
        found = _within_time(problem, 1.0, near)
        if found is not None and _damage(problem, found) <= most:
            return found
    return None


def _within_time(problem: Problem, share: float, near: State | None) -> State | None:
    limits = {**problem.limits, "latency": share * problem.total["latency"]}
    try:
        return least_damage(replace(problem, limits=limits), near).state
    except UnreachableError:
        return None


def time_share(problem: Problem, state: State) -> float:
    """What a state takes of the original's time; of a problem that knows times."""
    return problem.costs.total(state).latency / problem.total["latency"]


def _damage(problem: Problem, state: State) -> float:
    options = zip(problem.items, state, strict=True)
    return float(sum(item.damages[option] for item, option in options))


def _chosen(problem: Problem) -> State:
    """Where costs add up."""
    costs = problem.costs
    start = costs.of(problem.nothing)
    whole = np.array([problem.total[name] for name in problem.limits], np.float64)
    more = [costs.options(problem.nothing, place) for place in range(len(problem.items))]
    least = [own.min(axis=0) for own in more]
    knapsack = Knapsack(
        damages=[item.damages for item in problem.items],
        costs=[(own - lowest).T for own, lowest in zip(more, least, strict=True)],
        fixed=start + sum((lowest - start for lowest in least), np.zeros(len(start))),
        limits=problem.most,
        units=np.where(whole > 0, whole, 1.0),
    )
    found = knapsack.best()
    if found is None:
        raise UnreachableError(tuple(knapsack.nearest()))
    return tuple(found)


def _searched(problem: Problem) -> State:
    """Where costs depend on each other: on a ladder of options, and on finer ones around it."""
    places = [ladder(item.sizes) for item in problem.items]
    joint = _joint(problem, places)
    found = joint.best(_starts(joint, problem.items))
    if found is None:
        raise UnreachableError(_all_options(places, joint.cheapest(problem.nothing)))
    near = _all_options(places, found)
    for _ in range(_FINER):
        finer = _around(problem, near)
        # What it is searched around keeps the limits.
        near = near if finer is None else finer
    return near


def _around(problem: Problem, near: State) -> State | None:
    """On a ladder around a state that is as much finer; None where no state keeps the limits."""
    places = [ladder(item.sizes, at) for item, at in zip(problem.items, near, strict=True)]
    start = tuple(own.index(at) for own, at in zip(places, near, strict=True))
    found = _joint(problem, places).best([start])
    return None if found is None else _all_options(places, found)


def _joint(problem: Problem, places: Sequence[Sequence[int]]) -> Joint:
    items = [item.some(own) for item, own in zip(problem.items, places, strict=True)]
    costs = problem.costs_of(items, tuple(problem.limits))
    return Joint([item.damages for item in items], costs, problem.most)


def _all_options(places: Sequence[Sequence[int]], state: State) -> State:
    """A state in the numbers of all options."""
    return tuple(own[option] for own, option in zip(places, state, strict=True))


def _starts(joint: Joint, items: Sequence[Item]) -> list[State]:
    """From nothing, and from the best of the items of each kind alone."""
    nothing: State = (0,) * len(items)
    found, kinds = [nothing], list(dict.fromkeys(map(type, items)))
    for kind in kinds if len(kinds) > 1 else ():
        moving = tuple(place for place, item in enumerate(items) if type(item) is kind)
        state = replace(joint, moving=moving).best([nothing])
        found += [] if state is None else [state]
    return found


def least_cost(problem: Problem) -> State:
    """A state that misses the limits least, whatever the damage."""
    joint = Joint(
        [np.zeros(len(item.errors)) for item in problem.items], problem.costs, problem.most
    )
    last = tuple(len(item.errors) - 1 for item in problem.items)
    return joint.cheapest(last)
