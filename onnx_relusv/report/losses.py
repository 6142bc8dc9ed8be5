"""What a smaller model costs: alarms, its outputs side by side, and what it loses at most.

Exact bounds, which are certified, and estimates of a metric's loss have words of their own.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

from onnx_relusv.core.measures import OutputChange
from onnx_relusv.core.metric import LossBound, Trial
from onnx_relusv.core.results import (
    Assessment,
    Comparison,
    Compression,
    JudgedPart,
)
from onnx_relusv.report import words
from onnx_relusv.report.curves import Curve, CurveAxes, CurvePoint, curves_svg
from onnx_relusv.report.page import Column, Number, Part, Picture

# Below this share of equal answers, or above this change of an output, a result may be of no use.
LEAST_AGREEMENT = 0.95
MOST_CHANGE = 0.3

# Kinds of outputs whose change is relative to their size.
NUMBERS = ("scores", "values")
# What a result was evaluated on, behind a number.
PARTS: dict[JudgedPart, str] = {
    "test": "samples that nothing was fitted to or chosen on",
    "certifying": "samples that nothing was fitted to or chosen on",
    "choosing": "samples that nothing was fitted to",
    "fitting": "samples that it was fitted to",
    "synthetic": "synthetic inputs",
}


def judged_on(found: Assessment) -> str:
    """How many samples it was judged on, and which."""
    return f"{found.evaluation.samples:,} {PARTS[found.part]}"


def alarms(found: Assessment) -> tuple[str, ...]:
    """Sentences where so much changes that the result may be of no use; none elsewhere."""
    evaluation, said = found.evaluation, []
    if evaluation.agreement is not None and evaluation.agreement < LEAST_AGREEMENT:
        said.append(
            f"Only {share_words(evaluation.agreement)} of {judged_on(found)} get the answer that "
            "the original gives. The result may be of no use."
        )
    changed = [one for one in evaluation.outputs if one.change > MOST_CHANGE]
    if changed:
        named = "; ".join(f"{words.printable(one.name)} {changes(one)}" for one in changed)
        last = "" if said else " The result may be of no use."
        said.append(f"Outputs change much on {judged_on(found)}: {named}.{last}")
    return tuple(said)


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
    return words.number(one.change) if one.kind in NUMBERS else f"{share_words(one.change)} differ"


def by_change(found: Assessment) -> list[OutputChange]:
    """The outputs whose change tells something, that with the largest change first."""
    outputs = [one for one in found.evaluation.outputs if one.name not in found.withheld]
    return sorted(outputs, key=lambda one: -one.change)


def changes(one: OutputChange, whose: str = "its") -> str:
    """How much an output changes, in a sentence."""
    if math.isinf(one.change):
        if one.after.nan or one.mismatched:
            return "has entries that are no finite numbers, or others than the original's"
        return "is no longer zero, or of another shape"
    if one.kind in NUMBERS:
        return f"by {words.number(one.change)} of {whose} size"
    return f"in {share_words(one.change)} of {whose} entries"


Judged = Compression | Comparison
T = TypeVar("T")
_KINDS = {"values": "numbers", "nothing": words.NOTHING}


def _figure(value: float) -> str:
    return "NaN" if math.isnan(value) else words.number(value)


_EQUALITY = (
    Column("compared as", "", "kind", lambda kind: _KINDS.get(kind, kind)),
    Number(
        "equal",
        "Of scores the share of samples with the same top-1; of labels and text the share of equal "
        "entries; of lists the share of rows that both models give, of lists of numbers the "
        "shorter length over the longer.",
        "agreement",
        words.percent,
    ),
)
_DIFFERENCES = (
    Number("relative", "L2 of the difference over L2 of the first model's output.", text=_figure),
    Number("mean", "Mean absolute difference.", text=_figure),
    Number("largest", "Largest absolute difference on these samples.", text=_figure),
)


def _output_columns(judged: Judged) -> tuple[Column, ...]:
    """Of numbers alone there is nothing to say about what is equal."""
    outputs = judged.evaluation.outputs
    equality = _EQUALITY if any(one.kind not in NUMBERS for one in outputs) else ()
    return (Column("output", "", "name"), *equality, *_DIFFERENCES)


def _judged_on_text(compression: Compression) -> str:
    found = compression.assessment
    text = f"The original and the written file side by side on {judged_on(found)}."
    if found.part == "synthetic":
        text = (
            "No samples were given. Measured on synthetic inputs, every output on the kind on "
            "which it changes most; that says little of real inputs."
        )
    if found.part == "choosing":
        text += " Sizes, forms and factors were chosen on them, which favours the result slightly."
    if found.withheld:
        reasons = (f"{words.printable(name)}: {reason}" for name, reason in found.withheld.items())
        text += f" Outputs whose change says nothing here: {'; '.join(reasons)}."
    return text


OUTPUTS: Part[Comparison] = Part(
    title="Difference of the outputs",
    of=lambda found: found.evaluation.outputs,
    columns=_output_columns,
)
COSTS: Part[Compression] = Part(
    title="What it costs",
    of=lambda found: found.evaluation.outputs,
    columns=_output_columns,
    text=_judged_on_text,
)


def output_notes(outputs: Sequence[OutputChange]) -> Iterator[str]:
    """Sentences about outputs that are not finite, of other lengths, or not compared at all."""
    for one in outputs:
        name = words.printable(one.name)
        for which, found in (("first", one.before), ("second", one.after)):
            counts = ((found.nan, "NaN"), (found.infinite, "infinite"))
            said = [f"{n} {'is' if n == 1 else 'are'} {what}" for n, what in counts if n]
            if said:
                yield f"{name}: of {one.entries} entries of the {which} model {' and '.join(said)}."
        if one.mismatched:
            yield (
                f"{name}: {one.mismatched} entries are not finite in one model, and other in the "
                "other one; figures are of entries that are finite in both."
            )
        elif one.before.count:
            yield f"{name}: both models have these alike; figures are of all other entries."
        if one.other_shape:
            alone = "is compared with zero, or counts as different"
            if one.kind == "list":
                alone = "counts as different, and numbers are of the other runs"
            yield (
                f"{name}: in {one.other_shape} of {one.runs} runs it has another shape or length "
                f"in the second model; what one of them has alone {alone}."
            )
        if one.kind == "nothing":
            yield f"{name}: it held nothing in either model, so nothing was compared."


OUTPUT_NOTES: Part[Judged] = Part(
    title="About these outputs",
    of=lambda judged: output_notes(judged.evaluation.outputs),
    text=lambda judged: " ".join(output_notes(judged.evaluation.outputs)),
)
FEEDS: Part[Compression] = Part(
    title="Change on synthetic inputs",
    of=lambda found: found.assessment.feeds,
    columns=(
        Column("synthetic inputs", "", "inputs"),
        Number("samples"),
        Number(
            "change",
            "Relative, of the output that changes most; a dash: nothing changes, though blocks "
            "did, so it tells nothing.",
            text=lambda change: "not finite" if math.isinf(change) else words.number(change),
        ),
    ),
)


def bound_text(bound: LossBound, loss: float) -> str:
    """A loss in its unit: in points where answers are counted, otherwise in the metric's."""
    return words.points(loss) if bound.exact else words.number(loss)


