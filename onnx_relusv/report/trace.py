"""The report of a trace: its facts, what beats max softmax in plain sentences, its sections."""

from collections.abc import Iterator
from functools import partial
from operator import itemgetter

import numpy as np

from onnx_relusv.core.blocks import Floats
from onnx_relusv.core.traces import BlockTrace, Interval, Score, Separation, Trace
from onnx_relusv.report.page import Column, Fact, Legend, Part, Picture, PictureRow
from onnx_relusv.report.summary import refused
from onnx_relusv.report.trace_plots import TAIL, areas_svg, distribution_svg
from onnx_relusv.report.words import counted, number_text, percent_text, printable

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
        wrong = counted(int((~correct).sum()), "wrong answer")
        yield Fact("accuracy", percent_text(float(correct.mean())), wrong)
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
    return score.quantity + ("" if score.block is None else f" of {printable(score.block)}")


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
    if found.combined is not None:
        yield (
            "All quantities of all blocks, combined by a fit that never saw the input it scores: "
            f"{_verdict(found.combined)}."
        )
    if found.combined_with_output is not None:
        yield (
            "The same with max softmax and entropy among them: "
            f"{_verdict(found.combined_with_output)}."
        )
    if not found.folds:
        yield "Nothing was combined: a fit needs at least two right and two wrong answers."
    best = best_score(found)
    if best is not None:
        yield (
            f"The best single quantity of a block, {score_name(best)}, picked and turned on these "
            f"same inputs, which favours it: {_verdict(best)}."
        )
    fewest, kind = min((found.right, "right"), (found.wrong, "wrong"), key=lambda pair: pair[0])
    if fewest < _FEW_ANSWERS:
        yield f"Answers that are {kind} are few, {fewest}: the intervals are rough."


def _verdict(score: Score) -> str:
    gain = score.gain
    if gain is None:
        return f"AUROC {score.auroc.value:.3f}"
    outcome = "cannot be told from max softmax"
    if gain.lower > 0:
        outcome = "beats max softmax"
    elif gain.upper < 0:
        outcome = "does not beat max softmax"
    value, lower, upper = _decimals(gain)
    return f"{outcome} (gain {value}, 95 % interval {lower} to {upper})"


def _why_nothing(trace: Trace) -> str:
    if trace.max_softmax is None:
        return "No output has class scores, so there are no right and wrong answers to tell apart."
    if trace.correct is None:
        return "The samples have no labels, so there are no right and wrong answers to tell apart."
    kind = "right" if trace.correct.all() else "wrong"
    return f"All answers are {kind}, so there is nothing to tell apart."


CONCLUSIONS: Part[Trace] = Part(
    title="Right and wrong answers",
    of=lambda trace: (trace,),
    points=lambda trace: tuple(conclusions(trace)),
)
REFUSED = refused("These look like blocks and were not traced.")
_KEY = "The tensor that leaves the block."


