"""From how many units are kept, and which double layers there are, to a plan's records."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from onnx_relusv.allocation import LEFT_OUT, Origin
from onnx_relusv.decisions import (
    Allocation,
    Budgets,
    Candidate,
    Choice,
    Cost,
    GroupChoice,
    Plan,
)
from onnx_relusv.graph.channel_records import Channels
from onnx_relusv.pruning.cost import Counts
from onnx_relusv.pruning.curves import Ordered
from onnx_relusv.pruning.units import BlockUnits, Mask
from onnx_relusv.records import Block
from onnx_relusv.reduction import reduced_block


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
        groups=tuple(
            _group_choice(one, count, decision, channels)
            for one, count in zip(ordered, kept, strict=True)
        ),
        input_range=origin.input_range,
    )


def _group_choice(one: Ordered, kept: int, decision: Decision, channels: Channels) -> GroupChoice:
    group, gone = one.group, len(one.group.units) - kept
    why = decision.why if gone else "not worth its loss"
    dead = (
        0 if channels.dead is None else int(channels.dead[one.removed(channels.count, kept)].sum())
    )
    if dead:
        why += f"; of those that go, {dead} certified dead over the declared range"
    return GroupChoice(
        key=group.key,
        units=len(group.units),
        kept=tuple(sorted(int(unit) for unit in one.elimination.order[gone:])),
        level=one.level(kept),
        damage=None if decision.damage is None else decision.damage(one, kept),
        producers=group.producers,
        consumers=group.consumers,
        why=why,
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
        form="dense",
        rank=reduced_block(block, kept).geometry.largest_rank,
        why="its channels go with their groups",
        inputs=inputs,
        outputs=outputs,
    )
