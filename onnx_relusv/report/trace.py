"""The report of a trace: what beats max softmax in plain sentences, its sections and its plots."""

from collections.abc import Collection, Iterator
from functools import partial
from itertools import groupby
from typing import TYPE_CHECKING

import numpy as np

from onnx_relusv.core.blocks import Floats
from onnx_relusv.core.traces import BlockTrace, Interval, Score, Separation, Trace, Truths
from onnx_relusv.report import words
from onnx_relusv.report.page import Column, Fact, Legend, Number, Part, Picture, PictureRow
from onnx_relusv.report.plots import DASHED, draw, draw_lines, light, line_name, scale, ticker
from onnx_relusv.report.sections import refused

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# With fewer answers of a kind, resamples of them are too much alike.
_FEW_ANSWERS = 30
_MOST_DECIMALS = 5
# What every quantity is, and what its figures are worth.
QUANTITIES = {
    "active": "Units whose derivative is not zero; of a Conv, channels at a position.",
    "width": (
        "Gaussian mean width w(A_x) of the activated operator A_x, the linear map that the block "
        "is at the input x; the middle of its certified bracket where it was not computed."
    ),
    "largest": "Largest ReLU singular value of A_x: an estimate from below.",
    "margin": (
        "Distance of the block's input, in its own units, to the nearest point where a unit "
        "changes its branch."
    ),
}


def trace_facts(trace: Trace) -> Iterator[Fact]:
    """The summary of a trace."""
    made, correct, found = trace.provenance, trace.correct, trace.separation
    yield Fact("inputs", str(made.sample_count), f"on {made.provider}")
    yield Fact("blocks", str(len(trace.blocks)), f"{len(trace.refusals)} more refused")
    if correct is not None and len(correct):
        wrong = words.counted(int((~correct).sum()), "wrong answer")
        yield Fact("accuracy", words.percent(float(correct.mean())), wrong)
    if found is not None:
        for name, score in (
            ("max softmax", found.baselines[0]),
            ("best of a block", best_score(found)),
            ("all combined", found.combined),
            ("combined with output", found.combined_with_output),
        ):
            if score is not None:
                area = score.auroc
                interval = f"95 % interval {area.lower:.3f} to {area.upper:.3f}"
                yield Fact(name, f"AUROC {area.value:.3f}", interval)


def best_score(separation: Separation) -> Score | None:
    """The quantity of a block with the largest AUROC; None without blocks."""
    return max(separation.scores, key=lambda score: score.auroc.value, default=None)


def score_name(score: Score) -> str:
    """A score with its block."""
    return score.quantity + ("" if score.block is None else f" of {words.printable(score.block)}")


def interval_text(interval: Interval) -> str:
    """A figure with its interval."""
    value, lower, upper = _decimals(interval)
    return f"{value} [{lower}, {upper}]"


def _decimals(interval: Interval) -> list[str]:
    """Value and ends with three decimals, or more where an end would lose its sign by rounding."""
    ends, digits = (interval.lower, interval.upper), 3
    while any(round(end, _MOST_DECIMALS) and not round(end, digits) for end in ends):
        digits += 1
    # Zero is added because what rounds to zero from below would keep its sign.
    return [f"{round(number, digits) + 0.0:.{digits}f}" for number in (interval.value, *ends)]


def conclusions(trace: Trace) -> Iterator[str]:
    """Sentences that say what was learned about right and wrong answers, or why nothing was."""
    found = trace.separation
    if found is None:
        yield _why_nothing(trace)
        return
    fit = "All quantities of all blocks, combined by a fit that never saw the input it scores"
    for sentence, score in (
        (fit, found.combined),
        ("The same with max softmax and entropy among them", found.combined_with_output),
    ):
        if score is not None:
            yield f"{sentence}: {_verdict(score)}."
    if not found.folds:
        yield "Nothing was combined: a fit needs at least two right and two wrong answers."
    best = best_score(found)
    if best is not None:
        yield (
            f"The best single quantity of a block, {score_name(best)}, chosen with its direction "
            f"on these same inputs, which favours it: {_verdict(best)}."
        )
    fewest, kind = min((found.right, "right"), (found.wrong, "wrong"), key=lambda pair: pair[0])
    if fewest < _FEW_ANSWERS:
        yield f"Answers that are {kind} are few, {fewest}: the intervals are rough."


