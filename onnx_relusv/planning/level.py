"""Decides how much each block loses: one common level tau for all, found on the budgets.

At a level tau every block takes, for each form, the smallest rank whose level is at most tau, and
of these the cheaper one; or stays, where none makes it smaller.

A level says what a change costs, not what it buys: truncating a small classifier hurts as much as
truncating a large layer and saves next to nothing. So a block stays where it would save less than
`LEAST_SAVING` of what the changed blocks save on average.

The model mostly shrinks as tau rises, but not always: a block may fall below that average, or
change to a form that saves MACs and costs bytes. So the smallest tau that keeps all budgets is
found by going through all levels that occur, from below; each of them changes one block or few.

What that level leaves of the budgets on bytes and MACs goes to the changed blocks, the one with the
largest level first, step by step as long as anything fits: a block may be better than tau, and is
never worse.

What budgets allow: limits of the whole model's costs, and which candidates may be taken.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby
from types import MappingProxyType

import numpy as np
import numpy.typing as npt

from onnx_relusv.core.blocks import Block
from onnx_relusv.core.errors import BudgetError
from onnx_relusv.core.plans import Budgets, Candidate, Choice, Cost, Method, Plan
from onnx_relusv.rewrites.low_rank.candidates import block_cost

# By how much a block's time may seem to grow without its being slower: timings vary.
TIMING_NOISE = 0.05


def limits(budgets: Budgets, total: Cost) -> dict[str, float]:
    """What the budgets that are given allow, by the name of the cost; `total` is the original's."""
    shares = {"bytes": budgets.size, "macs": budgets.macs, "latency": budgets.latency}
    return {
        name: share * getattr(total, name) for name, share in shares.items() if share is not None
    }


def cost_now(block: Block, latencies: Mapping[str, float]) -> Cost:
    """What a block costs as it is; `latencies` are those of the blocks that were timed, by key."""
    return replace(block_cost(block), latency=latencies.get(block.key, 0.0))


def fast_enough(
    block: Block, offered: Sequence[Candidate], budgets: Budgets, latencies: Mapping[str, float]
) -> list[Candidate]:
    """Those of a block's candidates that do not make it slower; all without a budget on latency."""
    if budgets.latency is None or not offered:
        return list(offered)
    most = latencies[block.key] * (1 + TIMING_NOISE)
    return [candidate for candidate in offered if candidate.latency <= most]


def allowed(
    block: Block, offered: Sequence[Candidate], budgets: Budgets, latencies: Mapping[str, float]
) -> list[Candidate]:
    """Those of a block's candidates that a plan may take: fast enough, and within the tolerance."""
    fast = fast_enough(block, offered, budgets, latencies)
    limit = budgets.tolerance
    return [candidate for candidate in fast if limit is None or candidate.level <= limit]


def why_none_taken(fast: Sequence[Candidate]) -> str:
    """Why a block stays whose candidates, those that are fast enough, are all beyond the level."""
    if not fast:
        return "every smaller form is slower"
    needed = min(candidate.level for candidate in fast)
    return f"a smaller form needs a level of at least {needed:.4g}"


# Without a budget: what these leave of the accuracy is measured in docs/how-it-works.md. A plain
# level overstates what a change does to real inputs, so it may be larger.
DEFAULT_TOLERANCE = 0.02
DEFAULT_TOLERANCE_WITHOUT_SAMPLES = 0.1
LEAST_SAVING = 0.01
LEFT_OUT = "left out by --include or --exclude"
Candidates = Mapping[str, Sequence[Candidate]]


@dataclass(frozen=True)
class Origin:
    """What a plan was made for.

    Attributes:
        model_sha256: Of the model.
        samples_sha256: Of the samples, or None.
        total: What the whole original costs; `bytes` with everything that cannot shrink.
        added_bytes: What the file gains besides blocks (provenance, refits), an upper bound.
        reserved_bytes: What of it is for refits, of all blocks together.
        seed: In force.
        method: In force.
        batch: Samples in a run that latency is measured at.
        latencies: By key, the seconds of `total` that a block takes as it is; of the blocks that
            were timed.
        assumed: Whether levels are in the metric of assumed statistics, for want of samples.
        input_range: Between which numbers all inputs lie; None where that was not declared.
    """

    model_sha256: str
    samples_sha256: str | None
    total: Cost
    added_bytes: int
    seed: int
    method: Method
    batch: int = 1
    latencies: Mapping[str, float] = field(default_factory=dict)
    assumed: bool = False
    input_range: tuple[float, float] | None = None
    reserved_bytes: int = 0


