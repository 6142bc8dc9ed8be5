"""What a smaller model costs, in sentences: alarms, the conclusion, and what to try next."""

import math
from collections.abc import Sequence

from onnx_relusv.output_change import OutputChange
from onnx_relusv.report.formatting import number_text, percent_text, printable
from onnx_relusv.results import Assessment, Evaluation, JudgedPart, ModelFacts

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
