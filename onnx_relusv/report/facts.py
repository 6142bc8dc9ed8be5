"""The few facts that stand at the top of a report, in the page and in the terminal.

The pictures of a page; a section with nothing to show is left out.

What came of a budget on latency, and the column that says what blocks take by themselves.
"""

from collections import Counter
from collections.abc import Sequence

from onnx_relusv.core.measures import Certificate, Correction, LatencyOutcome
from onnx_relusv.core.plans import Action, Budgets
from onnx_relusv.core.results import (
    BlockRow,
    Comparison,
    Compression,
    DropEstimate,
    Evaluation,
    Inspection,
    MetricChange,
    ModelFacts,
    Provenance,
)
from onnx_relusv.report.blocks import Column
from onnx_relusv.report.page import MOST_OPEN, Fact, Heading, Picture, Section, Table
from onnx_relusv.report.plots import bytes_svg, spectrum_svg
from onnx_relusv.report.words import (
    NOTHING,
    bytes_text,
    change_text,
    confidence_text,
    count_text,
    number_text,
    percent_text,
    points_text,
    printable,
    seconds_text,
    share_text,
)


def bytes_section(rows: Sequence[BlockRow]) -> tuple[Section, ...]:
    """The bars of bytes by block."""
    if not rows:
        return ()
    return (
        Section(
            title="Bytes by block",
            pictures=(Picture(bytes_svg(rows, name="bytes"), wide=True),),
            legend=(("before", "before"), ("after", "after")),
        ),
    )


def spectra_section(rows: Sequence[BlockRow], level: float | None) -> tuple[Section, ...]:
    """The spectra of all blocks; `level` is the plan's, None without one."""
    if not rows:
        return ()
    legend = [
        ("sigma", "sigma_(k+1) / sigma_1"),
        ("band", "certified bracket of s_k / sigma_1"),
        ("untrained", "an untrained layer of the shape, equal Frobenius norm"),
        ("estimate", "estimates of s_k / sigma_1, neither bound"),
    ]
    if level is not None:
        legend += [("level", "level of the plan"), ("chosen", "rank of the double layer")]
    return (
        Section(
            title="Spectra",
            text="What is left of a block's linear map when its rank is cut to k.",
            pictures=tuple(
                Picture(
                    spectrum_svg(row, level, name=f"spectrum-{number}"), printable(row.block.key)
                )
                for number, row in enumerate(rows)
            ),
            legend=tuple(legend),
            folded=len(rows) > MOST_OPEN,
        ),
    )


_WHICH = {
    "all": "samples",
    "choosing": "samples for choosing, on which factors and ranks were chosen too",
    "certifying": "samples set aside",
    "test": "samples of the test file",
}
_ACTIONS: dict[Action, str] = {
    "double_layer": "double layers",
    "prune": "pruned",
    "refit": "refitted",
}


def inspection_facts(inspection: Inspection) -> tuple[Fact, ...]:
    """The summary of an inspection."""
    model, rows = inspection.model, inspection.rows
    refused = len(inspection.refusals)
    in_blocks = sum(row.cost.bytes for row in rows)
    return (
        Fact("size", bytes_text(model.bytes), f"{share_text(in_blocks, model.bytes)} in blocks"),
        Fact("parameters", count_text(model.parameters)),
        Fact("MACs", count_text(model.macs), "for one sample"),
        Fact("blocks", str(len(rows)), f"{refused} more refused"),
        *_metric(rows),
        *_samples(inspection.provenance),
    )


def _samples(provenance: Provenance) -> tuple[Fact, ...]:
    """How many samples were measured on."""
    if provenance.samples is None:
        return ()
    groups = provenance.sample_groups
    note = "all measured on" if groups is None else f"in {groups:,} groups, all measured on"
    return (Fact("samples", f"{provenance.sample_count:,}", note),)


