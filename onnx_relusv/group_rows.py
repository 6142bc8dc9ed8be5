"""What is reported of the groups of units: all of a model, with what a plan does with each."""

from onnx_relusv.decisions import GroupChoice, Plan
from onnx_relusv.graph.channel_records import ChannelGroup
from onnx_relusv.opened import Opened
from onnx_relusv.results import ChannelRefusal, GroupRow

NOT_IN_PLAN = "not in the plan"


def group_rows(
    opened: Opened, plan: Plan
) -> tuple[tuple[GroupRow, ...], tuple[ChannelRefusal, ...]]:
    """The groups in topological order, and whose channels stay; both empty where no units go."""
    channels = opened.channels
    if channels is None:
        return (), ()
    planned = {choice.key: choice for choice in plan.groups}
    writes = {name: node.op_type for node in opened.model.proto.graph.node for name in node.output}
    return (
        tuple(
            GroupRow(choice=planned.get(group.key) or _kept(group), operators=group.operators)
            for group in channels.groups
        ),
        tuple(
            ChannelRefusal(key=one.key, operator=writes[one.key], reason=one.reason)
            for one in channels.refusals
        ),
    )


def _kept(group: ChannelGroup) -> GroupChoice:
    """What becomes of a group that a plan does not name."""
    return GroupChoice(
        key=group.key,
        units=len(group.units),
        kept=tuple(range(len(group.units))),
        level=0.0,
        producers=group.producers,
        consumers=group.consumers,
        why=NOT_IN_PLAN,
    )
