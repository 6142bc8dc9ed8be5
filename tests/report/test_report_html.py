import re
import tomllib
from base64 import b64encode
from dataclasses import replace
from hashlib import sha256
from importlib.resources import files
from pathlib import Path

import pytest
from pages import Outline
from pruned_records import GROUPS
from swept import swept
from traced import trace_of

from onnx_relusv.core.results import Comparison, Compression, Inspection
from onnx_relusv.core.sweeps import Sweep
from onnx_relusv.core.traces import Trace
from onnx_relusv.report.files import report_html, write_report
from onnx_relusv.report.page import MOST_OPEN, PictureRow, Section


@pytest.fixture
def trace() -> Trace:
    return trace_of(("conv1", "<script>fc1</script>"))


@pytest.fixture
def sweep() -> Sweep:
    return swept()


@pytest.fixture(params=["inspection", "compression", "comparison", "trace", "sweep"])
def page(request: pytest.FixtureRequest) -> str:
    return report_html(request.getfixturevalue(request.param))


def test_tags_are_balanced_and_the_language_is_told(page: str) -> None:
    outline = Outline(page)
    assert outline.open == []
    assert page.startswith("<!DOCTYPE html>")
    assert outline.all("html") == [{"lang": "en"}]


def test_nothing_is_loaded_from_anywhere(page: str) -> None:
    assert "@import" not in page
    assert all(target.startswith("#") for target in re.findall(r"url\(([^)]*)", page))
    for tag, attributes in Outline(page).elements:
        assert tag not in {"link", "img", "iframe", "object", "base", "form"}
        assert "src" not in attributes
        assert attributes.get("href", "#").startswith("#")
        assert attributes.get("xlink:href", "#").startswith("#")
        assert not any(name.startswith("on") for name in attributes)


def test_the_browser_is_told_to_load_nothing(page: str) -> None:
    policies = [one for one in Outline(page).all("meta") if "http-equiv" in one]
    # One script may run, that which sorts tables, whose text is always the same.
    script = (files("onnx_relusv.report") / "templates" / "page.js").read_bytes()
    digest = b64encode(sha256(script).digest()).decode()
    assert policies == [
        {
            "http-equiv": "Content-Security-Policy",
            "content": "default-src 'none'; style-src 'unsafe-inline'; "
            f"script-src 'sha256-{digest}'",
        }
    ]
    assert page.count("<script") == 1
    assert f"<script>{script.decode()}</script>" in page


def test_identifiers_are_unique_and_references_find_them(page: str) -> None:
    found = [one["id"] for _, one in Outline(page).elements if "id" in one]
    assert len(set(found)) == len(found)
    referred = re.findall(r'(?:url\(|href=")#([^)"]*)', page)
    assert set(referred) == set(found)


def test_tables_and_pictures_are_accessible(page: str) -> None:
    outline = Outline(page)
    assert outline.all("th")
    assert all(one.get("scope") in {"col", "row"} for one in outline.all("th"))
    for picture in outline.all("svg"):
        assert picture["role"] == "img"
        assert picture["aria-label"]


def test_light_and_dark(page: str) -> None:
    assert "@media screen and (prefers-color-scheme: dark)" in page
    assert page.count("--plot-sigma: #") == 2


def test_names_from_files_are_text_and_nothing_else(
    inspection: Inspection, compression: Compression
) -> None:
    inspected = report_html(inspection)
    for page in (inspected, report_html(compression)):
        assert page.count("<script") == 1
        assert "<i>branch" not in page
        assert "\x1b" not in page
        assert "\u202e" not in page
        outline = Outline(page)
        literal = "<script>alert('a')</script>[bold]$x^$&\"\\x1b[31m\\u202e\u5377"
        assert outline.text("th").count(literal) == (3 if page is inspected else 4)
        assert outline.text("figcaption").count(literal) == 1
        assert f"Spectrum of {literal}" in [one["aria-label"] for one in outline.all("svg")]
        assert "<i>branch</i>" in outline.text("th")


