"""What a deployment engineer decides by: size, answers, time, each before and after; what next."""

import math
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import replace

from onnx_relusv.core.measures import Latency
from onnx_relusv.core.metric import LossBound
from onnx_relusv.core.plans import Budgets
from onnx_relusv.core.results import (
    Assessment,
    BlockReport,
    Comparison,
    Compression,
    Evaluation,
    JudgedPart,
    ModelFacts,
    TwoModels,
)
from onnx_relusv.report import words
from onnx_relusv.report.losses import (
    PARTS,
    alarms,
    bound_text,
    by_change,
    change_words,
    changes,
    judged_on,
    presumption,
    share_words,
)
from onnx_relusv.report.page import Advice, Headline

# Better than these, there may be room for a smaller file; much better, for one of half the size.
_GOOD_AGREEMENT, _SMALL_CHANGE = 0.99, 0.03
_BEST_AGREEMENT, _LEAST_CHANGE = 0.995, 0.01
# Steps to the next size, and to the next drop that may be allowed.
_HALF, _LESS, _MORE, _TWICE = 0.5, 0.7, 1.5, 2.0
# A file of more than this share of the bytes is hardly worth one.
_NEARLY_ALL = 0.95
# A block with less than this share of its bytes is called smaller.
_SMALLER = 0.9
# Times of runs differ by this much by themselves.
_SAME_TIME = 0.05

_CAVEATS: dict[JudgedPart, str] = {
    "choosing": " (forms and sizes were chosen on them, which favours it slightly)",
    "fitting": " (which says little of others)",
}


def conclusion(
    found: Assessment, before: ModelFacts, after: ModelFacts, budgets: Budgets | None = None
) -> str:
    """What it costs in one sentence, and what to try next in another.

    Args:
        found: What was measured.
        before: The original.
        after: The smaller model.
        budgets: What was asked for.
    """
    last = _next(found, before, after, budgets or Budgets())
    return f"{cost(found, before, after)} {last.text}"


def cost(found: Assessment, before: ModelFacts, after: ModelFacts) -> str:
    """What it costs in one sentence."""
    size = words.percent(after.bytes / before.bytes)
    said = _synthetic_cost(found) if found.part == "synthetic" else _cost(found)
    return f"{said}; the file has {size} of the bytes and {_time(found)}."


def _cost(found: Assessment) -> str:
    evaluation, caveat = found.evaluation, _CAVEATS.get(found.part, "")
    if evaluation.agreement is not None:
        equal = share_words(evaluation.agreement)
        cost = f"Of {judged_on(found)}, {equal} get the same answer{caveat}"
    elif found.change is None:
        constant = "the original's outputs are constant, so what it costs is not known"
        cost = f"On {judged_on(found)} {constant}"
    else:
        cost = f"On {judged_on(found)}, {_outputs(found)}{caveat}"
    return cost + _right(evaluation)


def _outputs(found: Assessment) -> str:
    most, *others = by_change(found)
    by = "beyond any measure"
    if not math.isinf(most.change):
        by = changes(most, "their" if others else "its")
    if not others:
        return f"output {words.printable(most.name)} changes {by}"
    return f"outputs change {by} at most ({words.printable(most.name)})"


def _right(evaluation: Evaluation) -> str:
    if evaluation.metric is not None:
        name, metric = words.printable(evaluation.metric.name), evaluation.metric
        return f", and {name} goes from {metric.before:.5g} to {metric.after:.5g}"
    if evaluation.drop is None:
        return ""
    first, second = map(words.percent, (evaluation.accuracy_before, evaluation.accuracy_after))
    return f", and accuracy goes from {first} to {second}"


def _synthetic_cost(found: Assessment) -> str:
    if found.change is None:
        return (
            "No samples were given, and synthetic inputs tell nothing here, so what it costs is "
            "not known"
        )
    changes = sorted(feed.change for feed in found.feeds if feed.change is not None)
    kinds = str(len(changes))
    if len(changes) < len(found.feeds):
        kinds += f" of {len(found.feeds)}"
    how = "beyond any measure"
    if not math.isinf(changes[-1]):
        ends = dict.fromkeys(map(words.number, (changes[0], changes[-1])))
        how = f"by {' to '.join(ends)} of their size"
    return (
        f"No samples were given: on {kinds} kinds of synthetic inputs the outputs change {how}, "
        "which says little of real ones"
    )


def _time(found: Assessment) -> str:
    ratio = found.latency.after / found.latency.before if found.latency.before else 1.0
    if abs(ratio - 1) <= _SAME_TIME:
        return "takes as long"
    return f"takes {ratio:.2f} {'times as long' if ratio > 1 else 'of the time'}"


