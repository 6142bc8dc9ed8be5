"""Decides how much each block loses by measured damage: one multiplier for all blocks.

Damages nearly add up, so the least total damage within a budget is found block by block: each
takes the candidate with the least damage + multiplier * cost, and the multiplier is the smallest
that keeps the budget (Shoham, Gersho, "Efficient bit allocation for an arbitrary set of
quantizers", 1988). That reaches the convex hulls of the curves; what is left of the budget then
goes, candidate by candidate, to where it takes most damage away.

With budgets on bytes and MACs together, the cost is a mix of both, and the mix with the least
damage is taken.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from onnx_relusv.allocation import Candidates, Origin, how_far, why_kept
from onnx_relusv.cost import block_cost
from onnx_relusv.decisions import Budgets, Candidate, Choice, Cost, DamageCurve, Plan
from onnx_relusv.errors import BudgetError
from onnx_relusv.records import Block, Floats

_MIXES = 21
_HALVINGS = 60
# What a move costs at least, as a share of the model, so that those that cost nothing come first.
_LEAST_PRICE = 1e-12
# Damages go up to 1e30 and more, and steps of cost down to a byte of a large model.
_LARGEST_EXPONENT = 50


@dataclass(frozen=True, eq=False)
class _Options:
    """What a block may become; the first one is to stay as it is."""

    block: Block
    candidates: tuple[Candidate | None, ...]
    damage: Floats
    bytes: Floats
    macs: Floats


def make_damage_plan(
    blocks: Sequence[Block],
    candidates: Candidates,
    curves: Sequence[DamageCurve],
    budgets: Budgets,
    origin: Origin,
) -> Plan:
    """The plan with the least expected damage that keeps the budgets.

    Args:
        blocks: In topological order.
        candidates: By block key, with their damages; blocks without any stay.
        curves: What the damages come from; kept in the plan.
        budgets: Of size or MACs, one at least; a tolerance limits the levels.
        origin: What the plan is for.

    Raises:
        BudgetError: No block can shrink, or the budgets cannot be reached.
    """
    if not any(candidates.get(block.key) for block in blocks):
        raise BudgetError("no block of this model can be made smaller; nothing was written.")
    options = [
        _options(block, candidates.get(block.key, ()), budgets.tolerance) for block in blocks
    ]
    allocation = _Allocation(options, budgets, origin)
    chosen = allocation.best()
    cost, total = allocation.cost(chosen), origin.total
    picked = [one.candidates[place] for one, place in zip(options, chosen, strict=True)]
    changed = [candidate for candidate in picked if candidate is not None]
    return Plan(
        model_sha256=origin.model_sha256,
        samples_sha256=origin.samples_sha256,
        budgets=budgets,
        method=origin.method,
        seed=origin.seed,
        allocation="damage",
        level=max((candidate.level for candidate in changed), default=0.0),
        damage=sum(candidate.damage for candidate in changed),
        size=cost.bytes / total.bytes,
        macs=cost.macs / max(total.macs, 1),
        choices=tuple(
            _choice(one, candidate, candidates)
            for one, candidate in zip(options, picked, strict=True)
        ),
        curves=tuple(curves),
    )


def _options(block: Block, offered: Sequence[Candidate], tolerance: float | None) -> _Options:
    limit = np.inf if tolerance is None else tolerance
    allowed = [candidate for candidate in offered if candidate.level <= limit]
    now = block_cost(block)
    return _Options(
        block=block,
        candidates=(None, *allowed),
        damage=np.array([0.0, *(candidate.damage for candidate in allowed)]),
        bytes=np.array([now.bytes, *(candidate.bytes for candidate in allowed)], np.float64),
        macs=np.array([now.macs, *(candidate.macs for candidate in allowed)], np.float64),
    )


class _Allocation:
    def __init__(self, options: Sequence[_Options], budgets: Budgets, origin: Origin) -> None:
        self._options = options
        self._origin = origin
        self._limits = (budgets.size, budgets.macs)
        self._budgets = budgets
        now = [block_cost(one.block) for one in options]
        self._fixed = Cost(
            bytes=origin.total.bytes + origin.added_bytes - sum(cost.bytes for cost in now),
            macs=origin.total.macs - sum(cost.macs for cost in now),
        )

    def best(self) -> list[int]:
        """The place of every block's choice among its options."""
        mixes = {0.0} if self._limits[0] is None else {1.0}
        if None not in self._limits:
            mixes = {float(mix) for mix in np.linspace(0, 1, _MIXES)}
        found = [chosen for mix in sorted(mixes) if (chosen := self._with_mix(mix)) is not None]
        if not found:
            cheapest = (self.cost(self._cheapest(mix)) for mix in mixes)
            nearest = min(cheapest, key=self._excess)
            raise BudgetError(how_far(nearest, self._budgets, self._origin.total))
        return min(found, key=self._damage)

    def cost(self, chosen: Sequence[int]) -> Cost:
        """What the whole model costs."""
        pairs = list(zip(self._options, chosen, strict=True))
        return Cost(
            bytes=self._fixed.bytes + int(sum(one.bytes[place] for one, place in pairs)),
            macs=self._fixed.macs + int(sum(one.macs[place] for one, place in pairs)),
        )

    def _damage(self, chosen: Sequence[int]) -> float:
        return float(
            sum(one.damage[place] for one, place in zip(self._options, chosen, strict=True))
        )

    def _cheapest(self, mix: float) -> list[int]:
        return [int(np.argmin(self._prices(one, mix))) for one in self._options]

    def _excess(self, cost: Cost) -> float:
        """What is spent of the budget that is missed most; at most 1 where all are kept."""
        size, macs = self._limits
        total = self._origin.total
        spent = [] if size is None else [cost.bytes / (size * total.bytes)]
        if macs is not None:
            spent.append(cost.macs / (macs * max(total.macs, 1)))
        return max(spent)

    def _fits(self, cost: Cost) -> bool:
        size, macs = self._limits
        total = self._origin.total
        return (size is None or cost.bytes <= size * total.bytes) and (
            macs is None or cost.macs <= macs * total.macs
        )

    def _fitting(self, one: _Options, now: int, cost: Cost) -> npt.NDArray[np.bool_]:
        """Which of a block's options keep the budgets in place of the one that it has `now`."""
        size, macs = self._limits
        total = self._origin.total
        fitting = np.ones(len(one.candidates), np.bool_)
        if size is not None:
            fitting &= cost.bytes - one.bytes[now] + one.bytes <= size * total.bytes
        if macs is not None:
            fitting &= cost.macs - one.macs[now] + one.macs <= macs * total.macs
        return fitting

    def _prices(self, one: _Options, mix: float) -> Floats:
        total = self._origin.total
        return mix * one.bytes / total.bytes + (1 - mix) * one.macs / max(total.macs, 1)

    def _with_mix(self, mix: float) -> list[int] | None:
        """The choices at the smallest multiplier that keeps the budgets, and what still fits."""
        prices = [self._prices(one, mix) for one in self._options]

        def at(exponent: float) -> list[int]:
            return [
                int(np.argmin(one.damage + 10.0**exponent * price))
                for one, price in zip(self._options, prices, strict=True)
            ]

        low, high = -float(_LARGEST_EXPONENT), float(_LARGEST_EXPONENT)
        if not self._fits(self.cost(at(high))):
            return None
        if self._fits(self.cost(at(low))):
            high = low
        for _ in range(_HALVINGS):
            middle = (low + high) / 2
            low, high = (low, middle) if self._fits(self.cost(at(middle))) else (middle, high)
        return self._filled(at(high), prices)

    def _filled(self, chosen: list[int], prices: Sequence[Floats]) -> list[int]:
        """Spends what is left of the budgets where it takes most damage away for its price."""
        while True:
            cost, best, gain = self.cost(chosen), chosen, 0.0
            for index, (one, price) in enumerate(zip(self._options, prices, strict=True)):
                now = chosen[index]
                spared = one.damage[now] - one.damage
                rates = spared / np.maximum(price - price[now], _LEAST_PRICE)
                rates = np.where(self._fitting(one, now, cost), rates, 0.0)
                place = int(np.argmax(rates))
                if rates[place] > gain:
                    best, gain = [*chosen[:index], place, *chosen[index + 1 :]], rates[place]
            if best is chosen:
                return chosen
            chosen = best


def _choice(one: _Options, candidate: Candidate | None, candidates: Candidates) -> Choice:
    key = one.block.key
    if candidate is None:
        why = why_kept(one.block, candidates) or "what it would save is not worth its damage"
        if candidates.get(key) and len(one.candidates) == 1:
            needed = min(offered.level for offered in candidates[key])
            why = f"a smaller form needs a level of at least {needed:.4g}"
        return Choice(key=key, why=why)
    return Choice(
        key=key,
        action="double_layer",
        form=candidate.form,
        rank=candidate.rank,
        level=candidate.level,
        damage=candidate.damage,
        why=f"least damage for the bytes, {candidate.damage:.3g} by itself",
    )
