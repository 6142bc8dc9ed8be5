"""What is lost over what is left, drawn: points with their intervals, rings and a limit."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import log2
from typing import TYPE_CHECKING

from onnx_relusv.report import words
from onnx_relusv.report.plots import DASHED, draw, light, scale, ticker, transforms

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Inches between the lines of two curves: intervals at one place would cover one another.
_ASIDE = 0.025
# Beyond so many times the linear part, an axis is logarithmic outside of it: a method that fails
# does not press all others onto the axis.
_MUCH = 5.0
# As wide as a narrow page shows it without shrinking its text beyond reading.
_SIZE = (4.6, 3.1)


@dataclass(frozen=True)
class CurvePoint:
    """A point, which reaches from `lower` to `upper`.

    Attributes:
        place: Where it is on the horizontal axis.
        loss: Where it is on the vertical one.
        lower: Lower end of its interval.
        upper: The upper end.
        ringed: Whether it is marked by a ring.
    """

    place: float
    loss: float
    lower: float
    upper: float
    ringed: bool = False


@dataclass(frozen=True, kw_only=True)
class Curve:
    """Points of one kind.

    Attributes:
        role: Of their colour.
        marker: Their mark, as matplotlib calls it.
        points: In the order in which a line joins them.
        joined: Whether there is such a line.
    """

    role: str
    marker: str
    points: Sequence[CurvePoint]
    joined: bool = True


@dataclass(frozen=True, kw_only=True)
class CurveAxes:
    """The axes of curves.

    Attributes:
        across: What the horizontal one is.
        upward: What the vertical one is.
        linear: Up to here it is linear, where it has to be logarithmic beyond.
        logarithmic: Whether halving is a step of equal length everywhere on the horizontal one.
        limit: A line across, at what may be lost at most; None for none.
    """

    across: str
    upward: str
    linear: float
    logarithmic: bool = True
    limit: float | None = None


def curves_svg(curves: Sequence[Curve], drawn_in: CurveAxes, *, name: str, label: str) -> str:
    """The SVG element of curves.

    Args:
        curves: Without infinite numbers.
        drawn_in: Their axes.
        name: Sets the plot apart from the others of its page.
        label: What it shows, for those who do not see it.
    """
    points = [point for curve in curves for point in curve.points]
    places = [1.0, *(point.place for point in points)]
    losses = [0.0, *(end for point in points for end in (point.lower, point.upper))]
    if drawn_in.limit is not None:
        losses.append(drawn_in.limit)

    def paint(axes: "Axes") -> None:
        for number, curve in enumerate(curves):
            _draw_curve(axes, curve, _ASIDE * (number - (len(curves) - 1) / 2))
        axes.axhline(0, color=light("ink"), linewidth=0.6)
        axes.axvline(1, color=light("ink"), linewidth=0.6, linestyle=(0, (1, 2)))
        if drawn_in.limit is not None:
            axes.axhline(drawn_in.limit, color=light("level"), linewidth=1, linestyle=DASHED)
        axes.set_xlabel(drawn_in.across, labelpad=2)
        axes.set_ylabel(drawn_in.upward, labelpad=2)
        _scale_across(axes, places, logarithmic=drawn_in.logarithmic)
        _scale_upward(axes, losses, drawn_in)

    return draw(paint, _SIZE, (0.13, 0.97, 0.14, 0.97), name=name, label=label)


def _scale_across(axes: "Axes", places: Sequence[float], *, logarithmic: bool) -> None:
    if not logarithmic:
        axes.set_xlim(0, 1.08 * max(places))
        axes.xaxis.set_major_locator(ticker.MaxNLocator(8))
        return
    # From the least share to 1, with a label at every halving.
    axes.set_xscale("log")
    axes.set_xlim(min(places) / 1.15, 1.15)
    shares = [2.0**-power for power in range(int(-log2(min(places))) + 1)]
    scale(axes.xaxis, ticker.FixedLocator(shares), lambda one: f"{words.number(100 * one)} %")
    axes.xaxis.set_minor_locator(ticker.NullLocator())


def _scale_upward(axes: "Axes", losses: Sequence[float], drawn_in: CurveAxes) -> None:
    low, high, linear = min(losses), max(losses), drawn_in.linear
    if high > _MUCH * linear:
        axes.set_yscale("symlog", linthresh=linear)
        steps = ticker.SymmetricalLogLocator(base=10, linthresh=linear, subs=(1.0, 2.0, 5.0))
        scale(axes.yaxis, steps)
        axes.set_ylabel(f"{drawn_in.upward} (logarithmic beyond {words.number(linear)})")
        axes.set_ylim(1.2 * low - 0.1 * linear, 1.3 * high)
        return
    # Without any loss there is still an axis.
    margin = 0.08 * (high - low) or linear
    axes.set_ylim(low - margin, high + margin)
    scale(axes.yaxis, axes.yaxis.get_major_locator())


def _draw_curve(axes: "Axes", curve: Curve, apart: float) -> None:
    colour = light(curve.role)
    aside = axes.transData + transforms.ScaledTranslation(apart, 0, axes.figure.dpi_scale_trans)
    for point in curve.points:
        ends = (point.lower, point.upper)
        axes.vlines(point.place, *ends, color=colour, linewidth=0.8, transform=aside)
        if point.lower < point.upper:
            caps = ([point.place] * 2, ends)
            axes.plot(*caps, "_", color=colour, markersize=4, transform=aside)
    # In the order given, so that a latency that turns back is seen to.
    axes.plot(
        [point.place for point in curve.points],
        [point.loss for point in curve.points],
        marker=curve.marker,
        color=colour,
        linewidth=1.2,
        linestyle="-" if curve.joined else "none",
        markersize=3.6 if curve.joined else 5,
        transform=aside,
    )
    ringed = [point for point in curve.points if point.ringed]
    axes.plot(
        [point.place for point in ringed],
        [point.loss for point in ringed],
        "o",
        color=light("chosen"),
        markersize=9,
        markerfacecolor="none",
        markeredgewidth=1.4,
        transform=aside,
    )
