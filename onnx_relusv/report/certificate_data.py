"""What is certified of the written file, as JSON-ready data."""

from typing import Any

from onnx_relusv.outcomes import Certificate, Trial

Data = dict[str, Any]


def certificate_data(certificate: Certificate | None) -> Data | None:
    """A certificate as JSON-ready data; None where there is none."""
    if certificate is None:
        return None
    return {
        "max_drop": certificate.max_drop,
        "confidence": certificate.confidence,
        "labelled": certificate.labelled,
        "fit_samples": certificate.fit_samples,
        "select_samples": certificate.select_samples,
        "certify_samples": certificate.certify_samples,
        "lost": certificate.lost,
        "gained": certificate.gained,
        "drop": certificate.drop,
        "bound": certificate.bound,
        "select_drop": certificate.select_drop,
        "trials": [_trial(trial) for trial in certificate.trials],
    }


def _trial(trial: Trial) -> Data:
    return {"size": trial.size, "select_drop": trial.select_drop, "bound": trial.bound}
