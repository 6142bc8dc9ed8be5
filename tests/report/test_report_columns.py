from pruned_records import pruned

from onnx_relusv.core.results import Compression, Inspection
from onnx_relusv.report.blocks import (
    ACTIVATION,
    BYTES,
    BYTES_CHANGE,
    CHANNELS,
    DECISION,
    KEY,
    LAYER,
    MACS,
    MACS_CHANGE,
    MEAN_WIDTH,
    PARAMETERS,
    PLANNED_DAMAGE,
    PLANNED_LEVEL,
    REACHED_LEVEL,
    RELU_MEAN_WIDTH,
    S_0,
    SHAPE,
    STABLE_RANK,
    WHY,
    filled,
    saving_columns,
)


def test_what_a_block_is(inspection: Inspection) -> None:
    conv = inspection.rows[0]
    columns = (KEY, SHAPE, ACTIVATION, LAYER, PARAMETERS, BYTES, MACS)
    assert [column.cell(conv) for column in columns] == [
        "conv1_relu",
        "conv 64x288 (3x3)",
        "relu",
        "conv 64x288 (3x3), relu",
        "18.5 k",
        "74 kB",
        "3.61 M",
    ]


def test_estimates_stand_before_their_bracket(inspection: Inspection) -> None:
    conv, gemm, _ = inspection.rows
    assert S_0.cell(conv) == "2.55 [2.12, 3]"
    assert S_0.cell(gemm) == "[2.12, 3]"
    assert RELU_MEAN_WIDTH.cell(conv) == "3.3 (error 0.04) [3.2, 4.6]"
    assert RELU_MEAN_WIDTH.cell(gemm) == "-"
    assert MEAN_WIDTH.cell(conv) == "4.57"
    assert STABLE_RANK.cell(conv) == "2.78"  # 1 / (1 - 0.8^2), the sum of a geometric series


def test_explanations_say_what_is_certified_and_what_is_not() -> None:
    assert "certified bounds" in S_0.explanation
    assert "what an ascent met, at an input that proves the lower bound" in S_0.explanation
    assert "certified bounds" in RELU_MEAN_WIDTH.explanation
    assert "Monte Carlo estimate from below" in RELU_MEAN_WIDTH.explanation


def test_decisions(compression: Compression) -> None:
    levels = (PLANNED_LEVEL, REACHED_LEVEL, PLANNED_DAMAGE)
    columns = (DECISION, *levels, BYTES_CHANGE, MACS_CHANGE, WHY)
    conv, dense, kept = compression.rows
    assert [column.cell(conv) for column in columns] == [
        "double layer: spatial, rank 21",
        "0.093",
        "0.093",
        "0.0123",
        "74 kB -> 26 kB",
        "3.61 M -> 1.31 M",
        "smallest rank with level at most 0.1",
    ]
    assert [column.cell(kept) for column in columns] == [
        "kept",
        "-",
        "-",
        "-",
        "832 B",
        "2.88 k",
        "no form makes it smaller",
    ]
    # Nobody measured what this choice does.
    assert PLANNED_DAMAGE.cell(dense) == "-"


def test_decisions_about_channels(compression: Compression) -> None:
    columns = (DECISION, CHANNELS, PLANNED_LEVEL, REACHED_LEVEL)
    conv, gemm, grouped = pruned(compression).rows
    assert [column.cell(conv) for column in columns] == ["pruned", "64 -> 55 out", "-", "0"]
    assert [column.cell(gemm) for column in columns] == [
        "double layer: pair, rank 11",
        "200 -> 150 in, 40 -> 31 out",
        "0.086",
        "0.086",
    ]
    assert [column.cell(grouped) for column in columns] == ["refitted", "-", "-", "0.07"]


def test_a_column_without_anything_to_say_is_left_out(compression: Compression) -> None:
    columns = (KEY, CHANNELS, WHY)
    assert filled(columns, compression.rows) == (KEY, WHY)
    assert filled(columns, pruned(compression).rows) == columns


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
