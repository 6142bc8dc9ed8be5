"""The least damage within budgets where costs do not add up over what is chosen.

What a group of units saves depends on the groups before and behind it, whose weights it shares, so
a plan is no knapsack. It is searched for: from a start, the step with the least damage for what it
saves is taken again and again, until the budgets are kept; then single steps and pairs of them are
taken as long as they take damage away. That finds a good plan, not surely the best.

From how many units are kept, and which double layers there are, to a plan's records.

The items of a plan of units and double layers, each with its options.

A search tells some forty options of every item apart, a geometric ladder; once it has found a
state, ladders around it are as much finer, until they have every option.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
import numpy.typing as npt

from onnx_relusv.core.blocks import Block, Floats, ReadOnlyArrays
from onnx_relusv.core.plans import Allocation, Budgets, Candidate, Choice, Cost, GroupChoice, Plan
from onnx_relusv.core.reduction import reduced_block
from onnx_relusv.graph.channels.walk import Channels
from onnx_relusv.planning.level import LEFT_OUT, Origin
from onnx_relusv.rewrites.low_rank.forms import DENSE
from onnx_relusv.rewrites.prune.cost import Counts
from onnx_relusv.rewrites.prune.orders import Ordered
from onnx_relusv.rewrites.prune.units import BlockUnits, Mask, ladder


@dataclass(frozen=True, eq=False)
class Decision:
    """What was decided, in numbers.

    Attributes:
        counts: (groups,) int64: how many units of every group of the model are kept.
        layers: Double layers by block key.
        cost: What the model then costs.
        allocation: How it was decided.
        level: The common level, or the largest.
        why: In words, of the groups that lose units.
        left_out: Keys of the blocks that may not change.
        damage: Of a group with so many units kept; None where it was not measured.
    """

    counts: Counts
    layers: Mapping[str, Candidate]
    cost: Cost
    allocation: Allocation
    level: float
    why: str
    left_out: frozenset[str] = frozenset()
    damage: Callable[[Ordered, int], float] | None = None


def plan_of(
    decision: Decision,
    budgets: Budgets,
    blocks: Sequence[Block],
    channels: Channels,
    ordered: Sequence[Ordered],
    units: Mapping[str, BlockUnits],
    origin: Origin,
) -> Plan:
    """The plan that a decision means.

    Args:
        decision: What was decided.
        budgets: As asked for.
        blocks: In topological order.
        channels: The model's groups.
        ordered: Those that may lose units.
        units: Of the blocks' channels, by key.
        origin: What the plan is for.
    """
    places = {group.key: place for place, group in enumerate(channels.groups)}
    kept = [int(decision.counts[places[one.group.key]]) for one in ordered]
    removed = np.zeros(channels.count, np.bool_)
    for one, count in zip(ordered, kept, strict=True):
        removed |= one.removed(channels.count, count)
    return Plan(
        model_sha256=origin.model_sha256,
        samples_sha256=origin.samples_sha256,
        budgets=budgets,
        method=origin.method,
        seed=origin.seed,
        allocation=decision.allocation,
        level=decision.level,
        size=decision.cost.bytes / origin.total.bytes,
        macs=decision.cost.macs / max(origin.total.macs, 1),
        choices=tuple(_choice(block, units.get(block.key), removed, decision) for block in blocks),
        damage=None,
        curves=(),
        groups=tuple(
            _group_choice(one, count, decision) for one, count in zip(ordered, kept, strict=True)
        ),
        input_range=origin.input_range,
    )


def _group_choice(one: Ordered, kept: int, decision: Decision) -> GroupChoice:
    group, gone = one.group, len(one.group.units) - kept
    return GroupChoice(
        key=group.key,
        units=len(group.units),
        kept=tuple(sorted(int(unit) for unit in one.elimination.order[gone:])),
        level=one.level(kept),
        damage=None if decision.damage is None else decision.damage(one, kept),
        producers=group.producers,
        consumers=group.consumers,
        why=decision.why if gone else "not worth its loss",
    )


def _choice(block: Block, units: BlockUnits | None, removed: Mask, decision: Decision) -> Choice:
    layer = decision.layers.get(block.key)
    kept = None if units is None else units.kept(removed)
    inputs = None if kept is None else len(kept.inputs) * block.geometry.groups
    outputs = None if kept is None else len(kept.outputs)
    if layer is not None:
        return Choice(
            key=block.key,
            action="double_layer",
            form=layer.form,
            rank=layer.rank,
            level=layer.level,
            damage=layer.damage,
            why="least damage for the budget",
            inputs=inputs,
            outputs=outputs,
        )
    if kept is None:
        why = "not worth its loss, and no channel goes"
        return Choice(key=block.key, why=LEFT_OUT if block.key in decision.left_out else why)
    return Choice(
        key=block.key,
        action="prune",
        form=DENSE.name,
        rank=reduced_block(block, kept).geometry.largest_rank,
        why="its channels go with their groups",
        inputs=inputs,
        outputs=outputs,
    )


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


Layer = Candidate | None


@dataclass(frozen=True, eq=False)
class GroupItem:
    """A group that may lose units.

    Attributes:
        place: Among all groups of the model.
        counts: Decreasing from all: how many units may be kept.
    """

    place: int
    counts: Counts

    @property
    def sizes(self) -> list[int]:
        """Of the options, decreasing."""
        return [int(count) for count in self.counts]

    def some(self, places: Sequence[int]) -> "GroupItem":
        """With these options alone."""
        return replace(self, counts=self.counts[list(places)])


@dataclass(frozen=True, eq=False)
class BlockItem:
    """A block that may become a double layer.

    Attributes:
        block: The block.
        layers: What it may become, bytes decreasing; None, to stay in its form, is the first.
    """

    block: Block
    layers: tuple[Layer, ...]

    @property
    def sizes(self) -> list[int]:
        """Of the options, decreasing."""
        bytes_ = [layer.bytes for layer in self.layers if layer is not None]
        return [max(bytes_, default=0) + 1, *bytes_]

    def some(self, places: Sequence[int]) -> "BlockItem":
        """With these options alone."""
        return replace(self, layers=tuple(self.layers[place] for place in places))


@dataclass(frozen=True, eq=False)
class Items:
    """What a plan decides on; the items of a state are the groups, then the blocks.

    Attributes:
        groups: Groups that may lose units.
        blocks: Blocks that may become double layers.
        places: Of every item, where its options are among all that it has.
    """

    groups: Sequence[GroupItem]
    blocks: Sequence[BlockItem]
    places: Sequence[Sequence[int]]

    @property
    def lengths(self) -> list[int]:
        """How many options every item has."""
        return [len(places) for places in self.places]

    def all(self, state: State) -> State:
        """A state in the numbers of all options."""
        return tuple(own[place] for own, place in zip(self.places, state, strict=True))


@dataclass(frozen=True, eq=False)
class AllItems:
    """The items with all of their options.

    Attributes:
        groups: Groups that may lose units.
        blocks: Blocks that may become double layers.
    """

    groups: Sequence[GroupItem]
    blocks: Sequence[BlockItem]

    @property
    def _both(self) -> list[GroupItem | BlockItem]:
        return [*self.groups, *self.blocks]

    def coarse(self) -> Items:
        """With a ladder over all options."""
        return self._some([ladder(item.sizes) for item in self._both])

    def finer(self, state: State) -> Items:
        """With finer ladders around a state, which is in the numbers of all options."""
        items = zip(self._both, state, strict=True)
        return self._some([ladder(item.sizes, near) for item, near in items])

    def complete(self) -> Items:
        """With all options."""
        return self._some([tuple(range(len(item.sizes))) for item in self._both])

    def _some(self, places: Sequence[Sequence[int]]) -> Items:
        count = len(self.groups)
        groups = [item.some(own) for item, own in zip(self.groups, places[:count], strict=True)]
        blocks = [item.some(own) for item, own in zip(self.blocks, places[count:], strict=True)]
        return Items(groups, blocks, places)
