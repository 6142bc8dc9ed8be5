"""The page, the table and the figures of a sweep say what its record says."""

import json
from dataclasses import replace
from io import StringIO
from pathlib import Path

import pytest
from pages import Outline
from rich.console import Console
from swept import LOSSES, SIZES, swept, unlabelled, without_scores

from onnx_relusv.core.measures import OutputChange
from onnx_relusv.core.sweeps import Sweep
from onnx_relusv.report.files import make_report, report_data, report_html
from onnx_relusv.report.sweep import POINTS
from onnx_relusv.report.terminal import report_parts


def printed(sweep: Sweep, width: int = 160) -> str:
    console = Console(file=StringIO(), width=width)
    for part in report_parts(sweep):
        console.print(part, markup=False, highlight=False)
    assert isinstance(console.file, StringIO)
    return console.file.getvalue()


def test_the_page_says_what_matters() -> None:
    sweep = swept()
    outline = Outline(report_html(sweep))
    assert outline.text("title") == ["Sweep: models/net.onnx"]
    assert outline.text("h2") == [
        "What next",
        "What is lost, and what is left",
        "Points",
        "About these points",
        "Commands",
        "Missing points",
        "Measures and validation",
    ]
    assert [one["aria-label"] for one in outline.all("svg")] == [
        f"accuracy lost, points, over {words}, of the original's, of damage, level"
        for words in ("bytes", "MACs", "time of a run at batch 1", "time of a run at batch 32")
    ]
    names = [f"{method} {size:g}" for method in LOSSES for size in SIZES]
    assert outline.text("th").count("damage 0.125") == 3
    assert [text for text in outline.text("th") if text in names] == 3 * names
    # The smallest that surely loses no point: none of these, whose intervals reach further.
    assert outline.text("code") == [
        *(one.command for one in sweep.points),
        sweep.provenance.command,
    ]
    cells = outline.text("td")
    assert "0.40 [-0.60, 2.40]" in cells
    assert cells.count("knee") == 2
    assert cells.count("slower at batch 1") == 4
    assert {"<b>too small</b>", "[b]y[/b] is off by 3", "failed its validation"} <= set(cells)
    (knee,) = [text for text in outline.text("dd") if "0.40" in text]
    assert knee == "accuracy lost, points: 0.40 [-0.60, 2.40]"


def notes(sweep: Sweep) -> list[str]:
    """What the page says about the points, behind advice and legend."""
    said = Outline(report_html(sweep)).text("li")
    (first,) = [place for place, text in enumerate(said) if text.startswith("Files are judged")]
    return said[first:]


def test_the_page_says_what_was_judged_on() -> None:
    said = notes(swept())
    assert said[0] == (
        "Files are judged on 1000 samples of their own; "
        "400 others were fitted to and 100 chosen on."
    )
    assert said[1].startswith("No knee is marked for level:")
    assert said[2].endswith("damage 0.5, level 0.5.")
    blind = replace(swept(), judges=replace(swept().judges, fit_samples=0, select_samples=0))
    assert notes(blind)[0].endswith("; nothing was fitted to any.")
    said = notes(unlabelled(swept()))
    assert said[0].startswith("Files are judged on 1000 of the 500 samples, which were set aside")


def test_without_labels_answers_are_compared() -> None:
    page = report_html(unlabelled(swept()))
    assert "answers changed, points" in page
    assert "accuracy" not in page


def test_without_class_scores_the_error_is_shown() -> None:
    page = report_html(without_scores(swept()))
    outline = Outline(page)
    assert "relative output error" in outline.text("th")
    assert "0.04" in outline.text("td")
    assert "so the labels say nothing" in page
    assert "points" not in "".join(outline.text("th"))


def test_without_misses_there_is_no_table_of_them() -> None:
    assert "Missing points" not in report_html(replace(swept(), missed=()))


@pytest.mark.parametrize("sweep", [swept(), unlabelled(swept()), without_scores(swept())])
def test_the_terminal_has_every_point(sweep: Sweep) -> None:
    text = printed(sweep)
    for one in sweep.points:
        assert f"{one.method} {one.size:g} " in text
    assert "[b]y[/b] is off by 3" in text
    assert "knee, method damage" in text
    # Names of methods are explained where there is no legend, and so are the terms in them.
    assert "level: one common level." in text
    assert "A level is a relative error; damage is the expected change of the outputs." in text
    lines = [line for line in text.splitlines() if line.startswith("damage 0.125")]
    assert ["knee" in line.split() for line in lines] == [True]


def test_a_narrow_terminal_breaks_lines_and_no_words() -> None:
    text = printed(swept(), width=80)
    assert max(map(len, text.splitlines())) <= 80
    assert "slower" in text


def test_the_figures_are_strict_json(tmp_path: Path) -> None:
    sweep = without_scores(swept())
    first, *others = sweep.points
    broken = replace(
        first.evaluation, outputs=(OutputChange(name="y", kind="values", relative=float("inf")),)
    )
    sweep = replace(sweep, points=(replace(first, evaluation=broken), *others))
    folder = tmp_path / "report"
    make_report(sweep, folder, folder)
    data = json.loads((folder / "report.json").read_text(encoding="utf-8"), parse_constant=int)
    assert data == report_data(sweep)
    assert data["schema"] == "onnx-relusv/sweep"
    assert [one["error"] for one in data["points"]][:2] == [None, 0.01]
    assert (data["points"][1]["drop"], data["knees"]) == (None, {"damage": 0.125, "level": None})
    assert (folder / "report.html").read_text(encoding="utf-8") == report_html(sweep)


def test_files_of_others_are_rows_of_the_table() -> None:
    sweep = swept()
    (section,) = POINTS.sections(sweep)
    assert section.table is not None
    titles = [column.title for column in section.table.headings]
    theirs, other = (
        dict(zip(titles, row, strict=True)) for row in section.table.rows[len(sweep.points) :]
    )
    assert theirs["point"] == "<b>theirs</b>"
    assert [theirs[name] for name in ("note", "bytes", "MACs", "accuracy")] == [
        "peer",
        "25.0 %",
        "40.0 %",
        "88.5 %",
    ]
    # The original has 0.9; what is not known of a file has a dash.
    assert theirs["accuracy lost, points"] == "1.50"
    assert (theirs["time at 1"], other["time at 1"], other["time at 32"]) == ("-", "0.70", "-")
    assert (other["accuracy"], other["MACs"]) == ("86.8 %", "-")
    assert "<b>theirs" not in report_html(sweep)
    assert "other" in printed(sweep)
