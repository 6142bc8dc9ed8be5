"""The reports as they are declared: which facts and sections each has, in page and terminal."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from onnx_relusv.core.results import Comparison, Compression, Inspection
from onnx_relusv.core.sweeps import Sweep
from onnx_relusv.core.traces import Trace
from onnx_relusv.report import losses, sections, summary, sweep, trace
from onnx_relusv.report.data import Report
from onnx_relusv.report.page import Fact, Page, Part
from onnx_relusv.report.words import change_text, printable

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Layout(Generic[T]):
    """What is shown of a record, and where.

    Attributes:
        title: What kind of report it is.
        files: The models that it is about, by role.
        facts: Make the summary.
        page: The sections of the page; files and provenance follow all of them.
        terminal: Those of the terminal, above the summary.
        below: Those of the terminal below it.
    """

    title: str
    files: Callable[[T], summary.Files]
    facts: Sequence[Callable[[T], Iterable[Fact]]]
    page: Sequence[Part[T]]
    terminal: Sequence[Part[T]]
    below: Sequence[Part[T]] = ()


LAYOUTS: dict[type, Layout[Any]] = {
    Inspection: Layout[Inspection](
        title="Inspection",
        files=lambda found: {"model": found.model},
        facts=(summary.inspection_facts,),
        page=(
            sections.BLOCKS,
            sections.SAVINGS,
            sections.MEASURES,
            sections.SPECTRA,
            sections.LADDER,
            summary.REFUSED,
            summary.COVERAGE,
        ),
        terminal=(sections.SHORT_MEASURES, sections.SHORT_SPECTRA, summary.REFUSED),
        below=(summary.COVERAGE,),
    ),
    Compression: Layout[Compression](
        title="Compression",
        files=lambda found: {"original": found.before, "result": found.after},
        facts=(
            summary.compression_facts,
            sections.groups_facts,
            summary.latency_facts,
            summary.assessment_facts,
        ),
        page=(
            losses.COSTS,
            losses.OUTPUT_NOTES,
            losses.FEEDS,
            sections.DECISIONS,
            sections.GROUPS,
            losses.BOUND,
            losses.TRIALS,
            sections.BYTES,
            sections.SAVINGS,
            sections.MEASURES,
            sections.SPECTRA,
            summary.REFUSED,
            sections.CHANNELS_THAT_STAY,
            summary.VALIDATION,
        ),
        terminal=(
            sections.SHORT_DECISIONS,
            sections.SHORT_GROUPS,
            summary.REFUSED,
            sections.CHANNELS_THAT_STAY,
            losses.BOUND,
            losses.TRIALS,
            losses.COSTS,
            losses.OUTPUT_NOTES,
            losses.FEEDS,
        ),
    ),
    Comparison: Layout[Comparison](
        title="Comparison",
        files=lambda found: {"first model": found.before, "second model": found.after},
        facts=(summary.comparison_facts,),
        page=(losses.OUTPUTS, losses.OUTPUT_NOTES, summary.LATENCIES),
        terminal=(losses.OUTPUTS, losses.OUTPUT_NOTES, summary.LATENCIES),
    ),
    Sweep: Layout[Sweep](
        title="Sweep",
        files=lambda found: {"original": found.model},
        facts=(sweep.sweep_facts,),
        page=(sweep.CURVES, sweep.POINTS, sweep.COMMANDS, sweep.MISSED),
        # There is no room for the commands.
        terminal=(sweep.SHORT_POINTS, sweep.MISSED, sweep.NOTES),
    ),
    Trace: Layout[Trace](
        title="Trace",
        files=lambda found: {"model": found.model},
        facts=(trace.trace_facts,),
        page=(
            trace.CONCLUSIONS,
            trace.SCORES,
            trace.AREAS_DRAWN,
            trace.AREAS,
            trace.MEDIANS,
            trace.DISTRIBUTIONS,
            trace.REFUSED,
        ),
        terminal=(trace.MEDIANS, trace.AREAS, trace.SCORES, trace.CONCLUSIONS, trace.REFUSED),
    ),
}


def facts_of(report: Report) -> tuple[Fact, ...]:
    """The summary of a report."""
    return tuple(fact for facts in LAYOUTS[type(report)].facts for fact in facts(report))


def alarms_of(report: Report) -> tuple[str, ...]:
    """Sentences for the user that must not be missed; they are among the warnings, too."""
    return report.assessment.alarms if isinstance(report, Compression) else ()


def warnings_of(report: Report) -> tuple[str, ...]:
    """Sentences for the user."""
    return () if isinstance(report, Comparison | Sweep) else report.warnings


def conclusion_of(report: Report) -> str:
    """What it all comes to; empty where nothing is concluded."""
    return printable(report.assessment.conclusion) if isinstance(report, Compression) else ""


def page_of(report: Report) -> Page:
    """A report as a page."""
    layout, made, alarms = LAYOUTS[type(report)], report.provenance, alarms_of(report)
    files = layout.files(report)
    paths = [printable(str(facts.path)) for facts in files.values()]
    shown = (section for part in layout.page for section in part.sections(report))
    return Page(
        title=layout.title,
        subject=change_text(paths[0], paths[-1]),
        facts=facts_of(report),
        alarms=tuple(map(printable, alarms)),
        warnings=tuple(printable(one) for one in warnings_of(report) if one not in alarms),
        conclusion=conclusion_of(report),
        sections=(
            *shown,
            *summary.FILES.sections(files),
            *summary.provenance(files).sections(made),
        ),
        command=printable(made.command),
    )
