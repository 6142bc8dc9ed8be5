"""The tables of a trace; one with nothing to say is left out."""

from collections.abc import Iterable

import numpy as np

from onnx_relusv.records import Floats
from onnx_relusv.report.formatting import NOTHING, number_text, printable
from onnx_relusv.report.page import Heading, Section, Table
from onnx_relusv.report.trace_summary import best_score, conclusions, interval_text, score_name
from onnx_relusv.traces import BlockTrace, Score, Separation, Trace

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
