"""The area under the ROC curve, and the same area on bootstrap resamples.

It is the probability that a wrong answer scores above a right one, ties counting half: the
Mann-Whitney statistic over the number of pairs, hence a matter of ranks.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import sparse

from onnx_relusv.records import Floats
from onnx_relusv.traces import Truths

# Of inputs times resamples, drawn at one time: 8 MB, which a cache can hold.
_MOST_COUNTS = 2**20


def auroc(scores: Floats, wrong: Truths) -> float:
    """The area under the ROC curve of one score.

    Args:
        scores: (samples,) without NaN; infinities are ranked like any other value.
        wrong: (samples,) what is to be told; at least one of either kind.

    Returns:
        Probability that a wrong answer scores above a right one, ties counting half.
    """
    # It takes as long to load as all the rest, and only traces need it.
    from scipy import stats

    wrongs = int(wrong.sum())
    ranks = stats.rankdata(scores)[wrong]
    return float((ranks.sum() - wrongs * (wrongs + 1) / 2) / (wrongs * (len(wrong) - wrongs)))


def resampled_aurocs(
    columns: Floats, wrong: Truths, *, resamples: int, rng: np.random.Generator
) -> Floats:
    """The areas of many scores on the same bootstrap resamples.

    A resample draws as many right answers from the right ones, and wrong ones from the wrong ones,
    as there are, with replacement. It is never carried out: every score is sorted once, and a
    resample is how often each answer was drawn.

    Args:
        columns: (scores, samples) without NaN.
        wrong: (samples,) what is to be told; at least one of either kind.
        resamples: How many.
        rng: Draws them.

    Returns:
        (scores, resamples) areas, as of `auroc`.
    """
    right_columns, wrong_columns = columns[:, ~wrong], columns[:, wrong]
    orders = [_Order.of(*pair) for pair in zip(right_columns, wrong_columns, strict=True)]
    areas = np.empty((len(columns), resamples))
    step = max(1, _MOST_COUNTS // len(wrong))
    for start in range(0, resamples, step):
        part = slice(start, min(start + step, resamples))
        size = part.stop - part.start
        right_counts = _draw_counts(right_columns.shape[1], size, rng)
        wrong_counts = _draw_counts(wrong_columns.shape[1], size, rng)
        for number, order in enumerate(orders):
            areas[number, part] = order.areas(right_counts, wrong_counts)
    return areas


@dataclass(frozen=True, eq=False)
class _Order:
    """How right answers lie among the sorted wrong ones, for one score.

    Attributes:
        sorting: (wrong,) indices that sort the wrong answers.
        places: (wrong + 1, right) sparse; in a right answer's column one half at the number of
            wrong answers below it, and one half at the number of those below or equal.
    """

    sorting: npt.NDArray[np.intp]
    places: sparse.csr_array

    @classmethod
    def of(cls, right: Floats, wrong: Floats) -> "_Order":
        sorting = np.argsort(wrong)
        places = [np.searchsorted(wrong[sorting], right, side) for side in ("left", "right")]
        columns = np.tile(np.arange(len(right)), 2)
        halves = np.full(2 * len(right), 0.5)
        shape = (len(wrong) + 1, len(right))
        return cls(sorting, sparse.csr_array((halves, (np.concatenate(places), columns)), shape))

    def areas(self, right_counts: Floats, wrong_counts: Floats) -> Floats:
        """(resamples,) areas, given how often every answer was drawn, (answers, resamples)."""
        below = np.zeros((len(self.sorting) + 1, wrong_counts.shape[1]))
        np.cumsum(wrong_counts[self.sorting], axis=0, out=below[1:])
        pairs_below = np.einsum("pr,pr->r", below, self.places @ right_counts)
        areas: Floats = 1 - pairs_below / (len(self.sorting) * len(right_counts))
        return areas


def _draw_counts(answers: int, resamples: int, rng: np.random.Generator) -> Floats:
    """(answers, resamples) float64 how often each answer is drawn."""
    drawn = rng.integers(answers, size=(resamples, answers))
    drawn += answers * np.arange(resamples)[:, None]
    counts = np.bincount(drawn.ravel(), minlength=answers * resamples)
    return np.ascontiguousarray(counts.reshape(resamples, answers).T, dtype=np.float64)
