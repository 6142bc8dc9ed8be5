"""A sweep as a JSON-ready dictionary; docs/report-schema.md describes every field."""

import math

from onnx_relusv.report.data import (
    SCHEMA_VERSION,
    Data,
    evaluation_data,
    model_data,
    provenance_data,
    shares_data,
)
from onnx_relusv.sweeps import Judges, MissedPoint, PairedDrop, Sweep, SweepPoint


def sweep_data(sweep: Sweep) -> Data:
    """What `sweep` found, as JSON-ready data."""
    return {
        "schema": "onnx-relusv/sweep",
        "schema_version": SCHEMA_VERSION,
        "model": model_data(sweep.model),
        "judged_by": sweep.judged_by,
        "judges": _judges(sweep.judges),
        "methods": dict(sweep.meanings),
        "points": [_point(point, sweep) for point in sweep.points],
        "knees": dict(sweep.knees),
        "missed": [_missed(one) for one in sweep.missed],
        "kept": sweep.kept,
        "provenance": provenance_data(sweep.provenance),
    }


def _judges(judges: Judges) -> Data:
    return {
        "path": judges.path,
        "sha256": judges.sha256,
        "count": judges.count,
        "labelled": judges.labelled,
        "set_aside": judges.set_aside,
        "fit_samples": judges.fit_samples,
        "select_samples": judges.select_samples,
    }


def _point(point: SweepPoint, sweep: Sweep) -> Data:
    return {
        "method": point.method,
        "size": point.size,
        "after": model_data(point.after),
        "shares": shares_data(sweep.model, point.after),
        "level": point.level,
        "damage": point.damage,
        "drop": None if point.drop is None else _drop(point.drop),
        "error": point.error if math.isfinite(point.error) else None,
        "evaluation": evaluation_data(point.evaluation),
        "slower_at": list(point.slower_at),
        "command": point.command,
    }


def _drop(drop: PairedDrop) -> Data:
    return {
        "lost": drop.lost,
        "gained": drop.gained,
        "points": drop.points,
        "lower": drop.lower,
        "upper": drop.upper,
    }


def _missed(missed: MissedPoint) -> Data:
    return {
        "method": missed.method,
        "size": missed.size,
        "failed": missed.failed,
        "reason": missed.reason,
    }
