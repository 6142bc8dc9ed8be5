"""Reports as HTML pages, each of them one file that loads nothing from anywhere."""

from jinja2 import Environment, PackageLoader, StrictUndefined

from onnx_relusv.report.assessment_sections import assessment_facts, assessment_sections
from onnx_relusv.report.certificate_sections import certificate_sections
from onnx_relusv.report.colours import COLOURS
from onnx_relusv.report.columns import (
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
)
from onnx_relusv.report.coverage_sections import coverage_section
from onnx_relusv.report.formatting import change_text, printable
from onnx_relusv.report.group_sections import (
    channel_refusals_section,
    groups_facts,
    groups_sections,
)
from onnx_relusv.report.latency_sections import latency_column, latency_facts, latency_section
from onnx_relusv.report.metric_sections import estimate_sections
from onnx_relusv.report.output_sections import outputs_sections
from onnx_relusv.report.page import Page
from onnx_relusv.report.picture_sections import bytes_section, spectra_section
from onnx_relusv.report.sections import (
    blocks_section,
    latencies_section,
    measures_section,
    models_section,
    provenance_section,
    refusals_section,
    savings_section,
    verdict_section,
)
from onnx_relusv.report.spectrum_columns import ladder_section
from onnx_relusv.report.summary import comparison_facts, compression_facts, inspection_facts
from onnx_relusv.results import Comparison, Compression, Inspection, ModelFacts


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
    # Keys and paths come from files that nobody vouches for: everything is escaped but SVG that
    # we drew ourselves.
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
