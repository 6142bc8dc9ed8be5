"""The patch view of a Conv against its norm as an operator on feature maps."""

from collections.abc import Mapping, Sequence
from math import ceil, prod, sqrt

import numpy as np
from bundled import MeasuredBlock
from matplotlib.figure import Figure
from page import markdown_table
from picture import new_figure

from onnx_relusv.report.plots import light, plot_settings

_BAR_HEIGHT, _ABOVE, _BELOW = 0.17, 0.06, 0.4


def figure(blocks: Sequence[MeasuredBlock]) -> Figure:
    """The operator's norm over sigma_1 of the patch view, within what is proved of it."""
    shown = _convolutions(blocks)
    places = np.arange(len(shown))
    height = _BAR_HEIGHT * len(shown) + _ABOVE + _BELOW
    with plot_settings():
        picture = new_figure(height)
        axes = picture.add_subplot()
        picture.subplots_adjust(
            left=0.36, right=0.97, bottom=_BELOW / height, top=1 - _ABOVE / height
        )
        axes.barh(
            places, [_limit(one) - 1 for one in shown], left=1, height=0.6, color=light("band")
        )
        axes.plot(
            [_ratio(one) for one in shown],
            places,
            color=light("sigma"),
            linestyle="none",
            marker="o",
            markersize=4,
        )
        axes.set_xlim(0.9, 3.1)
        axes.set_yticks(places, [_name(one) for one in shown], fontsize=7)
        axes.set_ylim(len(shown) - 0.4, -0.6)
        axes.grid(visible=False, axis="y")
        axes.tick_params(axis="y", length=0)
        axes.set_xlabel("operator norm over sigma_1 of the patch view (dot), and its limits (bar)")
    return picture


def table(models: Mapping[str, Sequence[MeasuredBlock]]) -> str:
    """The ratio by model, of the kernels that are longer than 1."""
    rows = []
    for name, blocks in models.items():
        ratios = np.array([_ratio(one) for one in _convolutions(blocks) if _limit(one) > 1])
        if len(ratios):
            rows.append(
                [
                    name,
                    str(len(ratios)),
                    f"{ratios.min():.2f}",
                    f"{np.median(ratios):.2f}",
                    f"{ratios.max():.2f}",
                ]
            )
    return markdown_table(["model", "3x3 kernels", "smallest", "median", "largest"], rows)


def _convolutions(blocks: Sequence[MeasuredBlock]) -> list[MeasuredBlock]:
    return [one for one in blocks if one.block.geometry.kind == "conv"]


def _ratio(measured: MeasuredBlock) -> float:
    return measured.spectrum.operator_norm / float(measured.spectrum.sigma[0])


def _limit(measured: MeasuredBlock) -> float:
    """The root of the number of patches that one input position can be part of."""
    geometry = measured.block.geometry
    return sqrt(prod(ceil(k / s) for k, s in zip(geometry.kernel, geometry.strides, strict=True)))


def _name(measured: MeasuredBlock) -> str:
    geometry = measured.block.geometry
    stride = f", stride {geometry.strides[0]}" if geometry.strides[0] > 1 else ""
    kernel = "x".join(map(str, geometry.kernel))
    return f"{measured.name} ({kernel}{stride})"
