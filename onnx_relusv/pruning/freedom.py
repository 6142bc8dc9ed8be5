"""Which groups may lose units, which is known before anything is measured."""

from collections import Counter
from collections.abc import Iterable, Mapping

from onnx_relusv.errors import BudgetError
from onnx_relusv.graph.channel_records import ChannelGroup, Channels, Units
from onnx_relusv.opened import Opened
from onnx_relusv.options import PlanOptions
from onnx_relusv.pruning.rounding import Rounding
from onnx_relusv.records import Block

# Reasons that a message names; the report has all of them.
_MOST_REASONS = 3


def free_groups(opened: Opened, planning: PlanOptions) -> tuple[ChannelGroup, ...]:
    """The groups that the user's patterns let change, in topological order.

    None without channels.
    """
    if opened.channels is None:
        return ()
    blocks, nodes = blocks_by_output(opened), opened.model.proto.graph.node
    kept = [
        axis.units
        for axis in opened.channels.carried
        if planning.excludes(nodes[axis.node].output[0])
    ]
    return tuple(
        group
        for group in opened.channels.groups
        if _may_change(group, blocks, planning) and not _has_any(group, kept)
    )


def shrinking_groups(opened: Opened, planning: PlanOptions) -> tuple[ChannelGroup, ...]:
    """Those of them that --round-to and --keep-at-least let lose a unit."""
    rounding = Rounding(planning.round_to, planning.keep_at_least)
    free = free_groups(opened, planning)
    return tuple(group for group in free if len(rounding.counts(len(group.units))) > 1)


def nothing_to_remove(opened: Opened, planning: PlanOptions) -> BudgetError:
    """The error where no group may lose units, with the reasons."""
    advice = "Use --method double-layer, which makes blocks smaller by their ranks."
    return BudgetError(
        f"no units of this model can be removed: {_why(opened, planning)}. Nothing was written."
        + f" {advice}" * bool(opened.blocks)
    )


def blocks_by_output(opened: Opened) -> dict[str, Block]:
    """The blocks by the tensors that their linear maps write."""
    nodes = opened.model.proto.graph.node
    return {str(nodes[block.nodes[0]].output[0]): block for block in opened.blocks}


def _why(opened: Opened, planning: PlanOptions) -> str:
    channels = opened.channels
    if channels is not None and channels.groups:
        if not free_groups(opened, planning):
            return "--include and --exclude leave no group whose blocks may all change"
        return "--round-to and --keep-at-least leave every group all of its channels"
    return _refused(channels) or "it has no Gemm, MatMul or Conv with constant weights"


def _refused(channels: Channels | None) -> str:
    """The commonest reasons why channels stay; nothing where there are none."""
    counted = Counter(one.reason for one in (() if channels is None else channels.refusals))
    reasons = [
        reason if count == 1 else f"{reason} ({count} layers)"
        for reason, count in counted.most_common(_MOST_REASONS)
    ]
    more = sum(counted.values()) - sum(n for _, n in counted.most_common(_MOST_REASONS))
    return "; ".join([*reasons, *([f"{more} more layers stay"] if more else [])])


def _may_change(group: ChannelGroup, blocks: Mapping[str, Block], planning: PlanOptions) -> bool:
    """Whether the user's patterns let all change that writes or reads a group's units.

    What is no block is known by the tensor that it writes.
    """
    names = (*group.producers, *group.consumers)
    return all(planning.allows(blocks[name].key if name in blocks else name) for name in names)


def _has_any(group: ChannelGroup, axes: Iterable[Units]) -> bool:
    """Whether some of a group's units run along an axis, as of an excluded depthwise Conv."""
    first, end = group.units.start, group.units.stop
    return any(((units >= first) & (units < end)).any() for units in axes)