def _next(found: Assessment, before: ModelFacts, after: ModelFacts, budgets: Budgets) -> Advice:
    """What to try next."""
    evaluation, agreement, bad = found.evaluation, found.evaluation.agreement, bool(alarms(found))
    option = _next_option(found, before, after, budgets)
    if found.part == "synthetic":
        ask = "Ask for less, such as a larger --size, and give" if bad else "Next, give"
        return Advice(
            f"{ask} --samples: some hundreds of inputs, without labels, are fitted to and tell "
            "what it costs."
        )
    if found.part == "fitting":
        return Advice("Next, give some hundreds of samples.")
    if bad:
        less = f"such as {option}" if option else "such as a larger --size"
        return Advice(
            f"Ask for less, {less}, or give more samples; sweep shows what every size loses."
        )
    if budgets.max_drop is not None:
        return Advice(
            "No smaller file was found that keeps the limit on these samples. If more may be "
            f"lost: {option}."
        )
    if found.latency.after > found.latency.before * (1 + _SAME_TIME):
        return Advice("Next, if time matters: --latency, or a larger --size.")
    if agreement is None and (found.change or 0.0) <= _SMALL_CHANGE:
        return Advice(f"A smaller file may do: try {option}; sweep shows the whole curve.")
    if agreement is not None and agreement >= _GOOD_AGREEMENT:
        return Advice(
            f"A smaller file may do: try {option}, or let --max-drop look for the smallest one "
            "that loses no more than you allow; sweep shows the whole curve."
        )
    if evaluation.drop is None and agreement is not None:
        return Advice("Next, compare it on samples with labels, which tells the accuracy.")
    return Advice("Next, sweep shows what other sizes lose.")


def _next_option(found: Assessment, before: ModelFacts, after: ModelFacts, budgets: Budgets) -> str:
    """The budget that is worth trying next, as an option; empty where none is.

    A smaller one where the file changes little, a larger one where it changes much: a guess from
    what was measured here, not from what other sizes lose.

    Args:
        found: What was measured.
        before: The original.
        after: The smaller model.
        budgets: What was asked for.
    """
    if budgets.max_drop is not None:
        factor = _HALF if alarms(found) else _TWICE
        return f"--max-drop {factor * budgets.max_drop:.3g}"
    share, name = after.bytes / before.bytes, "size"
    if budgets.size is None and budgets.macs is not None and before.macs:
        share, name = after.macs / before.macs, "macs"
    if alarms(found):
        return "" if _MORE * share > _NEARLY_ALL else f"--{name} {_MORE * share:.3g}"
    evaluation, change = found.evaluation, found.change
    if evaluation.agreement is not None:
        good = evaluation.agreement >= _GOOD_AGREEMENT
        best = evaluation.agreement >= _BEST_AGREEMENT
    else:
        good = change is not None and change <= _SMALL_CHANGE
        best = change is not None and change <= _LEAST_CHANGE
    if not good:
        return ""
    return f"--{name} {(_HALF if best else _LESS) * share:.3g}"


def compression_headlines(found: Compression) -> Iterator[Headline]:
    """Size, answers and time, before and after."""
    yield _size(found)
    evaluation = found.evaluation
    if found.metric is not None:
        evaluation = replace(evaluation, metric=found.metric)
    yield from _answers(evaluation, found.assessment, found.bound)
    time, many = _run_time(found.assessment.latency, found.evaluation.provider), found.plan.many
    if many is not None:
        expected = f"{words.percent(many.share)} expected with {many.batch} samples in a run"
        time = replace(time, note=f"{time.note}; {expected}")
    yield time
    yield _macs(found)


def comparison_headlines(found: Comparison) -> Iterator[Headline]:
    """The same of two files that are compared."""
    yield _size(found)
    yield from _answers(found.evaluation, None, None)
    for latency in found.evaluation.latencies:
        yield _run_time(latency, found.evaluation.provider)
    yield _macs(found)


def _size(found: TwoModels) -> Headline:
    share = found.shares.size
    times = f"{1 / share:.1f} times smaller" if share and share < 1 else ""
    return Headline(
        name="size",
        before=words.size(found.before.bytes),
        after=words.size(found.after.bytes),
        change=f"{words.percent(share)} of the bytes",
        note=times,
        left=share,
    )


def _macs(found: TwoModels) -> Headline:
    share = found.shares.macs
    return Headline(
        name="multiply-accumulates (MACs)",
        before=words.count(found.before.macs),
        after=words.count(found.after.macs),
        change=f"{words.percent(share)} of the MACs",
        note="for one sample",
        left=share,
    )


def _run_time(latency: Latency, provider: str) -> Headline:
    share = latency.after / latency.before if latency.before else None
    return Headline(
        name=f"time of a run, batch {latency.batch}",
        before=words.seconds(latency.before),
        after=words.seconds(latency.after),
        change=f"{words.percent(share)} of the time",
        note=f"measured in turns on this machine, {provider}",
        left=share,
    )