def _verdict(score: Score) -> str:
    gain = score.gain
    if gain is None:
        return f"AUROC {score.auroc.value:.3f}"
    outcome = "cannot be told from max softmax"
    if gain.lower > 0 or gain.upper < 0:
        outcome = f"{'beats' if gain.lower > 0 else 'does not beat'} max softmax"
    value, lower, upper = _decimals(gain)
    return f"{outcome} (gain {value}, 95 % interval {lower} to {upper})"


def _why_nothing(trace: Trace) -> str:
    missing = "" if trace.correct is not None else "The samples have no labels"
    if trace.max_softmax is None:
        missing = "No output has class scores"
    if missing:
        return f"{missing}, so there are no right and wrong answers to tell apart."
    kind = "right" if np.all(trace.correct) else "wrong"
    return f"All answers are {kind}, so there is nothing to tell apart."


CONCLUSIONS: Part[Trace] = Part(
    title="Right and wrong answers", of=lambda trace: (trace,), points=conclusions
)
REFUSED = refused("These look like blocks and were not traced.")
_KEY = "The tensor that leaves the block."


def _median(values: Floats) -> float:
    """The middle value, the lower of two: between two infinite ones there is no mean."""
    middle = (len(values) - 1) // 2
    return float(np.partition(values, middle)[middle])


def _bracket(block: BlockTrace) -> str:
    wide = block.width_upper > 0
    if not np.isnan(block.width).any() or not wide.any():
        return "exact"
    gap = 1 - block.width_lower[wide] / block.width_upper[wide]
    return f"{100 * float(gap.max()):.2g} %"


def _medians(trace: Trace) -> tuple[Column, ...]:
    correct = trace.correct if trace.separation is not None else None

    def text(values: Floats) -> str:
        return " / ".join(
            words.number(_median(kind)) for kind in by_answer(values, correct).values()
        )

    return (
        Column("block", _KEY, "key"),
        Number("units", "Neurons, or channels of a Conv."),
        Number("positions", "Output positions an input; 1 where there is no more."),
        *(
            Number(name, f"{meaning} Median.", partial(_quantity, name), text)
            for name, meaning in QUANTITIES.items()
        ),
        Number(
            "bracket", "Largest gap of the width's certified bracket, of its upper end.", _bracket
        ),
    )


def _quantity(name: str, block: BlockTrace) -> Floats:
    return block.quantities[name]


def by_answer(values: Floats, correct: Truths | None) -> dict[str, Floats]:
    """Values by the role in which they are drawn: all of them, or right and wrong answers apart."""
    if correct is None:
        return {"every": values}
    return {"right": values[correct], "wrong": values[~correct]}


# Of right and wrong answers where there are both.
MEDIANS: Part[Trace] = Part(
    title=lambda trace: (
        "Blocks"
        if not trace.blocks
        else f"Medians of {'all inputs' if trace.separation is None else 'right / wrong answers'}"
    ),
    of=lambda trace: trace.blocks,
    columns=_medians,
    empty="No block was traced.",
)


def _by_block(found: Separation | None) -> list[list[Score]]:
    scores = () if found is None else found.scores
    return [list(group) for _, group in groupby(scores, key=lambda score: score.block)]


def _area(score: Score) -> str:
    return f"{interval_text(score.auroc)} {'high' if score.higher_is_wrong else 'low'}"


AREAS: Part[Trace] = Part(
    title="AUROC by block",
    of=lambda trace: _by_block(trace.separation),
    columns=(
        Column("block", _KEY, lambda scores: scores[0].block),
        *(
            Number(name, meaning, number, _area)
            for number, (name, meaning) in enumerate(QUANTITIES.items())
        ),
    ),
    text="AUROC with a 95 % bootstrap interval: the chance that a wrong answer lies below (low) or "
    "above (high) a right one. The side is chosen on these same inputs, so that no figure is under "
    "0.5; that favours them slightly.",
    note="AUROC [95 % interval]; low, high: where wrong answers lie, chosen on these same inputs.",
)


