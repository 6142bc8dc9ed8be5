"""Reports as JSON-ready dictionaries; docs/report-schema.md describes every field.

What is certified of the written file, as JSON-ready data.

Groups of units as JSON-ready data.

What came of a budget on latency, as JSON-ready data.
"""

import math
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from onnx_relusv.core.blocks import Block, Floats, Refusal
from onnx_relusv.core.codec import json_text
from onnx_relusv.core.measures import (
    Certificate,
    Correction,
    LatencyOutcome,
    OutputChange,
    Spectrum,
    Trial,
)
from onnx_relusv.core.plans import Choice, Cost
from onnx_relusv.core.results import (
    Assessment,
    BlockRow,
    ChannelRefusal,
    Comparison,
    Compression,
    Evaluation,
    GroupRow,
    Inspection,
    ModelFacts,
    Provenance,
    RankSaving,
    Verdict,
)
from onnx_relusv.report.details import coverage_data
from onnx_relusv.report.sections import estimate_data, metric_data
from onnx_relusv.report.words import settings_text
from onnx_relusv.work.publishing import write_text

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


SCHEMA_VERSION = 1


def inspection_data(inspection: Inspection) -> Data:
    """What `inspect` found, as JSON-ready data."""
    return {
        "schema": "onnx-relusv/inspection",
        "schema_version": SCHEMA_VERSION,
        "model": model_data(inspection.model),
        "blocks": [_block_row(row) for row in inspection.rows],
        "refusals": [refusal_data(refusal) for refusal in inspection.refusals],
        "warnings": list(inspection.warnings),
        "coverage": coverage_data(inspection.coverage),
        "provenance": provenance_data(inspection.provenance),
    }


def compression_data(compression: Compression) -> Data:
    """What `compress` and `apply` did, as JSON-ready data."""
    budgets = compression.budgets
    return {
        "schema": "onnx-relusv/compression",
        "schema_version": SCHEMA_VERSION,
        "before": model_data(compression.before),
        "after": model_data(compression.after),
        "shares": shares_data(compression.before, compression.after),
        "budgets": {
            "size": _number(budgets.size),
            "macs": _number(budgets.macs),
            "latency": _number(budgets.latency),
            "tolerance": _number(budgets.tolerance),
            "max_drop": _number(budgets.max_drop),
            "confidence": _number(budgets.confidence),
        },
        "method": compression.method,
        "allocation": compression.allocation,
        "level": _number(compression.level),
        "damage": _number(compression.damage),
        "damage_measure": compression.damage_measure,
        "correction": _correction(compression.correction),
        "blocks": [_block_row(row) for row in compression.rows],
        "refusals": [refusal_data(refusal) for refusal in compression.refusals],
        "groups": [group_data(row) for row in compression.groups],
        "channel_refusals": [channel_refusal_data(one) for one in compression.channel_refusals],
        "verdict": _verdict(compression.verdict),
        "certificate": certificate_data(compression.certificate),
        "metric": metric_data(compression.metric),
        "drop_estimate": estimate_data(compression.estimate),
        "batch": compression.batch,
        "latency": latency_data(compression.latency),
        "assessment": _assessment(compression.assessment),
        "samples": None if compression.samples is None else asdict(compression.samples),
        "warnings": list(compression.warnings),
        "provenance": provenance_data(compression.provenance),
    }


def comparison_data(comparison: Comparison) -> Data:
    """What `compare` found, as JSON-ready data."""
    return {
        "schema": "onnx-relusv/comparison",
        "schema_version": SCHEMA_VERSION,
        "before": model_data(comparison.before),
        "after": model_data(comparison.after),
        "shares": shares_data(comparison.before, comparison.after),
        "evaluation": evaluation_data(comparison.evaluation),
        "provenance": provenance_data(comparison.provenance),
    }


def write_json(data: Data, path: Path, *, force: bool) -> None:
    """Writes data as strict JSON; an existing file stays untouched unless all of it is written.

    Args:
        data: What is written.
        path: Its place.
        force: Whether a regular file that is there may be replaced.

    Raises:
        UsageError: The file cannot be written there, or may not be replaced.
        ValueError: The data holds a number that JSON does not have.
    """
    write_text(json_text(data) + "\n", path, force=force)


