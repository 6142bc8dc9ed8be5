"""Reports as files: figures in JSON, and a folder of them with a page that loads nothing.

A record becomes an object of its fields, in their order; `FIELDS` says which records become
something else, and a block is what its columns say (`blocks.COLUMNS`). docs/report-schema.md
describes every field.
"""

import math
import re
from base64 import b64encode
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import fields, is_dataclass
from hashlib import sha256
from importlib.resources import files
from operator import attrgetter
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from onnx_relusv.core.blocks import Geometry
from onnx_relusv.core.codec import json_text
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
from onnx_relusv.report import blocks, words
from onnx_relusv.report.pages import Report, page_of
from onnx_relusv.report.plots import COLOURS
from onnx_relusv.work.files import REPORT_FILES, Publication, make_text, not_written, staged

Data = dict[str, Any]

SCHEMA_VERSION = 1
# Significant digits of lists. Seven are what float32 weights can justify, and halve the file; six
# are what the brackets of traced inputs can, and keep thousands of inputs small.
_DIGITS, _TRACE_DIGITS = 7, 6
# A number before its certified bounds.
_BRACKET = re.compile(r"^-?[\d.].* \[[^\]]*\]")
_OPTION = re.compile(r"(--[a-z][a-z0-9-]*(?: \d+(?:\.\d+)?)?)")
_LONGEST_WORD = 20
# Blocks in a strip between which there is room for a gap on a narrow page.
_MOST_APART = 100

# By record its fields in JSON: "name", or "name=path" where the record calls it otherwise.
FIELDS: dict[type, str] = {
    Assessment: "part evaluation change feeds withheld latency alarms conclusion",
    Budgets: "size macs latency tolerance max_drop confidence drop_by",
    Choice: """action form rank inputs outputs precision planned_level=level planned_damage=damage
        why""",
    Comparison: "before after shares evaluation warnings provenance",
    Compression: """before after shares budgets=plan.budgets method=plan.method
        allocation=plan.allocation level=plan.level damage=plan.damage
        damage_measure=plan.damage_measure precision=plan.precision uses_int8=plan.uses_int8
        effort=plan.effort int8_format=plan.int8_format int8_damages=plan.int8_damages
        stored_numbers=stored correction blocks=rows refusals groups channel_refusals
        verdict certificate metric drop_estimate batch pack=plan.pack many=plan.many
        timed_on=plan.timed_on latency assessment samples warnings provenance""",
    Correction: "damage corrected taken",
    Cost: "bytes macs",
    Coverage: "total_bytes covered_bytes other_bytes rows",
    Evaluation: """samples agreement accuracy_before accuracy_after drop relative_error
        mean_difference largest_difference outputs latencies provider metric agreement_interval
        drop_interval""",
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
    Sweep: """model judged_by judges methods=meanings points knees missed kept peers
        warnings provenance""",
    SweepPoint: "method size after shares level damage drop error evaluation slower_at command",
    Trace: "model blocks class_scores answers separation refusals warnings provenance",
}


