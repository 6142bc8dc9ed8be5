"""The plot of a model's ReLU singular values, block by block."""

from collections.abc import Sequence
from math import ceil

import numpy as np
from bundled import MeasuredBlock
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullLocator
from picture import explain, new_figure

from onnx_relusv.report.plots import light, plot_settings
from onnx_relusv.spectra.relu_values import rank_ladder

_COLUMNS = 4
_ROW_HEIGHT, _MARGIN = 1.45, 0.55
# Spread evenly, and as many again where the curves are steep.
_POINTS = 15
_DASHES = (0, (3, 2))


def figure(blocks: Sequence[MeasuredBlock]) -> Figure:
    """The spectra of all blocks as shares of the trained sigma_1, over k."""
    rows = ceil(len(blocks) / _COLUMNS)
    height = rows * _ROW_HEIGHT + _MARGIN
    with plot_settings():
        picture = new_figure(height)
        grid = picture.subplots(rows, _COLUMNS, sharey=True, squeeze=False)
        picture.subplots_adjust(
            left=0.06,
            right=0.985,
            bottom=0.25 / height,
            top=1 - _MARGIN / height,
            hspace=0.55,
            wspace=0.1,
        )
        lowest = min(block.spectrum.lower[-1] / block.spectrum.sigma[0] for block in blocks)
        grid[0, 0].set_yscale("log")
        grid[0, 0].set_ylim(lowest / 1.3, 1.3)
        grid[0, 0].yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        grid[0, 0].yaxis.set_minor_locator(NullLocator())
        for axes, measured in zip(grid.flat, blocks, strict=False):
            _draw(axes, measured)
        for axes in grid.flat[len(blocks) :]:
            axes.set_axis_off()
        ink = light("ink")
        handles = [
            Patch(color=light("band"), label="s_k, certified"),
            Line2D([], [], color=light("estimate"), ls="none", marker="o", ms=3, label="estimate"),
            Line2D([], [], color=light("sigma"), lw=1.2, label="sigma_(k+1)"),
            Line2D([], [], color=ink, lw=1, ls=_DASHES, label="untrained sigma_(k+1)"),
        ]
        explain(picture, handles, 0.05)
    return picture


def _draw(axes: Axes, measured: MeasuredBlock) -> None:
    spectrum = measured.spectrum
    largest, count = spectrum.sigma[0], len(spectrum.sigma)
    evenly = np.linspace(0, count - 1, _POINTS).round().astype(int)
    k = np.unique([*evenly, *rank_ladder(count, _POINTS)])
    lower, upper, sigma, untrained = (
        values[k] / largest
        for values in (spectrum.lower, spectrum.upper, spectrum.sigma, measured.untrained.sigma)
    )
    axes.plot(k, untrained, color=light("ink"), linewidth=0.9, linestyle=_DASHES)
    if measured.has_activation:
        axes.fill_between(k, lower, upper, color=light("band"), linewidth=0)
    axes.plot(k, sigma, color=light("sigma"), linewidth=1.1)
    if measured.has_activation:
        axes.plot(
            spectrum.ranks,
            spectrum.estimate[list(spectrum.ranks)] / largest,
            color=light("estimate"),
            linestyle="none",
            marker="o",
            markersize=2.2,
        )
    axes.set_xlim(-0.03 * count - 0.4, 1.03 * count - 0.6)
    axes.patch.set_visible(False)
    axes.tick_params(length=0, labelsize=7)
    axes.xaxis.set_major_locator(MaxNLocator(3, integer=True))
    axes.set_title(f"{measured.key}\n{measured.shape}", loc="left", pad=3, fontsize=7)
