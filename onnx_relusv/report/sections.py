"""The tables of a report; one with nothing to say is left out.

How much the written file loses at most, and the sizes that were tried to find it.

What a metric says of two models, as JSON-ready data.

How much of a metric is lost at most, and the sizes that were tried for that.

The bound is estimated and certifies nothing, which stands wherever it does.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from onnx_relusv.core.blocks import Refusal
from onnx_relusv.core.measures import Certificate, Trial
from onnx_relusv.core.results import (
    BlockRow,
    DropEstimate,
    Evaluation,
    MetricChange,
    MetricTrial,
    ModelFacts,
    Provenance,
    Verdict,
)
from onnx_relusv.report.blocks import (
    CONVERGED,
    ESTIMATES,
    KEY,
    LAYER,
    MEAN_WIDTH,
    OPERATOR_NORM,
    PARAMETERS,
    RELU_MEAN_WIDTH,
    RELU_WIDTH,
    S_0,
    SPECTRUM,
    STABLE_RANK,
    STATISTICS,
    UNTRAINED,
    Column,
    saving_columns,
)
from onnx_relusv.report.page import Heading, Section, Table
from onnx_relusv.report.words import (
    NOTHING,
    bytes_text,
    confidence_text,
    count_text,
    number_text,
    percent_text,
    points_text,
    printable,
    seconds_text,
    settings_text,
)

Data = dict[str, Any]


def certificate_sections(certificate: Certificate | None) -> tuple[Section, ...]:
    """The certificate and the tries, where a largest drop was asked for."""
    if certificate is None:
        return ()
    return (
        _certified(certificate),
        _sizes_tried(
            certificate.trials,
            certificate.max_drop,
            drop="In points, on the samples for choosing.",
            bound="In points, from the samples for certifying; a dash: not looked at.",
            fates=("certified", "not certified"),
            text="Certified from the largest file down; the first that fails ends it.",
        ),
    )


def what_is_lost(certificate: Certificate) -> str:
    """What the points are points of."""
    return "accuracy" if certificate.labelled else "changed answers"


def _certified(certificate: Certificate) -> Section:
    lost, gained = str(certificate.lost), certificate.gained
    counts = (
        (("answers that changed", lost),)
        if gained is None
        else (
            ("right in the original alone", lost),
            ("right in the result alone", str(gained)),
        )
    )
    rows = (
        ("largest drop asked for", points_text(certificate.max_drop)),
        ("confidence", confidence_text(certificate.confidence)),
        ("samples for fitting", str(certificate.fit_samples)),
        ("samples for choosing", str(certificate.select_samples)),
        ("samples for certifying", str(certificate.certify_samples)),
        *((f"of these, {name}", count) for name, count in counts),
        ("drop on these", points_text(certificate.drop)),
        ("upper bound", points_text(certificate.bound)),
        ("drop on the samples for choosing", points_text(certificate.select_drop)),
    )
    text = (
        f"Points of {what_is_lost(certificate)}. Certified: on samples like these the result loses "
        f"{points_text(certificate.max_drop)} at most, with a confidence of "
        f"{confidence_text(certificate.confidence)}. The samples for certifying were set aside by "
        "the seed; nothing was fitted to them or chosen on them."
    )
    return Section(
        title="Certificate",
        text=text,
        table=Table((Heading("what"), Heading("value", "", True)), rows),
    )


def _sizes_tried(
    trials: Sequence[Trial | MetricTrial],
    limit: float,
    *,
    drop: str,
    bound: str,
    fates: tuple[str, str],
    text: str,
) -> Section:
    """The sizes that a search tried, the last that keeps the limit being the one that was written.

    Args:
        trials: The largest size first.
        limit: What a bound has to keep.
        drop: Explains the losses.
        bound: Explains their bounds.
        fates: What is said where the limit is kept, and where it is not.
        text: Stands above the table.
    """
    kept = [trial.bound is not None and trial.bound <= limit for trial in trials]
    last = max(index for index, passed in enumerate(kept) if passed)

    def fate(index: int) -> str:
        if index == last:
            return "written"
        return "not looked at" if trials[index].bound is None else fates[0 if kept[index] else 1]

    headings = (
        Heading("size", "Planned share of the original's bytes, an upper bound.", True),
        Heading("drop", drop, True),
        Heading("bound", bound, True),
        Heading("what became of it"),
    )
    rows = tuple(
        (
            percent_text(trial.size),
            number_text(trial.select_drop),
            NOTHING if trial.bound is None else number_text(trial.bound),
            fate(index),
        )
        for index, trial in enumerate(trials)
    )
    return Section(title="Sizes tried", text=text, table=Table(headings, rows))


def metric_data(change: MetricChange | None) -> Data | None:
    """A metric of two models as JSON-ready data; None where there is none."""
    if change is None:
        return None
    return {
        "name": change.name,
        "samples": change.samples,
        "part": change.part,
        "before": change.before,
        "after": change.after,
        "loss": change.loss,
    }


def estimate_data(estimate: DropEstimate | None) -> Data | None:
    """An estimate as JSON-ready data; None where there is none."""
    if estimate is None:
        return None
    return {
        "max_drop": estimate.max_drop,
        "confidence": estimate.confidence,
        "fit_samples": estimate.fit_samples,
        "select_samples": estimate.select_samples,
        "certify_samples": estimate.change.samples,
        "groups": estimate.groups,
        "drop": estimate.change.loss,
        "standard_error": estimate.standard_error,
        "bound": estimate.bound,
        "select_drop": estimate.select_drop,
        "trials": [_trial(trial) for trial in estimate.trials],
    }


def _trial(trial: MetricTrial) -> Data:
    return {"size": trial.size, "select_drop": trial.select_drop, "bound": trial.bound}


def estimate_sections(estimate: DropEstimate | None) -> tuple[Section, ...]:
    """The estimate and the tries, where a largest drop of a metric was asked for."""
    if estimate is None:
        return ()
    return (
        _estimated(estimate),
        _sizes_tried(
            estimate.trials,
            estimate.max_drop,
            drop="In the metric's units, on the samples for choosing.",
            bound="Estimated, from the samples set aside; a dash: not looked at.",
            fates=("estimated to keep it", "not estimated to keep it"),
            text="Estimated from the largest file down; the first over the limit ends it.",
        ),
    )


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


def blocks_section(columns: Sequence[Column], rows: Sequence[BlockRow]) -> tuple[Section, ...]:
    """One row for each block."""
    if not rows:
        return (Section(title="Blocks", text="No block was found."),)
    return (Section(title="Blocks", table=_block_table(columns, rows)),)


def measures_section(rows: Sequence[BlockRow]) -> tuple[Section, ...]:
    """ReLU singular values and mean widths of every block."""
    if not rows:
        return ()
    columns = (
        KEY,
        LAYER,
        PARAMETERS,
        STATISTICS,
        S_0,
        STABLE_RANK,
        MEAN_WIDTH,
        RELU_MEAN_WIDTH,
        OPERATOR_NORM,
    )
    text = (
        "Brackets are certified bounds; numbers before a bracket are estimates and prove nothing. "
        "Three digits are shown, seven are in the JSON report."
    )
    return (Section(title="Measures", text=text, table=_block_table(columns, rows)),)


def sparklines_section(rows: Sequence[BlockRow]) -> tuple[Section, ...]:
    """The spectra of all blocks in a line each, for the terminal."""
    if not rows:
        return ()
    columns = (KEY, SPECTRUM, UNTRAINED, ESTIMATES, CONVERGED, RELU_WIDTH, OPERATOR_NORM)
    return (Section(title="Spectra", table=_block_table(columns, rows)),)


def savings_section(rows: Sequence[BlockRow]) -> tuple[Section, ...]:
    """What the cheapest form would save at some levels."""
    columns = saving_columns(rows, with_form=True)
    if not columns:
        return ()
    return (Section(title="Savings by level", table=_block_table((KEY, *columns), rows)),)


def refusals_section(
    refusals: Sequence[Refusal], text: str = "These look like blocks and stay as they are."
) -> tuple[Section, ...]:
    """What was left alone, with reasons; `text` says what that means."""
    if not refusals:
        return ()
    return (
        Section(
            title="Refused",
            text=text,
            table=Table(
                (Heading("block"), Heading("reason")),
                tuple((printable(one.key), printable(one.reason)) for one in refusals),
            ),
        ),
    )


def verdict_section(verdict: Verdict) -> tuple[Section, ...]:
    """The checks that the result passed."""
    checks = Table(
        (Heading("check"), Heading("what was found")),
        tuple((printable(check.name), printable(check.detail)) for check in verdict.checks),
    )
    return (Section(title="Validation", text="All checks passed.", table=checks),)


def latencies_section(evaluation: Evaluation) -> tuple[Section, ...]:
    """Time of a run at every batch size."""
    if not evaluation.latencies:
        return ()
    headings = (
        Heading("batch size"),
        Heading("first", "Median of one run.", True),
        Heading("second", "Median of one run, measured in turns with the first.", True),
        Heading("ratio", "Time of the second over time of the first.", True),
    )
    rows = tuple(
        (
            str(latency.batch),
            seconds_text(latency.before),
            seconds_text(latency.after),
            number_text(latency.after / latency.before) if latency.before else NOTHING,
        )
        for latency in evaluation.latencies
    )
    text = f"On {evaluation.provider}, measured in turns."
    return (Section(title="Latency", text=text, table=Table(headings, rows)),)


def models_section(models: Mapping[str, ModelFacts]) -> Section:
    """The files, by role."""
    headings = (
        Heading("model"),
        Heading("file"),
        Heading("bytes", "Of the file and its external data.", True),
        Heading("parameters", "Floating-point numbers in initializers and Constant nodes.", True),
        Heading("MACs", "Of all Conv, ConvTranspose, Gemm and MatMul nodes for one sample.", True),
        Heading("opset", "Version of the default operator set.", True),
    )
    rows = tuple(
        (
            role,
            printable(str(facts.path)),
            bytes_text(facts.bytes),
            count_text(facts.parameters),
            count_text(facts.macs),
            str(facts.opset),
        )
        for role, facts in models.items()
    )
    return Section(title="Files", table=Table(headings, rows))


def provenance_section(provenance: Provenance, models: Mapping[str, ModelFacts]) -> Section:
    """Who made the result, and from what; `models` are the files by role."""
    rows = [("provider", provenance.provider), ("seed", str(provenance.seed))]
    if provenance.samples is None:
        rows.append(("samples", "none"))
    else:
        groups = provenance.sample_groups
        inside = "" if groups is None else f" in {groups} groups"
        rows.append(("samples", f"{provenance.sample_count}{inside} from {provenance.samples}"))
        rows.append(("SHA-256 of the samples", provenance.samples_sha256 or NOTHING))
    rows.extend((f"SHA-256 of the {role}", facts.sha256) for role, facts in models.items())
    rows.extend(sorted(provenance.versions.items()))
    table = Table(
        (Heading("what"), Heading("value")),
        tuple((printable(name), printable(value)) for name, value in rows),
    )
    return Section(
        title="Provenance",
        table=table,
        file=settings_text(provenance.settings),
        file_name="relusv.toml",
    )


def _block_table(columns: Sequence[Column], rows: Sequence[BlockRow]) -> Table:
    return Table(
        tuple(Heading(column.title, column.explanation, column.numeric) for column in columns),
        tuple(tuple(column.cell(row) for column in columns) for row in rows),
    )
