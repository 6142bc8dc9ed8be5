"""Reports as a real browser shows them, at several widths, light and dark."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from browsed import Browser, browser, missing
from pruned_records import pruned
from swept import swept
from traced import trace_of

from onnx_relusv.core.plans import Cost
from onnx_relusv.core.results import Compression, Inspection
from onnx_relusv.report.files import report_html

pytestmark = pytest.mark.skipif(bool(missing()), reason=missing())

WIDTHS = (1300, 800, 400)
IMAGE = "<img src=x onerror=\"document.title='taken'\">"


@pytest.fixture(scope="module")
def opened() -> Iterator[Browser]:
    with browser() as found:
        yield found


def saved(page: str, folder: Path) -> Path:
    path = folder / "report.html"
    path.write_text(page, encoding="utf-8")
    return path


@pytest.fixture(params=["compression", "inspection", "sweep", "trace"])
def page(
    request: pytest.FixtureRequest,
    tmp_path: Path,
    certified: Compression,
    inspection: Inspection,
) -> Path:
    # With units that went and sizes that were tried, of names as long as exporters make them.
    full = pruned(certified)
    first, *others = full.rows
    long = replace(first, block=replace(first.block, key="/encoder/layer.0/" * 8 + "Relu_output_0"))
    reports = {
        "compression": replace(full, rows=(long, *others)),
        "inspection": inspection,
        "sweep": swept(),
        "trace": trace_of(("conv1", IMAGE)),
    }
    return saved(report_html(reports[request.param]), tmp_path)


def test_nothing_is_cut_off_and_nothing_is_asked_for(opened: Browser, page: Path) -> None:
    opened.open(page)
    backgrounds = set()
    for scheme in ("light", "dark"):
        opened.show(scheme)
        backgrounds.add(opened.run("return getComputedStyle(document.body).backgroundColor"))
        for width in WIDTHS:
            opened.resize(width)
            assert opened.run("return innerWidth") == width
            assert opened.cut() == [], (width, scheme)
    opened.unfold()
    for width in WIDTHS:
        opened.resize(width)
        assert opened.cut() == [], (width, "unfolded")
    assert len(backgrounds) == 2
    assert opened.errors() == []
    assert opened.requests() == [page.as_uri()]


def test_what_is_cut_off_is_noticed(
    opened: Browser, compression: Compression, tmp_path: Path
) -> None:
    opened.open(saved(report_html(compression), tmp_path), width=400)
    for style, problem in (
        (".table { max-height: 3rem; overflow: auto; }", "too high: DIV table"),
        ("td, th { white-space: nowrap !important; display: table-cell !important; }", "outside"),
    ):
        opened.run(
            "const one = document.createElement('style'); one.id = 'wrong'; "
            "one.textContent = arguments[0]; document.head.append(one);",
            style,
        )
        assert any(found.startswith(problem) for found in opened.cut())
        opened.run("document.getElementById('wrong').remove();")
    assert opened.cut() == []


def test_names_do_nothing(opened: Browser, inspection: Inspection, tmp_path: Path) -> None:
    first, *others = inspection.rows
    named = replace(first, block=replace(first.block, key=IMAGE))
    page = report_html(replace(inspection, rows=(named, *others)))
    opened.open(saved(page, tmp_path))
    opened.unfold()
    assert opened.run("return document.querySelectorAll('img, i, b').length") == 0
    assert opened.run("return document.scripts.length") == 1
    assert opened.run("return document.title") == "Inspection: models/net.onnx"
    assert IMAGE in opened.run("return document.body.textContent")
    assert opened.errors() == []
    # Even where a name were written as it is, the page's policy would let nothing of it run.
    unescaped = page.replace("</main>", f"{IMAGE}<script>document.title = 'taken'</script></main>")
    opened.open(saved(unescaped, tmp_path))
    assert opened.run("return document.title") == "Inspection: models/net.onnx"
    assert any("Content Security Policy" in one for one in opened.errors())


@pytest.mark.parametrize("width", [1300, 400])
def test_tables_are_sorted_by_keyboard(
    opened: Browser, compression: Compression, tmp_path: Path, width: int
) -> None:
    from selenium.webdriver.common.action_chains import ActionChains
    from selenium.webdriver.common.keys import Keys

    sizes = (950, 2_000_000, 30_000)
    rows = tuple(
        replace(row, cost=Cost(bytes=size, macs=1), cost_after=None)
        for row, size in zip(compression.rows, sizes, strict=True)
    )
    opened.open(saved(report_html(replace(compression, rows=rows)), tmp_path), width=width)

    def column() -> list[str]:
        found: list[str] = opened.run(
            "return [...document.querySelectorAll('table')[0].tBodies[0].rows]"
            ".map((row) => row.cells[3].innerText.replaceAll('\\u00a0', ' ').trim())"
        )
        return found

    def sort() -> str:
        ActionChains(opened.driver).send_keys(Keys.ENTER).perform()
        found: str = opened.run(
            "return document.activeElement.closest('th').getAttribute('aria-sort')"
        )
        return found

    # From heading to heading by the key that everybody uses.
    opened.run("document.querySelector('thead button').focus()")
    ActionChains(opened.driver).send_keys(Keys.TAB * 3).perform()
    assert opened.run("return document.activeElement.textContent") == "bytes"
    assert sort() == "descending"
    assert column() == ["2 MB", "30 kB", "950 B"]
    assert sort() == "ascending"
    assert column() == ["950 B", "30 kB", "2 MB"]
    assert opened.run("return document.querySelectorAll('table [aria-sort]').length") == 1
    # What has no value stays below.
    opened.run("document.activeElement.blur()")
    opened.run(
        "const sensitive = [...document.querySelectorAll('table')[0].tHead.rows[0].cells]"
        ".find((one) => one.textContent === 'sensitivity'); sensitive.firstChild.click();"
        "sensitive.firstChild.click();"
    )
    assert [text.split()[0] for text in column()] == ["950", "2", "30"]


def test_what_is_folded_is_printed(
    opened: Browser, compression: Compression, tmp_path: Path
) -> None:
    opened.open(saved(report_html(compression), tmp_path), width=700)
    opened.run("dispatchEvent(new Event('beforeprint'))")
    opened.show("dark", media="print")
    assert opened.run("return document.querySelectorAll('details:not([open])').length") == 0
    assert opened.cut() == []
    assert opened.run("return getComputedStyle(document.body).backgroundColor") in (
        "rgb(255, 255, 255)"
    )
    opened.run("dispatchEvent(new Event('afterprint'))")
    assert opened.run("return document.querySelectorAll('details[open]').length") == 0
