"""The report of a trace for the terminal, as rich renderables."""

from rich.console import RenderableType
from rich.text import Text

from onnx_relusv.report.formatting import printable
from onnx_relusv.report.sections import refusals_section
from onnx_relusv.report.table import section_parts, summary_grid
from onnx_relusv.report.trace_sections import (
    REFUSED,
    areas_section,
    medians_section,
    scores_section,
)
from onnx_relusv.report.trace_summary import conclusions, trace_facts
from onnx_relusv.traces import Trace

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
