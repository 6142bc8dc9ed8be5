import json
from dataclasses import replace
from pathlib import Path

import pytest
from pages import Outline
from traced import trace_of

from onnx_relusv.core.errors import UsageError
from onnx_relusv.core.traces import Trace
from onnx_relusv.report.files import report_data, report_html, write_report
from onnx_relusv.report.trace import conclusions


def unlabelled(trace: Trace) -> Trace:
    return replace(trace, correct=None, separation=None)


def test_a_trace_says_what_matters() -> None:
    trace = trace_of(("conv1", "fc1"))
    outline = Outline(report_html(trace))
    assert outline.text("title") == ["Trace: models/net.onnx"]
    assert outline.text("h2") == [
        "Right and wrong answers",
        "Scores",
        "What tells wrong answers",
        "AUROC by block",
        "Medians of right / wrong answers",
        "Inputs, layer by layer",
        "Refused",
        "Files and provenance",
    ]
    assert outline.text("li")[:4] == ["block <conv9> has no activation.", *conclusions(trace)]
    assert "85.0 %" in outline.text("dd")
    assert outline.text("code") == [trace.provenance.command]
    assert "its weight is [b]computed[/b]" in outline.text("td")
    (said,) = [one for one in outline.text("p") if one.startswith("60 wrong answers against 340")]
    assert "no input is scored by a fit that saw it" in said
    (said,) = [one for one in outline.text("p") if one.startswith("AUROC with a 95 %")]
    assert "favours them slightly" in said


def test_every_block_has_a_row_of_four_distributions() -> None:
    outline = Outline(report_html(trace_of(("conv1", "fc1"))))
    assert outline.text("h3")[:2] == ["conv1", "fc1"]
    labels = [one["aria-label"] for one in outline.all("svg")]
    assert labels == ["AUROC of every score, with its interval"] + [
        f"Distribution of {quantity} in {key}"
        for key in ("conv1", "fc1")
        for quantity in ("active", "width", "largest", "margin")
    ]


def test_without_labels_there_are_distributions_of_all() -> None:
    page = report_html(unlabelled(trace_of(("conv1", "fc1"))))
    outline = Outline(page)
    assert outline.text("h2")[:3] == [
        "Right and wrong answers",
        "Medians of all inputs",
        "Inputs, layer by layer",
    ]
    assert "all inputs" in outline.text("li")
    assert len(outline.all("svg")) == 8
    assert ": var(--plot-every," in page
    assert ": var(--plot-wrong," not in page


def test_answers_of_one_kind_are_drawn_as_one() -> None:
    trace = replace(trace_of(("conv1",)), separation=None)
    assert trace.correct is not None
    page = report_html(replace(trace, correct=trace.correct | True))
    assert "All answers are right, so there is nothing to tell apart." in page
    assert ": var(--plot-right," not in page


def test_names_from_files_are_text_and_nothing_else() -> None:
    hostile = "<script>alert('a')</script>[bold]$x^$&\"\x1b[31m\u202e\u5377"
    page = report_html(trace_of((hostile, "fc1")))
    assert page.count("<script") == 1
    assert "<i>branch" not in page
    assert "\x1b" not in page
    assert "\u202e" not in page
    literal = "<script>alert('a')</script>[bold]$x^$&\"\\x1b[31m\\u202e\u5377"
    outline = Outline(page)
    assert literal in outline.text("h3")
    assert outline.text("th").count(literal) == 2


def test_a_model_without_blocks_has_a_page() -> None:
    outline = Outline(report_html(replace(unlabelled(trace_of(("conv1",))), blocks=())))
    assert "No block was traced." in outline.text("p")
    assert outline.all("svg") == []


def test_a_page_is_the_same_every_time() -> None:
    trace = trace_of(("conv1", "fc1"))
    assert report_html(trace) == report_html(trace)


def test_a_report_is_a_folder_with_both(tmp_path: Path) -> None:
    trace = trace_of(("conv1",))
    folder = tmp_path / "report"
    write_report(trace, folder, force=False)
    assert sorted(path.name for path in folder.iterdir()) == ["report.html", "report.json"]
    assert json.loads((folder / "report.json").read_text("utf-8")) == report_data(trace)
    assert (folder / "report.html").read_text("utf-8") == report_html(trace)


def test_a_folder_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="nothing can be written there"):
        write_report(trace_of(("conv1",)), tmp_path / "nowhere" / "report", force=False)
