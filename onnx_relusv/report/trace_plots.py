"""The plots of a trace: how inputs are distributed in a block, and the AUROC of every quantity."""

from collections.abc import Collection, Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from onnx_relusv.core.blocks import Floats
from onnx_relusv.core.traces import Interval, Score, Separation, Truths
from onnx_relusv.report.plots import inline_svg, light, plot_settings
from onnx_relusv.report.words import middle_cut, number_text, percent_text, printable

MOST_ROWS = 60
# The outermost shares of the inputs would squeeze all others into a few bins.
TAIL = 0.005
_LEAST_BINS, _MOST_BINS = 6, 40
_LONGEST_NAME = 34
_MARKERS = {"active": "o", "width": "s", "largest": "^", "margin": "D"}
# Inches a line of the chart of areas; a block has as many lines as quantities.
_LINE = 0.085
_GAP_LINES = 1.0


def distribution_svg(
    values: Floats, correct: Truths | None, *, step: float, title: str, name: str, label: str
) -> str:
    """How one quantity of a block is distributed, over right and over wrong answers.

    Areas under both are equal, and both are drawn on the same bins. The outermost inputs of either
    kind, a share of `TAIL` on either side, are left out, as are infinite values, of which the
    title tells.

    Args:
        values: (samples,) without NaN.
        correct: (samples,) or None, to draw all inputs as one.
        step: What the values are multiples of; 0 for any.
        title: Stands above.
        name: Sets the plot apart from the others of its page.
        label: What the picture shows, for those who do not see it.
    """
    if correct is None:
        kinds = {"every": values}
    else:
        kinds = {"right": values[correct], "wrong": values[~correct]}
    infinite = float(np.mean(np.isinf(values)))
    if infinite:
        title += f", {percent_text(infinite)} infinite"
    finite = {role: kind[np.isfinite(kind)] for role, kind in kinds.items()}
    finite = {role: kind for role, kind in finite.items() if len(kind)}
    low, high = _ends(finite.values())
    if finite and low == high:
        title += f", {percent_text(float(np.mean(values == low)))} at {number_text(low)}"
    with plot_settings():
        figure = Figure(figsize=(3.0, 1.25))
        figure.subplots_adjust(left=0.04, right=0.96, bottom=0.2, top=0.84)
        axes = figure.add_subplot()
        axes.set_title(title, loc="left", pad=3)
        axes.set_xticks([])
        axes.set_yticks([])
        axes.spines["left"].set_visible(False)
        # One value only, or none that is finite, has no distribution.
        if low < high:
            bins = _bin_count(min(map(len, finite.values())))
            _draw_distributions(axes, finite, _bin_edges(low, high, bins, step))
            axes.xaxis.set_major_locator(MaxNLocator(4, min_n_ticks=2, integer=step == 1))
            axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: number_text(value)))
        return inline_svg(figure, name=name, label=label)


def _draw_distributions(axes: Axes, kinds: Mapping[str, Floats], edges: Floats) -> None:
    for role, values in kinds.items():
        counts, _ = np.histogram(values, edges)
        shares = counts / counts.sum()
        # Wrong answers come last, and as a line: both stay visible.
        filled = role != "wrong"
        axes.stairs(shares, edges, color=light(role), fill=filled, linewidth=0 if filled else 1.1)
    axes.set_xlim(edges[0], edges[-1])
    axes.set_ylim(bottom=0)


def _ends(kinds: Collection[Floats]) -> tuple[float, float]:
    """From where to where all kinds are drawn; a kind of few is not cut off as another's tail."""
    ends = [np.quantile(values, (TAIL, 1 - TAIL), method="nearest") for values in kinds]
    if not ends:
        return 0.0, 0.0
    return float(min(low for low, _ in ends)), float(max(high for _, high in ends))


def _bin_count(values: int) -> int:
    """Rice's rule, for the kind that has the fewest."""
    return int(np.clip(np.ceil(2 * values ** (1 / 3)), _LEAST_BINS, _MOST_BINS))


def _bin_edges(low: float, high: float, bins: int, step: float) -> Floats:
    """At most so many bins and one; where values come in steps, equally many steps in each."""
    if step <= 0:
        return np.linspace(low, high, bins + 1)
    steps = round((high - low) / step) + 1
    width = step * np.ceil(steps / bins)
    count = int(np.ceil(steps * step / width - 1e-9))
    edges: Floats = low - step / 2 + width * np.arange(count + 1)
    return edges


def areas_svg(separation: Separation, *, name: str) -> str:
    """The AUROC of every score with its interval, and that of max softmax across.

    Beyond `MOST_ROWS` blocks, only those that tell best are drawn, and the title says how many are
    not.

    Args:
        separation: The scores.
        name: Sets the plot apart from the others of its page.
    """
    blocks: dict[str | None, list[Score]] = {}
    for score in separation.scores:
        blocks.setdefault(score.block, []).append(score)
    ranked = sorted(blocks, key=lambda key: -max(score.auroc.value for score in blocks[key]))
    shown = [scores for key, scores in blocks.items() if key in ranked[:MOST_ROWS]]
    hidden = len(blocks) - len(shown)
    title = f"the {len(shown)} blocks that tell best; {hidden} more are not drawn" if hidden else ""
    output = [*separation.baselines, separation.combined, separation.combined_with_output]
    rows = [[score] for score in output if score is not None] + shown
    lines = sum(max(len(row), 2) + _GAP_LINES for row in rows)
    with plot_settings():
        # Inches; the margins are for the title and for the scale.
        above, below = (0.3 if title else 0.05), 0.4
        height = _LINE * lines + above + below
        figure = Figure(figsize=(7.2, height))
        figure.subplots_adjust(left=0.3, right=0.97, bottom=below / height, top=1 - above / height)
        axes = figure.add_subplot()
        _draw_areas(axes, rows, separation.baselines[0].auroc)
        axes.set_ylim(lines, 0)
        axes.set_xlabel("AUROC", labelpad=1)
        axes.set_title(title, loc="left", pad=4)
        return inline_svg(figure, name=name, label="AUROC of every score, with its interval")


def _draw_areas(axes: Axes, rows: Sequence[Sequence[Score]], max_softmax: Interval) -> None:
    axes.axvspan(max_softmax.lower, max_softmax.upper, color=light("grid"), linewidth=0)
    axes.axvline(max_softmax.value, color=light("level"), linewidth=1, linestyle=(0, (4, 2)))
    top, middles = 0.0, []
    for row in rows:
        taken = max(len(row), 2) + _GAP_LINES
        middles.append(top + taken / 2)
        for number, score in enumerate(row):
            place = top + taken / 2 + number - (len(row) - 1) / 2
            role = score.quantity if score.quantity in _MARKERS else "ink"
            axes.hlines(
                place, score.auroc.lower, score.auroc.upper, color=light(role), linewidth=1.2
            )
            axes.plot(
                score.auroc.value,
                place,
                color=light(role),
                marker=_MARKERS.get(score.quantity, "o"),
                markersize=3.4,
                linestyle="none",
            )
        top += taken
    axes.set_yticks(middles, [_row_name(row[0]) for row in rows])
    axes.tick_params(axis="y", length=0)
    axes.grid(visible=False, axis="y")
    axes.xaxis.set_major_locator(MaxNLocator(8))


def _row_name(score: Score) -> str:
    if score.block is None:
        return score.quantity
    # The font that measures the labels knows few scripts, and would warn of each other character.
    name = printable(score.block).encode("ascii", "backslashreplace").decode("ascii")
    return middle_cut(name, _LONGEST_NAME)
