"""How much of a metric is lost at most, and the sizes that were tried for that.

The bound is estimated and certifies nothing, which stands wherever it does.
"""

from onnx_relusv.metric_results import DropEstimate
from onnx_relusv.report.formatting import (
    NOTHING,
    confidence_text,
    number_text,
    percent_text,
    printable,
)
from onnx_relusv.report.page import Heading, Section, Table


def estimate_sections(estimate: DropEstimate | None) -> tuple[Section, ...]:
    """The estimate and the tries, where a largest drop of a metric was asked for."""
    if estimate is None:
        return ()
    return (_estimated(estimate), _tried(estimate))


def _estimated(estimate: DropEstimate) -> Section:
    change = estimate.change
    rows = (
        ("metric", printable(change.name)),
        ("largest drop asked for", number_text(estimate.max_drop)),
        ("confidence, estimated", confidence_text(estimate.confidence)),
        ("samples for fitting", str(estimate.fit_samples)),
        ("samples for choosing", str(estimate.select_samples)),
        ("samples set aside", str(change.samples)),
        ("groups of these", str(estimate.groups)),
        ("before, on these", f"{change.before:.5g}"),
        ("after, on these", f"{change.after:.5g}"),
        ("drop on these", number_text(change.loss)),
        ("standard error, estimated", number_text(estimate.standard_error)),
        ("upper bound, estimated, not exact", number_text(estimate.bound)),
        ("drop on the samples for choosing", number_text(estimate.select_drop)),
    )
    text = (
        "In the metric's own units. Estimated, not exact: on samples like these the result loses "
        f"{number_text(estimate.max_drop)} at most, with a confidence of about "
        f"{confidence_text(estimate.confidence)}, by a jackknife over groups of samples that were "
        "set aside by the seed; nothing was fitted to them or chosen on them. Nothing is "
        "certified: what befalls very few samples may not be seen."
    )
    return Section(
        title="Estimate, not exact",
        text=text,
        table=Table((Heading("what"), Heading("value", "", True)), rows),
    )


def _tried(estimate: DropEstimate) -> Section:
    headings = (
        Heading("size", "Planned share of the original's bytes, an upper bound.", True),
        Heading("drop", "In the metric's units, on the samples for choosing.", True),
        Heading("bound", "Estimated, from the samples set aside; a dash: not looked at.", True),
        Heading("what became of it"),
    )
    kept = [
        trial.bound is not None and trial.bound <= estimate.max_drop for trial in estimate.trials
    ]
    last = max(index for index, passed in enumerate(kept) if passed)
    rows = tuple(
        (
            percent_text(trial.size),
            number_text(trial.select_drop),
            NOTHING if trial.bound is None else number_text(trial.bound),
            "written" if index == last else _fate(trial.bound, passed=kept[index]),
        )
        for index, trial in enumerate(estimate.trials)
    )
    text = "Estimated from the largest file down; the first over the limit ends it."
    return Section(title="Sizes tried", text=text, table=Table(headings, rows))


def _fate(bound: float | None, *, passed: bool) -> str:
    if bound is None:
        return "not looked at"
    return "estimated to keep it" if passed else "not estimated to keep it"
