"""Groups of units in page, terminal and JSON: what went together, which units, and why."""

import re
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pages import Outline
from pruned_records import GROUPS, KEPT, REMOVED, pruned
from rich.console import Console

from onnx_relusv.core.results import Compression
from onnx_relusv.report import words
from onnx_relusv.report.files import report_data, report_html
from onnx_relusv.report.page import Fact
from onnx_relusv.report.pages import groups_facts
from onnx_relusv.report.plots import strip_svg
from onnx_relusv.report.terminal import plan_parts, report_parts

RANGES = "0-3, 7, 12-15"


def numbers(text: str) -> list[int]:
    """The numbers that a text of ranges stands for."""
    found: list[int] = []
    for part in text.split(", "):
        first, _, last = part.partition("-")
        found += range(int(first), int(last or first) + 1)
    return found


def test_ranges() -> None:
    assert words.ranges(REMOVED) == RANGES
    assert words.ranges([5]) == "5"
    assert words.ranges([5, 6]) == "5-6"
    assert words.ranges([]) == "-"


@given(st.sets(st.integers(0, 60), min_size=1).map(sorted))
def test_ranges_name_every_number_once(given_numbers: list[int]) -> None:
    assert numbers(words.ranges(given_numbers)) == given_numbers


@pytest.mark.parametrize(
    ("longest", "text"),
    [(13, RANGES), (12, "0-3, 7, ..."), (6, "0-3, 7, ..."), (5, "0-3, ..."), (2, "...")],
)
def test_ranges_that_are_too_long_end_between_numbers(longest: int, text: str) -> None:
    assert words.ranges(REMOVED, longest) == text


def test_the_summary_counts_units(compression: Compression) -> None:
    fact = Fact("units removed", "9 of 104", "in 1 of 2 groups")
    assert list(groups_facts(pruned(compression))) == [fact]
    assert list(groups_facts(compression)) == []


def test_the_page_says_what_went_together_and_why(compression: Compression) -> None:
    outline = Outline(report_html(pruned(compression)))
    titles = outline.text("h3")
    assert titles[titles.index("Decisions") :][:2] == ["Decisions", "Groups of units"]
    assert "Channels that stay" in titles
    for cell in (
        "64 -> 55",
        "conv1_sum, <i>skip</i>",
        "Relu, Add, Flatten",
        "fc1_sum",
        "0.0512",
        "0.00123",
        "least damage for the budget",
        RANGES,
        "64 -> 55 out",
        "logits is a graph <output>",
        "Gemm",
    ):
        assert cell in outline.text("td")
    assert "conv1_sum, 55 of 64 kept" in outline.text("figcaption")
    # A group that keeps all has nothing to show.
    labels = [one["aria-label"] for one in outline.all("svg")]
    assert [one for one in labels if one.startswith("Kept and removed")] == [
        "Kept and removed units of conv1_sum"
    ]


def test_a_page_without_groups_does_not_speak_of_them(compression: Compression) -> None:
    outline = Outline(report_html(compression))
    assert not {"Groups of units", "Channels that stay"} & set(outline.text("h3"))
    assert "channels" not in outline.text("th")


def test_where_nothing_went_no_units_are_listed(compression: Compression) -> None:
    kept = replace(pruned(compression), groups=GROUPS[1:])
    outline = Outline(report_html(kept))
    assert "Groups of units" in outline.text("h3")
    assert "removed" not in outline.text("th")
    # What this group or any block does was not measured.
    assert "expected change" not in outline.text("th")


def test_a_strip_draws_every_kept_unit_once() -> None:
    svg = strip_svg(64, KEPT, "a <label>")
    runs = re.findall(r"M(\d+) 0h(\d+)v10h-(\d+)z", svg)
    assert all(length == back for _, length, back in runs)
    drawn = [
        unit for first, length, _ in runs for unit in range(int(first), int(first) + int(length))
    ]
    assert drawn == list(KEPT)
    assert 'viewBox="0 0 64 10"' in svg
    assert "a &lt;label&gt;" in svg
    assert re.findall(r"fill: var\(--plot-(\w+), #[0-9a-f]{6}\)", svg) == ["before", "after"]


def test_the_json_names_the_kept_units(compression: Compression) -> None:
    data = report_data(pruned(compression))
    first, second = data["groups"]
    assert (first["units"], first["kept"]) == (64, list(KEPT))
    assert (first["planned_damage"], second["planned_damage"]) == (0.00123, None)
    assert data["method"] == "auto"
    assert [block["choice"]["outputs"] for block in data["blocks"]] == [55, 31, None]
    assert data["channel_refusals"] == [
        {"key": "logits", "operator": "Gemm", "reason": "logits is a graph <output>"}
    ]


def shown(parts: list, width: int = 160) -> list[str]:
    """The lines of a terminal, each with single spaces."""
    console = Console(width=width, color_system=None)
    with console.capture() as captured:
        for part in parts:
            console.print(part)
    return [" ".join(line.split()) for line in captured.get().splitlines()]


def test_the_terminal_says_the_same_in_short(compression: Compression) -> None:
    lines = shown(report_parts(pruned(compression)))
    assert (
        f"conv1_sum, <i>skip</i> fc1_sum 64 -> 55 {RANGES} 0.0512 least damage for the budget"
        in lines
    )
    assert "fc1_sum logits 40 - 0 not in the plan" in lines
    assert "logits Gemm logits is a graph <output>" in lines
    assert "units removed 9 of 104 in 1 of 2 groups" in lines
    assert not any("Groups of units" in line for line in shown(report_parts(compression)))


def test_a_plan_s_groups_in_the_terminal(compression: Compression) -> None:
    plan = replace(compression.plan, method="harmonic", allocation="level", damage=None)
    assert plan_parts(plan) == []
    grouped = replace(plan, groups=tuple(row.choice for row in GROUPS))
    lines = shown(plan_parts(grouped))
    assert any(line.startswith("conv1_sum, <i>skip</i> fc1_sum 64 -> 55") for line in lines)
