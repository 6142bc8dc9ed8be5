"""All that a plan of removed units, alone or with double layers, is made of."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from onnx_relusv import forms
from onnx_relusv.allocation import Origin, how_far
from onnx_relusv.candidates import item_size
from onnx_relusv.cost import block_macs, block_numbers, candidate_cost
from onnx_relusv.decisions import (
    Budgets,
    Candidate,
    Choice,
    Cost,
    DamageCurve,
    GroupChoice,
    GroupCurve,
    Plan,
)
from onnx_relusv.errors import BudgetError
from onnx_relusv.graph.channel_records import Channels
from onnx_relusv.limits import limits
from onnx_relusv.pruning.cost import Counts, CutCost
from onnx_relusv.pruning.curves import Ordered
from onnx_relusv.pruning.joint import Joint, State
from onnx_relusv.pruning.units import BlockUnits, units_of_blocks
from onnx_relusv.records import Block, Floats
from onnx_relusv.reduction import reduced_block

# Without a budget; see docs/how-it-works.md for what it leaves of the accuracy.
DEFAULT_TOLERANCE = 0.1
_RUNGS = 40


@dataclass(frozen=True)
class Rounding:
    """Which numbers of channels may be left.

    Attributes:
        multiple: They are multiples of it, or all.
        least: They are no fewer.
    """

    multiple: int = 1
    least: int = 1

    def counts(self, units: int) -> tuple[int, ...]:
        """Decreasing from all: what may be kept of so many units."""
        least = min(max(self.least, 1), units)
        found = {units}
        found.update(
            count for count in range(self.multiple, units, self.multiple) if count >= least
        )
        return tuple(sorted(found, reverse=True))


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
        cost: What cuts save.
        rounding: Which numbers of channels may be left.
        origin: What plans are for.
        curves: Of double layers, as measured.
        group_curves: Of groups, as measured.
        damage_words: What damages are; None where none were measured.
        refit: Lets the blocks behind a change be fitted to what they get.
    """

    blocks: tuple[Block, ...]
    channels: Channels
    ordered: tuple[Ordered, ...]
    damages: Mapping[str, Floats] | None
    candidates: Mapping[str, Sequence[Candidate]]
    cost: CutCost
    rounding: Rounding
    origin: Origin
    refit: Callable[[Plan], Plan]
    curves: tuple[DamageCurve, ...] = ()
    group_curves: tuple[GroupCurve, ...] = ()
    damage_words: str | None = None
    _units: Mapping[str, BlockUnits] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_units", units_of_blocks(self.channels, self.blocks))

    def plan(self, budgets: Budgets) -> Plan:
        """The plan within the budgets: by damage where that was measured, by one level otherwise.

        Raises:
            BudgetError: They cannot be reached, or nothing can be removed.
        """
        if not self.ordered and not any(self.candidates.values()):
            raise BudgetError("no units of this model can be removed; nothing was written.")
        if self.damages is None:
            return self.refit(self._by_level(budgets))
        return self.refit(self._by_damage(budgets))

    def least_size(self, tolerance: float | None) -> float:
        """The smallest share of the bytes that there is a plan for, whatever the damage."""
        counts = self._all_counts()
        for one in self.ordered:
            counts[self._place(one)] = self._within(one, tolerance)[-1]
        state_bytes = self._cost(counts, {}).bytes
        spared = 0
        for block in self.blocks:
            offered = [c.bytes for c in self.candidates.get(block.key, ())]
            dense = _dense_bytes(self._reduced(block, counts))
            spared += max(dense - min(offered, default=dense), 0)
        return max(state_bytes - spared, 1) / self.origin.total.bytes

    # By one level.

    def _by_level(self, budgets: Budgets) -> Plan:
        within = limits(budgets, self.origin.total)
        if not within:
            tolerance = budgets.tolerance
            return self._level_plan(DEFAULT_TOLERANCE if tolerance is None else tolerance, budgets)
        most = np.inf if budgets.tolerance is None else budgets.tolerance
        levels = sorted(
            {
                float(one.elimination.levels[len(one.group.units) - count])
                for one in self.ordered
                for count in self.rounding.counts(len(one.group.units))
            }
            | {0.0}
        )
        levels = [level for level in levels if level <= most]
        low, high = 0, len(levels)
        # A higher level leaves fewer units everywhere.
        while low < high:
            middle = (low + high) // 2
            if self._excess(self._cost(self._at_level(levels[middle]), {}), within) <= 1:
                high = middle
            else:
                low = middle + 1
        if low == len(levels):
            nearest = self._cost(self._at_level(levels[-1]), {})
            raise BudgetError(how_far(nearest, budgets, self.origin.total))
        return self._level_plan(levels[low], budgets)

    def _at_level(self, level: float) -> Counts:
        counts = self._all_counts()
        for one in self.ordered:
            counts[self._place(one)] = self._within(one, level)[-1]
        return counts

    def _level_plan(self, level: float, budgets: Budgets) -> Plan:
        why = f"fewest units with level at most {level:.4g}"
        return self._made(self._at_level(level), {}, budgets, "level", level, why)

    # By damage.

    def _by_damage(self, budgets: Budgets) -> Plan:
        within = limits(budgets, self.origin.total)
        counts = [self._options(one, budgets.tolerance) for one in self.ordered]
        blocks = [block for block in self.blocks if self.candidates.get(block.key)]
        layers = [(None, *_hull(self.candidates[block.key])) for block in blocks]
        joint = Joint(
            damages=[
                *(
                    self._damage(one)[len(one.group.units) - np.array(own)]
                    for one, own in zip(self.ordered, counts, strict=True)
                ),
                *(np.array([0.0 if c is None else c.damage for c in own]) for own in layers),
            ],
            cost=lambda state: self._spent(state, counts, blocks, layers, tuple(within)),
            limits=np.array(list(within.values())),
        )
        found = self._searched(joint, len(self.ordered))
        if found is None:
            nearest = joint.cheapest((0,) * len(joint.damages))
            cost = self._cost(*self._meaning(nearest, counts, blocks, layers))
            raise BudgetError(how_far(cost, budgets, self.origin.total))
        kept, chosen = self._meaning(found, counts, blocks, layers)
        level = max(
            [
                *(self._level_of(one, kept[self._place(one)]) for one in self.ordered),
                *(candidate.level for candidate in chosen.values()),
            ],
            default=0.0,
        )
        plan = self._made(kept, chosen, budgets, "damage", level, "least damage for the budget")
        return replace(
            plan,
            damage=joint.damage(found),
            damage_measure=self.damage_words,
            curves=self.curves,
            group_curves=self.group_curves,
        )

    def _searched(self, joint: Joint, groups: int) -> State | None:
        """From nothing, and from the best of units alone and of double layers alone."""
        nothing: State = (0,) * len(joint.damages)
        starts = [nothing]
        for only in (range(groups), range(groups, len(joint.damages))):
            if 0 < len(only) < len(joint.damages):
                fixed = [
                    own if place in only else own[:1] for place, own in enumerate(joint.damages)
                ]
                alone = Joint(fixed, joint.cost, joint.limits).best([nothing])
                starts += [alone] if alone is not None else []
        return joint.best(starts)

    def _options(self, one: Ordered, tolerance: float | None) -> tuple[int, ...]:
        """Counts that may be kept, from all down, thinned to what is worth telling apart."""
        allowed = np.array(self._within(one, tolerance))
        if len(allowed) > _RUNGS:
            wanted = np.geomspace(allowed[0], allowed[-1], _RUNGS)
            allowed = allowed[
                np.unique([int(np.argmin(np.abs(allowed - each))) for each in wanted])
            ]
        return tuple(int(count) for count in allowed)

    def _within(self, one: Ordered, tolerance: float | None) -> tuple[int, ...]:
        units = len(one.group.units)
        found = [
            count
            for count in self.rounding.counts(units)
            if tolerance is None or one.elimination.levels[units - count] <= tolerance
        ]
        return tuple(found)

    def _meaning(
        self,
        state: State,
        counts: Sequence[tuple[int, ...]],
        blocks: Sequence[Block],
        layers: Sequence[tuple[Candidate | None, ...]],
    ) -> tuple[Counts, dict[str, Candidate]]:
        kept = self._all_counts()
        for one, own, place in zip(self.ordered, counts, state, strict=False):
            kept[self._place(one)] = own[place]
        chosen: dict[str, Candidate] = {}
        for block, own_layers, place in zip(
            blocks, layers, state[len(self.ordered) :], strict=True
        ):
            candidate = own_layers[place]
            if candidate is None:
                continue
            # Of a block with few channels left, the rank may not be lower than that of all of it.
            geometry = self._reduced(block, kept).geometry
            if candidate.rank < forms.largest_rank(candidate.form, geometry):
                chosen[block.key] = candidate
        return kept, chosen

    def _spent(
        self,
        state: State,
        counts: Sequence[tuple[int, ...]],
        blocks: Sequence[Block],
        layers: Sequence[tuple[Candidate | None, ...]],
        names: Sequence[str],
    ) -> Floats:
        cost = self._cost(*self._meaning(state, counts, blocks, layers))
        return np.array([getattr(cost, name) for name in names], np.float64)

    def _damage(self, one: Ordered) -> Floats:
        assert self.damages is not None  # plans are made by it
        return self.damages[one.group.key]

    # Both.

    def _all_counts(self) -> Counts:
        return np.array([len(group.units) for group in self.channels.groups], np.int64)

    def _place(self, one: Ordered) -> int:
        return self.channels.groups.index(one.group)

    def _level_of(self, one: Ordered, kept: int) -> float:
        return float(one.elimination.levels[len(one.group.units) - kept])

    def _cost(self, counts: Counts, chosen: Mapping[str, Candidate]) -> Cost:
        total = self.origin.total
        saved, spared = self.cost.saved(counts)
        added, more = 0.0, 0.0
        for block in self.blocks:
            candidate = chosen.get(block.key)
            if candidate is not None:
                reduced = self._reduced(block, counts)
                layer = candidate_cost(reduced, candidate.form, candidate.rank, item_size(block))
                added += layer.bytes - _dense_bytes(reduced)
                more += layer.macs - block_macs(reduced)
        return Cost(
            bytes=int(total.bytes + self.origin.added_bytes - saved + added),
            macs=int(total.macs - spared + more),
        )

    def _excess(self, cost: Cost, within: Mapping[str, float]) -> float:
        return float(max(getattr(cost, name) / limit for name, limit in within.items()))

    def _reduced(self, block: Block, counts: Counts) -> Block:
        """A block as large as it is with so many units left; which ones does not count."""
        removed = np.zeros(self.channels.count, np.bool_)
        for group, count in zip(self.channels.groups, counts, strict=True):
            removed[group.units.start + count : group.units.stop] = True
        units = self._units.get(block.key)
        return block if units is None else reduced_block(block, units.kept(removed))

    def _made(
        self,
        counts: Counts,
        chosen: Mapping[str, Candidate],
        budgets: Budgets,
        allocation: str,
        level: float,
        why: str,
    ) -> Plan:
        cost, total = self._cost(counts, chosen), self.origin.total
        removed = np.zeros(self.channels.count, np.bool_)
        groups = []
        for one in self.ordered:
            kept = int(counts[self._place(one)])
            removed |= one.removed(self.channels.count, kept)
            groups.append(self._group_choice(one, kept, why))
        return Plan(
            model_sha256=self.origin.model_sha256,
            samples_sha256=self.origin.samples_sha256,
            budgets=budgets,
            method=self.origin.method,
            seed=self.origin.seed,
            allocation="damage" if allocation == "damage" else "level",
            level=level,
            size=cost.bytes / total.bytes,
            macs=cost.macs / max(total.macs, 1),
            choices=tuple(
                self._choice(block, removed, chosen.get(block.key)) for block in self.blocks
            ),
            groups=tuple(groups),
        )

    def _group_choice(self, one: Ordered, kept: int, why: str) -> GroupChoice:
        group, gone = one.group, len(one.group.units) - kept
        order = one.elimination.order
        return GroupChoice(
            key=group.key,
            units=len(group.units),
            kept=tuple(sorted(int(unit) for unit in order[gone:])),
            level=self._level_of(one, kept),
            damage=None if self.damages is None else float(self._damage(one)[gone]),
            producers=group.producers,
            consumers=group.consumers,
            why=why if gone else "what it would save is not worth its loss",
        )

    def _choice(self, block: Block, removed: np.ndarray, candidate: Candidate | None) -> Choice:
        units = self._units.get(block.key)
        kept = None if units is None else units.kept(removed)
        inputs = None if kept is None else len(kept.inputs) * block.geometry.groups
        outputs = None if kept is None else len(kept.outputs)
        if candidate is not None:
            return Choice(
                key=block.key,
                action="double_layer",
                form=candidate.form,
                rank=candidate.rank,
                level=candidate.level,
                damage=candidate.damage,
                why=f"least damage for the budget, {candidate.damage:.3g} by itself",
                inputs=inputs,
                outputs=outputs,
            )
        if kept is None:
            return Choice(key=block.key, why="none of its channels goes")
        return Choice(
            key=block.key,
            action="prune",
            form="dense",
            rank=reduced_block(block, kept).geometry.largest_rank,
            why="its channels go with their groups",
            inputs=inputs,
            outputs=outputs,
        )


def _hull(offered: Sequence[Candidate]) -> list[Candidate]:
    """Candidates that no other beats, from the largest down; at most as many as worth telling."""
    found: list[Candidate] = []
    for candidate in sorted(offered, key=lambda one: (one.bytes, one.damage)):
        if not found or candidate.damage < found[-1].damage:
            found.append(candidate)
    found.reverse()
    if len(found) > _RUNGS:
        sizes = np.array([candidate.bytes for candidate in found], np.float64)
        wanted = np.geomspace(sizes[0], sizes[-1], _RUNGS)
        found = [
            found[place] for place in np.unique([int(np.argmin(np.abs(sizes - w))) for w in wanted])
        ]
    return found


def _dense_bytes(block: Block) -> int:
    return block_numbers(block) * item_size(block)
