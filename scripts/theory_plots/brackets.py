"""How tight the certified bounds of s_0, s_1 and s_2 are."""

from collections.abc import Mapping, Sequence

import numpy as np
from bundled import MeasuredBlock
from matplotlib.figure import Figure
from page import markdown_table
from picture import drawing, new_figure

from onnx_relusv.report.colours import light

_BAR_HEIGHT, _MARGIN = 0.17, 0.55


def figure(blocks: Sequence[MeasuredBlock]) -> Figure:
    """What is certified as shares of sigma_(k+1), before and after the better bounds."""
    shown = [block for block in blocks if block.certified is not None]
    places = np.arange(len(shown))
    height = _BAR_HEIGHT * len(shown) + 2 * _MARGIN
    with drawing():
        picture = new_figure(height)
        panels = picture.subplots(1, 3, sharey=True, sharex=True)
        picture.subplots_adjust(
            left=0.27, right=0.985, bottom=_MARGIN / height, top=1 - _MARGIN / height, wspace=0.08
        )
        for k, axes in enumerate(panels):
            lower, upper = _shares(shown, k)
            axes.axvspan(np.sqrt(0.5), 1, color=light("before"), alpha=0.45, linewidth=0)
            axes.hlines(places, lower, upper, color=light("sigma"), linewidth=4)
            axes.plot(lower, places, color=light("sigma"), linestyle="none", marker="|")
            axes.plot(upper, places, color=light("sigma"), linestyle="none", marker="|")
            axes.set_title(f"s_{k} as a share of sigma_{k + 1}", loc="left", pad=4)
            axes.set_xlim(0.69, 1.01)
            axes.grid(visible=False, axis="y")
            axes.tick_params(axis="y", length=0)
        panels[0].set_yticks(places, [f"{one.model} {_short(one)}" for one in shown], fontsize=7)
        panels[0].set_ylim(len(shown) - 0.4, -0.6)
        picture.text(
            0.27,
            0.012,
            "blue: certified with the better bounds; grey: the plain bracket",
            fontsize=7.5,
        )
    return picture


def table(models: Mapping[str, Sequence[MeasuredBlock]]) -> str:
    """Lower over upper bound of every model's blocks: the smallest and the median."""
    rows = []
    for name, blocks in models.items():
        shown = [block for block in blocks if block.certified is not None]
        cells = [name, str(len(shown))]
        for k in range(3):
            lower, upper = _shares(shown, k)
            ratio = lower / upper
            cells.append(f"{ratio.min():.3f} / {np.median(ratio):.3f}")
        rows.append(cells)
    heads = ["model", "blocks", *(f"s_{k}: smallest / median" for k in range(3))]
    return markdown_table(heads, rows)


def _shares(blocks: Sequence[MeasuredBlock], k: int) -> tuple[np.ndarray, np.ndarray]:
    """Certified lower and upper bounds of s_k as shares of sigma_(k+1)."""
    found = [block.certified for block in blocks if block.certified is not None]
    lower, upper = (
        np.array([getattr(one, end)[k] / one.sigma[k] for one in found])
        for end in ("lower", "upper")
    )
    return lower, upper


def _short(measured: MeasuredBlock) -> str:
    return measured.block.key.removesuffix("_relu").replace("stage", "s").replace("_block", ".")
