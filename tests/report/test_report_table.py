import io
from dataclasses import replace

from rich.console import Console, RenderableType

from onnx_relusv.core.results import Comparison, Compression, Inspection
from onnx_relusv.report import words
from onnx_relusv.report.terminal import report_parts


def shown(parts: list[RenderableType], width: int = 160) -> str:
    console = Console(file=io.StringIO(), width=width, color_system=None)
    for part in parts:
        console.print(part)
    output = console.file
    assert isinstance(output, io.StringIO)
    return output.getvalue()


def line(text: str, start: str) -> list[str]:
    """The words of the first line that starts so; a block has one in every table."""
    return next(one for one in text.splitlines() if one.strip().startswith(start)).split()


def test_an_inspection_has_one_line_for_a_block(inspection: Inspection) -> None:
    text = shown(report_parts(inspection))
    assert " ".join(line(text, "conv1_relu")) == (
        "conv1_relu conv 64x288 (3x3), relu 18.5 k 3.61 M 2.55 [2.12, 3] 2.78 4.57 - 21 (64.9 %)"
    )
    assert "found by ascent, and [certified bounds]" in " ".join(text.split())
    assert " ".join(line(text, "size")) == "size 121 kB 88.2 % in blocks"


def test_a_compression_says_what_and_why(compression: Compression) -> None:
    text = shown(report_parts(compression))
    assert " ".join(line(text, "conv1_relu")) == (
        "conv1_relu double layer: spatial, rank 21 74 kB -> 26 kB 0.093 "
        "smallest rank with a relative error at most 0.1"
    )
    assert " ".join(line(text, "depth_clip")) == "depth_clip kept 832 B - no form makes it smaller"
    assert "warning: the samples are few" in text
    # Terms are explained where they stand, and only those.
    assert "amage is" not in text
    note = words.terms(["least total damage for the budgets, 0.1 by itself"])
    assert note == "Damage is the expected change of the outputs."
    assert "joint damage is that" in words.terms(["least joint damage, 0.1 by itself"])
    assert "expected change of the outputs 0.0321" in " ".join(text.split())
    assert "amage" not in text


def test_markup_and_control_sequences_are_shown_literally(
    inspection: Inspection, compression: Compression
) -> None:
    for parts in (report_parts(inspection), report_parts(compression)):
        text = shown(parts, width=300)
        assert "<script>alert('a')</script>[bold]$x^$&\"\\x1b[31m\\u202e\u5377" in text
        assert "its weight also serves [b]other_relu[/b]" in text
        assert "\x1b" not in text
        assert "\u202e" not in text


def test_long_keys_fold_and_lose_nothing(inspection: Inspection) -> None:
    row = inspection.rows[0]
    key = "".join(f"/layer{number}" for number in range(30))
    long = replace(inspection, rows=(replace(row, block=replace(row.block, key=key)),))
    # The key's column is the first and as wide as its first piece in every line.
    text = shown(report_parts(long), width=100)
    lines = text.splitlines()
    first = next(number for number, one in enumerate(lines) if "/layer0" in one)
    width = len(lines[first].split()[0])
    pieces = [one[:width].strip() for one in lines[first:]]
    assert "".join(pieces).startswith(key)


def test_a_comparison(comparison: Comparison) -> None:
    text = shown(report_parts(comparison))
    assert line(text, "[b]embedding") == ["[b]embedding", "inf", "0.1", "0.7"]
    assert line(text, "32") == ["32", "20", "ms", "11", "ms", "0.55"]
    assert "90.0 % -> 89.5 %" in text


def test_nothing_found_is_said(inspection: Inspection) -> None:
    text = shown(report_parts(replace(inspection, rows=(), refusals=())))
    assert "No block was found." in text
    assert "refused" not in text.splitlines()[0]
