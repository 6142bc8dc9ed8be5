"""The report of a sweep for the terminal, as rich renderables."""

from rich.console import RenderableType
from rich.text import Text

from onnx_relusv.report.formatting import percent_text
from onnx_relusv.report.page import Heading, Section, Table
from onnx_relusv.report.sweep_sections import missed_section
from onnx_relusv.report.sweep_summary import sweep_facts, sweep_notes
from onnx_relusv.report.sweep_words import (
    LOSS_NAMES,
    batches,
    loss_text,
    marks_text,
    point_name,
    ratio_text,
)
from onnx_relusv.report.table import section_parts, summary_grid
from onnx_relusv.sweeps import Sweep


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
