"""The plots of a report: the spectrum of a block, and the bytes of all blocks."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

from onnx_relusv.report.colours import light
from onnx_relusv.report.formatting import (
    bytes_text,
    decision_text,
    middle_cut,
    number_text,
    printable,
)
from onnx_relusv.report.svg import inline_svg, plot_settings
from onnx_relusv.results import BlockRow

MOST_BARS = 60
# More points than a plot of three inches can show only make the page heavy.
_MOST_POINTS = 160
# Shares of sigma_1 below this are rounding in float32 weights; the axis ends there. Zeros are drawn
# further down, out of sight, since a logarithmic axis has no place for them.
_LOWEST = 1e-6
_OUT_OF_SIGHT = 1e-8
_LONGEST_NAME = 34
_BAR_HEIGHT = 0.2


def spectrum_svg(row: BlockRow, level: float | None, *, name: str) -> str:
    """The ReLU singular values of a block as shares of sigma_1, over the rank k.

    Args:
        row: The block.
        level: The level of the whole plan, drawn across; None where there is no plan.
        name: Sets the plot apart from the others of its page.
    """
    with plot_settings():
        figure = Figure(figsize=(3.2, 2.0))
        figure.subplots_adjust(left=0.16, right=0.97, bottom=0.2, top=0.88)
        axes = figure.add_subplot()
        # A zero map has nothing to be normalised by; its axes stay empty.
        if row.spectrum.sigma[0] > 0:
            _draw_spectrum(axes, row, level)
        axes.set_xlabel("k", labelpad=1)
        axes.set_title(_spectrum_title(row), loc="left", pad=4)
        key = printable(row.block.key)
        return inline_svg(figure, name=name, label=f"Spectrum of {key}")


def _draw_spectrum(axes: Axes, row: BlockRow, level: float | None) -> None:
    spectrum, choice = row.spectrum, row.choice
    largest = spectrum.sigma[0]
    ranks = np.arange(len(spectrum.sigma))
    shown = np.unique(np.linspace(0, ranks[-1], _MOST_POINTS).round().astype(int))
    lower, upper, sigma = (
        np.maximum(values[shown] / largest, _OUT_OF_SIGHT)
        for values in (spectrum.lower, spectrum.upper, spectrum.sigma)
    )
    axes.set_yscale("log")
    axes.fill_between(shown, lower, upper, color=light("band"), linewidth=0)
    # One value is no line, so it gets a dot.
    axes.plot(
        shown, sigma, color=light("sigma"), linewidth=1.2, marker="." if len(shown) == 1 else ""
    )
    axes.plot(
        shown,
        np.maximum(spectrum.untrained[shown] / largest, _OUT_OF_SIGHT),
        color=light("untrained"),
        linewidth=0.9,
        linestyle=(0, (1, 1)),
    )
    known = np.isfinite(spectrum.estimate) & (spectrum.estimate > _LOWEST * largest)
    axes.plot(
        ranks[known],
        spectrum.estimate[known] / largest,
        color=light("estimate"),
        linestyle="none",
        marker="o",
        markersize=2.6,
    )
    if level is not None and level > 0:
        axes.axhline(level, color=light("level"), linewidth=1, linestyle=(0, (4, 2)))
    if choice is not None and choice.rank is not None and choice.form in ("pair", "channel"):
        axes.axvline(choice.rank, color=light("chosen"), linewidth=1)
    bottom = min(float(lower.min()), level or 1.0)
    axes.set_ylim(max(bottom, _LOWEST) / 1.5, float(upper.max()) * 1.3)
    axes.set_xlim(-0.02 * len(ranks) - 0.5, 1.02 * len(ranks) - 0.5)
    axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    _label_logarithmic(axes)


def _label_logarithmic(axes: Axes) -> None:
    low, high = axes.get_ylim()
    # Within a decade or two, powers of ten alone would leave one label or none.
    steps = (1.0, 2.0, 5.0) if high / low < 100 else (1.0,)
    axes.yaxis.set_major_locator(LogLocator(subs=steps, numticks=7))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: number_text(value)))
    axes.yaxis.set_minor_locator(NullLocator())


def _spectrum_title(row: BlockRow) -> str:
    if row.spectrum.sigma[0] == 0:
        return "the linear map is zero"
    choice = row.choice
    if choice is None:
        return ""
    unfolding = {"spatial": " (of another unfolding)", "tucker": " (of two unfoldings)"}
    # The axes are narrow, and a rank says that it is a double layer.
    words = decision_text(choice).removeprefix("double layer: ")
    return words + unfolding.get(choice.form or "", "")


def bytes_svg(rows: Sequence[BlockRow], *, name: str) -> str:
    """Bytes of every block before and after, as bars.

    Beyond `MOST_BARS` blocks, only the largest are drawn, and the title says how many are not.

    Args:
        rows: The blocks, at least one.
        name: Sets the plot apart from the others of its page.
    """
    largest = sorted(range(len(rows)), key=lambda index: -rows[index].cost.bytes)[:MOST_BARS]
    shown = [rows[index] for index in sorted(largest)]
    hidden = len(rows) - len(shown)
    title = f"the {len(shown)} largest blocks; {hidden} more are not drawn" if hidden else ""
    with plot_settings():
        # Inches; the margins are for the title and for the scale.
        above, below = (0.3 if title else 0.05), 0.3
        height = _BAR_HEIGHT * len(shown) + above + below
        figure = Figure(figsize=(7.2, height))
        figure.subplots_adjust(left=0.3, right=0.97, bottom=below / height, top=1 - above / height)
        axes = figure.add_subplot()
        places = np.arange(len(shown))
        before = [row.cost.bytes for row in shown]
        after = [(row.cost_after or row.cost).bytes for row in shown]
        axes.barh(places, before, height=0.8, color=light("before"))
        axes.barh(places, after, height=0.4, color=light("after"))
        axes.set_yticks(places, [_bar_name(row) for row in shown])
        axes.set_ylim(len(shown) - 0.4, -0.6)
        axes.grid(visible=False, axis="y")
        axes.tick_params(axis="y", length=0)
        axes.xaxis.set_major_locator(MaxNLocator(6))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: bytes_text(value)))
        axes.set_title(title, loc="left", pad=4)
        return inline_svg(figure, name=name, label="Bytes of every block before and after")


def _bar_name(row: BlockRow) -> str:
    # The font that measures the labels knows few scripts, and would warn of each other character.
    name = printable(row.block.key).encode("ascii", "backslashreplace").decode("ascii")
    return middle_cut(name, _LONGEST_NAME)
