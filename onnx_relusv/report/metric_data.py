"""What a metric says of two models, as JSON-ready data."""

from typing import Any

from onnx_relusv.metric_results import DropEstimate, MetricChange, MetricTrial

Data = dict[str, Any]


def metric_data(change: MetricChange | None) -> Data | None:
    """A metric of two models as JSON-ready data; None where there is none."""
    if change is None:
        return None
    return {
        "name": change.name,
        "samples": change.samples,
        "part": change.part,
        "before": change.before,
        "after": change.after,
        "loss": change.loss,
    }


def estimate_data(estimate: DropEstimate | None) -> Data | None:
    """An estimate as JSON-ready data; None where there is none."""
    if estimate is None:
        return None
    return {
        "max_drop": estimate.max_drop,
        "confidence": estimate.confidence,
        "fit_samples": estimate.fit_samples,
        "select_samples": estimate.select_samples,
        "certify_samples": estimate.change.samples,
        "groups": estimate.groups,
        "drop": estimate.change.loss,
        "standard_error": estimate.standard_error,
        "bound": estimate.bound,
        "select_drop": estimate.select_drop,
        "trials": [_trial(trial) for trial in estimate.trials],
    }


def _trial(trial: MetricTrial) -> Data:
    return {"size": trial.size, "select_drop": trial.select_drop, "bound": trial.bound}
