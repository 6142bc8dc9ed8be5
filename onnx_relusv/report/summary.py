"""The facts at the top of a report, and the sections that most reports have."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from operator import itemgetter
from typing import Any

from onnx_relusv.core.errors import BudgetError
from onnx_relusv.core.measures import Latency, LatencyOutcome, SampleCounts
from onnx_relusv.core.metric import LossBound, MetricChange
from onnx_relusv.core.plans import Action, Budgets
from onnx_relusv.core.results import (
    BlockReport,
    Comparison,
    Compression,
    Evaluation,
    Inspection,
    ModelFacts,
    Provenance,
)
from onnx_relusv.core.traces import Trace
from onnx_relusv.report.losses import PARTS, bound_text, by_change, change_words
from onnx_relusv.report.page import TEXTS, Column, Fact, Part
from onnx_relusv.report.words import (
    NOTHING,
    bytes_text,
    change_text,
    confidence_text,
    count_text,
    counted,
    number_text,
    percent_text,
    printable,
    ratio_text,
    seconds_text,
    settings_text,
    share_text,
)

_WHICH = {
    "all": "samples",
    "choosing": "samples for choosing, on which factors and ranks were chosen too",
    "certifying": "samples set aside",
    "test": "samples of the test file",
}
_ACTIONS: dict[Action, str] = {
    "double_layer": "double layer",
    "prune": "pruned",
    "refit": "refitted",
}


def inspection_facts(found: Inspection) -> Iterator[Fact]:
    """The summary of an inspection."""
    model, rows, made = found.model, found.rows, found.provenance
    in_blocks = sum(row.cost.bytes for row in rows)
    yield Fact("size", bytes_text(model.bytes), f"{share_text(in_blocks, model.bytes)} in blocks")
    yield Fact("parameters", count_text(model.parameters))
    yield Fact("MACs", count_text(model.macs), "for one sample")
    yield Fact("blocks", str(len(rows)), f"{len(found.refusals)} more refused")
    yield from _measured(rows)
    if made.samples is not None:
        groups = "" if made.sample_groups is None else f"in {made.sample_groups:,} groups, "
        yield Fact("samples", f"{made.sample_count:,}", f"{groups}all measured on")


def compression_facts(found: Compression) -> Iterator[Fact]:
    """The summary of a compression."""
    yield from _sizes(found.before, found.after, "original")
    asked = _asked_for(found.budgets, found.bound)
    if found.damage is None:
        yield Fact("relative error", number_text(found.level), asked)
    else:
        yield Fact("expected change of the outputs", number_text(found.damage), asked)
    if found.damage_measure is not None:
        yield Fact("change measured as", printable(found.damage_measure))
    yield from _correction(found)
    actions = Counter(row.choice.action if row.choice else "keep" for row in found.rows)
    counts = [
        counted(count, words) if action == "double_layer" else f"{count} {words}"
        for action, words in _ACTIONS.items()
        if (count := actions[action])
    ]
    stay = f"{actions['keep']} kept, {len(found.refusals)} refused"
    yield Fact("blocks changed", str(len(found.rows) - actions["keep"]), ", ".join([*counts, stay]))
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


def assessment_facts(compression: Compression) -> Iterator[Fact]:
    """What it costs, and on how many samples that was measured."""
    found, counts = compression.assessment, compression.samples
    if counts is not None:
        yield _samples(counts)
    which, _, what = PARTS[found.part].partition(" ")
    samples = f"{found.evaluation.samples:,} {which}"
    if found.part == "synthetic":
        samples, what = f"{counted(len(found.feeds), 'kind')} of synthetic inputs", ""
    yield Fact("judged on", samples, what)
    yield from _answers(found.evaluation)
    if found.change is None:
        yield Fact("largest output change", NOTHING, "these inputs tell nothing of it")
    else:
        most = by_change(found)[0]
        relative = "relative L2, " if most.kind in ("scores", "values") else ""
        output = f"{relative}output {printable(most.name)}"
        yield Fact("largest output change", change_words(most), output)
    if compression.latency is None:
        yield _run(found.latency, "time of a run", "of the original", found.evaluation.provider)


def latency_facts(found: Compression) -> Iterator[Fact]:
    """A budget on latency in one line."""
    outcome = found.latency
    if outcome is not None:
        estimate = f"{percent_text(outcome.planned)} planned of blocks timed by themselves"
        yield _run(outcome.measured, "latency", f"of the original; {estimate}", _where(outcome))


def _run(latency: Latency, name: str, note: str, where: str) -> Fact:
    change = change_text(seconds_text(latency.before), seconds_text(latency.after))
    share = share_text(latency.after, latency.before)
    return Fact(name, change, f"{share} {note}; batch {latency.batch}, {where}")


def _sizes(before: ModelFacts, after: ModelFacts, whole: str) -> Iterator[Fact]:
    for name, field, text in (
        ("size", "bytes", bytes_text),
        ("parameters", "parameters", count_text),
        ("MACs", "macs", count_text),
    ):
        first, second = getattr(before, field), getattr(after, field)
        change = change_text(text(first), text(second))
        yield Fact(name, change, f"{share_text(second, first)} of the {whole}")


def _correction(found: Compression) -> Iterator[Fact]:
    correction = found.correction
    if correction is None:
        return
    where = "synthetic inputs" if found.provenance.samples is None else "the samples for choosing"
    value, second = number_text(correction.damage), number_text(correction.corrected)
    note = f"a second plan, by blocks measured together, has {second} and was not taken"
    if correction.corrected is None:
        note = "measured together with the others, no block promised a better plan"
    elif correction.taken:
        value, note = second, f"after a second plan, by blocks measured together; {value} before"
    yield Fact(f"change of the outputs on {where}", value, note)


def _asked_for(budgets: Budgets, bound: LossBound | None) -> str:
    asked = [
        f"{name} {percent_text(share)}"
        for name, share in (
            ("size", budgets.size),
            ("MACs", budgets.macs),
            ("latency", budgets.latency),
        )
        if share is not None
    ]
    if budgets.tolerance is not None:
        asked.append(f"relative error {number_text(budgets.tolerance)}")
    if budgets.max_drop is not None and bound is not None:
        of = "" if bound.metric is None else f" of {printable(bound.metric.name)}"
        asked.append(f"drop {bound_text(bound, budgets.max_drop)}{of}")
    return f"asked for: {', '.join(asked)}" if asked else "no budget was given"


def _bound(bound: LossBound | None) -> Iterator[Fact]:
    if bound is None:
        return
    most, confidence = bound_text(bound, bound.max_drop), confidence_text(bound.confidence)
    samples = f"on {bound.certify_samples} samples"
    if bound.metric is not None:
        of = printable(bound.metric.name)
        note = f"estimated at {confidence}, not exact: {number_text(bound.bound)} {samples}"
        yield Fact("drop", f"at most {most} of {of}", note)
    else:
        name, loss = ("accuracy", "lost") if bound.labelled else ("answers", "changed")
        note = f"certified at {confidence}; {number_text(bound.drop)} {samples}"
        yield Fact(name, f"at most {most} {loss}", note)


def _metric(change: MetricChange | None) -> Iterator[Fact]:
    if change is not None:
        # Losses are small beside what they are lost of.
        values = change_text(f"{change.before:.5g}", f"{change.after:.5g}")
        loss = f"{number_text(abs(change.loss))} {'gained' if change.loss < 0 else 'lost'}"
        note = f"{loss} on {change.samples} {_WHICH[change.part]}"
        yield Fact(printable(change.name), values, note)


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
        yield Fact("agreement", percent_text(evaluation.agreement), "equal top-1 answers")
    drop = evaluation.drop
    if drop is not None:
        shares = map(percent_text, (evaluation.accuracy_before, evaluation.accuracy_after))
        loss = f"{abs(drop):.2f} points {'gained' if drop < 0 else 'lost'}"
        yield Fact("accuracy", change_text(*shares), loss)


def _samples(counts: SampleCounts) -> Fact:
    """How many samples there were, and what for."""
    value = f"{counts.taken:,}"
    if counts.taken < counts.given:
        value += f" of {counts.given:,}"
    uses = (
        (counts.fit, "fitted to"),
        (counts.select, "chosen on"),
        (counts.certify, "certified on"),
        (counts.test, "of a test file"),
    )
    return Fact("samples", value, ", ".join(f"{n:,} {words}" for n, words in uses if n))


def _where(outcome: LatencyOutcome) -> str:
    threads = "" if outcome.threads is None else f", {counted(outcome.threads, 'thread')}"
    return f"{outcome.provider}{threads}"


_IN_TURNS = "Median of one run, measured in turns with the first."
_RATIO = "Time of the second over time of the first."
LATENCIES: Part[Comparison] = Part(
    title="Latency",
    of=lambda found: found.evaluation.latencies,
    columns=(
        Column("batch size", value="batch"),
        Column("first", "Median of one run.", True, value="before", text=seconds_text),
        Column("second", _IN_TURNS, True, value="after", text=seconds_text),
        Column("ratio", _RATIO, True, value=lambda one: ratio_text(one.after, one.before)),
    ),
    text=lambda found: f"On {found.evaluation.provider}, measured in turns.",
)


def refused(text: str) -> Part[Inspection | Compression | Trace]:
    """What was left alone, with reasons; `text` says what that means."""
    return Part(
        title="Refused",
        of=lambda found: found.refusals,
        columns=(Column("block", value="key"), Column("reason", value="reason")),
        text=text,
    )


REFUSED = refused("These look like blocks and stay as they are.")
VALIDATION: Part[Compression] = Part(
    title="Validation",
    of=lambda found: found.verdict.checks,
    columns=(Column("check", value="name"), Column("what was found", value="detail")),
    text="All checks passed. A level is a relative error.",
)
Files = Mapping[str, ModelFacts]


def _of(name: str) -> Callable[[tuple[str, ModelFacts]], Any]:
    return lambda named: getattr(named[1], name)


_WHOLE = "Of the file and its external data."
_NODES = "Of all Conv, ConvTranspose, Gemm and MatMul nodes for one sample."
_NUMBERS = "Floating-point numbers in initializers and Constant nodes."
FILES: Part[Files] = Part(
    title="Files",
    of=lambda files: tuple(files.items()),
    columns=(
        Column("model", value=itemgetter(0)),
        Column("file", value=_of("path")),
        Column("bytes", _WHOLE, True, value=_of("bytes"), text=bytes_text),
        Column("parameters", _NUMBERS, True, value=_of("parameters"), text=count_text),
        Column("MACs", _NODES, True, value=_of("macs"), text=count_text),
        Column("opset", "Version of the default operator set.", True, value=_of("opset")),
    ),
)


def provenance(files: Files) -> Part[Provenance]:
    """Who made the result, and from what; `files` are the models by role."""

    def rows(made: Provenance) -> Iterator[tuple[str, str]]:
        yield "provider", made.provider
        yield "seed", str(made.seed)
        groups = "" if made.sample_groups is None else f" in {made.sample_groups} groups"
        if made.samples is None:
            yield "samples", "none"
        else:
            yield "samples", printable(f"{made.sample_count}{groups} from {made.samples}")
            yield "SHA-256 of the samples", made.samples_sha256 or NOTHING
        yield from ((f"SHA-256 of the {role}", facts.sha256) for role, facts in files.items())
        for name, version in sorted(made.versions.items()):
            yield printable(name), printable(version)

    return Part(
        title="Provenance",
        of=lambda made: tuple(rows(made)),
        columns=TEXTS,
        file=lambda made: settings_text(made.settings),
        file_name="relusv.toml",
    )


Covered = Inspection | BudgetError


def _coverage_rows(found: Covered) -> Iterator[tuple[str, ...]]:
    """By operator, what blocks hold and what stays; nothing where that is not known."""
    coverage = found.coverage
    if coverage is None:
        return
    total, rest = coverage.total_bytes, coverage.other_bytes
    for row in coverage.rows:
        why = f"{row.reason}; {row.advice}" if row.advice else row.reason
        if row.count == 1 and row.examples and not row.covered:
            why = f"{row.examples[0]}: {why}"
        share = share_text(row.bytes, total)
        covered = "yes" if row.covered else "no"
        operator, why = printable(row.operator), printable(why)
        yield operator, str(row.count), bytes_text(row.bytes), share, covered, why
    names = "nodes, names, descriptions"
    yield "(the rest)", NOTHING, bytes_text(rest), share_text(rest, total), NOTHING, names
    yield "(all)", NOTHING, bytes_text(total), share_text(total, total), NOTHING, ""


def _covered(found: Covered) -> str:
    if found.coverage is None:
        return ""
    share = share_text(found.coverage.covered_bytes, found.coverage.total_bytes)
    total = bytes_text(found.coverage.total_bytes)
    return f"Blocks that can be made smaller hold {share} of the {total}."


COVERAGE: Part[Covered] = Part(
    title="Where the bytes are",
    of=lambda found: tuple(_coverage_rows(found)),
    text=_covered,
    note=_covered,
    columns=(
        Column("operator", value=itemgetter(0)),
        Column("count", "Operators that read these constants.", True, value=itemgetter(1)),
        Column("bytes", "That their numbers take in the file.", True, value=itemgetter(2)),
        Column("share", "Of the file's.", True, value=itemgetter(3)),
        Column("in blocks", "Whether ranks or channels of them can go.", value=itemgetter(4)),
        Column("why, and what can be done", value=itemgetter(5)),
    ),
)
