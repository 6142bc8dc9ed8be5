"""From the options that were chosen to a plan's records, each with its reason.

What a changed block no longer delivers, the next ones can compensate in part without a byte more:
blocks behind a change that a plan would keep are fitted anew, in their own form.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from onnx_relusv.core.blocks import Block, Item, StatisticsSource
from onnx_relusv.core.measures import DamageCurve, GroupCurve, IntegerDamage, Measured
from onnx_relusv.core.options import PlanOptions
from onnx_relusv.core.plans import (
    Budgets,
    Candidate,
    ChannelMask,
    Choice,
    GroupChoice,
    Plan,
    Rounding,
)
from onnx_relusv.core.reduction import masked_block
from onnx_relusv.graph.blocks import dependents
from onnx_relusv.measuring.case import Case
from onnx_relusv.measuring.inputs import Inputs
from onnx_relusv.planning.allocation import Allocation
from onnx_relusv.planning.cost import Coupling, PlanCost
from onnx_relusv.planning.limits import Origin, shares_of
from onnx_relusv.rewrites.low_rank.candidates import item_size, refit_bytes
from onnx_relusv.rewrites.low_rank.forms import DENSE, FORMS
from onnx_relusv.rewrites.low_rank.method import LayerItem
from onnx_relusv.rewrites.prune.method import GroupItem

LEFT_OUT = "left out by --include or --exclude"
NO_SMALLER_FORM = "no form makes it smaller"
ALL_SLOWER = "every smaller form is slower"
_NOT_WORTH = "what it would save is not worth its loss"
_LEAST = "least total damage for the budgets"


@dataclass(frozen=True, eq=False)
class Offered:
    """What plans choose from, and what they say of it.

    Attributes:
        blocks: In topological order.
        items: Of all methods, with all of their options.
        origin: What plans are for.
        statistics: What blocks were measured on, by key.
        coupling: What units have to do with blocks; None where no units go.
        layered: Whether blocks may become double layers.
        left_out: Keys of the blocks that may not change.
        nearest: Of the blocks that may be computed with integers, keys of those whose weights
            are rounded to the nearest, since their input's covariance is not there.
        formats_alone: Whether nothing is to change but the numbers that blocks are computed with.
        slower: By key of the blocks that integers make slower, seconds by themselves with the
            numbers of the file, and with integers.
        curves: What damages come from.
        damage_measure: What damages are, in words; None where none were measured.
    """

    blocks: tuple[Block, ...]
    items: tuple[Item, ...]
    origin: Origin
    statistics: Mapping[str, StatisticsSource]
    coupling: Coupling | None = None
    layered: bool = True
    left_out: frozenset[str] = frozenset()
    nearest: frozenset[str] = frozenset()
    formats_alone: bool = False
    slower: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    curves: tuple[Measured, ...] = ()
    damage_measure: str | None = None


def plan_of(
    offered: Offered,
    allowed: tuple[Item, ...],
    allocation: Allocation,
    costs: PlanCost,
    budgets: Budgets,
) -> Plan:
    """The plan that an allocation means.

    Args:
        offered: What was chosen from.
        allowed: Its items with the options that the budgets allow.
        allocation: The options of these that were chosen.
        costs: What these cost.
        budgets: As asked for.
    """
    origin, cost = offered.origin, costs.total(allocation.state)
    words = _Words(offered, allowed, allocation, costs)
    groups, choices = words.groups(), words.choices()
    if origin.uses_fp16:
        choices = tuple(
            choice if choice.key in offered.left_out else replace(choice, precision="fp16")
            for choice in choices
        )
    errors = [choice.level for choice in groups] + [choice.level for choice in choices]
    by_damage = allocation.error is None
    plan = Plan(
        model_sha256=origin.model_sha256,
        samples_sha256=origin.samples_sha256,
        budgets=budgets,
        method=origin.method,
        seed=origin.seed,
        effort=origin.effort,
        allocation="damage" if by_damage else "level",
        level=max(errors, default=0.0) if allocation.error is None else allocation.error,
        size=1.0,
        macs=1.0,
        choices=choices,
        damage=total_damage(choices, groups) if by_damage else None,
        damage_measure=offered.damage_measure if by_damage else None,
        curves=tuple(curve for curve in offered.curves if isinstance(curve, DamageCurve)),
        batch=origin.batch,
        pack=origin.pack,
        timed_on=origin.timed_on,
        groups=groups,
        group_curves=tuple(curve for curve in offered.curves if isinstance(curve, GroupCurve)),
        int8_damages=tuple(
            sorted(
                (one for one in offered.curves if isinstance(one, IntegerDamage)),
                key=lambda one: -one.damage,
            )
        ),
        int8_format=origin.int8_format,
        precision=origin.precision,
        input_range=origin.input_range,
    )
    expected: dict[str, Any] = {
        budget.option: share for budget, share in shares_of(cost, origin.total).items()
    }
    return replace(plan, **expected)


def total_damage(choices: tuple[Choice, ...], groups: tuple[GroupChoice, ...]) -> float:
    """The sum of what all choices do to the outputs by themselves."""
    layers = sum(choice.damage or 0.0 for choice in choices)
    return layers + sum(choice.damage or 0.0 for choice in groups)


class _Words:
    """The records of an allocation's choices."""

    def __init__(
        self,
        offered: Offered,
        allowed: tuple[Item, ...],
        allocation: Allocation,
        costs: PlanCost,
    ) -> None:
        self._offered, self._error = offered, allocation.error
        self._all = {item.key: item for item in offered.items if isinstance(item, LayerItem)}
        self._chosen = {
            item.key: (item, option, place in allocation.better)
            for place, (item, option) in enumerate(zip(allowed, allocation.state, strict=True))
            if isinstance(item, LayerItem)
        }
        self._groups = [
            (item, option, place in allocation.better)
            for place, (item, option) in enumerate(zip(allowed, allocation.state, strict=True))
            if isinstance(item, GroupItem)
        ]
        self._layers = costs.layers(allocation.state)

    def groups(self) -> tuple[GroupChoice, ...]:
        """What becomes of every group of units."""
        return tuple(self._group(*each) for each in self._groups)

    def choices(self) -> tuple[Choice, ...]:
        """What becomes of every block, in topological order."""
        kept = self._kept()
        return tuple(self._choice(block, kept.get(block.key)) for block in self._offered.blocks)

    def _kept(self) -> dict[str, ChannelMask]:
        """By key, what is left of the blocks that lose channels."""
        coupling = self._offered.coupling
        if coupling is None:
            return {}
        removed = np.zeros(coupling.channels.count, np.bool_)
        for item, option, _ in self._groups:
            removed |= item.ordered.removed(coupling.channels.count, int(item.counts[option]))
        found = {key: units.kept(removed) for key, units in coupling.units.items()}
        return {key: kept for key, kept in found.items() if kept is not None}

    def _group(self, item: GroupItem, option: int, better: bool) -> GroupChoice:
        group, kept = item.ordered.group, int(item.counts[option])
        gone = len(group.units) - kept
        if not gone:
            why = "the budgets leave enough for all of it" if better else _NOT_WORTH
        elif self._error is None:
            why = _LEAST
        else:
            why = self._at_error("fewest units", better)
        return GroupChoice(
            key=group.key,
            units=len(group.units),
            kept=tuple(sorted(int(unit) for unit in item.ordered.elimination.order[gone:])),
            level=float(item.errors[option]),
            damage=self._damage(item, option),
            producers=group.producers,
            consumers=group.consumers,
            why=why,
        )

    def _choice(self, block: Block, kept: ChannelMask | None) -> Choice:
        layer = self._layers.get(block.key)
        if layer is not None and FORMS[layer.form].one_layer:
            return self._in_int8(self._choice_without(block, kept, None), block, kept)
        return self._choice_without(block, kept, layer)

    def _choice_without(
        self, block: Block, kept: ChannelMask | None, layer: Candidate | None
    ) -> Choice:
        choice = Choice(
            key=block.key,
            statistics=self._offered.statistics.get(block.key),
            inputs=None if kept is None else len(kept.inputs) * block.geometry.groups,
            outputs=None if kept is None else len(kept.outputs),
        )
        if layer is not None:
            return self._layered(choice, layer)
        if kept is None:
            return replace(choice, why=self._why_kept(block))
        return replace(
            choice,
            action="prune",
            form=DENSE.name,
            rank=masked_block(block, kept).geometry.largest_rank,
            why="its channels go with their groups",
        )

    def _in_int8(self, choice: Choice, block: Block, kept: ChannelMask | None) -> Choice:
        """A block that keeps its form, computed with integers."""
        item, option, _ = self._chosen[choice.key]
        damage = self._damage(item, option)
        rounding = self._rounding(choice.key)
        choice = replace(choice, precision="int8", rounding=rounding, damage=damage)
        if not choice.is_kept:
            return choice
        return replace(
            choice,
            action="refit",
            form=DENSE.name,
            rank=masked_block(block, kept).geometry.largest_rank,
            why=by_itself("computed with 8-bit integers", damage),
        )

    def _layered(self, choice: Choice, layer: Candidate) -> Choice:
        item, option, better = self._chosen[choice.key]
        damage = self._damage(item, option)
        if self._error is not None:
            why = self._at_error("smallest rank", better)
        else:
            why = by_itself(_LEAST, damage)
        return replace(
            choice,
            action="double_layer",
            form=layer.form,
            rank=layer.rank,
            level=layer.level,
            damage=damage,
            why=why,
            precision=layer.precision,
            rounding=self._rounding(choice.key) if layer.is_int8 else None,
        )

    def _rounding(self, key: str) -> Rounding:
        return "nearest" if key in self._offered.nearest else "error_feedback"

    def _why_kept(self, block: Block) -> str:
        key = block.key
        if key in self._offered.left_out:
            return LEFT_OUT
        if self._offered.formats_alone:
            return "its numbers alone are to change"
        if not self._offered.layered:
            return "no channel of its goes"
        if key not in self._all:
            return NO_SMALLER_FORM
        if key in self._offered.slower:
            floats, integers = (1000 * seconds for seconds in self._offered.slower[key])
            return f"slower with 8-bit integers: {integers:.3g} ms by itself, not {floats:.3g} ms"
        (item, _, better), errors = self._chosen[key], self._all[key].errors[1:]
        dense = item.dense_place
        if dense:
            return f"8-bit integers do it {item.damages[dense]:.3g} of damage by themselves"
        if not len(errors):
            return ALL_SLOWER
        if better:
            return "the budgets leave enough for it as it is"
        limit = self._error
        if len(item.errors) == 1 or (limit is not None and errors.min() > limit):
            return f"a smaller form needs a relative error of at least {errors.min():.4g}"
        if limit is not None:
            return "it would save next to nothing of the model"
        return _NOT_WORTH

    def _at_error(self, what: str, better: bool) -> str:
        limit = f"relative error at most {self._error:.4g}"
        return f"{limit}, and what the budgets leave" if better else f"{what} with a {limit}"

    def _damage(self, item: Item, option: int) -> float | None:
        return None if self._error is not None else float(item.damages[option])


