"""Reports as HTML pages, each of them one file that loads nothing from anywhere.

A report as a folder: report.json for machines and report.html for people.

Pages are imported where one is made: matplotlib takes a third of a second to load, and most runs
draw nothing.

The report of a sweep as an HTML page.

The report of a trace as an HTML page.
"""

from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined

from onnx_relusv.core.codec import json_text
from onnx_relusv.core.results import Comparison, Compression, Inspection, ModelFacts
from onnx_relusv.core.sweeps import Sweep
from onnx_relusv.core.traces import Trace
from onnx_relusv.report.assessment import assessment_facts, assessment_sections
from onnx_relusv.report.blocks import (
    ACTIVATION,
    BYTES,
    BYTES_CHANGE,
    CHANNELS,
    DECISION,
    KEY,
    MACS,
    MACS_CHANGE,
    PARAMETERS,
    PLANNED_DAMAGE,
    PLANNED_LEVEL,
    REACHED_LEVEL,
    SHAPE,
    WHY,
    filled,
    ladder_section,
)
from onnx_relusv.report.data import Data, comparison_data, compression_data, inspection_data
from onnx_relusv.report.details import (
    channel_refusals_section,
    coverage_section,
    groups_facts,
    groups_sections,
    outputs_sections,
)
from onnx_relusv.report.facts import (
    bytes_section,
    comparison_facts,
    compression_facts,
    inspection_facts,
    latency_column,
    latency_facts,
    latency_section,
    spectra_section,
)
from onnx_relusv.report.page import Page
from onnx_relusv.report.plots import COLOURS
from onnx_relusv.report.sections import (
    blocks_section,
    certificate_sections,
    estimate_sections,
    latencies_section,
    measures_section,
    models_section,
    provenance_section,
    refusals_section,
    savings_section,
    verdict_section,
)
from onnx_relusv.report.sweep import (
    commands_section,
    curves_section,
    missed_section,
    points_section,
    sweep_data,
    sweep_facts,
)
from onnx_relusv.report.trace import (
    REFUSED,
    areas_picture_section,
    areas_section,
    conclusions_section,
    distributions_section,
    medians_section,
    scores_section,
    trace_facts,
)
from onnx_relusv.report.trace_plots import trace_data
from onnx_relusv.report.words import change_text, printable
from onnx_relusv.work.files import REPORT_FILES
from onnx_relusv.work.publishing import Publication, make_text, not_written, staged


def write_inspection(
    inspection: Inspection, folder: Path | None, json_path: Path | None = None, *, force: bool
) -> None:
    """Writes the report of an inspection and its figures, all or nothing.

    Args:
        inspection: What it is of.
        folder: Place of the report; a folder that is there keeps all other files. None for none.
        json_path: Place of the figures alone; None for none.
        force: Whether files that are there may be replaced.

    Raises:
        UsageError: Something cannot be written, or may not be replaced.
    """

    def page() -> str:

        return inspection_html(inspection)

    _write(inspection_data(inspection), page, folder, json_path, force=force)


def write_comparison(
    comparison: Comparison, folder: Path | None, json_path: Path | None = None, *, force: bool
) -> None:
    """Writes the report of a comparison; arguments and errors as of `write_inspection`."""

    def page() -> str:

        return comparison_html(comparison)

    _write(comparison_data(comparison), page, folder, json_path, force=force)


def write_trace(
    trace: Trace, folder: Path | None, json_path: Path | None = None, *, force: bool
) -> None:
    """Writes the report of a trace; arguments and errors as of `write_inspection`."""

    def page() -> str:

        return trace_html(trace)

    _write(trace_data(trace), page, folder, json_path, force=force)


def make_compression(compression: Compression, made: Path, folder: Path) -> None:
    """Makes the report of a compression in a hidden folder, to be published with the model.

    Args:
        compression: What it is of.
        made: A folder that is made for it.
        folder: Its place later on, which an error names.

    Raises:
        UsageError: There is no room for it.
    """
    _make(compression_data(compression), compression_html(compression), made, folder)


def make_figures(compression: Compression, made: Path, file: Path) -> None:
    """Makes the figures of a compression alone; arguments and errors as of `make_compression`."""
    make_text(json_text(compression_data(compression)) + "\n", made, file)


def make_sweep(sweep: Sweep, made: Path, folder: Path) -> None:
    """Makes the report of a sweep; arguments and errors as of `make_compression`."""
    _make(sweep_data(sweep), sweep_html(sweep), made, folder)


def _write(
    data: Data,
    page: Callable[[], str],
    folder: Path | None,
    json_path: Path | None,
    *,
    force: bool,
) -> None:
    publication = Publication(force=force)
    with ExitStack() as stack:
        if folder is not None:
            made = stack.enter_context(staged(folder)) / "report"
            _make(data, page(), made, folder)
            publication.add(made, folder)
        if json_path is not None:
            made = stack.enter_context(staged(json_path)) / "figures"
            make_text(json_text(data) + "\n", made, json_path)
            publication.add(made, json_path)
        publication.commit()


