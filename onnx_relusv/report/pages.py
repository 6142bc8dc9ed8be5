"""The reports as they are declared: facts at the top, and sections in page and terminal."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from onnx_relusv.core.measures import Latency
from onnx_relusv.core.metric import LossBound, MetricChange
from onnx_relusv.core.plans import Action, Plan
from onnx_relusv.core.results import (
    BlockReport,
    Comparison,
    Compression,
    Evaluation,
    Inspection,
    ModelFacts,
)
from onnx_relusv.core.sweeps import Sweep
from onnx_relusv.core.traces import Trace
from onnx_relusv.report import decision, losses, network, sections, sweep, trace, words
from onnx_relusv.report.losses import (
    NUMBERS,
    PARTS,
    bound_text,
    by_change,
    change_words,
    presumption,
)
from onnx_relusv.report.page import Advice, Fact, Headline, Page, Part
from onnx_relusv.work.effort import SPENDING

WHICH = {
    "all": "samples",
    "choosing": "samples for choosing, on which factors and ranks were chosen too",
    "certifying": "samples set aside",
    "test": "samples of the test file",
}
_ACTIONS: dict[Action, Callable[[int], str]] = {
    "double_layer": lambda count: words.counted(count, "double layer"),
    "prune": lambda count: f"{count} pruned",
    "refit": lambda count: f"{count} refitted",
}
_SIZES = (
    ("size", "bytes", words.size),
    ("parameters", "parameters", words.count),
    ("MACs", "macs", words.count),
)


def inspection_facts(found: Inspection) -> Iterator[Fact]:
    """The summary of an inspection."""
    model, rows, made = found.model, found.rows, found.provenance
    in_blocks = words.share(sum(row.cost.bytes for row in rows), model.bytes)
    notes = {"size": f"{in_blocks} in blocks", "MACs": "for one sample"}
    for name, field, text in _SIZES:
        yield Fact(name, text(getattr(model, field)), notes.get(name, ""))
    yield Fact("blocks", str(len(rows)), f"{len(found.refusals)} more refused")
    yield from _measured(rows)
    if made.samples is not None:
        groups = "" if made.sample_groups is None else f"in {made.sample_groups:,} groups, "
        yield Fact("samples", f"{made.sample_count:,}", f"{groups}all measured on")


def compression_facts(found: Compression) -> Iterator[Fact]:
    """The summary of a compression."""
    yield from _sizes(found.before, found.after, "original")
    budgets = _budgets(found)
    if found.plan.damage is None:
        yield Fact("relative error", words.number(found.plan.level), budgets)
    else:
        yield Fact("expected change of the outputs", words.number(found.plan.damage), budgets)
    if found.plan.damage_measure is not None:
        yield Fact("change measured as", words.printable(found.plan.damage_measure))
    yield from _effort(found.plan)
    yield from _correction(found)
    actions = Counter(row.choice.action if row.choice else "keep" for row in found.rows)
    counts = [text(actions[action]) for action, text in _ACTIONS.items() if actions[action]]
    counts.append(f"{actions['keep']} kept, {len(found.refusals)} refused")
    yield Fact("blocks changed", str(len(found.rows) - actions["keep"]), ", ".join(counts))
    yield from _bound(found.bound)
    yield from _metric(found.metric)
    yield Fact("checks passed", str(len(found.verdict.checks)))
    yield from _measured(found.rows)


def comparison_facts(found: Comparison) -> Iterator[Fact]:
    """The summary of a comparison."""
    yield from _sizes(found.before, found.after, "first")
    yield from _answers(found.evaluation)
    yield from _metric(found.evaluation.metric)
    yield Fact("samples", str(found.evaluation.samples), f"on {found.evaluation.provider}")


def groups_facts(found: Compression) -> Iterator[Fact]:
    """How many units went."""
    if found.groups:
        removed = [len(sections.removed_units(row)) for row in found.groups]
        units = sum(row.choice.units for row in found.groups)
        groups = f"in {sum(map(bool, removed))} of {len(removed)} groups"
        yield Fact("units removed", f"{sum(removed)} of {units}", groups)


def assessment_facts(compression: Compression) -> Iterator[Fact]:
    """What it costs, and on how many samples that was measured."""
    found, counts = compression.assessment, compression.samples
    if counts is not None:
        uses = (
            (counts.fit, "fitted to"),
            (counts.select, "chosen on"),
            (counts.certify, "certified on"),
            (counts.test, "of a test file"),
        )
        of = f" of {counts.given:,}" if counts.taken < counts.given else ""
        note = ", ".join(f"{number:,} {use}" for number, use in uses if number)
        yield Fact("samples", f"{counts.taken:,}{of}", note)
    which, _, what = PARTS[found.part].partition(" ")
    samples = f"{found.evaluation.samples:,} {which}"
    if found.part == "synthetic":
        samples, what = f"{words.counted(len(found.feeds), 'kind')} of synthetic inputs", ""
    yield Fact("judged on", samples, what)
    yield from _answers(found.evaluation)
    yield from _many(compression)
    if found.change is None:
        yield Fact("largest output change", words.NOTHING, "these inputs tell nothing of it")
    else:
        most = by_change(found)[0]
        relative = "relative L2, " if most.kind in NUMBERS else ""
        output = f"{relative}output {words.printable(most.name)}"
        yield Fact("largest output change", change_words(most), output)
    if compression.latency is None:
        expected, note = compression.plan.latency, "of the original"
        if expected is not None:
            what = _whose_times(compression, "of blocks")
            note += f"; {words.percent(expected)} expected {what}, batch {compression.batch}"
        yield _run(found.latency, "time of a run", note, found.evaluation.provider)


def latency_facts(found: Compression) -> Iterator[Fact]:
    """A budget on latency in one line."""
    outcome = found.latency
    if outcome is not None:
        what = _whose_times(found, "of what was timed before")
        planned = f"{words.percent(outcome.planned)} expected {what}"
        threads = "" if outcome.threads is None else f", {words.counted(outcome.threads, 'thread')}"
        yield _run(
            outcome.measured,
            "latency",
            f"of the original; {planned}",
            f"{outcome.provider}{threads}",
        )


def _many(found: Compression) -> Iterator[Fact]:
    """That the plan was checked with many samples in a run, where it was."""
    many = found.plan.many
    if many is not None:
        found_out = "it is no slower"
        if many.share > 1:
            found_out = "no plan was found that loses little more and is no slower"
        yield Fact(
            f"time of a run with {many.batch} samples",
            f"{words.percent(many.share)} of the original",
            f"checked when the plan was chosen, by a model of the kernels: {found_out}",
        )


def _whose_times(found: Compression, otherwise: str) -> str:
    """What an expected time comes from; times of another machine are named."""
    source = found.plan.timed_on
    if source is None or not source.from_file:
        return otherwise
    return f"by times of {words.printable(source.machine)}"


def _run(latency: Latency, name: str, note: str, where: str) -> Fact:
    share = words.share(latency.after, latency.before)
    change = words.change(latency.before, latency.after, words.seconds)
    return Fact(name, change, f"{share} {note}; batch {latency.batch}, {where}")


def _sizes(before: ModelFacts, after: ModelFacts, whole: str) -> Iterator[Fact]:
    for name, field, text in _SIZES:
        first, second = getattr(before, field), getattr(after, field)
        share = words.share(second, first)
        yield Fact(name, words.change(first, second, text), f"{share} of the {whole}")


def _effort(plan: Plan) -> Iterator[Fact]:
    left_out = SPENDING[plan.effort].left_out
    if left_out:
        yield Fact("effort", plan.effort, f"left out: {left_out}")


def _correction(found: Compression) -> Iterator[Fact]:
    correction = found.correction
    if correction is None:
        return
    where = "synthetic inputs" if found.provenance.samples is None else "the samples for choosing"
    value, second = words.number(correction.damage), words.number(correction.corrected)
    note = f"a second plan, by blocks measured together, has {second} and was not taken"
    if correction.corrected is None:
        note = "measured together with the others, no block promised a better plan"
    elif correction.taken:
        value, note = second, f"after a second plan, by blocks measured together; {value} before"
    yield Fact(f"change of the outputs on {where}", value, note)


def _budgets(found: Compression) -> str:
    budgets, bound = found.plan.budgets, found.bound
    shares = budgets.shares.items()
    limits = [f"{budget.title} {words.percent(share)}" for budget, share in shares]
    if budgets.tolerance is not None:
        limits.append(f"relative error {words.number(budgets.tolerance)}")
    if budgets.max_drop is not None and bound is not None:
        of = "" if bound.metric is None else f" of {words.printable(bound.metric.name)}"
        limits.append(f"drop {bound_text(bound, budgets.max_drop)}{of}")
    return f"asked for: {', '.join(limits)}" if limits else "no budget was given"


def _bound(bound: LossBound | None) -> Iterator[Fact]:
    if bound is None:
        return
    most, confidence = bound_text(bound, bound.max_drop), words.confidence(bound.confidence)
    samples = f"on {bound.certify_samples} samples"
    if bound.metric is not None:
        of = words.printable(bound.metric.name)
        note = f"estimated at {confidence}, not exact: {words.number(bound.bound)} {samples}"
        yield Fact("drop", f"at most {most} of {of}", note)
    else:
        name, loss = ("accuracy", "lost") if bound.of_accuracy else ("answers", "changed")
        note = (
            f"certified at {confidence}{presumption(bound)}; {words.number(bound.drop)} {samples}"
        )
        yield Fact(name, f"at most {most} {loss}", note)


def _metric(change: MetricChange | None) -> Iterator[Fact]:
    if change is not None:
        # Losses are small beside what they are lost of.
        values = words.change(change.before, change.after, "{:.5g}".format)
        loss = f"{words.number(abs(change.loss))} {'gained' if change.loss < 0 else 'lost'}"
        note = f"{loss} on {change.samples} {WHICH[change.part]}"
        yield Fact(words.printable(change.name), values, note)


def _measured(rows: tuple[BlockReport, ...]) -> Iterator[Fact]:
    if any(row.statistics in ("batch_normalization", "synthetic") for row in rows):
        yield Fact("measured", "assumed statistics", "no samples were given")
    elif any(row.spectrum.in_data_metric for row in rows):
        yield Fact("measured", "on the samples", "with the covariance of every block's input")
    elif rows:
        yield Fact("measured", "weights alone", "no samples were given: inputs of length 1")


def _answers(evaluation: Evaluation) -> Iterator[Fact]:
    """Which answers are equal, and how many are right."""
    if evaluation.agreement is not None:
        yield Fact("agreement", words.percent(evaluation.agreement), "equal top-1 answers")
    drop = evaluation.drop
    if drop is not None:
        loss = f"{abs(drop):.2f} points {'gained' if drop < 0 else 'lost'}"
        values = (evaluation.accuracy_before, evaluation.accuracy_after)
        yield Fact("accuracy", words.change(*values, words.percent), loss)


Report = Inspection | Compression | Comparison | Trace | Sweep
T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Layout(Generic[T]):
    """What is shown of a record, and where.

    Attributes:
        files: The models that it is about, by role.
        headlines: What people decide by; none where the summary is as short.
        advice: What to do next.
        facts: Make the summary.
        page: The sections of the page.
        details: Those that it shows on request; files and provenance follow all of them.
        terminal: Those of the terminal, above the summary.
        below: Those of the terminal below it.
        verbose: Further ones of the terminal, where all is asked for.
    """

    files: Callable[[T], sections.Files]
    headlines: Callable[[T], Iterable[Headline]] = lambda _: ()
    advice: Callable[[T], Iterable[Advice]] = lambda _: ()
    facts: Sequence[Callable[[T], Iterable[Fact]]]
    page: Sequence[Part[T]]
    details: Sequence[Part[T]] = ()
    terminal: Sequence[Part[T]]
    below: Sequence[Part[T]] = ()
    verbose: Sequence[Part[T]] = ()


LAYOUTS: dict[type, Layout[Any]] = {
    Inspection: Layout[Inspection](
        files=lambda found: {"model": found.model},
        facts=(inspection_facts,),
        page=(
            network.REDUCIBLE,
            sections.BLOCKS,
            sections.SAVINGS,
            sections.COVERAGE,
            sections.REFUSED,
        ),
        details=(sections.MEASURES, sections.SPECTRA, sections.LADDER),
        terminal=(sections.SHORT_MEASURES, sections.SHORT_SPECTRA, sections.REFUSED),
        below=(sections.COVERAGE,),
    ),
    Compression: Layout[Compression](
        files=lambda found: {"original": found.before, "result": found.after},
        headlines=decision.compression_headlines,
        verbose=(sections.VALIDATION,),
        advice=decision.compression_advice,
        facts=(
            compression_facts,
            groups_facts,
            latency_facts,
            assessment_facts,
        ),
        page=(network.NETWORK, losses.SIZES, network.RANKED),
        details=(
            losses.COSTS,
            losses.OUTPUT_NOTES,
            losses.FEEDS,
            losses.BOUND,
            losses.TRIALS,
            sections.DECISIONS,
            sections.GROUPS,
            network.INTEGERS,
            network.STORED,
            sections.SAVINGS,
            sections.MEASURES,
            sections.SPECTRA,
            sections.REFUSED,
            sections.CHANNELS_THAT_STAY,
            sections.VALIDATION,
        ),
        terminal=(
            sections.SHORT_DECISIONS,
            sections.SHORT_GROUPS,
            sections.REFUSED,
            sections.CHANNELS_THAT_STAY,
            losses.BOUND,
            losses.TRIALS,
            losses.COSTS,
            losses.OUTPUT_NOTES,
            losses.FEEDS,
        ),
    ),
    Comparison: Layout[Comparison](
        files=lambda found: {"first model": found.before, "second model": found.after},
        headlines=decision.comparison_headlines,
        facts=(comparison_facts,),
        page=(losses.OUTPUTS, losses.OUTPUT_NOTES, sections.LATENCIES),
        terminal=(losses.OUTPUTS, losses.OUTPUT_NOTES, sections.LATENCIES),
    ),
    Sweep: Layout[Sweep](
        files=lambda found: {"original": found.model},
        advice=sweep.sweep_advice,
        facts=(sweep.sweep_facts,),
        page=(sweep.CURVES, sweep.POINTS, sweep.PAGE_NOTES, sweep.COMMANDS, sweep.MISSED),
        details=(sweep.FULL_POINTS,),
        # There is no room for the commands.
        terminal=(sweep.SHORT_POINTS, sweep.MISSED, sweep.NOTES),
    ),
    Trace: Layout[Trace](
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


def page_of(report: Report, *, terminal: bool = False) -> Page:
    """A report as a page, or as much of it as a terminal shows above the summary."""
    layout, made = LAYOUTS[type(report)], report.provenance
    files = layout.files(report)
    paths = [words.printable(str(facts.path)) for facts in files.values()]
    found = report.assessment if isinstance(report, Compression) else None
    parts = layout.terminal if terminal else layout.page
    shown = [section for part in parts for section in part.sections(report)]
    # Most of them are drawn, which takes a moment, and a terminal shows none.
    details = [
        section
        for part in (() if terminal else layout.details)
        for section in part.sections(report)
    ]
    details += sections.FILES.sections(files) + sections.provenance(files).sections(made)
    return Page(
        title=type(report).__name__,
        subject=words.change(paths[0], paths[-1]),
        headlines=tuple(layout.headlines(report)),
        facts=tuple(fact for facts in layout.facts for fact in facts(report)),
        alarms=tuple(map(words.printable, found.alarms)) if found else (),
        warnings=tuple(
            words.printable(one) for one in report.warnings if not found or one not in found.alarms
        ),
        conclusion=words.printable(found.conclusion) if found else "",
        advice=tuple(layout.advice(report)),
        sections=tuple(shown),
        details=tuple(details),
        details_title="Measures and validation" if layout.details else "Files and provenance",
        command=words.printable(made.command),
    )
