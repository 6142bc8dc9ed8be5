"""Turns a matplotlib figure into SVG that can stand in a page beside others.

As matplotlib writes it, an SVG carries identifiers that are random or the same in every SVG, a
style for the whole page, and fixed colours. Here identifiers are numbered under the plot's own
name, the style stays inside, and colours become the page's variables, so that a dark page has a
dark plot.
"""

import io
import re
from collections.abc import Iterator
from contextlib import AbstractContextManager
from xml.dom import minidom

from matplotlib import style
from matplotlib.figure import Figure

from onnx_relusv.report.colours import COLOURS, light

_SETTINGS = {
    "svg.fonttype": "none",  # text stays text: small, searchable, read aloud
    "text.parse_math": False,  # a dollar sign in a tensor's name is a dollar sign
    "font.size": 8,
    "font.family": ["DejaVu Sans"],
    "text.color": light("ink"),
    "axes.edgecolor": light("ink"),
    "axes.labelcolor": light("ink"),
    "axes.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.titlesize": 8,
    "grid.color": light("grid"),
    "grid.linewidth": 0.6,
    "xtick.color": light("ink"),
    "ytick.color": light("ink"),
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "figure.facecolor": "none",
    "axes.facecolor": "none",
}
_NO_METADATA = dict.fromkeys(("Date", "Creator", "Format", "Type"))
_REFERRING = ("xlink:href", "clip-path")
_REFERENCE = re.compile(r"#([^)]+)")
_COLOUR = re.compile("|".join(colour.light for colour in COLOURS.values()))
_VARIABLES = {
    colour.light: f"var(--plot-{role}, {colour.light})" for role, colour in COLOURS.items()
}


def plot_settings() -> AbstractContextManager[None]:
    """The defaults of matplotlib and our own settings, whatever the user has configured.

    What was in force before comes back at the end. matplotlib has settings for the whole process
    only, so two threads cannot draw at the same time.
    """
    return style.context(["default", _SETTINGS])


def inline_svg(figure: Figure, *, name: str, label: str) -> str:
    """The SVG element of a figure; call it within `plot_settings`.

    Args:
        figure: The figure, in the light colours of `COLOURS`.
        name: Prefix of all its identifiers; differs among the plots of a page.
        label: What the picture shows, for those who do not see it.
    """
    stream = io.StringIO()
    figure.savefig(stream, format="svg", metadata=_NO_METADATA)
    root = minidom.parseString(stream.getvalue()).documentElement
    assert root is not None  # a document that was parsed has one
    for element in root.getElementsByTagName("style"):
        # It would hold for every element of the page; what the root passes on does not.
        if element.parentNode is not None:
            element.parentNode.removeChild(element)
    root.setAttribute("style", "stroke-linejoin: round; stroke-linecap: butt")
    root.setAttribute("role", "img")
    root.setAttribute("aria-label", label)
    _rename_identifiers(root, name)
    for element in _elements(root):
        if element.hasAttribute("style"):
            element.setAttribute("style", _with_variables(element.getAttribute("style")))
    return str(root.toxml())


def _rename_identifiers(root: minidom.Element, name: str) -> None:
    """Numbers the identifiers that something refers to, and drops the others."""
    wanted: dict[str, str] = {}

    def renamed(match: re.Match[str]) -> str:
        return "#" + wanted.setdefault(match.group(1), f"{name}-{len(wanted)}")

    for element in _elements(root):
        for attribute in _REFERRING:
            if element.hasAttribute(attribute):
                value = _REFERENCE.sub(renamed, element.getAttribute(attribute))
                element.setAttribute(attribute, value)
    for element in _elements(root):
        if element.hasAttribute("id"):
            new = wanted.get(element.getAttribute("id"))
            if new is None:
                element.removeAttribute("id")
            else:
                element.setAttribute("id", new)


def _elements(root: minidom.Element) -> Iterator[minidom.Element]:
    yield root
    yield from root.getElementsByTagName("*")


def _with_variables(text: str) -> str:
    return _COLOUR.sub(lambda match: _VARIABLES[match.group()], text)
