"""What came of a budget on latency, and the column that says what blocks take by themselves."""

from onnx_relusv.outcomes import LatencyOutcome
from onnx_relusv.report.columns import Column
from onnx_relusv.report.formatting import (
    NOTHING,
    change_text,
    number_text,
    percent_text,
    seconds_text,
)
from onnx_relusv.report.page import Heading, Section, Table
from onnx_relusv.report.summary import Fact
from onnx_relusv.results import BlockRow


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
