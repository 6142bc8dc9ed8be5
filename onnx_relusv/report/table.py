"""Reports for the terminal, as rich renderables."""

from collections.abc import Iterable

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from onnx_relusv.report.columns import (
    BYTES_CHANGE,
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
    saving_columns,
)
from onnx_relusv.report.formatting import printable
from onnx_relusv.report.page import Section
from onnx_relusv.report.sections import (
    blocks_section,
    latencies_section,
    outputs_section,
    refusals_section,
)
from onnx_relusv.report.summary import (
    Fact,
    comparison_facts,
    compression_facts,
    inspection_facts,
)
from onnx_relusv.report.terminal import TerminalTable
from onnx_relusv.results import Comparison, Compression, Inspection

_MEASURES_NOTE = (
    "s_0: an estimate found by ascent, neither bound, and [certified bounds]. At a level: rank of "
    "the cheapest form, and the share of the block's bytes that it saves."
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
    note: list[RenderableType] = [Text(_MEASURES_NOTE, style="dim"), ""] if rows else []
    return [
        *_sections(blocks_section(columns, rows)),
        *note,
        *_sections(refusals_section(inspection.refusals)),
        _summary(inspection_facts(inspection)),
    ]


def compression_table(compression: Compression) -> list[RenderableType]:
    """What `compress` and `apply` did, for the terminal."""
    columns = (KEY, DECISION, REACHED_LEVEL, BYTES_CHANGE, WHY)
    return [
        *_sections(blocks_section(columns, compression.rows)),
        *_sections(refusals_section(compression.refusals)),
        _summary(compression_facts(compression)),
        *(Text(f"warning: {printable(one)}", style="yellow") for one in compression.warnings),
    ]


def comparison_table(comparison: Comparison) -> list[RenderableType]:
    """What `compare` found, for the terminal."""
    evaluation = comparison.evaluation
    return [
        *_sections((outputs_section(evaluation), *latencies_section(evaluation))),
        _summary(comparison_facts(comparison)),
    ]


def _sections(sections: Iterable[Section]) -> list[RenderableType]:
    parts: list[RenderableType] = []
    for section in sections:
        if section.table is None:
            parts.append(Text(section.text))
        else:
            parts.append(Text(section.title, style="bold"))
            parts.append(TerminalTable(section.table))
        parts.append("")
    return parts


def _summary(facts: Iterable[Fact]) -> Table:
    grid = Table.grid(padding=(0, 2))
    for fact in facts:
        grid.add_row(Text(fact.name, style="dim"), Text(fact.value), Text(fact.note, style="dim"))
    return grid
