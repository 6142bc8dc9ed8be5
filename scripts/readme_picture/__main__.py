"""Draws what models lose over what is left of them, out of the table in docs/benchmarks.md."""

import re
import sys
from collections import defaultdict
from pathlib import Path

sys.path.append("scripts/theory_plots")

from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator
from picture import new_figure, write_picture

from onnx_relusv.report.plots import light, plot_settings

PAGE, PICTURE = Path("docs/benchmarks.md"), Path("docs/images/size_accuracy.svg")
# Model, what was asked for, bytes left, MACs left, accuracies, drop, worst, what was wanted.
_ROW = re.compile(
    r"^\| (\w+) \| [\d.]+ \| ([\d.]+) \| [\d.]+ \| [^|]*%[^|]*% "
    r"\| (-?[\d.]+) \| (-?[\d.]+) \| [\d.]+ \|$",
    re.MULTILINE,
)
_ROLES = ("sigma", "estimate", "chosen", "active", "wrong", "ink")
_MARKERS = ("o", "s", "^", "D", "v", "P")


def recorded(text: str) -> dict[str, list[tuple[float, float, float]]]:
    """By model: shares of the bytes that are left, points lost, and the worst of three draws."""
    found: dict[str, list[tuple[float, float, float]]] = defaultdict(list)
    for model, share, drop, worst in _ROW.findall(text):
        found[model].append((float(share), float(drop), float(worst)))
    return dict(found)


def main() -> None:
    """Writes the picture."""
    models = recorded(PAGE.read_text(encoding="utf-8"))
    if not models:
        raise SystemExit(f"{PAGE}: there is no table to draw.")
    with plot_settings():
        figure = new_figure(2.9)
        axes = figure.add_subplot()
        figure.subplots_adjust(left=0.08, right=0.98, bottom=0.15, top=0.96)
        for (model, points), role, marker in zip(models.items(), _ROLES, _MARKERS, strict=False):
            shares, drops, worst = zip(*points, strict=True)
            # Nothing is lost of what is whole; what lies between was not measured.
            axes.plot(
                (1.0, shares[0]), (0.0, drops[0]), color=light(role), linewidth=0.7, linestyle=":"
            )
            axes.plot(shares, drops, color=light(role), marker=marker, markersize=4, label=model)
            axes.vlines(shares, drops, worst, color=light(role), linewidth=0.8)
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(FixedLocator([1, 0.5, 0.25, 0.125, 0.0625]))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda share, _: f"{100 * share:.3g} %"))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.set_xlim(1.1, 0.055)
        axes.set_ylim(-0.03, 1.0)
        axes.set_xlabel("bytes left")
        axes.set_ylabel("points of accuracy lost")
        axes.legend(loc="upper left", frameon=False)
        write_picture(
            figure, PICTURE, "Points of accuracy that six models lose over the bytes left of them"
        )


if __name__ == "__main__":
    main()