def _number(value: float | None) -> float | None:
    """A number, or None for what JSON cannot say: NaN and infinities."""
    return value if value is not None and math.isfinite(value) else None


def _numbers(values: Floats) -> list[float | None]:
    # Seven digits are what float32 weights can justify, and halve the file.
    return [_number(float(f"{value:.7g}")) for value in values.tolist()]


def model_data(facts: ModelFacts) -> Data:
    """A model file, as JSON-ready data."""
    return {
        "path": str(facts.path),
        "bytes": facts.bytes,
        "parameters": facts.parameters,
        "macs": facts.macs,
        "sha256": facts.sha256,
        "opset": facts.opset,
    }


def shares_data(before: ModelFacts, after: ModelFacts) -> Data:
    """What is left of a model, as JSON-ready data."""
    return {
        "size": _share(after.bytes, before.bytes),
        "macs": _share(after.macs, before.macs),
        "parameters": _share(after.parameters, before.parameters),
    }


def _share(after: int, before: int) -> float | None:
    return after / before if before else None


def _block_row(row: BlockRow) -> Data:
    return {
        **_block(row.block),
        "parameters": row.parameters,
        "cost_before": _cost(row.cost),
        "spectrum": _spectrum(row.spectrum),
        "savings": [_saving(saving) for saving in row.savings],
        "statistics": row.statistics,
        "choice": None if row.choice is None else _choice(row.choice),
        "reached_level": None if row.choice is None else _number(row.level),
        "cost_after": None if row.cost_after is None else _cost(row.cost_after),
        "latency_before": _number(row.latency_before),
        "latency_after": _number(row.latency_after),
    }


def _block(block: Block) -> Data:
    geometry, activation = block.geometry, block.activation
    return {
        "key": block.key,
        "source": block.source,
        "pre_activation": block.pre_activation,
        "weight": block.weight,
        "nodes": list(block.nodes),
        "consumers": list(block.consumers),
        "source_shape": list(block.source_shape),
        "output_shape": list(block.output_shape),
        "element_type": block.element_type,
        "original_bytes": block.original_bytes,
        "geometry": {
            "kind": geometry.kind,
            "in_channels": geometry.in_channels,
            "out_channels": geometry.out_channels,
            "groups": geometry.groups,
            "kernel": list(geometry.kernel),
            "strides": list(geometry.strides),
            "dilations": list(geometry.dilations),
            "pads": list(geometry.pads),
            "auto_pad": geometry.auto_pad,
            "rows": geometry.rows,
            "columns": geometry.columns,
            "largest_rank": geometry.largest_rank,
        },
        "activation": {
            "kind": activation.kind,
            "slopes": _numbers(activation.slopes),
            "ceiling": _number(activation.ceiling),
        },
    }


def _cost(cost: Cost) -> Data:
    return {"bytes": cost.bytes, "macs": cost.macs}


def _spectrum(spectrum: Spectrum) -> Data:
    return {
        "s_0_estimate": _number(float(spectrum.estimate[0])),
        "sigma": _numbers(spectrum.sigma),
        "lower": _numbers(spectrum.lower),
        "upper": _numbers(spectrum.upper),
        "estimate": _numbers(spectrum.estimate),
        "ranks": list(spectrum.ranks),
        "converged": [bool(one) for one in spectrum.converged],
        "untrained": _numbers(spectrum.untrained),
        "operator_norm": _number(spectrum.operator_norm),
        "stable_rank": _number(spectrum.stable_rank),
        "mean_width": _number(spectrum.mean_width),
        "relu_mean_width_lower": _number(spectrum.relu_mean_width_lower),
        "relu_mean_width_upper": _number(spectrum.relu_mean_width_upper),
        "relu_mean_width": _number(spectrum.relu_mean_width),
        "relu_mean_width_error": _number(spectrum.relu_mean_width_error),
        "in_data_metric": spectrum.in_data_metric,
        "iterations": spectrum.iterations,
        "starts": spectrum.starts,
        "seed": spectrum.seed,
        "provider": spectrum.provider,
    }