def _scores(trace: Trace) -> Iterator[tuple[str, Score]]:
    """Max softmax, entropy, the best quantity of a block, and all of them combined."""
    found = trace.separation
    if found is None:
        return
    yield from ((score.quantity, score) for score in found.baselines)
    best = best_score(found)
    if best is not None:
        yield f"best of a block: {score_name(best)}", best
    if found.combined is not None:
        yield "all quantities combined", found.combined
    if found.combined_with_output is not None:
        yield "combined with max softmax and entropy", found.combined_with_output


def _scores_text(trace: Trace) -> str:
    found = trace.separation
    if found is None:
        return ""
    answers = f"{found.wrong} wrong answers against {found.right} right ones"
    return f"{answers}; {found.resamples} resamples." + (
        f" Combined: logistic regression, cross-fitted in {found.folds} folds, so that no input is "
        "scored by a fit that saw it. The intervals do not repeat the fits." * bool(found.folds)
    )


SCORES: Part[Trace] = Part(
    title="Scores",
    of=_scores,
    columns=(
        Column("score", "", 0),
        Number(
            "AUROC",
            "With a 95 % bootstrap interval.",
            lambda named: interval_text(named[1].auroc),
        ),
        Number(
            "gain",
            "AUROC minus that of max softmax, paired: on the same 95 % resamples.",
            lambda named: named[1].gain,
            interval_text,
        ),
    ),
    text=_scores_text,
)


def _areas(trace: Trace) -> Iterator[Picture]:
    if trace.separation is not None:
        yield Picture(areas_svg(trace.separation, name="areas"), wide=True)


AREAS_DRAWN: Part[Trace] = Part(
    title="What tells wrong answers",
    of=_scores,
    text=lambda trace: (
        "The chance that a wrong answer lies on the wrong answers' side of a right one. Lines are "
        "95 % bootstrap intervals; the dashed line is max softmax, with its own interval in grey."
        + f" The lines of a block are, from the top: {', '.join(QUANTITIES)}."
        * bool(trace.blocks)
    ),
    pictures=_areas,
    legend=lambda trace: (
        *((name, name) for name in QUANTITIES if trace.blocks),
        ("ink", "the output, and all blocks"),
        ("level", "max softmax"),
    ),
)


def _distributions(trace: Trace) -> Iterator[PictureRow]:
    correct = trace.correct if trace.separation is not None else None
    for number, block in enumerate(trace.blocks):
        key = words.printable(block.key)
        pictures = (
            Picture(
                distribution_svg(
                    values,
                    correct,
                    step=1 / block.positions if quantity == "active" else 0.0,
                    title=quantity,
                    name=f"block-{number}-{quantity}",
                    label=f"Distribution of {quantity} in {key}",
                )
            )
            for quantity, values in block.quantities.items()
        )
        yield PictureRow(key, tuple(pictures))


_ALL: Legend = (("every", "all inputs"),)
_BY_ANSWER: Legend = (("right", "right answers"), ("wrong", "wrong answers"))
DISTRIBUTIONS: Part[Trace] = Part(
    title="Inputs, layer by layer",
    of=lambda trace: trace.blocks,
    text=lambda trace: (
        "In the order in which the model computes the blocks. "
        + "Right and wrong answers have equal areas. " * (trace.separation is not None)
        + f"The outermost {words.percent(_TAIL)} on either side are left out."
    ),
    picture_rows=_distributions,
    legend=lambda trace: _ALL if trace.separation is None else _BY_ANSWER,
)

MOST_ROWS = 60
# The outermost shares of the inputs would squeeze all others into a few bins.
_TAIL = 0.005
_LEAST_BINS, _MOST_BINS = 6, 40
_MARKERS = {"active": "o", "width": "s", "largest": "^", "margin": "D"}
# Inches a line of the chart of areas; a block has as many lines as quantities.
_LINE = 0.085


