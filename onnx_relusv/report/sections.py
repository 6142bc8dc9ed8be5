"""The tables of a report; one with nothing to say is left out."""

from collections.abc import Mapping, Sequence

from onnx_relusv.records import Refusal
from onnx_relusv.report.columns import (
    KEY,
    LAYER,
    MEAN_WIDTH,
    PARAMETERS,
    RELU_MEAN_WIDTH,
    S_0,
    STABLE_RANK,
    STATISTICS,
    Column,
    saving_columns,
)
from onnx_relusv.report.formatting import (
    NOTHING,
    bytes_text,
    count_text,
    number_text,
    printable,
    seconds_text,
)
from onnx_relusv.report.page import Heading, Section, Table
from onnx_relusv.report.settings_text import settings_text
from onnx_relusv.report.spectrum_columns import (
    CONVERGED,
    ESTIMATES,
    OPERATOR_NORM,
    RELU_WIDTH,
    SPECTRUM,
    UNTRAINED,
)
from onnx_relusv.results import BlockRow, Evaluation, ModelFacts, Provenance, Verdict


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
