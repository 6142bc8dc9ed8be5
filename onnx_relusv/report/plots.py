"""The plots of a report: their colours, their way into a page, and the plots of blocks and units.

As matplotlib writes it, an SVG carries identifiers that are random or the same in every SVG, a
style for the whole page, and fixed colours. Here identifiers are numbered under the plot's own
name, the style stays inside, and colours become the page's variables, so that a dark page has a
dark plot.
"""

import io
import re
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from html import escape
from importlib import import_module
from typing import TYPE_CHECKING, Any
from xml.dom import minidom

import numpy as np

from onnx_relusv.core.results import BlockReport
from onnx_relusv.report import words
from onnx_relusv.work.interrupts import uninterrupted


class _Late:
    """A module of matplotlib, which is loaded when something of it is first asked for.

    Loading takes nearly half a second, and most runs draw nothing.
    """

    def __init__(self, name: str) -> None:
        self._name = f"matplotlib.{name}"

    def __getattr__(self, attribute: str) -> Any:
        # Signals wait: what a library makes of an interrupt on its way is anything.
        with uninterrupted():
            return getattr(import_module(self._name), attribute)


if TYPE_CHECKING:
    from matplotlib import figure, style
    from matplotlib import ticker as ticker
    from matplotlib import transforms as transforms
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
else:
    figure, style, ticker, transforms = map(_Late, ("figure", "style", "ticker", "transforms"))


@dataclass(frozen=True)
class Colour:
    """One role's colour on both kinds of page, as hexadecimal RGB in lower case.

    The light values differ from one another: plots are drawn in them, and the page tells roles
    apart by them.
    """

    light: str
    dark: str


COLOURS = {
    "ink": Colour("#3c4654", "#b9c2cf"),
    "grid": Colour("#dfe3e9", "#343c48"),
    "sigma": Colour("#1f5fa8", "#7fb4ee"),
    "band": Colour("#a9c8e8", "#31557c"),
    "estimate": Colour("#b4530a", "#f0a35e"),
    "untrained": Colour("#8a94a3", "#7d8896"),
    "chosen": Colour("#0f7b4f", "#5fcf9d"),
    "level": Colour("#b3261e", "#f2857c"),
    "before": Colour("#c3cad4", "#4b5563"),
    "after": Colour("#20609f", "#7fb3ea"),
    "every": Colour("#a3adbb", "#5d6979"),
    "right": Colour("#a8c6e4", "#35587d"),
    "wrong": Colour("#c0372b", "#f48f84"),
    "active": Colour("#7b4fa3", "#c5a3e6"),
    "width": Colour("#0b6cb5", "#76b7f2"),
    "largest": Colour("#0c7a63", "#58cbb0"),
    "margin": Colour("#a65a00", "#eda85a"),
}


def light(role: str) -> str:
    """A role's colour on a light page."""
    return COLOURS[role].light


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


def inline_svg(drawn: "figure.Figure", *, name: str, label: str) -> str:
    """The SVG element of a figure; call it within `plot_settings`.

    Args:
        drawn: The figure, in the light colours of `COLOURS`.
        name: Prefix of all its identifiers; differs among the plots of a page.
        label: What the picture shows, for those who do not see it.
    """
    stream = io.StringIO()
    drawn.savefig(stream, format="svg", metadata=_NO_METADATA)
    (root,) = minidom.parseString(stream.getvalue()).getElementsByTagName("svg")
    for element in root.getElementsByTagName("style"):
        # It would hold for every element of the page; what the root passes on does not.
        if element.parentNode is not None:
            element.parentNode.removeChild(element)
    root.setAttribute("style", "stroke-linejoin: round; stroke-linecap: butt")
    root.setAttribute("role", "img")
    root.setAttribute("aria-label", label)
    elements = [root, *root.getElementsByTagName("*")]
    # Those that something refers to.
    identifiers: dict[str, str] = {}

    def renamed(match: re.Match[str]) -> str:
        return "#" + identifiers.setdefault(match.group(1), f"{name}-{len(identifiers)}")

    for element in elements:
        for attribute in filter(element.hasAttribute, _REFERRING):
            value = _REFERENCE.sub(renamed, element.getAttribute(attribute))
            element.setAttribute(attribute, value)
        if element.hasAttribute("style"):
            styled = _COLOUR.sub(lambda match: _VARIABLES[match[0]], element.getAttribute("style"))
            element.setAttribute("style", styled)
    for element in elements:
        identifier = identifiers.get(element.getAttribute("id"))
        if identifier is not None:
            element.setAttribute("id", identifier)
        elif element.hasAttribute("id"):
            element.removeAttribute("id")
    return str(root.toxml())


