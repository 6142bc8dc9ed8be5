"""Reports for the terminal, as rich renderables."""

from collections.abc import Iterable, Sequence

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from onnx_relusv.coverage_records import Coverage
from onnx_relusv.decisions import Plan
from onnx_relusv.report.assessment_sections import assessment_facts, assessment_sections
from onnx_relusv.report.certificate_sections import certificate_sections
from onnx_relusv.report.columns import (
    BYTES_CHANGE,
    CHANNELS,
    DECISION,
    KEY,
    LAYER,
    MACS,
    MEAN_WIDTH,
    PARAMETERS,
    REACHED_LEVEL,
    S_0,
    STABLE_RANK,
    WHY,
    filled,
    saving_columns,
)
from onnx_relusv.report.coverage_sections import coverage_section
from onnx_relusv.report.formatting import printable
from onnx_relusv.report.group_sections import (
    channel_refusals_section,
    groups_facts,
    groups_table,
)
from onnx_relusv.report.latency_sections import latency_column, latency_facts
from onnx_relusv.report.metric_sections import estimate_sections
from onnx_relusv.report.output_sections import outputs_sections
from onnx_relusv.report.page import Section
from onnx_relusv.report.sections import (
    blocks_section,
    latencies_section,
    refusals_section,
    sparklines_section,
)
from onnx_relusv.report.summary import (
    Fact,
    comparison_facts,
    compression_facts,
    inspection_facts,
)
from onnx_relusv.report.terminal import TerminalTable
from onnx_relusv.results import Assessment, BlockRow, Comparison, Compression, GroupRow, Inspection

_MEASURES_NOTE = (
    "s_0: found by ascent, and [certified bounds]. At a level: rank of the cheapest form, and the "
    "share of the block's bytes that it saves."
)
_SPECTRA_NOTE = (
    "At a geometric ladder of k, logarithmic: a full bar is sigma_1, the lowest a hundredth of "
    "it. Untrained: random weights of the same shape and Frobenius norm. s_k: estimates."
)


def inspection_table(inspection: Inspection) -> list[RenderableType]:
    """What `inspect` found, for the terminal."""
    rows = inspection.rows
    columns = (
        KEY,
        LAYER,
        PARAMETERS,
        MACS,
        S_0,
        MEAN_WIDTH,
        STABLE_RANK,
        *saving_columns(rows, with_form=False),
    )
    return [
        *section_parts(blocks_section(columns, rows)),
        *_note(_MEASURES_NOTE, rows),
        *section_parts(sparklines_section(rows)),
        *_note(_SPECTRA_NOTE, rows),
        *section_parts(refusals_section(inspection.refusals)),
        summary_grid(inspection_facts(inspection)),
        *_warnings(inspection.warnings),
        "",
        *coverage_parts(inspection.coverage),
    ]


def compression_table(compression: Compression) -> list[RenderableType]:
    """What `compress` and `apply` did, for the terminal."""
    # The terminal is narrow: what nobody asked about is in the other reports.
    time = () if compression.latency is None else (latency_column(compression.batch),)
    rows = compression.rows
    columns = filled((KEY, DECISION, CHANNELS, REACHED_LEVEL, BYTES_CHANGE, *time, WHY), rows)
    return [
        *section_parts(blocks_section(columns, rows)),
        *section_parts(groups_table(compression.groups)),
        *section_parts(refusals_section(compression.refusals)),
        *section_parts(channel_refusals_section(compression.channel_refusals)),
        *section_parts(certificate_sections(compression.certificate)),
        *section_parts(estimate_sections(compression.estimate)),
        *section_parts(_costs(compression.assessment)),
        summary_grid(
            (
                *compression_facts(compression),
                *groups_facts(compression.groups),
                *latency_facts(compression.latency),
                *assessment_facts(compression),
            )
        ),
        *_warnings(compression.warnings, compression.assessment.alarms),
        "",
        Text(printable(compression.assessment.conclusion), style="bold"),
    ]


def _costs(found: Assessment) -> tuple[Section, ...]:
    """The outputs one by one where there are several, for a single one is among the facts."""
    outputs, *others = assessment_sections(found)
    return (outputs, *others) if len(found.evaluation.outputs) > 1 else tuple(others)


def coverage_parts(coverage: Coverage | None) -> list[RenderableType]:
    """Where a model's bytes lie, for the terminal."""
    return [
        part
        for section in coverage_section(coverage)
        if section.table is not None
        for part in (
            Text(section.title, style="bold"),
            Text(section.text),
            "",
            TerminalTable(section.table),
        )
    ]


def plan_table(plan: Plan) -> list[RenderableType]:
    """The groups of units in a plan, for the terminal, and its warnings; nothing without any."""
    groups = groups_table([GroupRow(choice=choice) for choice in plan.groups])
    return [*section_parts(groups), *_warnings(plan.warnings)]


def comparison_table(comparison: Comparison) -> list[RenderableType]:
    """What `compare` found, for the terminal."""
    evaluation = comparison.evaluation
    return [
        *section_parts((*outputs_sections(evaluation.outputs), *latencies_section(evaluation))),
        summary_grid(comparison_facts(comparison)),
    ]


def _warnings(warnings: Iterable[str], alarms: Sequence[str] = ()) -> list[RenderableType]:
    """Warnings, those that are alarms in another colour and in capitals."""
    return [
        Text(f"WARNING: {printable(one)}", style="bold red")
        if one in alarms
        else Text(f"warning: {printable(one)}", style="yellow")
        for one in warnings
    ]


def _note(text: str, rows: Sequence[BlockRow]) -> list[RenderableType]:
    return [Text(text, style="dim"), ""] if rows else []


def section_parts(sections: Iterable[Section]) -> list[RenderableType]:
    """Sections with their tables, below one another; text alone where there is no table."""
    parts: list[RenderableType] = []
    for section in sections:
        if section.table is None:
            parts.append(Text(section.text))
        else:
            parts.append(Text(section.title, style="bold"))
            parts.append(TerminalTable(section.table))
        parts.append("")
    return parts


def summary_grid(facts: Iterable[Fact]) -> Table:
    """The few facts of a result, one a line."""
    grid = Table.grid(padding=(0, 2))
    for fact in facts:
        grid.add_row(Text(fact.name, style="dim"), Text(fact.value), Text(fact.note, style="dim"))
    return grid
