"""The report of a sweep as an HTML page."""

from onnx_relusv.report.formatting import printable
from onnx_relusv.report.html import render
from onnx_relusv.report.page import Page
from onnx_relusv.report.sections import models_section, provenance_section
from onnx_relusv.report.sweep_pictures import curves_section
from onnx_relusv.report.sweep_sections import (
    commands_section,
    missed_section,
    points_section,
)
from onnx_relusv.report.sweep_summary import sweep_facts
from onnx_relusv.sweeps import Sweep


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
