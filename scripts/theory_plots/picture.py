"""Writes a figure as a small SVG file that is the same at every run."""

import re
from collections.abc import Sequence
from pathlib import Path
from xml.dom import minidom

from matplotlib.artist import Artist
from matplotlib.figure import Figure

from onnx_relusv.report.plots import inline_svg, plot_settings

WIDTH = 7.6
_VARIABLE = re.compile(r"var\(--[\w-]+, (#\w+)\)")
_LONG_NUMBER = re.compile(r"\d+\.\d{3,}")
_ONE_FONT = re.compile(r"font-family: 'DejaVu Sans'; ")
# The second is as wide as the first, by which the places of texts were chosen.
_FONTS = "DejaVu Sans, Verdana, sans-serif"


def new_figure(height: float) -> Figure:
    """A figure as wide as a page, in inches; white, since the page around it may be dark."""
    return Figure(figsize=(WIDTH, height), facecolor="white")


def explain(figure: Figure, handles: Sequence[Artist], left: float) -> None:
    """One line of legend above everything."""
    figure.legend(
        handles=handles,
        loc="upper left",
        bbox_to_anchor=(left, 1),
        ncols=len(handles),
        frameon=False,
        columnspacing=1.6,
        handlelength=1.8,
    )


def write_picture(figure: Figure, path: Path, label: str) -> None:
    """Writes a figure as SVG, without what only a page with several of them needs.

    Args:
        figure: The figure.
        path: The SVG file.
        label: What the picture shows, for those who do not see it.
    """
    with plot_settings():
        text = inline_svg(figure, name="p", label=label)
    root = minidom.parseString(_VARIABLE.sub(r"\1", text)).documentElement
    assert root is not None  # a document that was parsed has one
    _shorten(root)
    root.setAttribute("font-family", _FONTS)
    lines = re.sub(r"\s+", " ", root.toxml()).replace("> <", "><").replace("><", ">\n<")
    path.write_text(lines + "\n", encoding="utf-8")


def _shorten(element: minidom.Element) -> None:
    """Drops what changes nothing of the picture."""
    for name, value in list(element.attributes.items()):
        # A hundredth of a point is more than anybody sees, and less than rounding moves.
        value = _LONG_NUMBER.sub(lambda found: f"{float(found.group()):.2f}", value)
        element.setAttribute(name, _ONE_FONT.sub("", value))
    if element.getAttribute("transform").startswith("rotate(-0 "):
        element.removeAttribute("transform")
    for child in list(element.childNodes):
        if child.nodeType == child.COMMENT_NODE:
            element.removeChild(child)
        elif isinstance(child, minidom.Element):
            _shorten(child)
            if child.tagName == "g" and not child.attributes.length:
                for inner in list(child.childNodes):
                    element.insertBefore(inner, child)
                element.removeChild(child)