def presumption(bound: LossBound) -> str:
    """What a bound presumes, behind it; empty where it presumes nothing."""
    return ", if the original's probabilities are right" if bound.presumed else ""


def _bound_rows(bound: LossBound) -> Iterator[tuple[str, object]]:
    estimated = "" if bound.exact else ", estimated"
    if bound.metric is not None:
        yield "metric", bound.metric.name
    yield "largest drop asked for", bound_text(bound, bound.max_drop)
    yield f"confidence{estimated}", words.confidence(bound.confidence)
    yield "samples for fitting", bound.fit_samples
    yield "samples for choosing", bound.select_samples
    yield f"samples {'for certifying' if bound.exact else 'set aside'}", bound.certify_samples
    if bound.metric is not None:
        yield "groups of these", bound.groups
        yield "before, on these", f"{bound.metric.before:.5g}"
        yield "after, on these", f"{bound.metric.after:.5g}"
    elif bound.labelled:
        yield "of these, right in the original alone", bound.lost
        yield "of these, right in the result alone", bound.gained
    else:
        yield "of these, answers that changed", bound.lost
    if bound.presumed:
        yield "presumed", "the original's probabilities, where answers change"
    seen = "expected drop on these" if bound.presumed else "drop on these"
    yield seen, bound_text(bound, bound.drop)
    if not bound.exact:
        yield "standard error, estimated", bound.standard_error
    yield (
        f"upper bound{estimated}{', not exact' * (not bound.exact)}",
        bound_text(bound, bound.bound),
    )
    yield "drop on the samples for choosing", bound_text(bound, bound.select_drop)


