"""What a trace comes to: the facts at the top, and in plain sentences what beats max softmax."""

from onnx_relusv.report.formatting import percent_text, printable
from onnx_relusv.report.summary import Fact
from onnx_relusv.traces import Interval, Score, Separation, Trace

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