def _make(data: Data, page: str, made: Path, folder: Path) -> None:
    try:
        made.mkdir()
    except OSError as error:
        raise not_written(folder, error) from error
    for name, text in zip(REPORT_FILES, (json_text(data) + "\n", page), strict=True):
        make_text(text, made / name, folder / name)


def inspection_html(inspection: Inspection) -> str:
    """What `inspect` found, as a page."""
    rows = inspection.rows
    models = {"model": inspection.model}
    return render(
        Page(
            title="Inspection",
            subject=_path(inspection.model),
            facts=inspection_facts(inspection),
            warnings=tuple(printable(warning) for warning in inspection.warnings),
            sections=(
                *blocks_section((KEY, SHAPE, ACTIVATION, PARAMETERS, BYTES, MACS), rows),
                *savings_section(rows),
                *measures_section(rows),
                *spectra_section(rows, None),
                *ladder_section(rows),
                *refusals_section(inspection.refusals),
                *coverage_section(inspection.coverage),
                models_section(models),
                provenance_section(inspection.provenance, models),
            ),
            command=printable(inspection.provenance.command),
        )
    )


def compression_html(compression: Compression) -> str:
    """What `compress` and `apply` did, as a page."""
    rows = compression.rows
    models = {"original": compression.before, "result": compression.after}
    damage = () if compression.damage is None else (PLANNED_DAMAGE,)
    levels = (PLANNED_LEVEL, REACHED_LEVEL)
    time = latency_column(compression.batch)
    decided = filled(
        (KEY, DECISION, CHANNELS, *levels, *damage, BYTES_CHANGE, MACS_CHANGE, time, WHY), rows
    )
    return render(
        Page(
            title="Compression",
            subject=change_text(_path(compression.before), _path(compression.after)),
            facts=(
                *compression_facts(compression),
                *groups_facts(compression.groups),
                *latency_facts(compression.latency),
                *assessment_facts(compression),
            ),
            alarms=tuple(printable(alarm) for alarm in compression.assessment.alarms),
            warnings=tuple(
                printable(warning)
                for warning in compression.warnings
                if warning not in compression.assessment.alarms
            ),
            conclusion=printable(compression.assessment.conclusion),
            sections=(
                *assessment_sections(compression.assessment),
                *blocks_section(decided, rows),
                *groups_sections(compression.groups),
                *certificate_sections(compression.certificate),
                *estimate_sections(compression.estimate),
                *latency_section(compression.latency),
                *bytes_section(rows),
                *savings_section(rows),
                *measures_section(rows),
                *spectra_section(rows, compression.level if damage == () else None),
                *refusals_section(compression.refusals),
                *channel_refusals_section(compression.channel_refusals),
                *verdict_section(compression.verdict),
                models_section(models),
                provenance_section(compression.provenance, models),
            ),
            command=printable(compression.provenance.command),
        )
    )


def comparison_html(comparison: Comparison) -> str:
    """What `compare` found, as a page."""
    models = {"first model": comparison.before, "second model": comparison.after}
    return render(
        Page(
            title="Comparison",
            subject=change_text(_path(comparison.before), _path(comparison.after)),
            facts=comparison_facts(comparison),
            sections=(
                *outputs_sections(comparison.evaluation.outputs),
                *latencies_section(comparison.evaluation),
                models_section(models),
                provenance_section(comparison.provenance, models),
            ),
            command=printable(comparison.provenance.command),
        )
    )


def render(page: Page) -> str:
    """A page as HTML."""
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
    return environment.get_template("report.html.j2").render(page=page, colours=COLOURS)


def _path(facts: ModelFacts) -> str:
    return printable(str(facts.path))


def sweep_html(sweep: Sweep) -> str:
    """What `sweep` found, as a page."""
    models = {"original": sweep.model}
    return render(
        Page(
            title="Sweep",
            subject=printable(str(sweep.model.path)),
            facts=sweep_facts(sweep),
            sections=(
                curves_section(sweep),
                points_section(sweep),
                commands_section(sweep),
                *missed_section(sweep),
                models_section(models),
                provenance_section(sweep.provenance, models),
            ),
            command=printable(sweep.provenance.command),
        )
    )


def trace_html(trace: Trace) -> str:
    """What `trace` found, as a page."""
    models = {"model": trace.model}
    return render(
        Page(
            title="Trace",
            subject=printable(str(trace.model.path)),
            facts=trace_facts(trace),
            warnings=tuple(printable(warning) for warning in trace.warnings),
            sections=(
                conclusions_section(trace),
                *scores_section(trace.separation),
                *areas_picture_section(trace.separation),
                *areas_section(trace.separation),
                *medians_section(trace),
                *distributions_section(trace),
                *refusals_section(trace.refusals, REFUSED),
                models_section(models),
                provenance_section(trace.provenance, models),
            ),
            command=printable(trace.provenance.command),
        )
    )
