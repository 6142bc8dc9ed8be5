"""Terminals of several widths: no number is broken, and the summary is a paragraph."""

import io
import re

import pytest
from pruned_records import pruned
from rich.console import Console, RenderableType
from swept import swept
from traced import trace_of

from onnx_relusv.core.results import Comparison, Compression, Inspection
from onnx_relusv.report import words
from onnx_relusv.report.page import Column, Table
from onnx_relusv.report.terminal import (
    Paragraph,
    TerminalTable,
    column_widths,
    plan_summary,
    report_parts,
    warning_parts,
)

NUMBER = re.compile(r"\d+(?:\.\d+)?(?:e[-+]\d+)? ?(?:%|[kMGT]?B\b|[kMGT]\b|ms\b)?")


def shown(parts: list[RenderableType], width: int) -> str:
    console = Console(file=io.StringIO(), width=width, color_system=None)
    for part in parts:
        console.print(part, markup=False, highlight=False)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def numbers(text: str) -> set[str]:
    """The numbers of a text with their units."""
    return {found.strip() for found in NUMBER.findall(text)}


@pytest.fixture(params=["inspection", "compression", "comparison", "sweep", "trace"])
def parts(
    request: pytest.FixtureRequest,
    inspection: Inspection,
    certified: Compression,
    comparison: Comparison,
) -> list[RenderableType]:
    reports = {
        "inspection": inspection,
        "compression": pruned(certified),
        "comparison": comparison,
        "sweep": swept(),
        "trace": trace_of(("conv1", "fc1")),
    }
    return report_parts(reports[request.param])


@pytest.mark.parametrize("width", [60, 80, 120])
def test_no_line_is_too_long_and_no_number_is_broken(
    parts: list[RenderableType], width: int
) -> None:
    text, wide = shown(parts, width), shown(parts, 1000)
    assert max(map(len, text.splitlines())) <= width
    # A number that were broken would leave pieces that no wide terminal has.
    assert numbers(text) <= numbers(wide)


def test_a_broken_number_would_be_noticed() -> None:
    assert not numbers("12\n34") <= numbers("1234")
    assert not numbers("12\nkB") <= numbers("12 kB")


def test_lines_keep_numbers_with_their_units() -> None:
    text = "it has 1.23 MB of 12 %, [0.5, 0.75] of 3 k"
    for width in range(12, 50):
        lines = words.lines(text, width)
        assert " ".join(lines) == text
        assert not {"MB", "%,", "k", "0.75]"} & {line.split()[0] for line in lines}


def test_a_number_is_never_narrowed_as_names_are() -> None:
    number, name = "12345678901234567890.5", "x" * 30
    assert column_widths([("n", number), ("key", name)], 10) == [22, 16]
    table = Table((Column("key"), Column("n", numeric=True)), ((name, number),))
    lines = [line.rstrip() for line in shown([TerminalTable(table)], 30).splitlines()]
    assert f"  n: {number}" in lines


def test_the_short_summary_is_a_paragraph(certified: Compression) -> None:
    (text,) = [
        part.text
        for part in report_parts(pruned(certified), short=True)
        if isinstance(part, Paragraph) and "multiply-accumulates" in part.text
    ]
    assert text == (
        "net.onnx has 50.0 % of the bytes of net.onnx, 60.6 kB of 121 kB, and 50.0 % of its "
        "multiply-accumulates. Of 3 blocks 1 lost channels, 1 became a double layer and 1 got "
        "other values, and 9 of 104 units are gone. A run takes 0.8 ms instead of 1.2 ms, at batch "
        "1 on CPUExecutionProvider. The accuracy lost is 0.5 points, 95 % interval 0.00 to 1.25. "
        "It is certified at 99 %: at most 1 point lost on such samples. All 2 checks passed."
    )


def test_summaries_of_what_was_found(inspection: Inspection, comparison: Comparison) -> None:
    text = " ".join(shown(report_parts(inspection, short=True), 1000).split())
    assert (
        "net.onnx has 121 kB, 30 k parameters and 3.7 M multiply-accumulates for one sample. 3 "
        "blocks hold 88.2 % of the bytes; 2 more were refused. All was measured on 512 samples in "
        "64 groups. At a relative error of 0.05, double layers alone would save 18 kB or more: "
        "compress --tolerance 0.05."
    ) in text
    text = " ".join(shown(report_parts(comparison, short=True), 1000).split())
    assert (
        "On 1,000 samples the agreement of answers is 99.1 %, 95 % interval 98.3 % to 99.6 %; "
        "accuracy goes from 90.0 % to 89.5 %, 0.50 points lost, 95 % interval 0.00 to 1.25. A run "
        "takes 0.8 ms instead of 1.2 ms at batch 1 and 11 ms instead of 20 ms at batch 32, on "
        "CPUExecutionProvider."
    ) in text


def test_warnings_alone(compression: Compression) -> None:
    lines = shown(warning_parts(compression), 200).splitlines()
    assert lines == [
        "WARNING: Outputs change <b>much</b>.",
        "warning: the samples are few: 512 for 288 columns of <conv1_relu>.",
    ]
    assert warning_parts(compression.plan) == []


def test_a_plan_says_what_it_is_expected_to_cost(compression: Compression) -> None:
    text = plan_summary(compression.plan).text
    assert text == "0 of 0 blocks change at a relative error of 0.1: 50.0% of the bytes, " + (
        "50.0% of the MACs."
    )
