"""How tight the certified bounds of s_0, s_1 and s_2 are."""

from collections.abc import Mapping, Sequence

import numpy as np
from bundled import MeasuredBlock
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from page import markdown_table
from picture import explain, new_figure

from onnx_relusv.report.plots import light, plot_settings

_BAR_HEIGHT, _ABOVE, _BELOW = 0.17, 0.5, 0.25
_LEFT = 0.23
_ENDS = ("lower", "upper", "estimate")


def figure(blocks: Sequence[MeasuredBlock]) -> Figure:
    """What is certified as shares of sigma_(k+1), before and after the better bounds."""
    shown = [block for block in blocks if block.certified is not None]
    places = np.arange(len(shown))
    height = _BAR_HEIGHT * len(shown) + _ABOVE + _BELOW
    with plot_settings():
        picture = new_figure(height)
        panels = picture.subplots(1, 3, sharey=True, sharex=True)
        picture.subplots_adjust(
            left=_LEFT, right=0.985, bottom=_BELOW / height, top=1 - _ABOVE / height, wspace=0.08
        )
        for k, axes in enumerate(panels):
            lower, upper, estimate = (_shares(shown, k, end) for end in _ENDS)
            axes.axvspan(np.sqrt(0.5), 1, color=light("grid"), linewidth=0)
            # As wide as a hair at least: many brackets of s_0 are narrower than a pixel.
            axes.barh(
                places,
                np.maximum(upper - lower, 0.002),
                left=lower,
                height=0.5,
                color=light("sigma"),
            )
            if k:
                axes.plot(
                    estimate,
                    places,
                    color=light("estimate"),
                    linestyle="none",
                    marker="o",
                    markersize=3,
                )
            axes.set_title(f"s_{k} / sigma_{k + 1}", loc="left", pad=4)
            axes.grid(visible=False)
            axes.tick_params(axis="y", length=0)
        panels[0].set_xlim(0.69, 1.01)
        panels[0].set_xticks([0.8, 0.9, 1], ["0.8", "0.9", "1"])
        panels[0].set_yticks(places, [one.name for one in shown], fontsize=7)
        panels[0].set_ylim(len(shown) - 0.4, -0.6)
        handles = [
            Patch(color=light("grid"), label="the plain bracket"),
            Patch(color=light("sigma"), label="all that is certified"),
            Line2D([], [], color=light("estimate"), ls="none", marker="o", ms=3, label="estimate"),
        ]
        explain(picture, handles, _LEFT - 0.01)
    return picture


def table(models: Mapping[str, Sequence[MeasuredBlock]]) -> str:
    """Lower over upper bound of every model's blocks: the smallest and the median."""
    rows = []
    for name, blocks in models.items():
        shown = [block for block in blocks if block.certified is not None]
        cells = [name, str(len(shown))]
        for k in range(3):
            ratio = _shares(shown, k, "lower") / _shares(shown, k, "upper")
            cells.append(f"{ratio.min():.3f} / {np.median(ratio):.3f}")
        rows.append(cells)
    heads = ["model", "blocks", *(f"s_{k}: smallest / median" for k in range(3))]
    return markdown_table(heads, rows)


def _shares(blocks: Sequence[MeasuredBlock], k: int, end: str) -> np.ndarray:
    """A bound or the estimate of s_k as shares of sigma_(k+1)."""
    found = [block.certified for block in blocks if block.certified is not None]
    return np.array([getattr(one, end)[k] / one.sigma[k] for one in found])