def _answers(
    evaluation: Evaluation, judged: Assessment | None, bound: LossBound | None
) -> Iterator[Headline]:
    """Accuracy or a metric, and agreement; where there are no answers, how far outputs are."""
    where = f"on {evaluation.samples:,} samples"
    if judged is not None:
        where = f"on {judged_on(judged)}"
        if judged.part == "synthetic":
            where = f"on {PARTS['synthetic']}, which say little of real ones"
        where += _CAVEATS.get(judged.part, "")
    certified = [] if bound is None else [limit_text(bound)]
    if evaluation.metric is not None:
        metric = evaluation.metric
        loss = f"{words.number(abs(metric.loss))} {'gained' if metric.loss < 0 else 'lost'}"
        yield Headline(
            name=words.printable(metric.name),
            before=f"{metric.before:.5g}",
            after=f"{metric.after:.5g}",
            change=", ".join((loss, *certified)),
            note=f"on {metric.samples:,} samples",
        )
    drop = None if evaluation.metric is not None else evaluation.drop
    if drop is not None:
        loss = f"{words.points(abs(drop))} {'gained' if drop < 0 else 'lost'}"
        yield Headline(
            name="accuracy",
            before=words.percent(evaluation.accuracy_before),
            after=words.percent(evaluation.accuracy_after),
            change=", ".join((loss + drop_interval_text(evaluation), *certified)),
            note=where,
        )
    if evaluation.agreement is not None:
        alone = certified if drop is None and evaluation.metric is None else []
        yield Headline(
            name="agreement with the original",
            after=share_words(evaluation.agreement),
            change=", ".join((f"the same answers{agreement_interval_text(evaluation)}", *alone)),
            note=where if drop is None else "",
        )
    elif judged is not None and judged.change is not None:
        most = by_change(judged)[0]
        yield Headline(
            name="change of the outputs",
            after=change_words(most),
            change=f"of the size of output {words.printable(most.name)}, which changes most",
            note=where,
        )


def limit_text(bound: LossBound) -> str:
    """What may be lost at most, and how sure that is."""
    most, confidence = bound_text(bound, bound.max_drop), words.confidence(bound.confidence)
    surely = "certified" if bound.exact else "estimated"
    return f"at most {most}, {surely} at {confidence}{presumption(bound)}"


def drop_interval_text(evaluation: Evaluation) -> str:
    """The interval of the lost accuracy, behind it; empty where there is none."""
    if evaluation.drop_interval is None:
        return ""
    ends = (evaluation.drop_interval.lower, evaluation.drop_interval.upper)
    lower, upper = (f"{round(one, 2) + 0.0:.2f}" for one in ends)
    return f", 95 % interval {lower} to {upper}"


def agreement_interval_text(evaluation: Evaluation) -> str:
    """The interval of the agreement, behind it; empty where there is none."""
    if evaluation.agreement_interval is None:
        return ""
    interval = evaluation.agreement_interval
    lower, upper = map(share_words, (interval.lower, interval.upper))
    return f", 95 % interval {lower} to {upper}"


def compression_advice(found: Compression) -> Iterator[Advice]:
    """What to try next, with the options for it."""
    yield _next(found.assessment, found.before, found.after, found.plan.budgets)
    yield from _most_sensitive(found.rows)


def most_sensitive_first(rows: Sequence[BlockReport]) -> list[tuple[int, BlockReport]]:
    """Blocks with their places in the network from 1 on; those that were not measured come last."""
    return sorted(
        enumerate(rows, 1), key=lambda one: (one[1].sensitivity is None, -(one[1].sensitivity or 0))
    )


def _most_sensitive(rows: Sequence[BlockReport]) -> Iterator[Advice]:
    measured = [row for _, row in most_sensitive_first(rows) if row.sensitivity is not None]
    if not measured:
        return
    first, *others = (words.printable(row.block.key) for row in measured)
    change = words.number(measured[0].sensitivity)
    text = f"{first} is the most sensitive block: without half of its weights the outputs would "
    text += f"change by {change}"
    if others:
        text += f"; {others[0]} is next, with {words.number(measured[1].sensitivity)}"
    yield Advice(f"{text}.")
    smaller = next((row for row in measured if _is_smaller(row)), None)
    if smaller is not None and smaller.block.key.isprintable():
        text = f"Of the blocks that are smaller now, {smaller.block.key} is the most sensitive. If "
        text += "too much is lost, this leaves it as it is:"
        yield Advice(text, f"--exclude {shlex.quote(smaller.block.key)}")


def _is_smaller(row: BlockReport) -> bool:
    return row.cost_after is not None and row.cost_after.bytes < _SMALLER * row.cost.bytes
