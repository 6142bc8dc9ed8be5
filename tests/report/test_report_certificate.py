"""How a certificate is told: in the data, in the page, in the terminal, and in one line."""

import io
from dataclasses import replace

import pytest
from pages import Outline
from rich.console import Console

from onnx_relusv.core.results import Compression
from onnx_relusv.report import words
from onnx_relusv.report.decision import limit_text
from onnx_relusv.report.files import report_data, report_html
from onnx_relusv.report.losses import BOUND, TRIALS
from onnx_relusv.report.page import Fact
from onnx_relusv.report.pages import compression_facts
from onnx_relusv.report.terminal import report_parts


@pytest.fixture
def unlabelled(certified: Compression) -> Compression:
    """The same without labels."""
    assert certified.bound is not None
    return replace(certified, bound=replace(certified.bound, gained=None))


def test_without_a_drop_asked_for_nothing_is_said(compression: Compression) -> None:
    assert report_data(compression)["certificate"] is None
    assert BOUND.sections(compression) == TRIALS.sections(compression) == ()
    assert "Certificate" not in report_html(compression)
    names = [fact.name for fact in compression_facts(compression)]
    assert "accuracy" not in names


def test_the_data(certified: Compression) -> None:
    data = report_data(certified)
    assert (data["budgets"]["max_drop"], data["budgets"]["confidence"]) == (1.0, 0.99)
    found = data["certificate"]
    parts = [found[f"{part}_samples"] for part in ("fit", "select", "certify")]
    assert parts == [2400, 600, 2000]
    assert (found["lost"], found["gained"], found["bound"]) == (12, 9, 0.9375)
    assert [trial["bound"] for trial in found["trials"]] == [0.5, 0.9375, 1.5, None]


def test_one_line_says_what_is_certified(certified: Compression, unlabelled: Compression) -> None:
    facts = {fact.name: fact for fact in compression_facts(certified)}
    assert facts["accuracy"] == Fact(
        "accuracy", "at most 1 point lost", "certified at 99 %; 0.15 on 2000 samples"
    )
    assert facts["expected change of the outputs"].note == "asked for: size 50.0 %, drop 1 point"
    facts = {fact.name: fact for fact in compression_facts(unlabelled)}
    assert facts["answers"].value == "at most 1 point changed"
    assert "accuracy" not in facts


def test_what_is_presumed_is_said_wherever_a_bound_is(certified: Compression) -> None:
    assert certified.bound is not None
    bound = replace(certified.bound, gained=None, presumed=True)
    presumed = replace(certified, bound=bound)
    (fact,) = (one for one in compression_facts(presumed) if one.name == "accuracy")
    assert fact.value == "at most 1 point lost"
    what = "if the original's probabilities are right"
    assert fact.note.startswith(f"certified at 99 %, {what}; ")
    assert limit_text(bound).endswith(what)
    assert what not in limit_text(certified.bound)
    assert "presumed" in str(BOUND.of(presumed))
    assert "expected drop on these" in str(BOUND.of(presumed))
    assert "presumed" not in str(BOUND.of(certified))
    assert report_data(presumed)["certificate"]["presumed"] is True


def test_the_tries_and_what_became_of_them(certified: Compression) -> None:
    (tried,) = TRIALS.sections(certified)
    assert tried.table is not None
    assert tried.table.rows == (
        ("70.0 %", "-0.25", "0.5", "certified"),
        ("49.0 %", "0.167", "0.938", "written"),
        ("40.0 %", "0.75", "1.5", "not certified"),
        ("30.0 %", "2.5", "-", "not looked at"),
    )


def test_the_counts_are_named_for_what_they_are(
    certified: Compression, unlabelled: Compression
) -> None:
    with_labels, without = (
        dict(section.table.rows)
        for one in (certified, unlabelled)
        for section in BOUND.sections(one)
        if section.table is not None
    )
    assert with_labels["of these, right in the original alone"] == "12"
    assert with_labels["of these, right in the result alone"] == "9"
    assert without["of these, answers that changed"] == "12"
    assert not any("right" in name for name in without)
    assert with_labels["confidence"] == "99 %"


def test_the_page(certified: Compression, unlabelled: Compression) -> None:
    outline = Outline(report_html(certified))
    titles = outline.text("h3")
    assert "Size against what is lost" in outline.text("h2")
    assert titles[titles.index("Certificate") :][:2] == ["Certificate", "Sizes tried"]
    (text,) = [one for one in outline.text("p") if "Certified: " in one]
    assert text.startswith("Points of accuracy.")
    assert "loses 1 point at most, with a confidence of 99 %" in text
    assert "Points of changed answers." in report_html(unlabelled)


def test_the_terminal(certified: Compression) -> None:
    console = Console(file=io.StringIO(), width=120, color_system=None)
    for part in report_parts(certified):
        console.print(part)
    output = console.file
    assert isinstance(output, io.StringIO)
    text = output.getvalue()
    assert "0.938 points" in text
    assert "not looked at" in text


@pytest.mark.parametrize(
    ("confidence", "text"), [(0.95, "95 %"), (0.999, "99.9 %"), (0.99999, "99.999 %")]
)
def test_confidence_is_not_rounded_to_certainty(confidence: float, text: str) -> None:
    assert words.confidence(confidence) == text