def _median(values: Floats) -> float:
    """The middle value, the lower of two: between two infinite ones there is no mean."""
    return float(np.partition(values, (len(values) - 1) // 2)[(len(values) - 1) // 2])


def _bracket(block: BlockTrace) -> str:
    wide = block.width_upper > 0
    if not np.isnan(block.width).any() or not wide.any():
        return "exact"
    gap = 1 - block.width_lower[wide] / block.width_upper[wide]
    return f"{100 * float(gap.max()):.2g} %"


def _medians(trace: Trace) -> tuple[Column, ...]:
    correct = trace.correct if trace.separation is not None else None

    def text(values: Floats) -> str:
        kinds = [values] if correct is None else [values[correct], values[~correct]]
        return " / ".join(number_text(_median(kind)) for kind in kinds)

    places = "Output positions an input; 1 where there is no more."
    gap = "Largest gap of the width's certified bracket, of its upper end."
    return (
        Column("block", _KEY, value="key"),
        Column("units", "Neurons, or channels of a Conv.", True, value="units"),
        Column("positions", places, True, value="positions"),
        *(
            Column(name, f"{meaning} Median.", True, value=partial(_quantity, name), text=text)
            for name, meaning in QUANTITIES.items()
        ),
        Column("bracket", gap, True, value=_bracket),
    )


def _quantity(name: str, block: BlockTrace) -> Floats:
    return block.quantities[name]


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


def _scores_by_block(trace: Trace) -> list[list[Score]]:
    by_block: dict[str | None, list[Score]] = {}
    for score in () if trace.separation is None else trace.separation.scores:
        by_block.setdefault(score.block, []).append(score)
    return list(by_block.values())


def _area(score: Score) -> str:
    return f"{interval_text(score.auroc)} {'high' if score.higher_is_wrong else 'low'}"


AREAS: Part[Trace] = Part(
    title="AUROC by block",
    of=_scores_by_block,
    columns=(
        Column("block", _KEY, value=lambda scores: scores[0].block),
        *(
            Column(name, meaning, True, value=itemgetter(number), text=_area)
            for number, (name, meaning) in enumerate(QUANTITIES.items())
        ),
    ),
    text=(
        "AUROC with a 95 % bootstrap interval: the chance that a wrong answer lies below (low) or "
        "above (high) a right one. The side is chosen on these same inputs, so that no figure is "
        "under 0.5; that favours them slightly."
    ),
    note=(
        "AUROC [95 % interval]; low, high: where wrong answers lie, chosen on these same inputs."
    ),
)


def _scores(trace: Trace) -> tuple[tuple[str, Score], ...]:
    """Max softmax, entropy, the best quantity of a block, and all of them combined."""
    found = trace.separation
    if found is None:
        return ()
    best = best_score(found)
    shown = (
        *((score.quantity, score) for score in found.baselines),
        ("" if best is None else f"best of a block: {score_name(best)}", best),
        ("all quantities combined", found.combined),
        ("combined with max softmax and entropy", found.combined_with_output),
    )
    return tuple((name, score) for name, score in shown if score is not None)


def _scores_text(trace: Trace) -> str:
    found = trace.separation
    if found is None:
        return ""
    text = (
        f"{found.wrong} wrong answers against {found.right} right ones; {found.resamples} "
        "resamples."
    )
    if found.folds:
        text += (
            f" Combined: logistic regression, cross-fitted in {found.folds} folds, so that no "
            "input is scored by a fit that saw it. The intervals do not repeat the fits."
        )
    return text


_PAIRED = "AUROC minus that of max softmax, paired: on the same 95 % resamples."
_BOOTSTRAP = "With a 95 % bootstrap interval."
SCORES: Part[Trace] = Part(
    title="Scores",
    of=_scores,
    columns=(
        Column("score", value=itemgetter(0)),
        Column("AUROC", _BOOTSTRAP, True, value=lambda named: interval_text(named[1].auroc)),
        Column("gain", _PAIRED, True, value=lambda named: named[1].gain, text=interval_text),
    ),
    text=_scores_text,
)


def _areas_text(trace: Trace) -> str:
    text = (
        "The chance that a wrong answer lies on the wrong answers' side of a right one. Lines are "
        "95 % bootstrap intervals; the dashed line is max softmax, with its own interval in grey."
    )
    lines = f" The lines of a block are, from the top: {', '.join(QUANTITIES)}."
    return text + (lines if trace.blocks else "")


def _areas(trace: Trace) -> Iterator[Picture]:
    if trace.separation is not None:
        yield Picture(areas_svg(trace.separation, name="areas"), wide=True)


def _areas_legend(trace: Trace) -> Legend:
    blocks = tuple((name, name) for name in QUANTITIES) if trace.blocks else ()
    return (*blocks, ("ink", "the output, and all blocks"), ("level", "max softmax"))


AREAS_DRAWN: Part[Trace] = Part(
    title="What tells wrong answers",
    of=_scores,
    text=_areas_text,
    pictures=_areas,
    legend=_areas_legend,
)


def _distributions(trace: Trace) -> Iterator[PictureRow]:
    correct = trace.correct if trace.separation is not None else None
    for number, block in enumerate(trace.blocks):
        key, steps = printable(block.key), {"active": 1 / block.positions}
        svgs = [
            distribution_svg(
                values,
                correct,
                step=steps.get(quantity, 0.0),
                title=quantity,
                name=f"block-{number}-{quantity}",
                label=f"Distribution of {quantity} in {key}",
            )
            for quantity, values in block.quantities.items()
        ]
        yield PictureRow(key, tuple(map(Picture, svgs)))


_BY_ANSWER = (("right", "right answers"), ("wrong", "wrong answers"))
DISTRIBUTIONS: Part[Trace] = Part(
    title="Inputs, layer by layer",
    of=lambda trace: trace.blocks,
    text=lambda trace: (
        "In the order in which the model computes the blocks. "
        + ("" if trace.separation is None else "Right and wrong answers have equal areas. ")
        + f"The outermost {percent_text(TAIL)} on either side are left out."
    ),
    picture_rows=_distributions,
    legend=lambda trace: (("every", "all inputs"),) if trace.separation is None else _BY_ANSWER,
)
