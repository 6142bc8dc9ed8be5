"""The plots of a sweep: what is lost over what is left, one line a method."""

from collections.abc import Callable, Sequence
from math import isfinite, log2

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import (
    FixedLocator,
    FuncFormatter,
    MaxNLocator,
    NullLocator,
    SymmetricalLogLocator,
)
from matplotlib.transforms import ScaledTranslation

from onnx_relusv.report.colours import light
from onnx_relusv.report.formatting import number_text
from onnx_relusv.report.svg import inline_svg, plot_settings
from onnx_relusv.report.sweep_words import LOSS_NAMES
from onnx_relusv.sweeps import JudgedBy, Sweep, SweepPoint

# Roles of colours and marks, in the order of the methods.
ROLES = ("sigma", "estimate", "untrained", "active", "largest")
_MARKERS = ("o", "s", "^", "D", "v")
# Beyond this many of its units a loss is drawn on a logarithmic scale, so that a method that fails
# does not press all others onto the axis.
_LINEAR: dict[JudgedBy, float] = {"accuracy": 1.0, "agreement": 1.0, "error": 0.1}
# Inches between the lines of two methods.
_ASIDE = 0.025

Across = Callable[[SweepPoint], float | None]


def sweep_svg(
    sweep: Sweep, across: Across, *, label: str, name: str, logarithmic: bool = False
) -> str:
    """The loss of every point over something else, with its interval and the knees ringed.

    Args:
        sweep: The points.
        across: What a point's place on the horizontal axis is; None where it has none.
        label: What that is, in words.
        name: Sets the plot apart from the others of its page.
        logarithmic: Whether halving is a step of equal length everywhere.
    """
    with plot_settings():
        figure = Figure(figsize=(5.0, 3.1))
        figure.subplots_adjust(left=0.12, right=0.98, bottom=0.14, top=0.97)
        axes = figure.add_subplot()
        losses, places = [0.0], [1.0]
        for number, method in enumerate(sweep.meanings):
            shown = [
                (place, point)
                for point in sweep.curve(method)
                if (place := across(point)) is not None and isfinite(point.loss)
            ]
            _draw_curve(axes, shown, sweep, number)
            places += [place for place, _ in shown]
            losses += [end for _, point in shown for end in _ends(point)]
        axes.axhline(0, color=light("ink"), linewidth=0.6)
        axes.axvline(1, color=light("ink"), linewidth=0.6, linestyle=(0, (1, 2)))
        axes.set_xlabel(label, labelpad=2)
        axes.set_ylabel(LOSS_NAMES[sweep.judged_by], labelpad=2)
        if logarithmic:
            _halvings(axes, min(places))
        else:
            axes.set_xlim(0, 1.08 * max(places))
            axes.xaxis.set_major_locator(MaxNLocator(8))
        _scale(axes, losses, _LINEAR[sweep.judged_by])
        text = f"{LOSS_NAMES[sweep.judged_by]}, over {label}, of {', '.join(sweep.meanings)}"
        return inline_svg(figure, name=name, label=text)


def _draw_curve(
    axes: Axes, shown: Sequence[tuple[float, SweepPoint]], sweep: Sweep, number: int
) -> None:
    colour, marker = light(ROLES[number % len(ROLES)]), _MARKERS[number % len(_MARKERS)]
    places = [place for place, _ in shown]
    # Intervals of several methods at one size would cover one another.
    aside = axes.transData + ScaledTranslation(
        _ASIDE * (number - (len(sweep.meanings) - 1) / 2), 0, axes.figure.dpi_scale_trans
    )
    for place, point in shown:
        axes.vlines(place, *_ends(point), color=colour, linewidth=0.8, transform=aside)
    # In the order of the sizes, so that a latency that turns back is seen to.
    axes.plot(
        places,
        [point.loss for _, point in shown],
        color=colour,
        linewidth=1.2,
        marker=marker,
        markersize=3.6,
        transform=aside,
    )
    knees = [(place, point.loss) for place, point in shown if sweep.is_knee(point)]
    axes.plot(
        [place for place, _ in knees],
        [loss for _, loss in knees],
        color=light("chosen"),
        linestyle="none",
        marker="o",
        markersize=9,
        markerfacecolor="none",
        markeredgewidth=1.4,
        transform=aside,
    )


def _ends(point: SweepPoint) -> tuple[float, float]:
    """From where to where a point reaches."""
    if point.drop is None:
        return point.loss, point.loss
    return point.drop.lower, point.drop.upper


def _halvings(axes: Axes, least: float) -> None:
    """A logarithmic axis from the least share to 1, with a label at every halving."""
    axes.set_xscale("log")
    axes.set_xlim(least / 1.15, 1.15)
    shares = [2.0**-power for power in range(int(-log2(least)) + 1)]
    axes.xaxis.set_major_locator(FixedLocator(shares))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{number_text(100 * value)} %"))


def _scale(axes: Axes, losses: Sequence[float], linear: float) -> None:
    low, high = min(losses), max(losses)
    if high > 5 * linear:
        axes.set_yscale("symlog", linthresh=linear)
        axes.yaxis.set_major_locator(
            SymmetricalLogLocator(base=10, linthresh=linear, subs=(1.0, 2.0, 5.0))
        )
        axes.set_ylabel(f"{axes.get_ylabel()} (logarithmic beyond {number_text(linear)})")
        axes.set_ylim(1.2 * low, 1.3 * high)
    else:
        # Without any loss there is still an axis.
        margin = 0.08 * (high - low) or linear
        axes.set_ylim(low - margin, high + margin)
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: number_text(value)))