def distribution_svg(
    values: Floats, correct: Truths | None, *, step: float, title: str, name: str, label: str
) -> str:
    """How one quantity of a block is distributed, over right and over wrong answers.

    Areas under both are equal, and both are drawn on the same bins. The outermost inputs of either
    kind, a share of 0.5 % on either side, are left out, as are infinite values, of which the title
    tells.

    Args:
        values: (samples,) without NaN.
        correct: (samples,) or None, to draw all inputs as one.
        step: What the values are multiples of; 0 for any.
        title: Stands above.
        name: Sets the plot apart from the others of its page.
        label: What the picture shows, for those who do not see it.
    """
    infinite = float(np.mean(np.isinf(values)))
    if infinite:
        title += f", {words.percent(infinite)} infinite"
    finite = {role: kind[np.isfinite(kind)] for role, kind in by_answer(values, correct).items()}
    finite = {role: kind for role, kind in finite.items() if len(kind)}
    low, high = _ends(finite.values())
    if finite and low == high:
        title += f", {words.percent(float(np.mean(values == low)))} at {words.number(low)}"

    def paint(axes: "Axes") -> None:
        axes.set_title(title, loc="left", pad=3)
        axes.set_xticks([])
        axes.set_yticks([])
        axes.spines["left"].set_visible(False)
        if low == high:
            return
        edges = _bin_edges(low, high, _bin_count(min(map(len, finite.values()))), step)
        for role, kind in finite.items():
            counts, _ = np.histogram(kind, edges)
            # Wrong answers come last, and as a line: both stay visible.
            filled, shares = role != "wrong", counts / counts.sum()
            width = 0 if filled else 1.1
            axes.stairs(shares, edges, color=light(role), fill=filled, linewidth=width)
        axes.set_xlim(edges[0], edges[-1])
        axes.set_ylim(bottom=0)
        scale(axes.xaxis, ticker.MaxNLocator(4, min_n_ticks=2, integer=step == 1))

    return draw(paint, (3.0, 1.25), (0.04, 0.96, 0.2, 0.84), name=name, label=label)


def _ends(kinds: Collection[Floats]) -> tuple[float, float]:
    """From where to where all kinds are drawn; a kind of few is not cut off as another's tail."""
    ends = [np.quantile(values, (_TAIL, 1 - _TAIL), method="nearest") for values in kinds]
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
    blocks = _by_block(separation)
    best = [max(score.auroc.value for score in scores) for scores in blocks]
    ranked = sorted(range(len(blocks)), key=lambda index: -best[index])
    shown = [blocks[index] for index in sorted(ranked[:MOST_ROWS])]
    hidden = len(blocks) - len(shown)
    title = f"the {len(shown)} blocks that tell best; {hidden} more are not drawn" if hidden else ""
    output = [*separation.baselines, separation.combined, separation.combined_with_output]
    rows = [[score] for score in output if score is not None] + shown
    # A block has at least two lines, and one that is free.
    ends = np.cumsum([0, *(max(len(row), 2) + 1 for row in rows)])
    max_softmax = separation.baselines[0].auroc

    def paint(axes: "Axes") -> None:
        axes.axvspan(max_softmax.lower, max_softmax.upper, color=light("grid"), linewidth=0)
        axes.axvline(max_softmax.value, color=light("level"), linewidth=1, linestyle=DASHED)
        middles = (ends[:-1] + ends[1:]) / 2
        for middle, row in zip(middles, rows, strict=True):
            for number, score in enumerate(row):
                place, area = middle + number - (len(row) - 1) / 2, score.auroc
                colour = light(score.quantity if score.quantity in _MARKERS else "ink")
                marker = _MARKERS.get(score.quantity, "o")
                axes.hlines(place, area.lower, area.upper, color=colour, linewidth=1.2)
                axes.plot(area.value, place, marker, color=colour, markersize=3.4, linestyle="none")
        names = (
            score.quantity if score.block is None else line_name(score.block) for score, *_ in rows
        )
        axes.set_yticks(middles, list(names))
        axes.xaxis.set_major_locator(ticker.MaxNLocator(8))
        axes.set_ylim(ends[-1], 0)
        axes.set_xlabel("AUROC", labelpad=1)

    label = "AUROC of every score, with its interval"
    return draw_lines(paint, _LINE * ends[-1], 0.4, title=title, name=name, label=label)
