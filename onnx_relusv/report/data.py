"""Reports as JSON-ready dictionaries; docs/report-schema.md describes every field.

A record becomes an object of its fields, in their order; `FIELDS` says which records become
something else. A block is what its columns say (`blocks.COLUMNS`).
"""

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import fields, is_dataclass
from operator import attrgetter
from pathlib import Path
from typing import Any

import numpy as np

from onnx_relusv.core.blocks import Geometry
from onnx_relusv.core.errors import Coverage, CoverageRow
from onnx_relusv.core.measures import Correction, LatencyOutcome, OutputChange, Spectrum
from onnx_relusv.core.metric import MetricChange
from onnx_relusv.core.plans import Budgets, Choice, Cost
from onnx_relusv.core.results import (
    Assessment,
    BlockReport,
    Comparison,
    Compression,
    Evaluation,
    GroupReport,
    Inspection,
    Provenance,
)
from onnx_relusv.core.sweeps import Sweep, SweepPoint
from onnx_relusv.core.traces import Trace
from onnx_relusv.report import blocks
from onnx_relusv.report.words import settings_text

Data = dict[str, Any]
Report = Inspection | Compression | Comparison | Trace | Sweep

SCHEMA_VERSION = 1
_SCHEMAS: dict[type, str] = {
    Inspection: "inspection",
    Compression: "compression",
    Comparison: "comparison",
    Trace: "trace",
    Sweep: "sweep",
}
# Significant digits of lists. Seven are what float32 weights can justify, and halve the file; six
# are what the brackets of traced inputs can, and keep thousands of inputs small.
_DIGITS, _TRACE_DIGITS = 7, 6

# By record its fields in JSON: "name", or "name=path" where the record calls it otherwise.
FIELDS: dict[type, str] = {
    Assessment: "part evaluation change feeds withheld latency alarms conclusion",
    Budgets: "size macs latency tolerance max_drop confidence",
    Choice: "action form rank inputs outputs planned_level=level planned_damage=damage why",
    Comparison: "before after shares evaluation provenance",
    Compression: """before after shares budgets method allocation level damage damage_measure
        correction blocks=rows refusals groups channel_refusals verdict certificate metric
        drop_estimate batch latency assessment samples warnings provenance""",
    Correction: "damage corrected taken",
    Cost: "bytes macs",
    Coverage: "total_bytes covered_bytes other_bytes rows",
    Evaluation: """samples agreement accuracy_before accuracy_after drop relative_error
        mean_difference largest_difference outputs latencies provider metric""",
    Geometry: """kind in_channels out_channels groups kernel strides dilations pads auto_pad rows
        columns largest_rank""",
    GroupReport: """key=choice.key producers=choice.producers consumers=choice.consumers operators
        units=choice.units kept=choice.kept planned_level=choice.level
        planned_damage=choice.damage why=choice.why""",
    Inspection: "model blocks=rows refusals warnings coverage provenance",
    LatencyOutcome: """asked planned measured=share before=measured.before after=measured.after
        batch=measured.batch provider threads""",
    MetricChange: "name samples part before after loss",
    OutputChange: """name kind form agreement relative_error=relative mean_difference=mean
        largest_difference=largest change entries nan_before=before.nan nan_after=after.nan
        infinite_before=before.infinite infinite_after=after.infinite mismatched runs other_shape
        varies""",
    Spectrum: """s_0_estimate sigma lower upper estimate ranks converged untrained operator_norm
        stable_rank mean_width relu_mean_width_lower relu_mean_width_upper relu_mean_width
        relu_mean_width_error in_data_metric iterations starts seed provider""",
    Sweep: "model judged_by judges methods=meanings points knees missed kept provenance",
    SweepPoint: "method size after shares level damage drop error evaluation slower_at command",
    Trace: "model blocks class_scores answers separation refusals warnings provenance",
}
# A bound on what is lost is one of two fields of a compression, by whether it is exact.
_CERTIFICATE = """max_drop confidence labelled fit_samples select_samples certify_samples lost
    gained drop bound select_drop trials"""
_ESTIMATE = """max_drop confidence fit_samples select_samples certify_samples groups drop
    standard_error bound select_drop trials"""


def report_data(report: Report) -> Data:
    """What a command found, as JSON-ready data."""
    digits = _TRACE_DIGITS if isinstance(report, Trace) else _DIGITS
    return {
        "schema": f"onnx-relusv/{_SCHEMAS[type(report)]}",
        "schema_version": SCHEMA_VERSION,
        **{name: _plain(value, digits) for name, value in _fields(report)},
    }


def _plain(value: Any, digits: int) -> Any:
    """A value as JSON has it: what is NaN or infinite is None."""
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    if isinstance(value, np.ndarray):
        if value.dtype.kind == "f":
            return [_plain(float(f"{one:.{digits}g}"), digits) for one in value.tolist()]
        return value.tolist()
    if isinstance(value, Mapping):
        return {name: _plain(one, digits) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(one, digits) for one in value]
    if is_dataclass(value):
        return {name: _plain(one, digits) for name, one in _fields(value)}
    return str(value) if isinstance(value, Path) else value


def _fields(record: Any) -> Iterator[tuple[str, Any]]:
    """A record's fields in JSON, with their values."""
    if isinstance(record, BlockReport):
        yield from ((one.json, one.read(record)) for one in blocks.COLUMNS if one.json)
    else:
        own = " ".join(field.name for field in fields(record))
        yield from _read(record, FIELDS.get(type(record), own))


def _read(record: Any, names: str) -> Iterator[tuple[str, Any]]:
    computed = _COMPUTED.get(type(record), {})
    for entry in names.split():
        name, _, path = entry.partition("=")
        yield name, computed.get(name, attrgetter(path or name))(record)


def _certificate(found: Compression) -> Data | None:
    return dict(_read(found.bound, _CERTIFICATE)) if found.bound and found.bound.exact else None


def _estimate(found: Compression) -> Data | None:
    return dict(_read(found.bound, _ESTIMATE)) if found.bound and not found.bound.exact else None


def _class_scores(trace: Trace) -> Data | None:
    if trace.max_softmax is None or trace.entropy is None:
        return None
    return {"max_softmax": trace.max_softmax, "entropy": trace.entropy}


def _answers(trace: Trace) -> Data | None:
    if trace.correct is None:
        return None
    right = int(trace.correct.sum())
    return {"right": right, "wrong": len(trace.correct) - right, "correct": trace.correct}


# What is no attribute of its record, or is another one.
_COMPUTED: dict[type, dict[str, Callable[[Any], Any]]] = {
    Compression: {"certificate": _certificate, "drop_estimate": _estimate},
    CoverageRow: {"advice": lambda row: row.advice or None},
    Provenance: {
        "versions": lambda made: dict(sorted(made.versions.items())),
        "settings": lambda made: settings_text(made.settings),
    },
    Trace: {"class_scores": _class_scores, "answers": _answers},
}