def make_plan(
    blocks: Sequence[Block],
    candidates: Candidates,
    budgets: Budgets,
    origin: Origin,
    finer: Candidates = MappingProxyType({}),
) -> Plan:
    """The plan with the smallest common level that keeps the size, MACs and latency budgets.

    With a tolerance and nothing else, the level is that tolerance. Without any budget, it is
    `DEFAULT_TOLERANCE`, or `DEFAULT_TOLERANCE_WITHOUT_SAMPLES`.

    Args:
        blocks: In topological order.
        candidates: By block key; blocks without any stay.
        budgets: As asked for.
        origin: What the plan is for.
        finer: By block key, what else may use what the level leaves of the budgets.

    Raises:
        BudgetError: No block can shrink, or no level that is allowed shrinks them enough.
    """
    if not any(candidates.get(block.key) for block in blocks):
        raise BudgetError("no block of this model can be made smaller; nothing was written.")
    allocation = _Allocation(blocks, candidates, budgets, origin, finer)
    if not limits(budgets, origin.total):
        level = _default_tolerance(origin) if budgets.tolerance is None else budgets.tolerance
    else:
        level = allocation.smallest_level()
    return allocation.plan(level)


def _default_tolerance(origin: Origin) -> float:
    blind = origin.samples_sha256 is None and not origin.assumed
    return DEFAULT_TOLERANCE_WITHOUT_SAMPLES if blind else DEFAULT_TOLERANCE


@dataclass(frozen=True)
class _Step:
    """From a level on, a candidate is a block's cheapest."""

    level: float
    block: int
    candidate: Candidate


class _Savings:
    """What the blocks save at a level that rises step by step, and whether it is worth it."""

    def __init__(self, blocks: int) -> None:
        self.candidates: list[Candidate | None] = [None] * blocks
        self.prices = np.zeros(blocks)
        self.bytes = np.zeros(blocks, np.int64)
        self.macs = np.zeros(blocks, np.int64)
        self.latency = np.zeros(blocks)
        self._changed = np.zeros(blocks, np.bool_)

    def take(self, step: _Step, now: Cost, price: float) -> None:
        """Lets a block, of cost `now`, take a candidate that is cheaper by `price`."""
        index = step.block
        self.candidates[index] = step.candidate
        self.prices[index] = price
        self.bytes[index] = now.bytes - step.candidate.bytes
        self.macs[index] = now.macs - step.candidate.macs
        self.latency[index] = now.latency - step.candidate.latency
        self._changed[index] = True

    def worthwhile(self) -> npt.NDArray[np.bool_]:
        """(blocks,): which of them change."""
        if not self._changed.any():
            return self._changed
        least = LEAST_SAVING * self.prices[self._changed].mean()
        enough: npt.NDArray[np.bool_] = self.prices >= least
        return self._changed & enough