def _saving(saving: RankSaving) -> Data:
    return {
        "tolerance": _number(saving.tolerance),
        "form": saving.form,
        "rank": saving.rank,
        "saved_bytes": saving.saved_bytes,
        "saved_macs": saving.saved_macs,
    }


def _correction(correction: Correction | None) -> Data | None:
    if correction is None:
        return None
    return {
        "damage": _number(correction.damage),
        "corrected": _number(correction.corrected),
        "taken": correction.taken,
    }


def _choice(choice: Choice) -> Data:
    return {
        "action": choice.action,
        "form": choice.form,
        "rank": choice.rank,
        "inputs": choice.inputs,
        "outputs": choice.outputs,
        "planned_level": _number(choice.level),
        "planned_damage": _number(choice.damage),
        "why": choice.why,
    }


def refusal_data(refusal: Refusal) -> Data:
    """What was left alone, as JSON-ready data."""
    return {"key": refusal.key, "reason": refusal.reason}


def _verdict(verdict: Verdict) -> Data:
    return {
        "checks": [{"name": check.name, "detail": check.detail} for check in verdict.checks],
        "output_error": _by_output(verdict.output_error),
    }


def evaluation_data(evaluation: Evaluation) -> Data:
    """Two models side by side, as JSON-ready data."""
    return {
        "samples": evaluation.samples,
        "agreement": _number(evaluation.agreement),
        "accuracy_before": _number(evaluation.accuracy_before),
        "accuracy_after": _number(evaluation.accuracy_after),
        "drop": _number(evaluation.drop),
        "relative_error": _by_output(evaluation.relative_error),
        "mean_difference": _by_output(evaluation.mean_difference),
        "largest_difference": _by_output(evaluation.largest_difference),
        "outputs": [_output_change(one) for one in evaluation.outputs],
        "latencies": [
            {"batch": latency.batch, "before": latency.before, "after": latency.after}
            for latency in evaluation.latencies
        ],
        "provider": evaluation.provider,
        "metric": metric_data(evaluation.metric),
    }


def _output_change(change: OutputChange) -> Data:
    return {
        "name": change.name,
        "kind": change.kind,
        "form": change.form,
        "agreement": _number(change.agreement),
        "relative_error": _number(change.relative),
        "mean_difference": _number(change.mean),
        "largest_difference": _number(change.largest),
        "change": _number(change.change),
        "entries": change.entries,
        "nan_before": change.before.nan,
        "nan_after": change.after.nan,
        "infinite_before": change.before.infinite,
        "infinite_after": change.after.infinite,
        "mismatched": change.mismatched,
        "runs": change.runs,
        "other_shape": change.other_shape,
        "varies": change.varies,
    }


def _assessment(found: Assessment) -> Data:
    latency = found.latency
    return {
        "part": found.part,
        "evaluation": evaluation_data(found.evaluation),
        "change": _number(found.change),
        "feeds": [{**asdict(feed), "change": _number(feed.change)} for feed in found.feeds],
        "withheld": dict(found.withheld),
        "latency": {"batch": latency.batch, "before": latency.before, "after": latency.after},
        "alarms": list(found.alarms),
        "conclusion": found.conclusion,
    }


def _by_output(values: Mapping[str, float | None]) -> Data:
    return {name: _number(value) for name, value in values.items()}


def provenance_data(provenance: Provenance) -> Data:
    """Who made a result, as JSON-ready data."""
    return {
        "versions": dict(sorted(provenance.versions.items())),
        "provider": provenance.provider,
        "seed": provenance.seed,
        "command": provenance.command,
        "samples": provenance.samples,
        "samples_sha256": provenance.samples_sha256,
        "sample_count": provenance.sample_count,
        "sample_groups": provenance.sample_groups,
        "settings": settings_text(provenance.settings),
    }
