"""Decides how much each block loses by measured damage: one multiplier for all blocks.

Damages nearly add up, so a plan is a knapsack of blocks: each takes one of its candidates, or
stays, and the total damage within the budgets on bytes, MACs and latency is the least
(knapsack.py).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from onnx_relusv.allocation import Candidates, Origin, how_far, why_kept
from onnx_relusv.decisions import Budgets, Candidate, Choice, Cost, DamageCurve, Plan
from onnx_relusv.errors import BudgetError
from onnx_relusv.knapsack import Knapsack
from onnx_relusv.limits import allowed, cost_now, fast_enough, limits, why_none_taken
from onnx_relusv.records import Block, Floats


@dataclass(frozen=True, eq=False)
class _Options:
    """What a block may become; the first one is to stay as it is."""

    block: Block
    candidates: tuple[Candidate | None, ...]
    costs: tuple[Cost | Candidate, ...]
    damage: Floats

    def spent(self, names: Sequence[str]) -> Floats:
        """(names, options) float64: what each costs."""
        return np.array([[getattr(cost, name) for cost in self.costs] for name in names], float)


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
        budgets: Of size, MACs or latency, one at least; a tolerance limits the levels.
        origin: What the plan is for.

    Raises:
        BudgetError: No block can shrink, or the budgets cannot be reached.
    """
    if not any(candidates.get(block.key) for block in blocks):
        raise BudgetError("no block of this model can be made smaller; nothing was written.")
    options = [_options(block, candidates.get(block.key, ()), budgets, origin) for block in blocks]
    knapsack = _knapsack(options, budgets, origin)
    chosen, total = knapsack.best(), origin.total
    if chosen is None:
        nearest = _cost(options, knapsack.nearest(), origin)
        raise BudgetError(how_far(nearest, budgets, total))
    cost = _cost(options, chosen, origin)
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
            _choice(one, candidate, candidates, budgets, origin)
            for one, candidate in zip(options, picked, strict=True)
        ),
        curves=tuple(curves),
        batch=origin.batch,
        latency=None if budgets.latency is None else cost.latency / total.latency,
    )


def _options(
    block: Block, offered: Sequence[Candidate], budgets: Budgets, origin: Origin
) -> _Options:
    taken = allowed(block, offered, budgets, origin.latencies)
    return _Options(
        block=block,
        candidates=(None, *taken),
        costs=(cost_now(block, origin.latencies), *taken),
        damage=np.array([0.0, *(candidate.damage for candidate in taken)]),
    )


def _knapsack(options: Sequence[_Options], budgets: Budgets, origin: Origin) -> Knapsack:
    within = limits(budgets, origin.total)
    names = tuple(within)
    costs = [one.spent(names) for one in options]
    staying = np.zeros(len(names)) + sum(cost[:, 0] for cost in costs)
    whole = np.array([getattr(origin.total, name) for name in names], np.float64)
    added = np.array([origin.added_bytes if name == "bytes" else 0 for name in names])
    return Knapsack(
        damages=[one.damage for one in options],
        costs=costs,
        fixed=whole + added - staying,
        limits=np.array([within[name] for name in names]),
        units=np.where(whole > 0, whole, 1.0),
    )


def _cost(options: Sequence[_Options], chosen: Sequence[int], origin: Origin) -> Cost:
    """What the whole model costs."""
    total = origin.total
    changes = [(one.costs[0], one.costs[place]) for one, place in zip(options, chosen, strict=True)]
    saved = sum(before.bytes - after.bytes for before, after in changes)
    return Cost(
        bytes=total.bytes + origin.added_bytes - saved,
        macs=total.macs + sum(after.macs - before.macs for before, after in changes),
        latency=total.latency + sum(after.latency - before.latency for before, after in changes),
    )


def _choice(
    one: _Options,
    candidate: Candidate | None,
    candidates: Candidates,
    budgets: Budgets,
    origin: Origin,
) -> Choice:
    key = one.block.key
    if candidate is None:
        why = why_kept(one.block, candidates) or "what it would save is not worth its damage"
        if candidates.get(key) and len(one.candidates) == 1:
            fast = fast_enough(one.block, candidates[key], budgets, origin.latencies)
            why = why_none_taken(fast)
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
