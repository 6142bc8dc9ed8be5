"""The multiple-choice knapsack: one option an item, the least damage within one budget or several.

With one budget each item takes the option with the least damage + multiplier * price, and the
multiplier is the smallest that keeps the budget; that reaches the convex hulls of the items'
curves (Shoham, Gersho, 1988). With several there is a multiplier for each of them. They are the
dual values of the linear program in which items may be mixtures of options. At most as many items
as there are budgets are mixtures at its vertex; these are rounded in every way that there is, and
so are the choices at multiples of the dual values. Where none of it keeps the budgets, branch and
bound looks for one that does (scipy.optimize.milp).

What is left of the budgets then goes, option by option, to where it takes most damage away.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice, product
from math import inf
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.optimize import Bounds, LinearConstraint, linprog, milp
from scipy.sparse import csr_array

from onnx_relusv.core.blocks import Floats, ReadOnlyArrays

_HALVINGS = 60
# What a move costs at least, as a share of the whole, so that those that cost nothing come first.
_LEAST_PRICE = 1e-12
# Damages go up to 1e30 and more, and steps of cost down to a byte of a large model.
_LARGEST_EXPONENT = 50
# Damages that a linear program is scaled by are searched for among these powers of ten, and are
# then told apart up to this multiple. The solver's tolerance is 1e-7; filling up sees the rest.
_SMALLEST_SCALE, _LARGEST_SCALE = -12, 40
_WORST = 1e6
# A share of an option in a mixture that is not rounding; and how near to the budgets the solver's
# own tolerance may come.
_SHARE, _MARGIN = 1e-6, 2e-6
_GAP, _MOST_NODES = 1e-3, 20_000
# Of the grid of price mixes that tells how near one gets where nothing keeps the budgets.
_STEPS = 10


@dataclass(frozen=True, eq=False)
class Relaxed(ReadOnlyArrays):
    """A solution of the linear program.

    Attributes:
        shares: Of every item, (options,) float64 that sum to 1.
        multipliers: (budgets,) float64 from 0 on, damage by unit of the budgets' costs.
        damage: The least damage of any mixture: a lower bound for every choice, up to the
            solver's tolerance, unless damages were clipped.
    """

    shares: tuple[Floats, ...]
    multipliers: Floats
    damage: float


@dataclass(frozen=True)
class RoundingSettings:
    """How mixtures are made choices, before branch and bound has to.

    Attributes:
        multiples: Of the dual values, at which choices are looked at.
        most: How many roundings of the mixtures are looked at.
    """

    multiples: tuple[float, ...] = (1.0, 1.01, 1.05, 1.2, 1.5, 2.0, 4.0, 16.0, 256.0, 65536.0)
    most: int = 4096


DEFAULT_ROUNDING = RoundingSettings()


@dataclass(frozen=True, eq=False)
class Knapsack(ReadOnlyArrays):
    """Items with their options.

    Attributes:
        damages: Of every item, (options,) float64 from 0 on.
        costs: Of every item, (budgets, options) float64 from 0 on.
        fixed: (budgets,) float64, what is spent whatever is chosen.
        limits: (budgets,) float64, what may be spent in all.
        units: (budgets,) float64, positive: the costs that prices are shares of.
        rounding: How mixtures are made choices.
    """

    damages: Sequence[Floats]
    costs: Sequence[Floats]
    fixed: Floats
    limits: Floats
    units: Floats
    rounding: RoundingSettings = DEFAULT_ROUNDING

    def best(self) -> list[int] | None:
        """The place of every item's option; None where no choice keeps the budgets.

        With one budget the damage exceeds the least by no more than one step of one item's convex
        hull; with several, by a step for each of them where rounding succeeds.
        """
        if len(self.limits) == 1:
            return self._along(np.ones(1))
        return min(self._several(), key=self.damage, default=None)

    def nearest(self) -> list[int]:
        """Among the cheapest choices by any mix of prices, the one that misses the least."""
        grid = product(range(_STEPS + 1), repeat=len(self.limits))
        mixes = [np.array(one) / _STEPS for one in grid if sum(one) == _STEPS]
        found = [[int(np.argmin(price)) for price in self._prices(mix)] for mix in mixes]
        return min(found, key=self._excess)

    def spent(self, chosen: Sequence[int]) -> Floats:
        """(budgets,) float64: what a choice costs in all."""
        return self.fixed + sum(
            (cost[:, place] for cost, place in zip(self.costs, chosen, strict=True)),
            np.zeros(len(self.limits)),
        )

    def fits(self, chosen: Sequence[int]) -> bool:
        """Whether a choice keeps all budgets."""
        return bool(np.all(self.spent(chosen) <= self.limits))

    def damage(self, chosen: Sequence[int]) -> float:
        """The sum of a choice's damages."""
        return float(sum(damage[place] for damage, place in zip(self.damages, chosen, strict=True)))

    def relaxed(self) -> Relaxed | None:
        """The linear program's solution; None where not even mixtures keep the budgets."""
        program = _Program(self)
        low, high = _SMALLEST_SCALE - 1, _LARGEST_SCALE
        if not program.is_feasible(inf):
            return None
        # The least worst option that mixtures need is what the sum of damages is about.
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (low, middle) if program.is_feasible(10.0**middle) else (middle, high)
        return program.solution(10.0**high)

    def _excess(self, chosen: Sequence[int]) -> float:
        """What is spent of the budget that is missed most; at most 1 where all are kept."""
        return float(np.max(self.spent(chosen) / np.maximum(self.limits, _LEAST_PRICE)))

    def _prices(self, mix: Floats) -> list[Floats]:
        return [mix @ (cost / self.units[:, None]) for cost in self.costs]

    def _at(self, multiplier: float, prices: Sequence[Floats]) -> list[int]:
        return [
            int(np.argmin(damage + multiplier * price))
            for damage, price in zip(self.damages, prices, strict=True)
        ]

    def _along(self, mix: Floats) -> list[int] | None:
        """The choices at the smallest multiplier that keeps the budgets, and what still fits."""
        prices = self._prices(mix)
        low, high = -float(_LARGEST_EXPONENT), float(_LARGEST_EXPONENT)
        if not self.fits(self._at(10.0**high, prices)):
            return None
        if self.fits(self._at(10.0**low, prices)):
            high = low
        for _ in range(_HALVINGS):
            middle = (low + high) / 2
            fits = self.fits(self._at(10.0**middle, prices))
            low, high = (low, middle) if fits else (middle, high)
        return self._filled(self._at(10.0**high, prices), prices)

    def _several(self) -> list[list[int]]:
        """Choices that keep several budgets, filled up; none where there is none."""
        found = self.relaxed()
        if found is None:
            return []
        mix = found.multipliers * self.units
        prices = self._prices(mix if np.any(mix) else np.ones(len(mix)))
        rounded = [chosen for chosen in self._roundings(found) if self.fits(chosen)]
        if np.any(mix):
            multiples = (self._at(factor, prices) for factor in self.rounding.multiples)
            rounded.extend(islice(filter(self.fits, multiples), 1))
        if not rounded:
            rounded = [chosen for chosen in self._branched(found) if self.fits(chosen)]
        return [self._filled(chosen, prices) for chosen in rounded]

    def _roundings(self, found: Relaxed) -> Iterator[list[int]]:
        supports = [np.flatnonzero(shares > _SHARE).tolist() for shares in found.shares]
        for places in islice(product(*supports), self.rounding.most):
            yield list(places)

    def _branched(self, found: Relaxed) -> Iterator[list[int]]:
        """What branch and bound finds, first in all of the budgets, then in a little less."""
        program = _Program(self)
        for room in (1.0, 1.0 - _MARGIN):
            chosen = program.branched(max(found.damage, 10.0**_SMALLEST_SCALE), room)
            if chosen is not None:
                yield chosen

    def _filled(self, chosen: list[int], prices: Sequence[Floats]) -> list[int]:
        """Spends what is left of the budgets where it takes most damage away for its price."""
        while True:
            spent, best, gain = self.spent(chosen), chosen, 0.0
            for index, (damage, price) in enumerate(zip(self.damages, prices, strict=True)):
                now = chosen[index]
                saved = damage[now] - damage
                rates = saved / np.maximum(price - price[now], _LEAST_PRICE)
                rates = np.where(self._fitting(index, now, spent), rates, 0.0)
                place = int(np.argmax(rates))
                if rates[place] > gain:
                    best, gain = [*chosen[:index], place, *chosen[index + 1 :]], rates[place]
            if best is chosen:
                return chosen
            chosen = best

    def _fitting(self, index: int, now: int, spent: Floats) -> npt.NDArray[np.bool_]:
        """Which of an item's options keep the budgets in place of the one that it has `now`."""
        cost = self.costs[index]
        others = spent - cost[:, now]
        fitting: npt.NDArray[np.bool_] = np.all(
            others[:, None] + cost <= self.limits[:, None], axis=0
        )
        return fitting