class _Allocation:
    def __init__(
        self,
        blocks: Sequence[Block],
        candidates: Candidates,
        budgets: Budgets,
        origin: Origin,
        finer: Candidates,
    ) -> None:
        self._blocks = blocks
        self._candidates = candidates
        self._budgets = budgets
        self._origin = origin
        self._finer = finer
        self._limits = limits(budgets, origin.total)
        self._now = [cost_now(block, origin.latencies) for block in blocks]
        steps = [step for index in range(len(blocks)) for step in self._block_steps(index)]
        self._steps = sorted(steps, key=lambda step: step.level)

    def smallest_level(self) -> float:
        """The smallest level, among those at which anything changes, that keeps the budgets."""
        limit = np.inf if self._budgets.tolerance is None else self._budgets.tolerance
        savings = _Savings(len(self._blocks))
        nearest = self._cost(savings)
        if self._excess(nearest) <= 1:
            return 0.0
        for level, steps in groupby(self._steps, key=lambda step: step.level):
            if level > limit:
                break
            self._take(savings, steps)
            cost = self._cost(savings)
            if self._excess(cost) <= 1:
                return float(level)
            nearest = min(nearest, cost, key=self._excess)
        raise BudgetError(how_far(nearest, self._budgets, self._origin.total))

    def plan(self, level: float) -> Plan:
        """The plan at a level."""
        savings = _Savings(len(self._blocks))
        self._take(savings, (step for step in self._steps if step.level <= level))
        least = [
            candidate if worthwhile else None
            for candidate, worthwhile in zip(savings.candidates, savings.worthwhile(), strict=True)
        ]
        chosen, cost = self._filled(least, self._cost(savings))
        total = self._origin.total
        return Plan(
            model_sha256=self._origin.model_sha256,
            samples_sha256=self._origin.samples_sha256,
            budgets=self._budgets,
            method=self._origin.method,
            seed=self._origin.seed,
            allocation="level",
            level=level,
            size=cost.bytes / total.bytes,
            macs=cost.macs / max(total.macs, 1),
            batch=self._origin.batch,
            latency=None if self._budgets.latency is None else cost.latency / total.latency,
            choices=tuple(
                self._choice(block, candidate, level, raised=candidate is not before)
                for block, candidate, before in zip(self._blocks, chosen, least, strict=True)
            ),
            damage=None,
            curves=(),
        )

    def _filled(
        self, chosen: list[Candidate | None], cost: Cost
    ) -> tuple[list[Candidate | None], Cost]:
        """Spends what is left of the budgets, and says what the model then costs.

        A time is not known until it is measured, so what is left of it is left.
        """
        if not self._limits or "latency" in self._limits:
            return chosen, cost
        offered = [
            [*self._candidates.get(block.key, ()), *self._finer.get(block.key, ())]
            for block in self._blocks
        ]
        while True:
            step = next(
                (
                    (index, better, reached)
                    for index, now in _worst_first(chosen)
                    for better in _better(now, offered[index])
                    if self._excess(reached := self._moved(cost, index, now, better)) <= 1
                ),
                None,
            )
            if step is None:
                return chosen, cost
            index, better, cost = step
            chosen = [*chosen[:index], better, *chosen[index + 1 :]]

    def _moved(self, cost: Cost, index: int, now: Candidate, better: Candidate | None) -> Cost:
        """What the model costs once a block takes another candidate, or its own form."""
        after = self._now[index] if better is None else better
        return replace(
            cost, bytes=cost.bytes + after.bytes - now.bytes, macs=cost.macs + after.macs - now.macs
        )

    def _block_steps(self, index: int) -> Iterator[_Step]:
        """The cheapest of each form's smallest sufficient rank, at every level that occurs."""
        smallest: dict[str, Candidate] = {}
        offered = self._fast_enough(self._blocks[index])
        for candidate in sorted(offered, key=lambda c: (c.level, -c.rank)):
            smallest[candidate.form] = candidate
            yield _Step(candidate.level, index, min(smallest.values(), key=self._price))

    def _take(self, savings: _Savings, steps: Iterable[_Step]) -> None:
        for step in steps:
            now = self._now[step.block]
            savings.take(step, now, self._price(now) - self._price(step.candidate))

    def _price(self, cost: Candidate | Cost) -> float:
        """A cost in the currency of the budgets, as a share of the model; bytes without any."""
        total = self._origin.total
        wholes = {name: getattr(total, name) for name in self._limits or ("bytes",)}
        return float(sum(getattr(cost, name) / (whole or 1) for name, whole in wholes.items()))

    def _cost(self, savings: _Savings) -> Cost:
        total, changed = self._origin.total, savings.worthwhile()
        return Cost(
            bytes=total.bytes + self._origin.added_bytes - int(savings.bytes[changed].sum()),
            macs=total.macs - int(savings.macs[changed].sum()),
            latency=total.latency - float(savings.latency[changed].sum()),
        )

    def _excess(self, cost: Cost) -> float:
        """What is spent of the budget that is missed most; at most 1 where all are kept."""
        spent = [getattr(cost, name) / limit for name, limit in self._limits.items() if limit]
        return float(max(spent, default=0.0))

    def _choice(
        self, block: Block, candidate: Candidate | None, level: float, *, raised: bool
    ) -> Choice:
        if candidate is not None:
            why = f"smallest rank with level at most {level:.4g}"
            if raised:
                why = f"level at most {level:.4g}, and what the budgets leave"
            return Choice(
                key=block.key,
                action="double_layer",
                form=candidate.form,
                rank=candidate.rank,
                level=candidate.level,
                why=why,
            )
        if raised:
            return Choice(key=block.key, why="the budgets leave enough for it as it is")
        reason = why_kept(block, self._candidates)
        if reason is not None:
            return Choice(key=block.key, why=reason)
        offered = self._fast_enough(block)
        if any(candidate.level <= level for candidate in offered):
            return Choice(key=block.key, why="it would save next to nothing of the model")
        return Choice(key=block.key, why=why_none_taken(offered))

    def _fast_enough(self, block: Block) -> list[Candidate]:
        offered = self._candidates.get(block.key, ())
        return fast_enough(block, offered, self._budgets, self._origin.latencies)


def _worst_first(chosen: Sequence[Candidate | None]) -> list[tuple[int, Candidate]]:
    """The changed blocks with their places, those with the largest level first."""
    changed = [(index, now) for index, now in enumerate(chosen) if now is not None]
    return sorted(changed, key=lambda one: -one[1].level)


def _better(now: Candidate, offered: Sequence[Candidate]) -> list[Candidate | None]:
    """What has a lower level, from the fewest bytes on; None, the block's own form, is the last."""
    lower = (candidate for candidate in offered if candidate.level < now.level)
    return [*sorted(lower, key=lambda one: (one.bytes, one.level, one.macs)), None]


def why_kept(block: Block, candidates: Candidates) -> str | None:
    """Why a block has no candidate; None if it has."""
    offered = candidates.get(block.key)
    if offered is None:
        return LEFT_OUT
    return None if offered else "no form makes it smaller"


def how_far(cost: Cost, budgets: Budgets, total: Cost) -> str:
    """Says that budgets cannot be reached, and how far one gets."""
    asked = [
        f"{share:.4g} of the {name}"
        for name, share in (
            ("bytes", budgets.size),
            ("MACs", budgets.macs),
            ("latency", budgets.latency),
        )
        if share is not None
    ]
    limit = budgets.tolerance
    within = "" if limit is None else f" within a level of {limit:.4g}"
    least = (
        f"{cost.bytes / total.bytes:.4g} of the bytes and "
        f"{cost.macs / max(total.macs, 1):.4g} of the MACs"
    )
    if budgets.latency is not None:
        least += f", at an estimated {cost.latency / total.latency:.4g} of the latency"
    return (
        f"{' and '.join(asked)} cannot be reached{within}: the least is {least}. "
        "Ask for less, or allow more blocks."
    )
