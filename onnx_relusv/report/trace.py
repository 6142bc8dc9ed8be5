"""The tables of a trace; one with nothing to say is left out.

What a trace comes to: the facts at the top, and in plain sentences what beats max softmax.

The pictures of a trace's page; a section with nothing to show is left out.
"""

from collections.abc import Iterable

import numpy as np

from onnx_relusv.core.blocks import Floats
from onnx_relusv.core.traces import BlockTrace, Interval, Score, Separation, Trace
from onnx_relusv.report.page import MOST_OPEN, Fact, Heading, Picture, PictureRow, Section, Table
from onnx_relusv.report.trace_plots import TAIL, areas_svg, distribution_svg
from onnx_relusv.report.words import NOTHING, number_text, percent_text, printable

# With fewer answers of a kind, resamples of them are too much alike.
_FEW_ANSWERS = 30
_MOST_DECIMALS = 5


def trace_facts(trace: Trace) -> tuple[Fact, ...]:
    """The summary of a trace."""
    provenance = trace.provenance
    return (
        Fact("inputs", str(provenance.sample_count), f"on {provenance.provider}"),
        Fact("blocks", str(len(trace.blocks)), f"{len(trace.refusals)} more refused"),
        *_accuracy(trace),
        *_areas(trace.separation),
    )


def conclusions(trace: Trace) -> tuple[str, ...]:
    """Sentences that say what was learned about right and wrong answers, or why nothing was."""
    separation = trace.separation
    if separation is None:
        return (_why_nothing(trace),)
    sentences = []
    if separation.combined is not None:
        sentences.append(
            "All quantities of all blocks, combined by a fit that never saw the input it scores: "
            f"{_verdict(separation.combined)}."
        )
    if separation.combined_with_output is not None:
        sentences.append(
            "The same with max softmax and entropy among them: "
            f"{_verdict(separation.combined_with_output)}."
        )
    if not separation.folds:
        sentences.append(
            "Nothing was combined: a fit needs at least two right and two wrong answers."
        )
    best = best_score(separation)
    if best is not None:
        sentences.append(
            f"The best single quantity of a block, {score_name(best)}, picked and turned on these "
            f"same inputs, which favours it: {_verdict(best)}."
        )
    kind, fewest = min(
        (("right", separation.right), ("wrong", separation.wrong)), key=lambda pair: pair[1]
    )
    if fewest < _FEW_ANSWERS:
        sentences.append(f"Answers that are {kind} are few, {fewest}: the intervals are rough.")
    return tuple(sentences)


def best_score(separation: Separation) -> Score | None:
    """The quantity of a block with the largest AUROC; None without blocks."""
    return max(separation.scores, key=lambda score: score.auroc.value, default=None)


def score_name(score: Score) -> str:
    """A score with its block."""
    if score.block is None:
        return score.quantity
    return f"{score.quantity} of {printable(score.block)}"


def interval_text(interval: Interval) -> str:
    """A figure with its interval."""
    value, lower, upper = _decimals(interval)
    return f"{value} [{lower}, {upper}]"


def _verdict(score: Score) -> str:
    gain = score.gain
    if gain is None:
        return f"AUROC {score.auroc.value:.3f}"
    if gain.lower > 0:
        outcome = "beats max softmax"
    elif gain.upper < 0:
        outcome = "does not beat max softmax"
    else:
        outcome = "cannot be told from max softmax"
    value, lower, upper = _decimals(gain)
    return f"{outcome} (gain {value}, 95 % interval {lower} to {upper})"


def _decimals(interval: Interval) -> list[str]:
    """Value and ends with three decimals, or more where an end would lose its sign by rounding."""
    numbers = (interval.value, interval.lower, interval.upper)
    digits = 3
    while any(
        round(end, _MOST_DECIMALS) and not round(end, digits)
        for end in (interval.lower, interval.upper)
    ):
        digits += 1
    # Zero is added because what rounds to zero from below would keep its sign.
    return [f"{round(number, digits) + 0.0:.{digits}f}" for number in numbers]