def compression_facts(compression: Compression) -> tuple[Fact, ...]:
    """The summary of a compression."""
    changed = sum(_is_changed(row) for row in compression.rows)
    return (
        *_changes(compression.before, compression.after, "original"),
        _allocation(compression),
        *_damage_measure(compression.damage_measure),
        *_correction(compression.correction, compression.provenance.samples),
        Fact("blocks changed", str(changed), _what_became(compression)),
        *_certificate(compression.certificate),
        *_metric_change(compression.metric),
        *_estimate(compression.estimate),
        Fact("checks passed", str(len(compression.verdict.checks))),
        *_metric(compression.rows),
    )


def _allocation(compression: Compression) -> Fact:
    estimate = compression.estimate
    asked = _asked_for(compression.budgets, None if estimate is None else estimate.change.name)
    if compression.damage is None:
        return Fact("level", number_text(compression.level), asked)
    return Fact("expected damage", number_text(compression.damage), asked)


def comparison_facts(comparison: Comparison) -> tuple[Fact, ...]:
    """The summary of a comparison."""
    evaluation = comparison.evaluation
    return (
        *_changes(comparison.before, comparison.after, "first"),
        *answer_facts(evaluation),
        *_metric_change(evaluation.metric),
        Fact("samples", str(evaluation.samples), f"on {evaluation.provider}"),
    )


def _changes(before: ModelFacts, after: ModelFacts, whole: str) -> tuple[Fact, ...]:
    return (
        Fact(
            "size",
            change_text(bytes_text(before.bytes), bytes_text(after.bytes)),
            f"{share_text(after.bytes, before.bytes)} of the {whole}",
        ),
        Fact(
            "parameters",
            change_text(count_text(before.parameters), count_text(after.parameters)),
            f"{share_text(after.parameters, before.parameters)} of the {whole}",
        ),
        Fact(
            "MACs",
            change_text(count_text(before.macs), count_text(after.macs)),
            f"{share_text(after.macs, before.macs)} of the {whole}",
        ),
    )


def _correction(correction: Correction | None, samples: str | None) -> tuple[Fact, ...]:
    if correction is None:
        return ()
    where = "synthetic inputs" if samples is None else "samples for choosing"
    name, found = f"damage on {where}", number_text(correction.damage)
    if correction.corrected is None:
        return (Fact(name, found, "measured anew in company, no other plan promised less"),)
    second = number_text(correction.corrected)
    if correction.taken:
        return (Fact(name, second, f"after the corrective round; {found} before"),)
    return (Fact(name, found, f"the corrective round's plan, with {second}, was not taken"),)


def _damage_measure(words: str | None) -> tuple[Fact, ...]:
    return () if words is None else (Fact("damage measured as", printable(words)),)


def _asked_for(budgets: Budgets, metric: str | None) -> str:
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
        asked.append(f"level {number_text(budgets.tolerance)}")
    if budgets.max_drop is not None and metric is not None:
        asked.append(f"drop {number_text(budgets.max_drop)} of {printable(metric)}")
    elif budgets.max_drop is not None:
        asked.append(f"drop {points_text(budgets.max_drop)}")
    return f"asked for: {', '.join(asked)}" if asked else "no budget was given"


def _what_became(compression: Compression) -> str:
    actions = Counter(row.choice.action if row.choice else "keep" for row in compression.rows)
    counts = [
        f"{count} {words if count > 1 else words.removesuffix('s')}"
        for action, words in _ACTIONS.items()
        if (count := actions[action])
    ]
    return ", ".join([*counts, f"{actions['keep']} kept, {len(compression.refusals)} refused"])


def _is_changed(row: BlockRow) -> bool:
    return row.choice is not None and row.choice.action != "keep"


def _certificate(certificate: Certificate | None) -> tuple[Fact, ...]:
    if certificate is None:
        return ()
    name = "accuracy" if certificate.labelled else "answers"
    loss = "lost" if certificate.labelled else "changed"
    return (
        Fact(
            name,
            f"at most {points_text(certificate.max_drop)} {loss}",
            f"certified at {confidence_text(certificate.confidence)}; "
            f"{number_text(certificate.drop)} on {certificate.certify_samples} samples",
        ),
    )