class _Program:
    """The knapsack's linear program: a column an option, a row a budget, and one an item.

    Costs are in shares of what the budgets leave for the items, so that all rows are of one size.
    """

    def __init__(self, knapsack: Knapsack) -> None:
        self._damages = np.concatenate(knapsack.damages)
        counts = [len(damage) for damage in knapsack.damages]
        self._items = np.repeat(np.arange(len(counts)), counts)
        room = knapsack.limits - knapsack.fixed
        self._room = np.where(room > 0, room, 1.0)
        self._left = room / self._room
        self._costs = np.concatenate(knapsack.costs, axis=1) / self._room[:, None]

    def is_feasible(self, worst: float) -> bool:
        """Whether mixtures of options up to a damage keep the budgets."""
        taken = self._damages <= worst
        # An item without options is nothing to mix, and a program without columns none to solve.
        if len(np.unique(self._items[taken])) <= self._items[-1]:
            return False
        return bool(self._solve(np.zeros(int(taken.sum())), taken).status == 0)

    def solution(self, scale: float) -> Relaxed | None:
        """The best mixtures, damages in units of a scale."""
        every = np.ones(len(self._damages), np.bool_)
        found = self._solve(self._scaled(scale), every)
        if found.status != 0:
            return None
        ends = np.flatnonzero(np.diff(self._items)) + 1
        multipliers = np.maximum(-found.ineqlin.marginals, 0) * scale / self._room
        return Relaxed(tuple(np.split(found.x, ends)), multipliers, float(found.fun) * scale)

    def branched(self, scale: float, room: float) -> list[int] | None:
        """A choice by branch and bound in a share of the budgets; None where it finds none."""
        found = milp(
            self._scaled(scale),
            integrality=np.ones(len(self._damages), np.int64),
            bounds=Bounds(0, 1),
            constraints=[
                LinearConstraint(self._costs, -inf, self._left * room),
                LinearConstraint(self._membership(self._items), 1, 1),
            ],
            options={"mip_rel_gap": _GAP, "node_limit": _MOST_NODES},
        )
        if found.x is None:
            return None
        starts = np.searchsorted(self._items, np.arange(self._items[-1] + 1))
        parts = np.split(found.x, starts[1:])
        return [int(np.argmax(part)) for part in parts]

    def _scaled(self, scale: float) -> Floats:
        return np.minimum(self._damages / scale, _WORST)

    def _solve(self, objective: Floats, taken: npt.NDArray[np.bool_]) -> Any:
        membership = self._membership(self._items[taken])
        # What the types of scipy leave out: the matrix may be sparse.
        return linprog(  # type: ignore[call-overload]
            objective,
            A_ub=self._costs[:, taken],
            b_ub=self._left,
            A_eq=membership,
            b_eq=np.ones(membership.shape[0]),
            method="highs-ds",
        )

    def _membership(self, items: npt.NDArray[np.intp]) -> csr_array:
        places = np.arange(len(items))
        shape = (int(self._items[-1]) + 1, len(items))
        return csr_array((np.ones(len(items)), (items, places)), shape=shape)