def by_itself(why: str, damage: float | None) -> str:
    """A reason that tells what a change by itself does to the outputs."""
    return why if damage is None else f"{why}, {damage:.3g} by itself"


def with_damages(plan: Plan, items: tuple[Item, ...]) -> Plan:
    """A plan with the damages that its choices are offered for, whatever it was made by."""
    layers = {item.key: item for item in items if isinstance(item, LayerItem)}
    counts = {item.key: item for item in items if isinstance(item, GroupItem)}

    def layered(choice: Choice) -> Choice:
        if not choice.is_double_layer:
            return choice
        item = layers[choice.key]
        forms = [None if one is None else (one.form, one.rank) for one in item.layers]
        damage = float(item.damages[forms.index((choice.form or "", choice.rank or 0))])
        if damage == choice.damage:
            return choice
        return replace(choice, damage=damage, why=by_itself("least joint damage", damage))

    def grouped(choice: GroupChoice) -> GroupChoice:
        item = counts[choice.key]
        place = item.counts.tolist().index(len(choice.kept))
        return replace(choice, damage=float(item.damages[place]))

    choices, groups = tuple(map(layered, plan.choices)), tuple(map(grouped, plan.groups))
    return replace(plan, choices=choices, groups=groups, damage=total_damage(choices, groups))