def _metric_change(change: MetricChange | None) -> tuple[Fact, ...]:
    if change is None:
        return ()
    return (
        Fact(
            printable(change.name),
            # Losses are small beside what they are lost of.
            change_text(f"{change.before:.5g}", f"{change.after:.5g}"),
            f"{_loss(change)} on {change.samples} {_WHICH[change.part]}",
        ),
    )


def _estimate(estimate: DropEstimate | None) -> tuple[Fact, ...]:
    if estimate is None:
        return ()
    name = printable(estimate.change.name)
    return (
        Fact(
            "drop",
            f"at most {number_text(estimate.max_drop)} of {name}",
            f"estimated at {confidence_text(estimate.confidence)}, not exact: "
            f"{number_text(estimate.bound)} on {estimate.change.samples} samples",
        ),
    )


def _loss(change: MetricChange) -> str:
    word = "gained" if change.loss < 0 else "lost"
    return f"{number_text(abs(change.loss))} {word}"


def _metric(rows: tuple[BlockRow, ...]) -> tuple[Fact, ...]:
    if not rows:
        return ()
    if any(row.statistics in ("batch_normalization", "synthetic") for row in rows):
        return (Fact("measured", "assumed statistics", "no samples were given"),)
    if any(row.spectrum.in_data_metric for row in rows):
        return (Fact("measured", "data's metric", "covariance of every block's input"),)
    return (Fact("measured", "unit ball", "no samples were given"),)


def answer_facts(evaluation: Evaluation) -> tuple[Fact, ...]:
    """Which answers are equal, and how many are right."""
    facts = []
    if evaluation.agreement is not None:
        facts.append(Fact("agreement", percent_text(evaluation.agreement), "equal top-1 answers"))
    if evaluation.drop is not None:
        facts.append(
            Fact(
                "accuracy",
                change_text(
                    percent_text(evaluation.accuracy_before),
                    percent_text(evaluation.accuracy_after),
                ),
                _points(evaluation.drop),
            )
        )
    return tuple(facts)


def _points(drop: float) -> str:
    if drop < 0:
        return f"{-drop:.2f} points gained"
    return f"{drop:.2f} points lost"


def latency_facts(outcome: LatencyOutcome | None) -> tuple[Fact, ...]:
    """A budget on latency in one line."""
    if outcome is None:
        return ()
    measured = outcome.measured
    return (
        Fact(
            "latency",
            change_text(seconds_text(measured.before), seconds_text(measured.after)),
            f"{percent_text(outcome.share)} of the original; {percent_text(outcome.planned)} "
            f"planned; batch {measured.batch}, {_where(outcome)}",
        ),
    )


def latency_section(outcome: LatencyOutcome | None) -> tuple[Section, ...]:
    """The same as a table."""
    if outcome is None:
        return ()
    measured = outcome.measured
    rows = (
        ("asked for", percent_text(outcome.asked)),
        ("estimated by the plan", percent_text(outcome.planned)),
        ("measured", percent_text(outcome.share)),
        ("original", seconds_text(measured.before)),
        ("result", seconds_text(measured.after)),
        ("batch size", str(measured.batch)),
    )
    text = (
        f"Medians of one run, measured in turns on {_where(outcome)}. The estimate is made of "
        "blocks that were timed by themselves."
    )
    table = Table((Heading("what"), Heading("value", "", True)), rows)
    return (Section(title="Latency", text=text, table=table),)


def _where(outcome: LatencyOutcome) -> str:
    if outcome.threads is None:
        return outcome.provider
    return (
        f"{outcome.provider}, {outcome.threads} {'thread' if outcome.threads == 1 else 'threads'}"
    )


def _change(row: BlockRow) -> str:
    before, after = row.latency_before, row.latency_after
    if before is None or after is None:
        return NOTHING
    ratio = number_text(after / before) if before else NOTHING
    return f"{change_text(seconds_text(before), seconds_text(after))} ({ratio})"


def latency_column(batch: int) -> Column:
    """What the blocks take by themselves."""
    return Column(
        title="time",
        explanation=(
            f"Of one run of the block by itself at batch {batch}, before and after, and their "
            "ratio; measured. Only blocks that changed were timed."
        ),
        cell=_change,
    )
