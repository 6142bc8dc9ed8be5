"""What a smaller model costs: facts for the top of a report, and its tables."""

import math

from onnx_relusv.outcomes import SampleCounts
from onnx_relusv.report.assessment_words import PARTS, change_words
from onnx_relusv.report.formatting import (
    NOTHING,
    change_text,
    number_text,
    percent_text,
    printable,
    seconds_text,
)
from onnx_relusv.report.output_sections import outputs_sections
from onnx_relusv.report.page import Heading, Section, Table
from onnx_relusv.report.summary import Fact, answer_facts
from onnx_relusv.results import Assessment, Compression

_CAVEAT = "Sizes, forms and factors were chosen on them, which favours the result slightly."


def assessment_facts(compression: Compression) -> tuple[Fact, ...]:
    """What it costs, and on how many samples that was measured."""
    found = compression.assessment
    which, _, what = PARTS[found.part].partition(" ")
    samples = f"{found.evaluation.samples:,} {which}"
    if found.part == "synthetic":
        kinds = len(found.feeds)
        samples, what = f"{kinds} kind{'' if kinds == 1 else 's'} of synthetic inputs", ""
    return (
        *samples_fact(compression.samples),
        Fact("judged on", samples, what),
        *answer_facts(found.evaluation),
        _change(found),
        *(() if compression.latency is not None else (_time(found),)),
    )


def samples_fact(counts: SampleCounts | None) -> tuple[Fact, ...]:
    """How many samples there were, and what for."""
    if counts is None:
        return ()
    given = f"{counts.given:,}"
    if counts.taken < counts.given:
        given = f"{counts.taken:,} of {given}"
    uses = [
        f"{count:,} {words}"
        for count, words in (
            (counts.fit, "fitted to"),
            (counts.select, "chosen on"),
            (counts.certify, "certified on"),
            (counts.test, "of a test file"),
        )
        if count
    ]
    return (Fact("samples", given, ", ".join(uses)),)


def assessment_sections(found: Assessment) -> tuple[Section, ...]:
    """Every output, and without samples every kind of synthetic inputs."""
    outputs = outputs_sections(found.evaluation.outputs)
    text = _where(found)
    if found.withheld:
        reasons = "; ".join(
            f"{printable(name)}: {reason}" for name, reason in found.withheld.items()
        )
        text += f" What the change of an output tells nothing of: {reasons}."
    return (
        Section(title="What it costs", text=text, table=outputs[0].table),
        *outputs[1:],
        *_feeds(found),
    )


def _where(found: Assessment) -> str:
    count = f"{found.evaluation.samples:,}"
    if found.part == "synthetic":
        return (
            "No samples were given. Measured on synthetic inputs, every output on the kind on "
            "which it changes most; that says little of real inputs."
        )
    text = f"The original and the written file side by side on {count} {PARTS[found.part]}."
    return f"{text} {_CAVEAT}" if found.part == "choosing" else text


def _feeds(found: Assessment) -> tuple[Section, ...]:
    if not found.feeds:
        return ()
    headings = (
        Heading("synthetic inputs"),
        Heading("samples", "", True),
        Heading(
            "change",
            "Relative, of the output that changes most; a dash: nothing changes, though blocks "
            "did, so it tells nothing.",
            True,
        ),
    )
    rows = tuple(
        (
            feed.inputs,
            str(feed.samples),
            _feed_change(feed.change),
        )
        for feed in found.feeds
    )
    return (Section(title="Change on synthetic inputs", table=Table(headings, rows)),)


def _feed_change(change: float | None) -> str:
    return "not finite" if change is not None and math.isinf(change) else number_text(change)


def _change(found: Assessment) -> Fact:
    if found.change is None:
        return Fact("largest output change", NOTHING, "these inputs tell nothing of it")
    told = [one for one in found.evaluation.outputs if one.name not in found.withheld]
    most = max(told, key=lambda one: one.change)
    relative = "relative L2, " if most.kind in ("scores", "values") else ""
    return Fact(
        "largest output change", change_words(most), f"{relative}output {printable(most.name)}"
    )


def _time(found: Assessment) -> Fact:
    latency = found.latency
    ratio = latency.after / latency.before if latency.before else None
    return Fact(
        "time of a run",
        change_text(seconds_text(latency.before), seconds_text(latency.after)),
        f"{NOTHING if ratio is None else percent_text(ratio)} of the original; batch "
        f"{latency.batch}, {found.evaluation.provider}",
    )
