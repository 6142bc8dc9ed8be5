"""How well what inputs do in a model separates right from wrong answers.

Every score is one number an input. Each is judged by its AUROC, the area under the ROC curve, with
a bootstrap interval, and by its paired gain over the plain max softmax on the same resamples. The
area is the probability that a wrong answer scores above a right one, ties counting half: the
Mann-Whitney statistic over the number of pairs, hence a matter of ranks.

The side of max softmax (lower is wrong), entropy (higher is wrong) and the combined scores (higher
is wrong) is fixed. That of a block's quantity is decided on the same inputs, so that its AUROC is
at least 0.5; this favours it slightly, by at most the standard error of a score without
information. Picking the best of many quantities by these figures favours the pick further. The
combined scores are free of both. Their intervals, though, are for the scores as they are: fits are
not repeated on resamples.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from onnx_relusv.core.blocks import Floats
from onnx_relusv.core.errors import InputError
from onnx_relusv.core.traces import BlockTrace, Interval, Score, Separation, Truths
from onnx_relusv.measuring.crossfit import cross_fitted, stratified_folds

MAX_SOFTMAX = "max softmax"


@dataclass(frozen=True)
class SeparationSettings:
    """How scores are judged.

    Attributes:
        resamples: How many bootstrap resamples are drawn.
        folds: How many folds are fitted and scored; below 2 there are no combined scores.
        most_counts: Of inputs times resamples, drawn at one time: 8 MB, which a cache can hold.
    """

    resamples: int = 1000
    folds: int = 5
    most_counts: int = 2**20


SETTINGS = SeparationSettings()


def auroc(scores: Floats, wrong: Truths) -> float:
    """The area under the ROC curve of one score.

    Args:
        scores: (samples,) without NaN; infinities are ranked like any other value.
        wrong: (samples,) which answers are wrong; at least one of either kind.

    Returns:
        Probability that a wrong answer scores above a right one, ties counting half.
    """
    # It takes as long to load as everything else, and only traces need it.
    from scipy import stats

    wrongs = int(wrong.sum())
    ranks = stats.rankdata(scores)[wrong]
    return float((ranks.sum() - wrongs * (wrongs + 1) / 2) / (wrongs * (len(wrong) - wrongs)))


def resampled_aurocs(
    columns: Floats, wrong: Truths, settings: SeparationSettings, rng: np.random.Generator
) -> Floats:
    """The areas of many scores on the same bootstrap resamples.

    A resample draws as many right answers from the right ones, and wrong ones from the wrong ones,
    as there are, with replacement. Resamples are not written out: every score is sorted once, and a
    resample is how often each answer was drawn.

    Args:
        columns: (scores, samples) without NaN.
        wrong: (samples,) which answers are wrong; at least one of either kind.
        settings: How many, and how many at a time.
        rng: Draws them.

    Returns:
        (scores, resamples) areas, as of `auroc`.
    """
    right_columns, wrong_columns = columns[:, ~wrong], columns[:, wrong]
    orders = np.argsort(wrong_columns, axis=1)
    # How many wrong answers are below every right one, and how many below or equal.
    places = [
        [np.searchsorted(others[order], right, side) for side in ("left", "right")]
        for right, others, order in zip(right_columns, wrong_columns, orders, strict=True)
    ]
    areas = np.empty((len(columns), settings.resamples))
    step = max(1, settings.most_counts // len(wrong))
    for start in range(0, settings.resamples, step):
        part = slice(start, min(start + step, settings.resamples))
        size = part.stop - part.start
        right_counts = _draw_counts(right_columns.shape[1], size, rng)
        wrong_counts = _draw_counts(wrong_columns.shape[1], size, rng)
        pairs = len(right_counts) * len(wrong_counts)
        below = np.zeros((len(wrong_counts) + 1, size))
        for number, (lower, upper) in enumerate(places):
            np.cumsum(wrong_counts[orders[number]], axis=0, out=below[1:])
            pairs_below = np.einsum("ar,ar->r", right_counts, below[lower] + below[upper]) / 2
            areas[number, part] = 1 - pairs_below / pairs
    return areas


def _draw_counts(answers: int, resamples: int, rng: np.random.Generator) -> Floats:
    """(answers, resamples) float64 how often each answer is drawn."""
    drawn = rng.integers(answers, size=(resamples, answers))
    drawn += answers * np.arange(resamples)[:, None]
    counts = np.bincount(drawn.ravel(), minlength=answers * resamples)
    return np.ascontiguousarray(counts.reshape(resamples, answers).T, dtype=np.float64)


def separate(
    blocks: Sequence[BlockTrace],
    max_softmax: Floats,
    entropy: Floats,
    correct: Truths,
    *,
    seed: int,
    settings: SeparationSettings = SETTINGS,
) -> Separation | None:
    """Judges every quantity of every block, the output's own scores, and all of them combined.

    Args:
        blocks: The traced blocks, over the same inputs.
        max_softmax: (samples,) largest class probability.
        entropy: (samples,) of the class probabilities.
        correct: (samples,) whether top-1 is the label.
        seed: Draws resamples and folds.
        settings: How many of both.

    Returns:
        The scores, without NaN; None where all answers are right or all are wrong.

    Raises:
        InputError: A score is not a number for some input.
    """
    wrong = ~correct
    wrongs, rights = int(wrong.sum()), int(correct.sum())
    if not wrongs or not rights:
        return None
    of_blocks = [
        _Candidate(block.key, quantity, values)
        for block in blocks
        for quantity, values in block.quantities.items()
    ]
    of_output = [
        _Candidate(None, MAX_SOFTMAX, max_softmax, higher_is_wrong=False),
        _Candidate(None, "entropy", entropy, higher_is_wrong=True),
    ]
    _refuse_missing([*of_output, *of_blocks])
    resampling, folding = np.random.default_rng(seed).spawn(2)
    folds = min(settings.folds, wrongs, rights)
    fitted = []
    # With fewer than two of a kind, some fit would see none of it.
    if folds > 1:
        assigned = stratified_folds(wrong, folds, folding)
        inner = [each.values for each in of_blocks]
        sets = [("combined", inner)] if inner else []
        sets.append(("combined with output", [*inner, _logit(max_softmax), entropy]))
        for name, features in sets:
            scores = cross_fitted(np.column_stack(features), wrong, assigned)
            fitted.append(_Candidate(None, name, scores, higher_is_wrong=True))
    judged = _judge([*of_output, *of_blocks, *fitted], wrong, settings, resampling)
    combined = {score.quantity: score for score in judged[len(judged) - len(fitted) :]}
    return Separation(
        right=rights,
        wrong=wrongs,
        scores=tuple(judged[len(of_output) : len(of_output) + len(of_blocks)]),
        baselines=tuple(judged[: len(of_output)]),
        combined=combined.get("combined"),
        combined_with_output=combined.get("combined with output"),
        resamples=settings.resamples,
        folds=folds if fitted else 0,
        seed=seed,
    )


@dataclass(frozen=True, eq=False)
class _Candidate:
    """A score before it is judged.

    Attributes:
        block: As of a `Score`.
        quantity: Likewise.
        values: (samples,).
        higher_is_wrong: The wrong answers' side; None where these inputs are to decide.
    """

    block: str | None
    quantity: str
    values: Floats
    higher_is_wrong: bool | None = None


def _refuse_missing(candidates: Sequence[_Candidate]) -> None:
    for each in candidates:
        missing = int(np.isnan(each.values).sum())
        if missing:
            where = "the output" if each.block is None else f"block {each.block}"
            raise InputError(
                f"{each.quantity} of {where} is not a number for {missing} of {len(each.values)} "
                "inputs, so right and wrong answers cannot be compared. Leave out the samples "
                "that the model does not compute, or the block."
            )


def _judge(
    candidates: Sequence[_Candidate],
    wrong: Truths,
    settings: SeparationSettings,
    rng: np.random.Generator,
) -> list[Score]:
    """Scores of all candidates on the same resamples; the first of them is max softmax."""
    columns = np.stack([each.values for each in candidates])
    areas = resampled_aurocs(columns, wrong, settings, rng)
    values = np.array([auroc(column, wrong) for column in columns])
    sides = [
        bool(value >= 0.5) if each.higher_is_wrong is None else each.higher_is_wrong
        for each, value in zip(candidates, values, strict=True)
    ]
    lower = ~np.array(sides)
    values[lower] = 1 - values[lower]
    areas[lower] = 1 - areas[lower]
    return [
        Score(
            block=each.block,
            quantity=each.quantity,
            auroc=_interval(values[number], areas[number]),
            higher_is_wrong=sides[number],
            gain=_interval(values[number] - values[0], areas[number] - areas[0])
            if number
            else None,
        )
        for number, each in enumerate(candidates)
    ]


def _interval(value: float, resampled: Floats) -> Interval:
    lower, upper = np.quantile(resampled, (0.025, 0.975))
    return Interval(value=float(value), lower=float(lower), upper=float(upper))


def _logit(probability: Floats) -> Floats:
    """Log-odds; infinite for a probability of 1."""
    with np.errstate(divide="ignore"):
        odds: Floats = np.log(probability) - np.log1p(-probability)
    return odds
