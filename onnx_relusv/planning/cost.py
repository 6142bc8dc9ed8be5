"""What a plan of removed units and double layers costs; quick, since planning asks often.

A double layer of a block that has lost channels is smaller too, and is none any more where its rank
is no lower than that of all that is left, or where it would not save bytes.

The bytes of the file that a plan makes, before anything is fitted, and plans that use a budget.

While a plan is searched for, bytes are estimated, since what a change saves depends on others:
which constants are still read, which blocks get a bias, how long names become. The plan that was
found is written with stand-ins for what will be fitted; their values do not matter to the file's
length. By what the estimate was off the search is repeated, until a plan is what it was said to be.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from functools import cache

import numpy as np

from onnx_relusv.core.blocks import Block, Floats
from onnx_relusv.core.errors import BudgetError
from onnx_relusv.core.plans import Budgets, Candidate, Cost, Factors, Kept, Plan
from onnx_relusv.core.reduction import Change, FittedPlan, reduced_block, reduced_geometry
from onnx_relusv.graph.channels.walk import NO_UNIT, Channels
from onnx_relusv.graph.writing import written_bytes
from onnx_relusv.measuring.blocks import Measured
from onnx_relusv.measuring.case import Case, Workspace
from onnx_relusv.measuring.inputs import Inputs
from onnx_relusv.planning.level import Origin
from onnx_relusv.planning.search import Items, State
from onnx_relusv.rewrites.apply import rewritten
from onnx_relusv.rewrites.changes import changes_of
from onnx_relusv.rewrites.low_rank.candidates import (
    block_macs,
    candidate_cost,
    item_size,
)
from onnx_relusv.rewrites.low_rank.forms import FORMS
from onnx_relusv.rewrites.prune.cost import Counts, CutCost, counts_along
from onnx_relusv.rewrites.prune.units import BlockUnits, removes_units

# Beyond it an estimate is good enough: it is off by some hundred bytes a block.
_LARGE = 64 << 20
_MOST_PLANS = 4
# Of the original's bytes: an error of the estimate that is not worth another plan.
_NEAR = 1e-3

# Told a plan, says how many bytes its file has.
SizeOf = Callable[[Plan], int]
# Makes a plan within budgets by what a file is estimated to gain besides blocks.
Make = Callable[[Origin, Budgets], Plan]


def size_of(case: Case, inputs: Inputs, workspace: Workspace, measured: Measured) -> SizeOf | None:
    """What tells the bytes of plans' files; None for a model so large that estimates will do.

    Args:
        case: The model, with its channels where units may go.
        inputs: Its samples.
        workspace: Where it runs, and what is kept.
        measured: Its blocks; what they were measured on tells which biases can be zero.
    """
    if case.model.bytes > _LARGE:
        return None
    blocks = {row.block.key: row for row in measured.rows}
    biased = {
        key
        for key, row in blocks.items()
        if row.statistics != "none" or np.any(case.folding(row.block).bias)
    }

    def size(plan: Plan) -> int:
        return planned_bytes(case, inputs, workspace, plan, biased)

    return size


def planned_bytes(
    case: Case, inputs: Inputs, workspace: Workspace, plan: Plan, biased: Collection[str]
) -> int:
    """The bytes of the model file and its external data.

    Args:
        case: The model.
        inputs: Its samples.
        workspace: Where it runs, and what is kept.
        plan: For this model.
        biased: Keys of the blocks whose bias is not zero once they are fitted.
    """
    stand_ins = {
        change.block.key: _stand_in(change, biased=change.block.key in biased)
        for change in changes_of(case, inputs, plan)
    }
    proto = rewritten(case, inputs, workspace, FittedPlan(plan, stand_ins, {}))
    return written_bytes(proto, case.model)


def _stand_in(change: Change, *, biased: bool) -> Factors:
    geometry = reduced_geometry(change.block.geometry, change.kept)
    shapes = FORMS[change.form].shapes(geometry, change.rank)
    bias = np.ones if biased else np.zeros
    return Factors(
        form=change.form,
        rank=change.rank,
        matrices=tuple(np.ones((geometry.groups, *shape)) for shape in shapes),
        bias=bias(geometry.out_channels),
        kept=change.kept,
    )


def sized(make: Make, origin: Origin, budgets: Budgets, size_of: SizeOf | None) -> Plan:
    """A plan whose share of the bytes is that of its file, and that uses the budget on them.

    Args:
        make: Makes a plan.
        origin: What the plan is for.
        budgets: As asked for. A file has to be smaller than the original in any case.
        size_of: Tells a plan's bytes; None to leave estimates as they are.

    Raises:
        BudgetError: The budgets cannot be reached, or the file would be no smaller.
    """
    if size_of is None:
        return make(origin, budgets)
    if budgets.size is not None:
        return _within(make, origin, budgets, size_of)
    plan, total = make(origin, budgets), origin.total.bytes
    size = size_of(plan) if _changes(plan) else 0
    if size < total:
        return replace(plan, size=size / total) if size else plan
    smaller = replace(budgets, size=(total - 1) / total)
    try:
        return replace(_within(make, origin, smaller, size_of), budgets=budgets)
    except BudgetError as error:
        raise BudgetError(
            f"the file would have {size:,} bytes and the original has {total:,}: the nodes, names "
            "and entries that it gains take more than is saved. Nothing was written."
        ) from error


def _within(make: Make, origin: Origin, budgets: Budgets, size_of: SizeOf) -> Plan:
    assert budgets.size is not None  # there is something to be within
    best: Plan | None = None
    total, extra = origin.total.bytes, 0
    for _ in range(_MOST_PLANS):
        try:
            plan = make(_with_more(origin, extra), budgets)
        except BudgetError:
            # What is set aside for refits may not be needed.
            if best is not None or extra < 0 or not origin.reserved_bytes:
                break
            extra = -origin.reserved_bytes
            continue
        if not _changes(plan):
            return plan
        size = size_of(plan)
        off = size - round(plan.size * total)
        plan = replace(plan, size=size / total)
        if size <= budgets.size * total:
            best = plan if best is None or _is_better(plan, best) else best
            if abs(off) <= _NEAR * total:
                break
        # A plan that is over the budget by a byte must not be made again.
        extra += off if off else 1
    if best is not None:
        return best
    # Where there is no plan, this says how far one gets.
    plan = make(_with_more(origin, extra), budgets)
    size = size_of(plan)
    if size <= budgets.size * total:
        return replace(plan, size=size / total)
    raise BudgetError(
        f"{budgets.size:.4g} of the bytes cannot be reached: the smallest file that was found has "
        f"{size / total:.4g} of them. Ask for less, or allow more blocks."
    )


def _with_more(origin: Origin, extra: int) -> Origin:
    return replace(origin, added_bytes=origin.added_bytes + extra)


def _changes(plan: Plan) -> bool:
    """Whether a plan does anything."""
    return removes_units(plan) or any(choice.action != "keep" for choice in plan.choices)


def _is_better(plan: Plan, other: Plan) -> bool:
    if plan.damage is None or other.damage is None:
        return (plan.level, -plan.size) <= (other.level, -other.size)
    return plan.damage <= other.damage


class PlanCost:
    """What the states of a plan cost.

    Args:
        items: With their options.
        channels: The model's groups.
        units: Of the blocks' channels, by key.
        cut: What cuts save.
        origin: What plans are for.
        names: Of the costs that have budgets.
    """

    def __init__(
        self,
        items: Items,
        channels: Channels,
        units: Mapping[str, BlockUnits],
        cut: CutCost,
        origin: Origin,
        names: Sequence[str],
    ) -> None:
        self._groups, self._blocks = items.groups, items.blocks
        self._cut, self._origin, self._names = cut, origin, names
        self._whole = np.array([len(group.units) for group in channels.groups], np.int64)
        self._sizes = [
            BlockSize(item.block, units.get(item.block.key), channels) for item in items.blocks
        ]
        self._more = cache(self._compared)

    def kept(self, state: State) -> Counts:
        """(groups,) int64: how many units of every group of the model a state keeps."""
        found = self._whole.copy()
        for item, place in zip(self._groups, state, strict=False):
            found[item.place] = item.counts[place]
        return found

    def layers(self, state: State) -> dict[str, Candidate]:
        """By key, the double layers that a state really has."""
        counts, found = self.kept(state), dict[str, Candidate]()
        for number, place in enumerate(state[len(self._groups) :]):
            layer = self._blocks[number].layers[place]
            if layer is not None and self._more(number, self._sizes[number].at(counts), place)[2]:
                found[self._blocks[number].block.key] = layer
        return found

    def total(self, state: State) -> Cost:
        """What the model costs in a state."""
        saved, spared = self._cut.saved(self.kept(state))
        return self._cost(saved, spared, self._layered(state, self.kept(state)))

    def of(self, state: State) -> Floats:
        """(budgets,) of a state."""
        cost = self.total(state)
        return np.array([getattr(cost, name) for name in self._names], np.float64)

    def options(self, state: State, item: int) -> Floats:
        """(options, budgets): of the state with one item at each of its options."""
        counts = self.kept(state)
        if item >= len(self._groups):
            saved, spared = self._cut.saved(counts)
            number = item - len(self._groups)
            others = self._layered(state, counts, {number})
            size = self._sizes[number].at(counts)
            more = [
                others + self._more(number, size, place)[:2]
                for place in range(len(self._blocks[number].layers))
            ]
            return self._costs(np.full(len(more), saved), np.full(len(more), spared), more)
        group = self._groups[item]
        saved_each, spared_each = self._cut.saved_with(counts, group.place, group.counts)
        touched = {
            number
            for number, size in enumerate(self._sizes)
            if size.depends_on(group.place) and state[len(self._groups) + number]
        }
        others, more = self._layered(state, counts, touched), []
        for count in group.counts:
            counts[group.place] = count
            more.append(
                others
                + sum(
                    (
                        np.array(
                            self._more(
                                number,
                                self._sizes[number].at(counts),
                                state[len(self._groups) + number],
                            )[:2]
                        )
                        for number in touched
                    ),
                    np.zeros(2),
                )
            )
        return self._costs(saved_each, spared_each, more)

    def _costs(self, saved: Floats, spared: Floats, more: Sequence[Floats]) -> Floats:
        costs = [self._cost(*each) for each in zip(saved, spared, more, strict=True)]
        return np.array([[getattr(cost, name) for name in self._names] for cost in costs], float)

    def _cost(self, saved: float, spared: float, more: Floats) -> Cost:
        total = self._origin.total
        return Cost(
            bytes=int(total.bytes + self._origin.added_bytes - saved + more[0]),
            macs=int(total.macs - spared + more[1]),
        )

    def _layered(self, state: State, counts: Counts, without: set[int] | None = None) -> Floats:
        """Bytes and MACs that the double layers take beyond what is left of their blocks."""
        found = np.zeros(2)
        for number, place in enumerate(state[len(self._groups) :]):
            if place and number not in (without or ()):
                found += self._more(number, self._sizes[number].at(counts), place)[:2]
        return found

    def _compared(
        self, number: int, size: tuple[int, int], place: int
    ) -> tuple[float, float, bool]:
        """Bytes and MACs of a double layer less those of what is left, and whether it is one."""
        layer, block = self._blocks[number].layers[place], self._blocks[number].block
        if layer is None:
            return 0.0, 0.0, False
        left = block_of_size(block, *size)
        if layer.rank >= FORMS[layer.form].largest_rank(left.geometry):
            return 0.0, 0.0, False
        cost = candidate_cost(left, layer.form, layer.rank, item_size(block))
        bytes_more = cost.bytes - bytes_left(block, left)
        macs_more = cost.macs - block_macs(left)
        if bytes_more >= 0 or macs_more > 0:
            return 0.0, 0.0, False
        return float(bytes_more), float(macs_more), True


class BlockSize:
    """How many channels of a block are left, by how many units of every group are."""

    def __init__(self, block: Block, units: BlockUnits | None, channels: Channels) -> None:
        geometry = block.geometry
        inputs = np.full(geometry.in_channels // geometry.groups, NO_UNIT, np.int64)
        outputs = np.full(geometry.out_channels, NO_UNIT, np.int64)
        if units is not None:
            inputs, outputs = units.inputs, units.outputs
        (self._in_fixed, self._in_slope), (self._out_fixed, self._out_slope) = (
            counts_along(each, channels) for each in (inputs, outputs)
        )

    def at(self, counts: Counts) -> tuple[int, int]:
        """Input channels of one group, and output channels."""
        inputs = self._in_fixed + self._in_slope @ counts
        outputs = self._out_fixed + self._out_slope @ counts
        return round(float(inputs)), round(float(outputs))

    def depends_on(self, place: int) -> bool:
        """Whether a group is among those that count."""
        return bool(self._in_slope[place] or self._out_slope[place])


def bytes_left(block: Block, left: Block) -> float:
    """What a block takes once channels are gone, and its double layer will not.

    The weight loses what it loses; the bias, a normalisation that is folded in and the nodes, all
    that is counted beside it, are taken to be in proportion to the output channels.
    """
    if left is block:
        return float(block.original_bytes)
    item, outputs = item_size(block), left.geometry.out_channels / block.geometry.out_channels
    weight, weight_left = (item * each.geometry.numbers for each in (block, left))
    # With the first channel, a weight that was computed becomes one that is stored.
    return weight_left + outputs * (block.original_bytes - block.surplus_bytes - weight)


def block_of_size(block: Block, inputs: int, outputs: int) -> Block:
    """A block with so many channels left; which ones does not count."""
    geometry = block.geometry
    if (inputs * geometry.groups, outputs) == (geometry.in_channels, geometry.out_channels):
        return block
    return reduced_block(block, Kept(inputs=np.arange(inputs), outputs=np.arange(outputs)))