def report_data(report: Report) -> Data:
    """What a command found, as JSON-ready data."""
    digits = _TRACE_DIGITS if isinstance(report, Trace) else _DIGITS
    return {
        "schema": f"onnx-relusv/{type(report).__name__.lower()}",
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
    if is_dataclass(value):
        value = dict(_fields(value))
    if isinstance(value, Mapping):
        return {name: _plain(one, digits) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(one, digits) for one in value]
    return str(value) if isinstance(value, Path) else value


def _fields(record: Any) -> Iterator[tuple[str, Any]]:
    """A record's fields in JSON, with their values."""
    if isinstance(record, BlockReport):
        yield from ((one.json, one.read(record)) for one in blocks.COLUMNS if one.json)
    else:
        every = " ".join(field.name for field in fields(record))
        yield from _read(record, FIELDS.get(type(record), every))


def _read(record: Any, names: str) -> Iterator[tuple[str, Any]]:
    computed = _COMPUTED.get(type(record), {})
    for entry in names.split():
        name, _, path = entry.partition("=")
        yield name, computed.get(name, attrgetter(path or name))(record)


def _bound(names: str, *, exact: bool) -> Callable[[Compression], Data | None]:
    """The bound on what is lost, if it is of this kind."""

    def bound(found: Compression) -> Data | None:
        matches = found.bound is not None and found.bound.exact is exact
        return dict(_read(found.bound, names)) if matches else None

    return bound


def _class_scores(trace: Trace) -> Data | None:
    if trace.max_softmax is None:
        return None
    return {"max_softmax": trace.max_softmax, "entropy": trace.entropy}


def _answers(trace: Trace) -> Data | None:
    if trace.correct is None:
        return None
    right = int(trace.correct.sum())
    return {"right": right, "wrong": len(trace.correct) - right, "correct": trace.correct}


# What is no attribute of its record, or is another one.
_COMPUTED: dict[type, dict[str, Callable[[Any], Any]]] = {
    Evaluation: {
        "relative_error": lambda of: {one.name: one.relative for one in of.outputs},
        "mean_difference": lambda of: {one.name: one.mean for one in of.outputs},
        "largest_difference": lambda of: {one.name: one.largest for one in of.outputs},
    },
    Compression: {
        "certificate": _bound(
            """max_drop confidence labelled presumed fit_samples select_samples certify_samples lost
            gained drop bound select_drop trials""",
            exact=True,
        ),
        "drop_estimate": _bound(
            """max_drop confidence fit_samples select_samples certify_samples groups drop
            standard_error bound select_drop trials""",
            exact=False,
        ),
    },
    CoverageRow: {"advice": lambda row: row.advice or None},
    Provenance: {
        "versions": lambda made: dict(sorted(made.versions.items())),
        "settings": lambda made: words.settings(made.settings),
    },
    Trace: {"class_scores": _class_scores, "answers": _answers},
}


def write_report(
    report: Report, folder: Path | None, json_path: Path | None = None, *, force: bool
) -> None:
    """Writes a report and its figures, all or nothing.

    Args:
        report: What a command found.
        folder: Place of the report; a folder that is there keeps all other files. None for none.
        json_path: Place of the figures alone; None for none.
        force: Whether files that are there may be replaced.

    Raises:
        UsageError: Something cannot be written, or may not be replaced.
    """
    publication = Publication(force=force)
    with ExitStack() as stack:
        if folder is not None:
            made = stack.enter_context(staged(folder)) / "report"
            make_report(report, made, folder)
            publication.add(made, folder)
        if json_path is not None:
            made = stack.enter_context(staged(json_path)) / "figures"
            make_figures(report, made, json_path)
            publication.add(made, json_path)
        publication.commit()


def make_report(report: Report, made: Path, folder: Path) -> None:
    """Makes a report in a hidden folder, to be published with something else.

    Args:
        report: What a command found.
        made: A folder that is made for it.
        folder: Its place later on, which an error names.

    Raises:
        UsageError: There is no room for it.
    """
    page = report_html(report)
    try:
        made.mkdir()
    except OSError as error:
        raise not_written(folder, error) from error
    figures, shown = REPORT_FILES
    make_figures(report, made / figures, folder / figures)
    make_text(page, made / shown, folder / shown)


def make_figures(report: Report, made: Path, file: Path) -> None:
    """Makes the figures of a report alone; arguments and errors as of `make_report`."""
    make_text(json_text(report_data(report)) + "\n", made, file)


def report_html(report: Report) -> str:
    """What a command found, as a page."""
    # Keys and paths come from untrusted files: everything is escaped but SVG that we drew
    # ourselves.
    environment = Environment(
        loader=PackageLoader("onnx_relusv.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {"whole": words.whole, "options": _options}
    environment.tests["long"] = _is_long
    page, script = page_of(report), _text("page.js")
    strips = [len(section.strip) for section in page.sections]
    return environment.get_template("report.html.j2").render(
        page=page,
        colours=COLOURS,
        strip_gaps=max(strips, default=0) <= _MOST_APART,
        script=script,
        # The page's policy lets this one text run, and nothing that a model's names say.
        script_hash=f"sha256-{b64encode(sha256(script.encode()).digest()).decode()}",
    )


def _is_long(cell: str) -> bool:
    """Whether a cell has to be broken within a word, or numbers between them.

    Otherwise it would push others off the page.
    """
    return max(map(len, cell.split()), default=0) > _LONGEST_WORD or bool(_BRACKET.search(cell))


def _options(text: str) -> Markup:
    """A text whose options stand out; everything else in it is escaped."""
    return Markup(_OPTION.sub(r'<code class="option">\1</code>', str(escape(text))))


def _text(name: str) -> str:
    return (files("onnx_relusv.report") / "templates" / name).read_text(encoding="utf-8")
