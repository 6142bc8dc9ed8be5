"""What a smaller model costs: facts for the top of a report, and its tables.

What a smaller model costs, in sentences: alarms, the conclusion, and what to try next.
"""

import math
from collections.abc import Sequence

from onnx_relusv.core.measures import OutputChange, SampleCounts
from onnx_relusv.core.results import Assessment, Compression, Evaluation, JudgedPart, ModelFacts
from onnx_relusv.report.details import outputs_sections
from onnx_relusv.report.facts import answer_facts
from onnx_relusv.report.page import Fact, Heading, Section, Table
from onnx_relusv.report.words import (
    NOTHING,
    change_text,
    number_text,
    percent_text,
    printable,
    seconds_text,
)

# Below this share of equal answers, or above this change of an output, a result may be of no use.
LEAST_AGREEMENT = 0.95
MOST_CHANGE = 0.3
# Better than these, there may be room for a smaller file.
_GOOD_AGREEMENT, _SMALL_CHANGE = 0.99, 0.03
# Times of runs differ by this much by themselves.
_SAME_TIME = 0.05

# What is judged on, behind a number.
PARTS: dict[JudgedPart, str] = {
    "test": "samples that nothing was fitted to or chosen on",
    "certifying": "samples that nothing was fitted to or chosen on",
    "choosing": "samples that nothing was fitted to",
    "fitting": "samples that it was fitted to",
    "synthetic": "synthetic inputs",
}
_CAVEATS: dict[JudgedPart, str] = {
    "choosing": " (forms and sizes were chosen on them, which favours it slightly)",
    "fitting": " (which says little of others)",
}


def alarms(found: Assessment) -> tuple[str, ...]:
    """Sentences where so much changes that the result may be of no use; none elsewhere."""
    evaluation, said = found.evaluation, []
    where = f"{evaluation.samples:,} {PARTS[found.part]}"
    if evaluation.agreement is not None and evaluation.agreement < LEAST_AGREEMENT:
        said.append(
            f"Only {share_words(evaluation.agreement)} of {where} get the answer that the original "
            "gives. The result may be of no use."
        )
    changed = [one for one in evaluation.outputs if one.change > MOST_CHANGE]
    if changed:
        named = "; ".join(f"{printable(one.name)} {_changes(one)}" for one in changed)
        last = "" if said else " The result may be of no use."
        said.append(f"Outputs change much on {where}: {named}.{last}")
    return tuple(said)


def conclusion(found: Assessment, before: ModelFacts, after: ModelFacts) -> str:
    """What it costs in one sentence, and what to try next in another."""
    size = percent_text(after.bytes / before.bytes)
    return f"{_cost(found)}; the file has {size} of the bytes and {_time(found)}. {_next(found)}"


def share_words(share: float) -> str:
    """A share in per cent, which is 100 only where it is all."""
    digits = 1
    while share < 1 and float(f"{100 * share:.{digits}f}") == 100 and digits < 6:
        digits += 1
    return f"{100 * share:.{digits}f} %"


def change_words(one: OutputChange) -> str:
    """How much an output changes: relative where it holds numbers, else what is not equal."""
    if math.isinf(one.change):
        return "not finite" if one.after.count or one.mismatched else "without bounds"
    if one.kind in ("scores", "values"):
        return number_text(one.change)
    return f"{share_words(one.change)} differ"


def _changes(one: OutputChange, whose: str = "its") -> str:
    if math.isinf(one.change):
        if one.after.nan or one.mismatched:
            return "has entries that are no finite numbers, or others than the original's"
        return "is no longer zero, or of another shape"
    if one.kind in ("scores", "values"):
        return f"by {number_text(one.change)} of {whose} size"
    return f"in {share_words(one.change)} of {whose} entries"


def _cost(found: Assessment) -> str:
    evaluation, part = found.evaluation, found.part
    if part == "synthetic":
        return _synthetic_cost(found)
    where, caveat = f"{evaluation.samples:,} {PARTS[part]}", _CAVEATS.get(part, "")
    if evaluation.agreement is not None:
        said = f"Of {where}, {share_words(evaluation.agreement)} get the same answer{caveat}"
    elif found.change is None:
        said = f"On {where} the original's outputs are constant, so what it costs is not known"
    else:
        said = f"On {where}, {_outputs(evaluation.outputs, found)}{caveat}"
    return said + _right(evaluation)


