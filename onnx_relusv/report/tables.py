"""Reports for the terminal, as rich renderables.

A table in the terminal that breaks lines between words for as long as there is room to.

rich narrows the widest columns first, through the middle of words if need be, though others could
give way between theirs.

The report of a sweep for the terminal, as rich renderables.

The report of a trace for the terminal, as rich renderables.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from rich import table as rich_table
from rich.box import SIMPLE_HEAD
from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.text import Text

from onnx_relusv.core.errors import Coverage
from onnx_relusv.core.plans import Plan
from onnx_relusv.core.results import (
    Assessment,
    BlockRow,
    Comparison,
    Compression,
    GroupRow,
    Inspection,
)
from onnx_relusv.core.sweeps import Sweep
from onnx_relusv.core.traces import Trace
from onnx_relusv.report.assessment import assessment_facts, assessment_sections
from onnx_relusv.report.blocks import (
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
from onnx_relusv.report.details import (
    channel_refusals_section,
    coverage_section,
    groups_facts,
    groups_table,
    outputs_sections,
)
from onnx_relusv.report.facts import (
    comparison_facts,
    compression_facts,
    inspection_facts,
    latency_column,
    latency_facts,
)
from onnx_relusv.report.page import Fact, Heading, Section, Table
from onnx_relusv.report.sections import (
    blocks_section,
    certificate_sections,
    estimate_sections,
    latencies_section,
    refusals_section,
    sparklines_section,
)
from onnx_relusv.report.sweep import missed_section, sweep_facts, sweep_notes
from onnx_relusv.report.trace import (
    REFUSED,
    areas_section,
    conclusions,
    medians_section,
    scores_section,
    trace_facts,
)
from onnx_relusv.report.words import (
    BARS,
    LOSS_NAMES,
    batches,
    loss_text,
    marks_text,
    percent_text,
    point_name,
    printable,
    ratio_text,
)

# Between two columns: a space of padding and one of the box.
_GAP = 2
# Names without a space may be longer than a screen is wide; they are broken beyond this.
_LONGEST_WORD = 16


@dataclass(frozen=True)
class TerminalTable:
    """A table as rich prints it; cells are literal, whatever they hold.

    Attributes:
        table: What it says.
    """

    table: Table

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Prints the table within the width that there is."""
        headings, rows = self.table.headings, self.table.rows
        shown = rich_table.Table(
            box=SIMPLE_HEAD,
            show_edge=False,
            pad_edge=False,
            collapse_padding=True,
        )
        room = options.max_width - _GAP * (len(headings) - 1)
        columns = [
            (heading.title, *(row[index] for row in rows)) for index, heading in enumerate(headings)
        ]
        for heading, width in zip(headings, column_widths(columns, room), strict=True):
            justify: Literal["left", "right"] = "right" if heading.numeric else "left"
            # Rich takes [brackets] in strings for markup, in Text it does not.
            shown.add_column(Text(heading.title), justify=justify, overflow="fold", width=width)
        for row in rows:
            cells = (_ascii(cell) for cell in row) if options.ascii_only else row
            shown.add_row(*map(Text, cells))
        yield shown


def column_widths(columns: Sequence[Sequence[str]], room: int) -> list[int]:
    """Widths of columns that break no word if that can be.

    Args:
        columns: The texts of each, its heading first.
        room: What they may take together, in cells.

    Returns:
        Their natural widths where there is room; else the widest gives way first, each down to its
        longest word. More than `room` where even that does not fit.
    """
    # A heading is no reason for a column to be wider than its cells.
    widths = [max(_longest_word(heading), *map(cell_len, cells), 1) for heading, *cells in columns]
    least = [min(max(map(_longest_word, texts)), _LONGEST_WORD) for texts in columns]
    while sum(widths) > room:
        spare = [index for index, width in enumerate(widths) if width > least[index]]
        if not spare:
            break
        widths[max(spare, key=lambda index: widths[index])] -= 1
    return widths


def _ascii(text: str) -> str:
    """For terminals that know nothing else: bars as digits, other characters as escapes."""
    plain = text.translate({ord(bar): str(height) for height, bar in enumerate(BARS, 1)})
    return plain.encode("ascii", "backslashreplace").decode("ascii")


def _longest_word(text: str) -> int:
    return max(map(cell_len, text.split()), default=0)


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
    # The terminal is narrow: further columns are in the other reports.
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


def summary_grid(facts: Iterable[Fact]) -> rich_table.Table:
    """The few facts of a result, one a line."""
    grid = rich_table.Table.grid(padding=(0, 2))
    for fact in facts:
        grid.add_row(Text(fact.name, style="dim"), Text(fact.value), Text(fact.note, style="dim"))
    return grid


def sweep_table(sweep: Sweep) -> list[RenderableType]:
    """What `sweep` found, for the terminal, which has no room for the commands."""
    timed = batches(sweep)
    headings = (
        Heading("point"),
        Heading("bytes", numeric=True),
        Heading("MACs", numeric=True),
        Heading(LOSS_NAMES[sweep.judged_by], numeric=True),
        *(Heading(f"time at {batch}", numeric=True) for batch in timed),
        Heading("note"),
    )
    rows = tuple(
        (
            point_name(point),
            percent_text(point.bytes_share),
            percent_text(point.macs_share),
            loss_text(point),
            *(ratio_text(point, batch) for batch in timed),
            marks_text(point, sweep),
        )
        for point in sweep.points
    )
    return [
        *section_parts((Section(title="Points", table=Table(headings, rows)),)),
        *section_parts(missed_section(sweep)),
        *(Text(sentence, style="dim") for sentence in sweep_notes(sweep)),
        "",
        summary_grid(sweep_facts(sweep)),
    ]


_SIDES_NOTE = (
    "AUROC [95 % interval]; low, high: where wrong answers lie, chosen on these same inputs."
)


def trace_table(trace: Trace) -> list[RenderableType]:
    """What `trace` found, for the terminal."""
    areas = areas_section(trace.separation)
    note: list[RenderableType] = [Text(_SIDES_NOTE, style="dim"), ""] if areas else []
    return [
        *section_parts(medians_section(trace)),
        *section_parts(areas),
        *note,
        *section_parts(scores_section(trace.separation)),
        *(Text(sentence) for sentence in conclusions(trace)),
        "",
        *section_parts(refusals_section(trace.refusals, REFUSED)),
        summary_grid(trace_facts(trace)),
        *(Text(f"warning: {printable(one)}", style="yellow") for one in trace.warnings),
    ]
