"""The columns of the tables of blocks: each is declared once, for page, terminal and JSON."""

import io
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from pages import Outline
from pruned_records import pruned
from rich.console import Console

from onnx_relusv.core.blocks import FunctionBounds
from onnx_relusv.core.results import BlockReport, Compression, Inspection
from onnx_relusv.report import blocks
from onnx_relusv.report.blocks import BlockColumn, BlockTable, block_columns, saving_columns
from onnx_relusv.report.files import report_data, report_html
from onnx_relusv.report.terminal import report_parts


def cells(rows: Sequence[BlockReport], table: BlockTable) -> list[dict[str, str]]:
    """What a table says of each block, by column."""
    columns = block_columns(rows, table)
    return [{column.title: column.cell(row) for column in columns} for row in rows]


def test_a_new_column_is_declared_once(
    inspection: Inspection, monkeypatch: pytest.MonkeyPatch
) -> None:
    column = BlockColumn(
        "reuse",
        "How often a parameter is used for one sample; computed.",
        value=lambda row: row.cost.macs / row.parameters,
        tables=BlockTable.FOUND | BlockTable.TERMINAL_MEASURES,
        json="reuse",
    )
    monkeypatch.setattr(blocks, "COLUMNS", (*blocks.COLUMNS, column))
    reuse = [3612672 / 18496, 8000 / 8040, 2880 / 208]
    assert [block["reuse"] for block in report_data(inspection)["blocks"]] == reuse
    outline = Outline(report_html(inspection))
    assert column.title in outline.text("dt")
    assert column.explanation in outline.text("dd")
    assert set(outline.text("td")) >= {"195", "0.995", "13.8"}
    console = Console(file=io.StringIO(), width=200, color_system=None)
    for part in report_parts(inspection):
        console.print(part)
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert "reuse" in text
    (line,) = [one for one in text.splitlines() if one.startswith("conv1_relu") and "3.61" in one]
    assert "195" in line.split()


def test_what_a_block_is(inspection: Inspection) -> None:
    assert cells(inspection.rows, BlockTable.FOUND)[0] == {
        "block": "conv1_relu",
        "layer": "conv 64x288 (3x3), relu",
        "parameters": "18.5 k",
        "bytes": "74 kB",
        "MACs": "3.61 M",
    }


def test_an_activation_behind_a_linear_block_stands_in_brackets(inspection: Inspection) -> None:
    behind = FunctionBounds(
        name="silu", output="y", radius=1.0, holds=0.0, lower=np.zeros(1), upper=np.ones(1)
    )
    rows = [replace(row, behind=behind) for row in inspection.rows]
    assert cells(rows, BlockTable.FOUND)[0]["layer"] == "conv 64x288 (3x3), relu (silu)"
    measured = cells(rows, BlockTable.MEASURES)[0]
    assert measured["with the activation behind it"] == "silu, R 1: [0, 1]"
    # Without any, nothing is said.
    assert "with the activation behind it" not in cells(inspection.rows, BlockTable.MEASURES)[0]


def test_estimates_stand_before_their_bracket(inspection: Inspection) -> None:
    conv, gemm, _ = cells(inspection.rows, BlockTable.MEASURES)
    assert conv["largest response"] == "2.55 [2.12, 3]"
    assert gemm["largest response"] == "[2.12, 3]"
    assert conv["mean width after activation"] == "3.3 (error 0.04) [3.2, 4.6]"
    assert gemm["mean width after activation"] == "-"
    assert conv["mean width"] == "4.57"
    assert conv["stable rank"] == "2.78"  # 1 / (1 - 0.8^2), the sum of a geometric series


def test_explanations_say_what_is_certified_and_what_is_not() -> None:
    said = {column.title: column.explanation for column in blocks.COLUMNS}
    assert "certified bounds" in said["largest response"]
    met = "what an ascent met, at an input that proves the lower bound"
    assert met in said["largest response"]
    assert "certified bounds" in said["mean width after activation"]
    assert "Monte Carlo estimate from below" in said["mean width after activation"]


def test_every_column_that_is_shown_is_explained() -> None:
    shown = [column for column in blocks.COLUMNS if column.tables]
    assert all(column.title and column.explanation for column in shown)
    assert all(column.json for column in blocks.COLUMNS if not column.tables)


def test_decisions(compression: Compression) -> None:
    conv, dense, kept = cells(compression.rows, BlockTable.DECISIONS)
    assert conv == {
        "block": "conv1_relu",
        "decision": "double layer: spatial, rank 21",
        "bytes": "74 kB -> 26 kB",
        "MACs": "3.61 M -> 1.31 M",
        "planned error": "0.093",
        "expected change": "0.0123",
        "relative error": "0.093",
        "time": "2.5 ms -> 1.25 ms (0.5)",
        "why": "smallest rank with a relative error at most 0.1",
    }
    assert kept == {
        "block": "depth_clip",
        "decision": "kept",
        "bytes": "832 B",
        "MACs": "2.88 k",
        "planned error": "-",
        "expected change": "-",
        "relative error": "-",
        "time": "-",
        "why": "no form makes it smaller",
    }
    # What this choice does was not measured.
    assert dense["expected change"] == "-"


def test_decisions_about_channels(compression: Compression) -> None:
    names = ("decision", "channels", "planned error", "relative error")
    conv, gemm, grouped = (
        tuple(row[name] for name in names)
        for row in cells(pruned(compression).rows, BlockTable.DECISIONS)
    )
    assert conv == ("pruned", "64 -> 55 out", "-", "0")
    channels = "200 -> 150 in, 40 -> 31 out"
    assert gemm == ("double layer: pair, rank 11", channels, "0.086", "0.086")
    assert grouped == ("refitted", "-", "-", "0.07")


def test_a_column_without_anything_to_say_is_left_out(compression: Compression) -> None:
    for rows, shown in ((compression.rows, False), (pruned(compression).rows, True)):
        titles = [column.title for column in block_columns(rows, BlockTable.TERMINAL_DECISIONS)]
        assert ("channels" in titles) == shown


def test_savings_at_every_tolerance(inspection: Inspection) -> None:
    fine, coarse = saving_columns(inspection.rows, with_form=True)
    assert (fine.title, coarse.title) == ("at 0.05", "at 0.1")
    assert [fine.cell(row) for row in inspection.rows] == ["-", "pair 14 (56.0 %)", "-"]
    assert [coarse.cell(row) for row in inspection.rows] == [
        "spatial 21 (64.9 %)",
        "pair 11 (65.3 %)",
        "-",
    ]
    _, short = saving_columns(inspection.rows, with_form=False)
    assert short.cell(inspection.rows[0]) == "21 (64.9 %)"