def _outputs(outputs: Sequence[OutputChange], found: Assessment) -> str:
    told = [one for one in outputs if one.name not in found.withheld]
    most = max(told, key=lambda one: one.change)
    if len(told) == 1:
        return f"output {printable(most.name)} changes {_by(most, 'its')}"
    return f"outputs change {_by(most, 'their')} at most ({printable(most.name)})"


def _by(one: OutputChange, whose: str) -> str:
    return "beyond any measure" if math.isinf(one.change) else _changes(one, whose)


def _right(evaluation: Evaluation) -> str:
    if evaluation.metric is not None:
        metric = evaluation.metric
        return f", and {printable(metric.name)} goes from {metric.before:.5g} to {metric.after:.5g}"
    if evaluation.accuracy_before is None or evaluation.accuracy_after is None:
        return ""
    first, second = map(percent_text, (evaluation.accuracy_before, evaluation.accuracy_after))
    return f", and accuracy goes from {first} to {second}"


def _synthetic_cost(found: Assessment) -> str:
    if found.change is None:
        return (
            "No samples were given, and synthetic inputs tell nothing here, so what it costs is "
            "not known"
        )
    figures = sorted(feed.change for feed in found.feeds if feed.change is not None)
    kinds = str(len(figures))
    if len(figures) < len(found.feeds):
        kinds += f" of {len(found.feeds)}"
    if math.isinf(figures[-1]):
        how = "beyond any measure"
    else:
        least, most = number_text(figures[0]), number_text(figures[-1])
        how = f"by {least if least == most else f'{least} to {most}'} of their size"
    return (
        f"No samples were given: on {kinds} kinds of synthetic inputs the outputs change {how}, "
        "which says little of real ones"
    )


def _time(found: Assessment) -> str:
    ratio = found.latency.after / found.latency.before if found.latency.before else 1.0
    if ratio > 1 + _SAME_TIME:
        return f"takes {ratio:.2f} times as long"
    if ratio >= 1 - _SAME_TIME:
        return "takes as long"
    return f"takes {ratio:.2f} of the time"


def _next(found: Assessment) -> str:
    """What to try next."""
    evaluation, part = found.evaluation, found.part
    bad = bool(alarms(found))
    if part == "synthetic":
        ask = "Ask for less, such as a larger --size, and give" if bad else "Next, give"
        return (
            f"{ask} --samples: some hundreds of inputs, without labels, are fitted to and tell "
            "what it costs."
        )
    if part == "fitting":
        return "Next, give some hundreds of samples."
    if bad:
        return (
            "Ask for less, such as a larger --size, or give more samples; sweep shows what every "
            "size loses."
        )
    if found.latency.after > found.latency.before * (1 + _SAME_TIME):
        return "Next, if time matters: --latency, or --method harmonic with --round-to 16."
    agreement = evaluation.agreement
    good = (
        (found.change or 0.0) <= _SMALL_CHANGE
        if agreement is None
        else (agreement >= _GOOD_AGREEMENT)
    )
    if good:
        return (
            "A smaller file may do: --max-drop looks for the smallest one that loses no more than "
            "you allow, and sweep shows the whole curve."
            if agreement is not None
            else "A smaller file may do: sweep shows the whole curve."
        )
    if evaluation.drop is None and agreement is not None:
        return "Next, compare it on samples with labels, which tells the accuracy."
    return "Next, sweep shows what other sizes lose."


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
        *(() if compression.latency is not None else (_time_fact(found),)),
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


def _time_fact(found: Assessment) -> Fact:
    latency = found.latency
    ratio = latency.after / latency.before if latency.before else None
    return Fact(
        "time of a run",
        change_text(seconds_text(latency.before), seconds_text(latency.after)),
        f"{NOTHING if ratio is None else percent_text(ratio)} of the original; batch "
        f"{latency.batch}, {found.evaluation.provider}",
    )