# How much more than a block takes, with all that goes with it, its weight may take by itself.
_LARGER = 1.5


def refittable(case: Case, inputs: Inputs, planning: PlanOptions) -> tuple[Block, ...]:
    """The blocks that may get other values: none without samples to fit them on and to judge.

    Nor those whose numbers the file has in so much less that others would make it larger.
    """
    if inputs.split is None or inputs.split.select is None:
        return ()
    return tuple(
        block
        for block in case.blocks
        if planning.allows(block.key)
        and item_size(block) * block.geometry.numbers <= _LARGER * block.original_bytes
    )


def reserved_bytes(case: Case, inputs: Inputs, planning: PlanOptions) -> int:
    """What all refits together add to a file at most."""
    nodes = case.model.proto.graph.node
    return sum(
        refit_bytes(block, nodes, item_size(block)) for block in refittable(case, inputs, planning)
    )


def with_refits(plan: Plan, case: Case, inputs: Inputs, planning: PlanOptions) -> Plan:
    """A plan in which the blocks behind a change that would be kept are fitted anew."""
    changed = [choice.key for choice in plan.choices if not choice.is_kept]
    behind = dependents(case.model, changed)
    blocks = {
        block.key: block for block in refittable(case, inputs, planning) if block.source in behind
    }
    choices = (
        _refit(choice, blocks[choice.key]) if choice.is_kept and choice.key in blocks else choice
        for choice in plan.choices
    )
    return replace(plan, choices=tuple(choices))


def _refit(choice: Choice, block: Block) -> Choice:
    why = f"fitted to what changed blocks deliver; not smaller: {choice.why}"
    rank = DENSE.largest_rank(block.geometry)
    return replace(choice, action="refit", form=DENSE.name, rank=rank, why=why)
