"""Decides how much each block loses: one common level tau for all, found on the budgets.

At a level tau every block takes, for each form, the smallest rank whose level is at most tau, and
of these the cheaper one; or stays, where none makes it smaller. Bytes and MACs fall as tau rises,
so the smallest tau that keeps all budgets is found by bisection over the levels that occur.

A level says what a change costs, not what it buys: truncating a small classifier hurts as much as
truncating a large layer and saves next to nothing. So a block stays where it would save less than
`LEAST_SAVING` of what the changed blocks save on average.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from onnx_relusv.cost import block_cost
from onnx_relusv.errors import BudgetError
from onnx_relusv.records import Block, Budgets, Candidate, Choice, Cost, Plan

# Without a budget: what this leaves of the accuracy is measured in docs/how-it-works.md.
DEFAULT_TOLERANCE = 0.1
LEAST_SAVING = 0.01

Candidates = Mapping[str, Sequence[Candidate]]


@dataclass(frozen=True)
class Origin:
    """What a plan was made for.

    Attributes:
        model_sha256: Of the model.
        samples_sha256: Of the samples, or None.
        total: Bytes and MACs of the whole original; `bytes` with everything that cannot shrink.
        added_bytes: What the file gains besides blocks (provenance), an upper bound.
        seed: In force.
        method: In force.
    """

    model_sha256: str
    samples_sha256: str | None
    total: Cost
    added_bytes: int
    seed: int
    method: str


def make_plan(
    blocks: Sequence[Block], candidates: Candidates, budgets: Budgets, origin: Origin
) -> Plan:
    """The plan with the smallest common level that keeps the size and MACs budgets.

    With a tolerance and nothing else, the level is that tolerance. Without any budget, it is
    `DEFAULT_TOLERANCE`.

    Args:
        blocks: In topological order.
        candidates: By block key; blocks without any stay.
        budgets: As asked for.
        origin: What the plan is for.

    Raises:
        BudgetError: No block can shrink, or even the highest level allowed keeps too much.
    """
    if not any(candidates.get(block.key) for block in blocks):
        raise BudgetError("no block of this model can be made smaller; nothing was written.")
    allocation = _Allocation(blocks, candidates, budgets, origin)
    if budgets.size is None and budgets.macs is None:
        level = DEFAULT_TOLERANCE if budgets.tolerance is None else budgets.tolerance
    else:
        level = allocation.smallest_level()
    return allocation.plan(level)


class _Allocation:
    def __init__(
        self, blocks: Sequence[Block], candidates: Candidates, budgets: Budgets, origin: Origin
    ) -> None:
        self._blocks = blocks
        self._candidates = candidates
        self._budgets = budgets
        self._origin = origin

    def smallest_level(self) -> float:
        """The smallest level, among those at which anything changes, that keeps the budgets."""
        levels = np.unique(
            [c.level for block in self._blocks for c in self._candidates.get(block.key, ())]
        )
        limit = self._budgets.tolerance
        if limit is not None:
            levels = levels[levels <= limit]
        levels = np.append(0.0, levels)
        if not self._holds(float(levels[-1])):
            raise BudgetError(self._how_far(float(levels[-1])))
        low, high = 0, len(levels) - 1
        while low < high:
            middle = (low + high) // 2
            if self._holds(float(levels[middle])):
                high = middle
            else:
                low = middle + 1
        return float(levels[high])

    def plan(self, level: float) -> Plan:
        """The plan at a level."""
        chosen = self._chosen(level)
        cost = self._cost(level)
        total = self._origin.total
        return Plan(
            model_sha256=self._origin.model_sha256,
            samples_sha256=self._origin.samples_sha256,
            budgets=self._budgets,
            method=self._origin.method,
            seed=self._origin.seed,
            level=level,
            size=cost.bytes / total.bytes,
            macs=cost.macs / max(total.macs, 1),
            choices=tuple(
                self._choice(block, chosen.get(block.key), level) for block in self._blocks
            ),
        )

    def _chosen(self, level: float) -> dict[str, Candidate]:
        """What becomes of the blocks that change, by key."""
        found = {
            block.key: candidate
            for block in self._blocks
            if (candidate := self._cheapest(block, level)) is not None
        }
        savings = {
            block.key: self._price(block_cost(block)) - self._price(found[block.key])
            for block in self._blocks
            if block.key in found
        }
        least = LEAST_SAVING * sum(savings.values()) / max(len(savings), 1)
        return {key: found[key] for key, saving in savings.items() if saving >= least}

    def _cheapest(self, block: Block, level: float) -> Candidate | None:
        """The cheapest of each form's smallest sufficient rank, or None to keep the block."""
        smallest: dict[str, Candidate] = {}
        for candidate in self._candidates.get(block.key, ()):
            if candidate.level <= level and candidate.form not in smallest:
                smallest[candidate.form] = candidate
        return min(smallest.values(), key=self._price, default=None)

    def _price(self, cost: Candidate | Cost) -> float:
        """A cost in the currency of the budgets, as a share of the model."""
        total = self._origin.total
        size, macs = cost.bytes / total.bytes, cost.macs / max(total.macs, 1)
        if self._budgets.macs is None:
            return size
        return macs if self._budgets.size is None else size + macs

    def _cost(self, level: float) -> Cost:
        total = self._origin.total
        size, macs = total.bytes + self._origin.added_bytes, total.macs
        chosen = self._chosen(level)
        for block in self._blocks:
            if block.key in chosen:
                now, then = block_cost(block), chosen[block.key]
                size += then.bytes - now.bytes
                macs += then.macs - now.macs
        return Cost(bytes=size, macs=macs)

    def _holds(self, level: float) -> bool:
        cost, total = self._cost(level), self._origin.total
        size_limit = np.inf if self._budgets.size is None else self._budgets.size * total.bytes
        macs_limit = np.inf if self._budgets.macs is None else self._budgets.macs * total.macs
        return bool(cost.bytes <= size_limit and cost.macs <= macs_limit)

    def _how_far(self, level: float) -> str:
        cost, total = self._cost(level), self._origin.total
        asked = [
            f"{share:.4g} of the {name}"
            for name, share in (("bytes", self._budgets.size), ("MACs", self._budgets.macs))
            if share is not None
        ]
        limit = self._budgets.tolerance
        within = "" if limit is None else f" within a level of {limit:.4g}"
        return (
            f"{' and '.join(asked)} cannot be reached{within}: the least is "
            f"{cost.bytes / total.bytes:.4g} of the bytes and "
            f"{cost.macs / max(total.macs, 1):.4g} of the MACs. Ask for less, or allow more blocks."
        )

    def _choice(self, block: Block, candidate: Candidate | None, level: float) -> Choice:
        if candidate is not None:
            why = f"smallest rank with level at most {level:.4g}"
            return Choice(
                key=block.key,
                action="double_layer",
                form=candidate.form,
                rank=candidate.rank,
                level=candidate.level,
                why=why,
            )
        offered = self._candidates.get(block.key)
        if offered is None:
            return Choice(key=block.key, why="left out by --include or --exclude")
        if not offered:
            return Choice(key=block.key, why="no form makes it smaller")
        needed = min(candidate.level for candidate in offered)
        if needed <= level:
            return Choice(key=block.key, why="it would save next to nothing of the model")
        why = f"a smaller form needs a level of at least {needed:.4g}"
        return Choice(key=block.key, why=why)