def _why_nothing(trace: Trace) -> str:
    if trace.max_softmax is None:
        return "No output has class scores, so there are no right and wrong answers to tell apart."
    if trace.correct is None:
        return "The samples have no labels, so there are no right and wrong answers to tell apart."
    kind = "right" if trace.correct.all() else "wrong"
    return f"All answers are {kind}, so there is nothing to tell apart."


def _accuracy(trace: Trace) -> tuple[Fact, ...]:
    if trace.correct is None or not len(trace.correct):
        return ()
    wrong = int((~trace.correct).sum())
    note = f"{wrong} wrong answer" + ("" if wrong == 1 else "s")
    return (Fact("accuracy", percent_text(float(trace.correct.mean())), note),)


def _areas(separation: Separation | None) -> tuple[Fact, ...]:
    if separation is None:
        return ()
    named = [
        ("max softmax", separation.baselines[0]),
        ("best of a block", best_score(separation)),
        ("all combined", separation.combined),
        ("combined with output", separation.combined_with_output),
    ]
    return tuple(
        Fact(
            name,
            f"AUROC {score.auroc.value:.3f}",
            f"95 % interval {score.auroc.lower:.3f} to {score.auroc.upper:.3f}",
        )
        for name, score in named
        if score is not None
    )


REFUSED = "These look like blocks and were not traced."
# What every quantity is, and what its figures are worth.
QUANTITIES = {
    "active": "Units whose derivative is not zero; of a Conv, channels at a position.",
    "width": (
        "Gaussian mean width w(A_x) of the activated operator A_x; the middle of its certified "
        "bracket where it was not computed."
    ),
    "largest": "Largest ReLU singular value of A_x: an estimate from below.",
    "margin": (
        "Distance of the block's input, in its own units, to the nearest point where a unit "
        "changes its branch."
    ),
}


def conclusions_section(trace: Trace) -> Section:
    """In plain sentences what beats max softmax."""
    return Section(title="Right and wrong answers", points=conclusions(trace))


def medians_section(trace: Trace) -> tuple[Section, ...]:
    """Medians of every quantity of every block, of right and wrong answers where there are both."""
    if not trace.blocks:
        return (Section(title="Blocks", text="No block was traced."),)
    both = trace.separation is not None
    kinds = "right / wrong answers" if both else "all inputs"
    headings = (
        Heading("block", "The tensor that leaves the block."),
        Heading("units", "Neurons, or channels of a Conv.", True),
        Heading("positions", "Output positions an input; 1 where there is no more.", True),
        *(Heading(name, f"{meaning} Median.", True) for name, meaning in QUANTITIES.items()),
        Heading("bracket", "Largest gap of the width's certified bracket, of its upper end.", True),
    )
    rows = tuple(
        (
            printable(block.key),
            str(block.units),
            str(block.positions),
            *(_median_text(values, trace) for values in block.quantities.values()),
            _bracket_text(block),
        )
        for block in trace.blocks
    )
    return (Section(title=f"Medians of {kinds}", table=Table(headings, rows)),)


def areas_section(separation: Separation | None) -> tuple[Section, ...]:
    """The AUROC of every quantity of every block."""
    if separation is None or not separation.scores:
        return ()
    headings = (
        Heading("block", "The tensor that leaves the block."),
        *(Heading(name, meaning, True) for name, meaning in QUANTITIES.items()),
    )
    by_block: dict[str | None, list[str]] = {}
    for score in separation.scores:
        by_block.setdefault(score.block, []).append(_sided_text(score))
    rows = tuple((printable(block or NOTHING), *cells) for block, cells in by_block.items())
    text = (
        "AUROC with a 95 % bootstrap interval: the chance that a wrong answer lies below (low) or "
        "above (high) a right one. The side is chosen on these same inputs, so that no figure is "
        "under 0.5; that favours them slightly."
    )
    return (Section(title="AUROC by block", text=text, table=Table(headings, rows)),)


