import re
from xml.dom import minidom

import matplotlib
import pytest
from matplotlib.figure import Figure

from onnx_relusv.report.plots import inline_svg, light, plot_settings


def drawn(name: str = "plot", label: str = "A line") -> str:
    with plot_settings():
        figure = Figure(figsize=(2, 2))
        axes = figure.add_subplot()
        axes.plot([0, 1], [0, 1], color=light("sigma"), marker="o")
        axes.set_title('$x^$ <b>"', color=light("level"))
        return inline_svg(figure, name=name, label=label)


def identifiers(svg: str) -> list[str]:
    return re.findall(r'\bid="([^"]*)"', svg)


def test_identifiers_are_few_unique_and_all_referred_to() -> None:
    svg = drawn("first")
    found = identifiers(svg)
    assert found
    assert len(set(found)) == len(found)
    referred = set(re.findall(r'url\(#([^)]*)\)|href="#([^"]*)"', svg))
    assert {a or b for a, b in referred} == set(found)


def test_plots_of_different_names_share_no_identifier() -> None:
    first, second = drawn("first"), drawn("second")
    assert set(identifiers(first)).isdisjoint(identifiers(second))
    assert first.replace("first-", "second-") == second


def test_a_plot_is_the_same_every_time() -> None:
    assert drawn() == drawn()


def test_nothing_is_loaded_and_nothing_is_dated() -> None:
    svg = drawn()
    # Names of name spaces are all that is left of the web.
    assert "://" not in re.sub(r'xmlns(:\w+)?="[^"]*"', "", svg)
    assert "<metadata" not in svg
    assert "<style" not in svg


def test_text_and_label_are_escaped() -> None:
    svg = drawn(label='</svg><script>"')
    root = minidom.parseString(svg).documentElement
    assert root is not None
    assert root.getAttribute("aria-label") == '</svg><script>"'
    assert root.getAttribute("role") == "img"
    assert "$x^$ &lt;b&gt;" in svg
    assert "<script" not in svg


def test_colours_become_the_variables_of_the_page() -> None:
    svg = drawn()
    assert f"var(--plot-sigma, {light('sigma')})" in svg
    assert f"var(--plot-level, {light('level')})" in svg
    plain = re.sub(r"var\(--plot-\w+, #[0-9a-f]{6}\)", "", svg)
    assert set(re.findall("#[0-9a-f]{6}", plain)) == set()


def test_a_hidden_colour_name_in_text_stays_as_it_is() -> None:
    with plot_settings():
        figure = Figure()
        figure.text(0, 0, f"fill: {light('sigma')}")
        assert f">fill: {light('sigma')}</text>" in inline_svg(figure, name="a", label="b")


def test_the_users_settings_neither_matter_nor_suffer() -> None:
    expected = drawn()
    with matplotlib.rc_context({"xtick.labelsize": 30, "font.size": 30, "svg.fonttype": "path"}):
        before = dict(matplotlib.rcParams)
        assert drawn() == expected
        assert dict(matplotlib.rcParams) == before


def test_settings_come_back_after_an_error() -> None:
    before = dict(matplotlib.rcParams)
    with pytest.raises(ZeroDivisionError), plot_settings():
        raise ZeroDivisionError
    assert dict(matplotlib.rcParams) == before
