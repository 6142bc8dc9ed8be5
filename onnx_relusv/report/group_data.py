"""Groups of units as JSON-ready data."""

from typing import Any

from onnx_relusv.results import ChannelRefusal, GroupRow


def group_data(row: GroupRow) -> dict[str, Any]:
    """What became of a group; its numbers are finite."""
    choice = row.choice
    return {
        "key": choice.key,
        "producers": list(choice.producers),
        "consumers": list(choice.consumers),
        "operators": list(row.operators),
        "units": choice.units,
        "kept": list(choice.kept),
        "planned_level": choice.level,
        "planned_damage": choice.damage,
        "why": choice.why,
    }


def channel_refusal_data(refusal: ChannelRefusal) -> dict[str, Any]:
    """Whose channels stay, and why."""
    return {"key": refusal.key, "operator": refusal.operator, "reason": refusal.reason}
