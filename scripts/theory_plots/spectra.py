"""The plot of a model's ReLU singular values, block by block."""

from collections.abc import Sequence
from math import ceil

import numpy as np
from bundled import MeasuredBlock
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator, NullLocator
from picture import drawing, new_figure

from onnx_relusv.report.colours import light

_COLUMNS = 4
_ROW_HEIGHT, _MARGIN = 1.5, 0.55
_MOST_POINTS = 48
# Shares of sigma_1 below this are drawn at the lower edge.
_LOWEST = 1e-3


def figure(blocks: Sequence[MeasuredBlock]) -> Figure:
    """The spectra of all blocks as shares of the trained sigma_1, over k."""
    rows = ceil(len(blocks) / _COLUMNS)
    height = rows * _ROW_HEIGHT + _MARGIN
    with drawing():
        picture = new_figure(height)
        grid = picture.subplots(rows, _COLUMNS, sharey=True, squeeze=False)
        picture.subplots_adjust(
            left=0.065,
            right=0.985,
            bottom=0.32 / height,
            top=1 - _MARGIN / height,
            hspace=0.55,
            wspace=0.12,
        )
        for axes, measured in zip(grid.flat, blocks, strict=False):
            _draw(axes, measured)
        for axes in grid.flat[len(blocks) :]:
            axes.set_axis_off()
        _explain(picture)
    return picture


def _draw(axes: Axes, measured: MeasuredBlock) -> None:
    spectrum = measured.spectrum
    largest, count = spectrum.sigma[0], len(spectrum.sigma)
    k = np.unique(np.linspace(0, count - 1, _MOST_POINTS).round().astype(int))
    lower, upper, sigma, untrained = (
        np.maximum(values[k] / largest, _LOWEST)
        for values in (spectrum.lower, spectrum.upper, spectrum.sigma, measured.untrained.sigma)
    )
    axes.set_yscale("log")
    axes.fill_between(k, lower, upper, color=light("band"), linewidth=0)
    axes.plot(k, untrained, color=light("ink"), linewidth=0.9, linestyle=(0, (3, 2)))
    axes.plot(k, sigma, color=light("sigma"), linewidth=1.1)
    if measured.has_activation:
        ranks = list(spectrum.ranks)
        values = spectrum.estimate[ranks] / largest
        axes.plot(
            np.array(ranks)[values >= _LOWEST],
            values[values >= _LOWEST],
            color=light("estimate"),
            linestyle="none",
            marker="o",
            markersize=2.2,
        )
    axes.set_ylim(_LOWEST, 1.5)
    axes.set_xlim(-0.03 * count - 0.4, 1.03 * count - 0.6)
    axes.xaxis.set_major_locator(MaxNLocator(4, integer=True))
    axes.yaxis.set_minor_locator(NullLocator())
    name = measured.block.key.removesuffix("_relu").removesuffix("_bn")
    axes.set_title(f"{name}\n{measured.shape}", loc="left", pad=3, fontsize=7)


def _explain(picture: Figure) -> None:
    picture.legend(
        handles=[
            Patch(color=light("band"), label="s_k, certified"),
            Line2D([], [], color=light("estimate"), ls="none", marker="o", ms=3, label="estimate"),
            Line2D([], [], color=light("sigma"), lw=1.2, label="sigma_(k+1)"),
            Line2D([], [], color=light("ink"), lw=1, ls=(0, (3, 2)), label="untrained sigma_(k+1)"),
        ],
        loc="upper left",
        bbox_to_anchor=(0.055, 1),
        ncols=4,
        frameon=False,
        columnspacing=1.6,
        handlelength=1.8,
    )
