"""What came of a budget on latency, as JSON-ready data."""

from typing import Any

from onnx_relusv.outcomes import LatencyOutcome

Data = dict[str, Any]


def latency_data(outcome: LatencyOutcome | None) -> Data | None:
    """An outcome as JSON-ready data; None where there is none."""
    if outcome is None:
        return None
    return {
        "asked": outcome.asked,
        "planned": outcome.planned,
        "measured": outcome.share,
        "before": outcome.measured.before,
        "after": outcome.measured.after,
        "batch": outcome.measured.batch,
        "provider": outcome.provider,
        "threads": outcome.threads,
    }
