"""How a metric is told: in the data, in the page, in the terminal, and never as certified."""

import io
from dataclasses import replace

import pytest
from pages import Outline
from rich.console import Console, RenderableType

from onnx_relusv.core.results import Comparison, Compression, MetricChange
from onnx_relusv.report.files import report_data, report_html
from onnx_relusv.report.losses import TRIALS
from onnx_relusv.report.page import Fact
from onnx_relusv.report.pages import comparison_facts, compression_facts
from onnx_relusv.report.terminal import report_parts


def printed(parts: list[RenderableType]) -> str:
    console = Console(file=io.StringIO(), width=140, color_system=None)
    for part in parts:
        console.print(part)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_without_a_metric_nothing_is_said(compression: Compression, comparison: Comparison) -> None:
    data = report_data(compression)
    assert (data["metric"], data["drop_estimate"], data["damage_measure"]) == (None, None, None)
    assert report_data(comparison)["evaluation"]["metric"] is None
    assert "stimated, not exact" not in report_html(compression)
    names = [fact.name for fact in compression_facts(compression)]
    assert not {"drop", "change measured as"} & set(names)


def test_the_data(estimated: Compression, judged: Comparison) -> None:
    data = report_data(estimated)
    assert data["certificate"] is None
    assert data["damage_measure"] == "KL divergence of the class scores y"
    assert data["metric"]["loss"] == pytest.approx(0.007)
    found = data["drop_estimate"]
    parts = [found[f"{part}_samples"] for part in ("fit", "select", "certify")]
    assert parts == [2400, 600, 2000]
    assert (found["groups"], found["bound"]) == (30, 0.0138)
    assert [trial["bound"] for trial in found["trials"]] == [0.003, 0.0138, 0.031, None]
    found = report_data(judged)["evaluation"]
    assert (found["metric"]["part"], found["metric"]["loss"]) == ("all", -0.125)
    assert found["drop"] is None


def test_lines_say_what_is_estimated_and_in_which_units(estimated: Compression) -> None:
    facts = {fact.name: fact for fact in compression_facts(estimated)}
    assert facts["own<b>.py:f1"] == Fact(
        "own<b>.py:f1", "0.912 -> 0.905", "0.007 lost on 2000 samples set aside"
    )
    assert facts["drop"] == Fact(
        "drop",
        "at most 0.02 of own<b>.py:f1",
        "estimated at 95 %, not exact: 0.0138 on 2000 samples",
    )
    asked = "asked for: size 50.0 %, drop 0.02 of own<b>.py:f1"
    assert facts["expected change of the outputs"].note == asked
    assert facts["change measured as"].value == "KL divergence of the class scores y"


def test_a_metric_on_the_samples_for_choosing_says_so(compression: Compression) -> None:
    change = MetricChange(name="f1", samples=60, part="choosing", before=0.5, after=0.5)
    facts = {fact.name: fact for fact in compression_facts(replace(compression, metric=change))}
    assert facts["f1"].value == "0.5"
    assert facts["f1"].note.startswith("0 lost on 60 samples for choosing, on which factors")


def test_the_tries_and_what_became_of_them(estimated: Compression) -> None:
    (tried,) = TRIALS.sections(estimated)
    assert tried.table is not None
    assert tried.table.rows == (
        ("70.0 %", "-0.001", "0.003", "within the limit, estimated"),
        ("49.0 %", "0.006", "0.0138", "written"),
        ("40.0 %", "0.015", "0.031", "over the limit, estimated"),
        ("30.0 %", "0.1", "-", "not looked at"),
    )


def test_nothing_is_called_certified(estimated: Compression) -> None:
    page = report_html(estimated)
    outline = Outline(page)
    titles = outline.text("h3")
    first = titles.index("Estimate, not exact")
    assert titles[first + 1] == "Sizes tried"
    (text,) = [one for one in outline.text("p") if "Estimated, not exact" in one]
    assert text.startswith("In the metric's own units.")
    assert "loses 0.02 at most, with a confidence of about 95 %" in text
    assert "Nothing is certified" in text
    terminal = printed(report_parts(estimated))
    assert "upper bound, estimated, not exact" in terminal
    for told in (page, terminal):
        assert "ertificate" not in told
        assert "certified at" not in told
        assert "0.02 point" not in told
    # Names come from the command line, but a page is often somebody else's.
    assert "own<b>.py" not in page


def test_a_comparison(judged: Comparison) -> None:
    facts = {fact.name: fact for fact in comparison_facts(judged)}
    assert facts["own.py:f1"] == Fact("own.py:f1", "0.5 -> 0.625", "0.125 gained on 1000 samples")
    assert "accuracy" not in facts
    assert "0.5 -&gt; 0.625" in report_html(judged)
    assert "0.5 -> 0.625" in printed(report_parts(judged))