def draw(
    paint: Callable[["Axes"], None],
    size: tuple[float, float],
    edges: tuple[float, float, float, float],
    *,
    title: str = "",
    name: str,
    label: str,
) -> str:
    """The SVG element of one pair of axes.

    Args:
        paint: Draws into them.
        size: Width and height in inches.
        edges: Their left, right, bottom and top ends, as shares of the size.
        title: Stands above.
        name: As of `inline_svg`.
        label: Likewise.
    """
    with plot_settings():
        drawn = figure.Figure(figsize=size)
        left, right, bottom, top = edges
        drawn.subplots_adjust(left=left, right=right, bottom=bottom, top=top)
        axes = drawn.add_subplot()
        axes.set_title(title, loc="left", pad=4)
        paint(axes)
        return inline_svg(drawn, name=name, label=label)


def draw_lines(
    paint: Callable[["Axes"], None],
    height: float,
    below: float,
    *,
    title: str,
    name: str,
    label: str,
) -> str:
    """A chart of lines with names at their left; `height` and the margin `below` are inches."""
    above = 0.3 if title else 0.05
    whole = height + above + below
    edges = (0.37, 0.97, below / whole, 1 - above / whole)

    def painted(axes: "Axes") -> None:
        paint(axes)
        axes.grid(visible=False, axis="y")
        axes.tick_params(axis="y", length=0)

    return draw(painted, (_LINES_WIDTH, whole), edges, title=title, name=name, label=label)


def line_name(key: str) -> str:
    """A block's name beside its line.

    The font that measures the labels knows few scripts, and would warn of each other character.
    """
    return words.middle_cut(
        words.printable(key).encode("ascii", "backslashreplace").decode("ascii"), 27
    )


def scale(
    axis: "Axis", locator: "ticker.Locator", text: Callable[[float], str] = words.number
) -> None:
    """Says where an axis has labels, and what they are."""
    axis.set_major_locator(locator)
    axis.set_major_formatter(ticker.FuncFormatter(lambda value, _: text(value)))


# Inches: as wide as a narrow page shows it without shrinking its text beyond reading.
_LINES_WIDTH = 5.0
_HEIGHT = 10


def strip_svg(units: int, kept: Sequence[int], label: str) -> str:
    """A group of units as a strip: one place a unit, kept or removed, as wide as there is room.

    Args:
        units: How many there are.
        kept: Increasing: those that stay.
        label: What the picture shows, for those who do not see it.
    """
    lengths = ((first, last - first + 1) for first, last in words.runs(kept))
    path = "".join(f"M{first} 0h{length}v{_HEIGHT}h-{length}z" for first, length in lengths)
    # Stretched to the room: with more units than points of the screen, shades tell how many stay.
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {units} {_HEIGHT}" '
        f'preserveAspectRatio="none" style="width: 100%; height: 1.1rem" role="img" '
        f'aria-label="{escape(label)}">'
        f'<rect width="{units}" height="{_HEIGHT}" style="fill: {_VARIABLES[light("before")]}"/>'
        f'<path d="{path}" style="fill: {_VARIABLES[light("after")]}"/></svg>'
    )


