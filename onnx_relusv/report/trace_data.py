"""A trace as a JSON-ready dictionary; docs/report-schema.md describes every field."""

import math

from onnx_relusv.records import Floats
from onnx_relusv.report.data import (
    SCHEMA_VERSION,
    Data,
    model_data,
    provenance_data,
    refusal_data,
)
from onnx_relusv.traces import BlockTrace, Interval, Score, Separation, Trace


def trace_data(trace: Trace) -> Data:
    """What `trace` found, as JSON-ready data."""
    return {
        "schema": "onnx-relusv/trace",
        "schema_version": SCHEMA_VERSION,
        "model": model_data(trace.model),
        "blocks": [_block(block) for block in trace.blocks],
        "class_scores": _class_scores(trace),
        "answers": _answers(trace),
        "separation": None if trace.separation is None else _separation(trace.separation),
        "refusals": [refusal_data(refusal) for refusal in trace.refusals],
        "warnings": list(trace.warnings),
        "provenance": provenance_data(trace.provenance),
    }


def _block(block: BlockTrace) -> Data:
    return {
        "key": block.key,
        "units": block.units,
        "positions": block.positions,
        "active": _column(block.active),
        "width_lower": _column(block.width_lower),
        "width_upper": _column(block.width_upper),
        "width": _column(block.width),
        "largest": _column(block.largest),
        "margin": _column(block.margin),
    }


def _class_scores(trace: Trace) -> Data | None:
    if trace.max_softmax is None or trace.entropy is None:
        return None
    return {"max_softmax": _column(trace.max_softmax), "entropy": _column(trace.entropy)}


def _answers(trace: Trace) -> Data | None:
    if trace.correct is None:
        return None
    right = int(trace.correct.sum())
    return {
        "right": right,
        "wrong": len(trace.correct) - right,
        "correct": trace.correct.tolist(),
    }


def _separation(separation: Separation) -> Data:
    return {
        "right": separation.right,
        "wrong": separation.wrong,
        "scores": [_score(score) for score in separation.scores],
        "baselines": [_score(score) for score in separation.baselines],
        "combined": _score_or_none(separation.combined),
        "combined_with_output": _score_or_none(separation.combined_with_output),
        "resamples": separation.resamples,
        "folds": separation.folds,
        "seed": separation.seed,
    }


def _score_or_none(score: Score | None) -> Data | None:
    return None if score is None else _score(score)


def _score(score: Score) -> Data:
    return {
        "block": score.block,
        "quantity": score.quantity,
        "auroc": _interval(score.auroc),
        "higher_is_wrong": score.higher_is_wrong,
        "gain": None if score.gain is None else _interval(score.gain),
    }


def _interval(interval: Interval) -> Data:
    return {"value": interval.value, "lower": interval.lower, "upper": interval.upper}


def _column(values: Floats) -> list[float | None]:
    # Six digits are what the certified brackets can justify, and keep thousands of inputs small.
    return [float(f"{value:.6g}") if math.isfinite(value) else None for value in values.tolist()]
