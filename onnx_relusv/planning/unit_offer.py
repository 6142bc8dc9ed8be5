"""All that a plan of removed units, alone or with double layers, is made of."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from onnx_relusv.core.blocks import Block, Floats
from onnx_relusv.core.errors import BudgetError
from onnx_relusv.core.plans import Budgets, Candidate, DamageCurve, GroupCurve, Plan
from onnx_relusv.graph.channels.walk import Channels
from onnx_relusv.planning.cost import PlanCost, SizeOf, sized
from onnx_relusv.planning.damage import priced, scaled_damages
from onnx_relusv.planning.level import Origin, how_far, limits
from onnx_relusv.planning.objective import DamageMeasure
from onnx_relusv.planning.search import (
    AllItems,
    BlockItem,
    Costs,
    Decision,
    GroupItem,
    Items,
    Joint,
    State,
    plan_of,
)
from onnx_relusv.rewrites.prune.cost import CutCost
from onnx_relusv.rewrites.prune.orders import Ordered
from onnx_relusv.rewrites.prune.units import BlockUnits, Rounding, units_of_blocks

# Without a budget; see docs/how-it-works.md for what it leaves of the accuracy.
DEFAULT_TOLERANCE = 0.1
# How often a plan is searched for again around what was found, among finer options: a ladder of
# forty over a factor of a thousand is then as fine as one of whole numbers.
_FINER = 2


@dataclass(frozen=True, eq=False)
class PruningOffer:
    """What plans are made of; measured once, for any number of plans.

    Attributes:
        blocks: In topological order.
        channels: The groups of units.
        ordered: Those that may lose some, with their orders.
        damages: By group key, (units + 1,) float64: expected damage with so many units gone; None
            where it was not measured.
        candidates: Double layers by block key, with their damages; none where units alone go.
        cut: What cuts save.
        rounding: Which numbers of channels may be left.
        origin: What plans are for.
        refit: Lets the blocks behind a change be fitted to what they get.
        curves: Of double layers, as measured.
        group_curves: Of groups, as measured.
        measure: What damages are; None where none were measured.
        left_out: Keys of the blocks that may not change.
        size_of: Tells the bytes of a plan's file; None where estimates will do.
    """

    blocks: tuple[Block, ...]
    channels: Channels
    ordered: tuple[Ordered, ...]
    damages: Mapping[str, Floats] | None
    candidates: Mapping[str, Sequence[Candidate]]
    cut: CutCost
    rounding: Rounding
    origin: Origin
    refit: Callable[[Plan], Plan]
    curves: tuple[DamageCurve, ...] = ()
    group_curves: tuple[GroupCurve, ...] = ()
    measure: DamageMeasure | None = None
    left_out: frozenset[str] = frozenset()
    size_of: SizeOf | None = None
    _units: Mapping[str, BlockUnits] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_units", units_of_blocks(self.channels, self.blocks))

    def plan(self, budgets: Budgets) -> Plan:
        """The plan within the budgets: by damage where that was measured, by one level otherwise.

        Raises:
            BudgetError: They cannot be reached, or nothing can be removed.
        """
        if not self.ordered and not any(self.candidates.values()):
            what = "removed" if self.damages is None else "removed, and no block be made smaller"
            raise BudgetError(f"no units of this model can be {what}; nothing was written.")

        def estimated(origin: Origin, limits: Budgets) -> Plan:
            return replace(self, origin=origin)._estimated(limits)

        return sized(estimated, self.origin, budgets, self.size_of)

    def _estimated(self, budgets: Budgets) -> Plan:
        """A plan whose bytes are estimated."""
        decide = self._by_level if self.damages is None else self._by_damage
        decision = decide(budgets)
        plan = plan_of(
            decision,
            budgets,
            self.blocks,
            self.channels,
            self.ordered,
            self._units,
            self.origin,
        )
        if self.damages is None:
            return self.refit(plan)
        return self.refit(
            replace(
                plan,
                damage=_sum(plan),
                damage_measure=self.damage.words,
                curves=self.curves,
                group_curves=self.group_curves,
            )
        )

    @property
    def damage(self) -> DamageMeasure:
        """What damages are; they were measured."""
        assert self.measure is not None
        return self.measure

    def priced(self, plan: Plan) -> Plan:
        """A plan with the damages that are offered here, whatever it was made by."""
        ordered = {one.group.key: one for one in self.ordered}
        groups = tuple(
            replace(choice, damage=self._damage(ordered[choice.key], len(choice.kept)))
            for choice in plan.groups
        )
        found = replace(plan, choices=priced(plan.choices, self.candidates), groups=groups)
        return replace(found, damage=_sum(found))

    def with_origin(self, origin: Origin) -> "PruningOffer":
        """The same for another origin."""
        return replace(self, origin=origin)

    def scaled(self, layers: Mapping[str, float], others: float) -> "PruningOffer":
        """With scaled damages.

        Args:
            layers: What those of a block's double layers are multiplied by, by its key.
            others: The same of all other blocks, and of removed units.
        """
        assert self.damages is not None  # plans are made by it
        return replace(
            self,
            damages={key: others * own for key, own in self.damages.items()},
            candidates=scaled_damages(self.candidates, layers, others),
        )

    def least_size(self, tolerance: float | None) -> float:
        """The smallest share of the bytes that there is a plan for, whatever the damage."""
        items = AllItems(self._group_items(tolerance), self._block_items(tolerance)).coarse()
        costs = self._costs(items, ["bytes"])
        joint = Joint([np.zeros(length) for length in items.lengths], costs, np.ones(1))
        fewest = [len(item.counts) - 1 for item in items.groups]
        state = joint.cheapest((*fewest, *[0] * len(items.blocks)))
        least = float(costs.of(state)[0]) - self.origin.reserved_bytes
        return least / self.origin.total.bytes

    # By one level.

    def _by_level(self, budgets: Budgets) -> Decision:
        within = limits(budgets, self.origin.total)
        if not within:
            tolerance = budgets.tolerance
            return self._at_level(DEFAULT_TOLERANCE if tolerance is None else tolerance)
        most = np.inf if budgets.tolerance is None else budgets.tolerance
        levels = sorted(
            {
                one.level(count)
                for one in self.ordered
                for count in self.rounding.counts(one.units)
                if one.level(count) <= most
            }
        )
        low, high = 0, len(levels)
        # A higher level leaves fewer units everywhere.
        while low < high:
            middle = (low + high) // 2
            cost = self._at_level(levels[middle]).cost
            if all(getattr(cost, name) <= limit for name, limit in within.items()):
                high = middle
            else:
                low = middle + 1
        if low == len(levels):
            nearest = self._at_level(levels[-1]).cost
            raise BudgetError(how_far(nearest, budgets, self.origin.total))
        return self._filled(self._at_level(levels[low]), within)

    def _filled(self, decision: Decision, within: Mapping[str, float]) -> Decision:
        """With what a level leaves of the budgets spent, on the group with the largest level first.

        Groups may then be better than the level, and are never worse.
        """
        items = AllItems(self._group_items(decision.level), []).complete()
        costs, most = self._costs(items, list(within)), np.array(list(within.values()))
        levels = [
            np.array([one.level(int(count)) for count in item.counts])
            for one, item in zip(self.ordered, items.groups, strict=True)
        ]
        state = tuple(len(own) - 1 for own in levels)
        while True:
            worst = sorted(range(len(state)), key=lambda item: -levels[item][state[item]])
            better = (self._better(costs, state, item, levels[item], most) for item in worst)
            found = next((one for one in better if one is not None), None)
            if found is None:
                break
            state = found
        return replace(decision, counts=costs.kept(state), cost=costs.total(state))

    @staticmethod
    def _better(
        costs: PlanCost, state: State, item: int, levels: Floats, most: Floats
    ) -> State | None:
        """With a group at the next lower level that fits; None where none does."""
        fits = np.all(costs.options(state, item) <= most, axis=1)
        places = np.flatnonzero(fits & (levels < levels[state[item]]))
        return (*state[:item], int(places[-1]), *state[item + 1 :]) if len(places) else None

    def _at_level(self, level: float) -> Decision:
        groups = self._group_items(level)
        costs = self._costs(AllItems(groups, []).complete(), [])
        state = tuple(len(item.counts) - 1 for item in groups)
        return Decision(
            counts=costs.kept(state),
            layers={},
            cost=costs.total(state),
            allocation="level",
            level=level,
            why=f"fewest units with level at most {level:.4g}",
            left_out=self.left_out,
        )

    # By damage.

    def _by_damage(self, budgets: Budgets) -> Decision:
        within = limits(budgets, self.origin.total)
        everything = AllItems(
            self._group_items(budgets.tolerance), self._block_items(budgets.tolerance)
        )
        items = everything.coarse()
        costs = self._costs(items, list(within))
        joint = Joint(self._damages(items), costs, np.array(list(within.values())))
        found = joint.best(_starts(joint, costs, len(items.groups)))
        if found is None:
            nearest = costs.total(joint.cheapest((0,) * len(joint.damages)))
            raise BudgetError(how_far(nearest, budgets, self.origin.total))
        for _ in range(_FINER):
            near = items.all(found)
            items = everything.finer(near)
            costs = self._costs(items, list(within))
            start = tuple(own.index(place) for own, place in zip(items.places, near, strict=True))
            found = replace(joint, damages=self._damages(items), costs=costs).best([start])
            assert found is not None  # the start keeps the budgets
        groups = items.groups
        counts, layers = costs.kept(found), costs.layers(found)
        levels = [
            *(
                one.level(int(counts[item.place]))
                for one, item in zip(self.ordered, groups, strict=True)
            ),
            *(layer.level for layer in layers.values()),
        ]
        return Decision(
            counts=counts,
            layers=layers,
            cost=costs.total(found),
            allocation="damage",
            level=max(levels, default=0.0),
            why="least damage for the budget",
            left_out=self.left_out,
            damage=self._damage,
        )

    def _damages(self, items: Items) -> list[Floats]:
        """Of all options of every item."""
        return [
            *(
                np.array([self._damage(one, int(count)) for count in item.counts])
                for one, item in zip(self.ordered, items.groups, strict=True)
            ),
            *(
                np.array([0.0 if layer is None else layer.damage for layer in item.layers])
                for item in items.blocks
            ),
        ]

    def _damage(self, one: Ordered, kept: int) -> float:
        assert self.damages is not None  # plans are made by it
        return float(self.damages[one.group.key][one.units - kept])

    # Both.

    def _costs(self, items: Items, names: Sequence[str]) -> PlanCost:
        return PlanCost(items, self.channels, self._units, self.cut, self.origin, names)

    def _group_items(self, tolerance: float | None) -> list[GroupItem]:
        """Every group's counts within a level."""
        places = {group.key: place for place, group in enumerate(self.channels.groups)}
        found = []
        for one in self.ordered:
            counts = tuple(
                count
                for count in self.rounding.counts(one.units)
                if tolerance is None or one.level(count) <= tolerance
            )
            found.append(GroupItem(places[one.group.key], np.array(counts, np.int64)))
        return found

    def _block_items(self, tolerance: float | None) -> list[BlockItem]:
        found = []
        for block in self.blocks:
            offered = [
                candidate
                for candidate in self.candidates.get(block.key, ())
                if tolerance is None or candidate.level <= tolerance
            ]
            if offered:
                found.append(BlockItem(block, (None, *_unbeaten(offered))))
        return found


def _sum(plan: Plan) -> float:
    """Of the damages of all choices."""
    layers = sum(choice.damage or 0.0 for choice in plan.choices)
    return layers + sum(choice.damage or 0.0 for choice in plan.groups)


def _starts(joint: Joint, costs: Costs, groups: int) -> list[State]:
    """From nothing, and from the best of units alone and of double layers alone."""
    nothing: State = (0,) * len(joint.damages)
    found = [nothing]
    for alone in (range(groups), range(groups, len(nothing))):
        if 0 < len(alone) < len(nothing):
            state = Joint(joint.damages, costs, joint.limits, tuple(alone)).best([nothing])
            found += [state] if state is not None else []
    return found


def _unbeaten(offered: Sequence[Candidate]) -> list[Candidate]:
    """Candidates that no other beats, from the largest down."""
    found: list[Candidate] = []
    for candidate in sorted(offered, key=lambda one: (one.bytes, one.damage)):
        if not found or candidate.damage < found[-1].damage:
            found.append(candidate)
    return found[::-1]
