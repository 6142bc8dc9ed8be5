"""The report of a trace as an HTML page."""

from onnx_relusv.report.formatting import printable
from onnx_relusv.report.html import render
from onnx_relusv.report.page import Page
from onnx_relusv.report.sections import models_section, provenance_section, refusals_section
from onnx_relusv.report.trace_pictures import areas_picture_section, distributions_section
from onnx_relusv.report.trace_sections import (
    REFUSED,
    areas_section,
    conclusions_section,
    medians_section,
    scores_section,
)
from onnx_relusv.report.trace_summary import trace_facts
from onnx_relusv.traces import Trace


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