def scores_section(separation: Separation | None) -> tuple[Section, ...]:
    """Max softmax, entropy, the best quantity of a block, and all of them combined."""
    if separation is None:
        return ()
    headings = (
        Heading("score"),
        Heading("AUROC", "With a 95 % bootstrap interval.", True),
        Heading(
            "gain", "AUROC minus that of max softmax, paired: on the same 95 % resamples.", True
        ),
    )
    shown: Iterable[tuple[str, Score | None]] = (
        *((score.quantity, score) for score in separation.baselines),
        ("best of a block", best_score(separation)),
        ("all quantities combined", separation.combined),
        ("combined with max softmax and entropy", separation.combined_with_output),
    )
    rows = tuple(
        (
            f"{name}: {score_name(score)}" if score.block is not None else name,
            interval_text(score.auroc),
            NOTHING if score.gain is None else interval_text(score.gain),
        )
        for name, score in shown
        if score is not None
    )
    text = (
        f"{separation.wrong} wrong answers against {separation.right} right ones; "
        f"{separation.resamples} resamples."
    )
    if separation.folds:
        text += (
            f" Combined: logistic regression, cross-fitted in {separation.folds} folds, so that "
            "no input is scored by a fit that saw it. The intervals do not repeat the fits."
        )
    return (Section(title="Scores", text=text, table=Table(headings, rows)),)


def _sided_text(score: Score) -> str:
    side = "high" if score.higher_is_wrong else "low"
    return f"{interval_text(score.auroc)} {side}"


def _median_text(values: Floats, trace: Trace) -> str:
    if trace.separation is None or trace.correct is None:
        return number_text(_median(values))
    right, wrong = (_median(values[kind]) for kind in (trace.correct, ~trace.correct))
    return f"{number_text(right)} / {number_text(wrong)}"


def _median(values: Floats) -> float:
    """The middle value, the lower of two: between two infinite ones there is no mean."""
    return float(np.partition(values, (len(values) - 1) // 2)[(len(values) - 1) // 2])


def _bracket_text(block: BlockTrace) -> str:
    if not np.isnan(block.width).any():
        return "exact"
    wide = block.width_upper > 0
    if not wide.any():
        return "exact"
    gap = 1 - block.width_lower[wide] / block.width_upper[wide]
    return f"{100 * float(gap.max()):.2g} %"


def areas_picture_section(separation: Separation | None) -> tuple[Section, ...]:
    """The chart of all AUROCs."""
    if separation is None:
        return ()
    text = (
        "The chance that a wrong answer lies on the wrong answers' side of a right one. Lines are "
        "95 % bootstrap intervals; the dashed line is max softmax, with its own interval in grey."
    )
    if separation.scores:
        text += f" The lines of a block are, from the top: {', '.join(QUANTITIES)}."
    legend = [(name, name) for name in QUANTITIES] if separation.scores else []
    return (
        Section(
            title="What tells wrong answers",
            text=text,
            pictures=(Picture(areas_svg(separation, name="areas"), wide=True),),
            legend=(*legend, ("ink", "the output, and all blocks"), ("level", "max softmax")),
        ),
    )


def distributions_section(trace: Trace) -> tuple[Section, ...]:
    """How every quantity is distributed, layer by layer."""
    if not trace.blocks:
        return ()
    both = trace.separation is not None
    legend = (("right", "right answers"), ("wrong", "wrong answers"))
    text = "In the order in which the model computes the blocks. "
    if both:
        text += "Right and wrong answers are drawn with equal areas. "
    text += f"The outermost {percent_text(TAIL)} on either side are left out."
    return (
        Section(
            title="Inputs, layer by layer",
            text=text,
            picture_rows=tuple(
                PictureRow(printable(block.key), _distributions(block, trace, f"block-{number}"))
                for number, block in enumerate(trace.blocks)
            ),
            legend=legend if both else (("every", "all inputs"),),
            folded=len(trace.blocks) > MOST_OPEN,
        ),
    )


def _distributions(block: BlockTrace, trace: Trace, name: str) -> tuple[Picture, ...]:
    correct = trace.correct if trace.separation is not None else None
    steps = {"active": 1 / block.positions}
    return tuple(
        Picture(
            distribution_svg(
                values,
                correct,
                step=steps.get(quantity, 0.0),
                title=quantity,
                name=f"{name}-{quantity}",
                label=f"Distribution of {quantity} in {printable(block.key)}",
            )
        )
        for quantity, values in block.quantities.items()
    )