# More points than a plot of three inches can show only make the page heavy.
_MOST_POINTS = 160
# Shares of sigma_1 below this are rounding in float32 weights; the axis ends there. Zeros are drawn
# further down, out of sight, since a logarithmic axis has no place for them.
_LOWEST = 1e-6
_OUT_OF_SIGHT = 1e-8
DOTTED, DASHED = (0, (1, 1)), (0, (4, 2))


def spectrum_svg(row: BlockReport, level: float | None, *, name: str) -> str:
    """The ReLU singular values of a block as shares of sigma_1, over the rank k.

    Args:
        row: The block.
        level: The relative error of the whole plan, drawn across; None where there is no plan.
        name: Sets the plot apart from the others of its page.
    """

    def paint(axes: "Axes") -> None:
        # A zero map has nothing to be normalised by; its axes stay empty.
        if row.spectrum.sigma[0] > 0:
            _draw_spectrum(axes, row, level)
        axes.set_xlabel("k", labelpad=1)

    return draw(
        paint,
        (3.2, 2.0),
        (0.16, 0.97, 0.2, 0.88),
        title=_spectrum_title(row),
        name=name,
        label=f"Spectrum of {words.printable(row.block.key)}",
    )


def _draw_spectrum(axes: "Axes", row: BlockReport, level: float | None) -> None:
    spectrum, choice = row.spectrum, row.choice
    largest, ranks = spectrum.sigma[0], np.arange(len(spectrum.sigma))
    shown = np.unique(np.linspace(0, ranks[-1], _MOST_POINTS).round().astype(int))
    lower, upper, sigma, untrained = (
        np.maximum(values[shown] / largest, _OUT_OF_SIGHT)
        for values in (spectrum.lower, spectrum.upper, spectrum.sigma, spectrum.untrained)
    )
    axes.set_yscale("log")
    axes.fill_between(shown, lower, upper, color=light("band"), linewidth=0)
    # One value is no line, so it gets a dot.
    dot = "." if len(shown) == 1 else ""
    axes.plot(shown, sigma, color=light("sigma"), linewidth=1.2, marker=dot)
    axes.plot(shown, untrained, color=light("untrained"), linewidth=0.9, linestyle=DOTTED)
    known = np.isfinite(spectrum.estimate) & (spectrum.estimate > _LOWEST * largest)
    estimate = spectrum.estimate[known] / largest
    axes.plot(ranks[known], estimate, "o", color=light("estimate"), markersize=2.6)
    if level is not None and level > 0:
        axes.axhline(level, color=light("level"), linewidth=1, linestyle=DASHED)
    rank = choice.rank if choice is not None and choice.is_double_layer else None
    if rank is not None and not row.unfolding:
        axes.axvline(rank, color=light("chosen"), linewidth=1)
    bottom = min(float(lower.min()), level or 1.0)
    axes.set_ylim(max(bottom, _LOWEST) / 1.5, float(upper.max()) * 1.3)
    axes.set_xlim(-0.02 * len(ranks) - 0.5, 1.02 * len(ranks) - 0.5)
    axes.xaxis.set_major_locator(ticker.MaxNLocator(5, integer=True))
    low, high = axes.get_ylim()
    # Within a decade or two, powers of ten alone would leave one label or none.
    steps = (1.0, 2.0, 5.0) if high / low < 100 else (1.0,)
    scale(axes.yaxis, ticker.LogLocator(subs=steps, numticks=7))
    axes.yaxis.set_minor_locator(ticker.NullLocator())


def _spectrum_title(row: BlockReport) -> str:
    if row.spectrum.sigma[0] == 0:
        return "the linear map is zero"
    if row.choice is None:
        return ""
    # The axes are narrow, and a rank says that it is a double layer.
    decision = words.decision(row.choice).removeprefix("double layer: ")
    return f"{decision} ({row.unfolding})" if row.unfolding else decision