def _bound_text(bound: LossBound) -> str:
    most, confidence = bound_text(bound, bound.max_drop), words.confidence(bound.confidence)
    if bound.presumed:
        return (
            "Points of accuracy, by the original's probabilities of the classes. On samples like "
            f"these the result loses {most} at most, with a confidence of {confidence}, if these "
            "probabilities are right on average where answers change, or too far apart, as those "
            "of an overconfident model are. That is presumed: there are no labels to check it. The "
            "rest is certified: the samples for certifying were set aside by the seed; nothing was "
            "fitted to them or chosen on them."
        )
    if bound.exact:
        return (
            f"Points of {'accuracy' if bound.of_accuracy else 'changed answers'}. Certified: on "
            f"samples like these the result loses {most} at most, with a confidence of "
            f"{confidence}. The samples for certifying were set aside by the seed; nothing was "
            "fitted to them or chosen on them."
        )
    return (
        f"In the metric's own units. Estimated, not exact: on samples like these the result loses "
        f"{most} at most, with a confidence of about {confidence}, by a jackknife over groups of "
        "samples that were set aside by the seed; nothing was fitted to them or chosen on them. "
        "Nothing is certified: what befalls very few samples may not be seen."
    )


def _of_bound(value: Callable[[LossBound], T], otherwise: T) -> Callable[[Compression], T]:
    """What is to be said of a compression's bound; `otherwise` where it has none."""
    return lambda found: otherwise if found.bound is None else value(found.bound)


BOUND: Part[Compression] = Part(
    title=_of_bound(lambda bound: "Certificate" if bound.exact else "Estimate, not exact", ""),
    of=_of_bound(lambda bound: tuple(_bound_rows(bound)), ()),
    columns=(Column("what", "", 0), Number("value", "", 1)),
    text=_of_bound(_bound_text, ""),
)


def _fates(bound: LossBound) -> tuple[tuple[Trial, str], ...]:
    """The sizes that the search tried, and their fates; the last that is kept is written."""
    kept = [one.bound is not None and one.bound <= bound.max_drop for one in bound.trials]
    last = max(index for index, passed in enumerate(kept) if passed)
    within, over = "within the limit, estimated", "over the limit, estimated"
    if bound.exact:
        within, over = "certified", "not certified"

    def fate(index: int, trial: Trial) -> str:
        if index == last:
            return "written"
        if trial.bound is None:
            return "not looked at"
        return within if kept[index] else over

    return tuple((trial, fate(index, trial)) for index, trial in enumerate(bound.trials))


def _trial_columns(bound: LossBound) -> tuple[Column, ...]:
    drop, upper = "In points", "In points, from the samples for certifying"
    if not bound.exact:
        drop, upper = "In the metric's units", "Estimated, from the samples set aside"
    planned = "Planned share of the original's bytes, an upper bound."
    return (
        Number("size", planned, lambda tried: tried[0].size, words.percent),
        Number("drop", f"{drop}, on the samples for choosing.", lambda tried: tried[0].select_drop),
        Number("bound", f"{upper}; a dash: not looked at.", lambda tried: tried[0].bound),
        Column("what became of it", "", 1),
    )


TRIALS: Part[Compression] = Part(
    title="Sizes tried",
    of=_of_bound(_fates, ()),
    columns=_of_bound(_trial_columns, ()),
    text=_of_bound(
        lambda bound: (
            "Certified from the largest file down; the first that fails ends it."
            if bound.exact
            else "Estimated from the largest file down; the first over the limit ends it."
        ),
        "",
    ),
)


def _sizes(bound: LossBound) -> tuple[Picture, ...]:
    """The sizes that were tried over what they lose, with what was allowed as a line."""
    unit = "points" if bound.exact else "of the metric"
    tried = [
        CurvePoint(
            trial.size,
            trial.select_drop,
            trial.select_drop,
            trial.select_drop if trial.bound is None else max(trial.bound, trial.select_drop),
            ringed=fate == "written",
        )
        for trial, fate in _fates(bound)
        if trial.size > 0
    ]
    axes = CurveAxes(
        across="bytes, of the original's",
        upward=f"drop, {unit}",
        linear=bound.max_drop,
        limit=bound.max_drop,
    )
    curve = Curve(role="sigma", marker="o", points=tried, joined=False)
    label = "Drop over the bytes of the sizes that were tried"
    return (Picture(curves_svg([curve], axes, name="sizes", label=label), wide=True),)


SIZES: Part[Compression] = Part(
    title="Size against what is lost",
    of=_of_bound(lambda bound: bound.trials, ()),
    text=_of_bound(
        lambda bound: (
            "Every size that was tried. A dot is the drop on the samples for choosing; the bar "
            f"above it reaches to the {'certified' if bound.exact else 'estimated'} bound, where "
            "that was looked at. The dashed line is what may be lost."
        ),
        "",
    ),
    pictures=_of_bound(_sizes, ()),
    legend=(
        ("sigma", "size that was tried"),
        ("chosen", "ring: written"),
        ("level", "limit, --max-drop"),
    ),
)