def test_a_compression_says_what_matters(compression: Compression) -> None:
    outline = Outline(report_html(compression))
    assert outline.text("title") == ["Compression: models/net.onnx -> small/net.onnx"]
    assert "121 kB -> 60.6 kB" in outline.text("dd")
    headlines = [
        "60.6 kB",
        "from 121 kB",
        "89.5 %",
        "from 90.0 %",
        "99.1 %",
        "0.8 ms",
        "from 1.2 ms",
        "1.85 M",
        "from 3.7 M",
    ]
    assert outline.text("span")[: len(headlines)] == headlines
    # The alarm first, and once.
    assert outline.text("li")[:2] == [
        "Outputs change <b>much</b>.",
        "the samples are few: 512 for 288 columns of <conv1_relu>.",
    ]
    assert outline.text("strong") == ["Warning:"]
    for cell in (
        "smallest rank with a relative error at most 0.1",
        "60617 of 121234 bytes",
        "0.0123",
    ):
        assert cell in outline.text("td")
    assert outline.text("code")[-1] == compression.provenance.command
    (shown,) = outline.text("pre")
    assert tomllib.loads(shown) == compression.provenance.settings
    assert outline.text("h2") == [
        "What next",
        "The network",
        "Blocks, most sensitive first",
        "Measures and validation",
    ]
    assert outline.text("h3") == [
        "All figures of the summary",
        "What it costs",
        "Decisions",
        "Savings by relative error",
        "Measures",
        "Spectra",
        "Refused",
        "Validation",
        "Files",
        "Provenance",
    ]


def test_damage_has_a_column_where_it_decided(compression: Compression) -> None:
    by_level = replace(
        compression,
        plan=replace(compression.plan, allocation="level", damage=None),
        rows=tuple(
            replace(row, choice=row.choice and replace(row.choice, damage=None))
            for row in compression.rows
        ),
    )
    for one, count in ((compression, 1), (by_level, 0)):
        outline = Outline(report_html(one))
        assert outline.text("th").count("expected change") == count
    # A common level is a line in every spectrum; by damage there is none.
    assert "var(--plot-level," in report_html(by_level)
    assert "var(--plot-level," not in report_html(compression)


def test_a_comparison_says_what_matters(comparison: Comparison) -> None:
    outline = Outline(report_html(comparison))
    for fact in ("99.1 %", "90.0 % -> 89.5 %", "0.50 points lost"):
        assert fact in [*outline.text("dd"), *outline.text("span")]
    for cell in ("inf", "1.2 ms", "0.667"):
        assert cell in outline.text("td")
    assert "[b]embedding" in outline.text("th")


def test_numbers_are_marked_and_columns_explained(inspection: Inspection) -> None:
    outline = Outline(report_html(inspection))
    (s_0,) = [one for one in outline.text("dd") if "singular value s_0" in one]
    assert "certified bounds" in s_0
    assert "what an ascent met" in s_0
    assert "largest response" in outline.text("dt")
    assert {"role": "columnheader", "scope": "col", "class": "number"} in outline.all("th")
    # Nothing is told to those alone who have a pointer.
    assert not [attributes for _, attributes in outline.elements if "title" in attributes]


def test_many_pictures_are_folded(compression: Compression) -> None:
    for count, folded in ((MOST_OPEN, False), (MOST_OPEN + 1, True)):
        page = report_html(replace(compression, rows=(), groups=GROUPS[:1] * count))
        assert (f"<summary>Show all {count}</summary>" in page) == folded
        assert Section(title="", picture_rows=(PictureRow("", ()),) * count).folded == folded


def test_a_model_without_blocks_has_a_page(
    inspection: Inspection, compression: Compression
) -> None:
    empty = report_html(replace(inspection, rows=(), refusals=()))
    assert "No block was found." in empty
    assert Outline(empty).text("h2") == ["Blocks", "Where the bytes are", "Measures and validation"]
    assert Outline(empty).text("h3") == ["Files", "Provenance"]
    assert "No block was found." in report_html(replace(compression, rows=()))


def test_a_page_is_the_same_every_time(compression: Compression) -> None:
    assert report_html(compression) == report_html(compression)


def test_a_page_is_written_whole(inspection: Inspection, tmp_path: Path) -> None:
    write_report(inspection, tmp_path / "report", force=False)
    page = (tmp_path / "report" / "report.html").read_text(encoding="utf-8")
    assert page == report_html(inspection)
