"""The frozen records of what single inputs do in a model, and of how well that tells errors."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from onnx_relusv.core.blocks import Floats, ReadOnlyArrays, Refusal
from onnx_relusv.core.results import ModelFacts, Provenance

Truths = npt.NDArray[np.bool_]


@dataclass(frozen=True, eq=False, kw_only=True)
class BlockTrace(ReadOnlyArrays):
    """What every input does in one block: its activated operator A_x = diag(phi'(Wx + b)) W.

    Of a Conv, every figure is the mean over a few output positions, drawn once by the seed: A_x
    is then the operator of one patch, the largest singular value the largest over the groups.

    Attributes:
        key: The block.
        units: Outputs of the block: neurons, or channels of a Conv.
        positions: Output positions an input; 1 where there is no more.
        active: (samples,) mean number of units whose derivative is not zero.
        width_lower: (samples,) certified lower bound of the mean width w(A_x).
        width_upper: (samples,) certified upper bound, the Frobenius norm of A_x.
        width: (samples,) w(A_x) to 1e-6 where exact values were asked for, otherwise NaN.
        largest: (samples,) largest ReLU singular value of A_x; estimate from below.
        margin: (samples,) distance of the block's input, in its own units, to the nearest point
            at which a unit's activation changes its branch.
    """

    key: str
    units: int
    positions: int
    active: Floats
    width_lower: Floats
    width_upper: Floats
    width: Floats
    largest: Floats
    margin: Floats

    @property
    def quantities(self) -> dict[str, Floats]:
        """What is compared between inputs, by name; each (samples,).

        The width is w(A_x) itself where it was computed, otherwise the middle of its bracket.
        """
        middle = (self.width_lower + self.width_upper) / 2
        return {
            "active": self.active,
            "width": np.where(np.isnan(self.width), middle, self.width),
            "largest": self.largest,
            "margin": self.margin,
        }


@dataclass(frozen=True, kw_only=True)
class Interval:
    """A figure with a bootstrap interval.

    Attributes:
        value: On all inputs.
        lower: 2.5 % quantile over resamples of right and of wrong answers.
        upper: 97.5 % quantile.
    """

    value: float
    lower: float
    upper: float


@dataclass(frozen=True, kw_only=True)
class Score:
    """How well one number an input tells right from wrong answers.

    Attributes:
        block: The block's key; None for a score of the output or of all blocks.
        quantity: What it is: active, width, largest, margin, max softmax, entropy, combined.
        auroc: Probability that a wrong answer lies on the wrong answers' side of a right one, ties
            counting half. Of a block's quantity at least 0.5, since its side is chosen so.
        higher_is_wrong: The wrong answers' side. Of a block's quantity it is decided on the same
            inputs, which favours it slightly; of all other scores it is fixed.
        gain: AUROC minus that of max softmax on the same resamples; None for max softmax itself.
    """

    block: str | None
    quantity: str
    auroc: Interval
    higher_is_wrong: bool
    gain: Interval | None


@dataclass(frozen=True, kw_only=True)
class Separation:
    """All scores, and what they were computed on.

    Attributes:
        right: How many answers were right.
        wrong: How many were wrong.
        scores: One a block and quantity, in the model's order.
        baselines: Max softmax and entropy of the output.
        combined: Cross-fitted logistic regression on all quantities of all blocks; every input is
            scored by a fit that did not see it. None without blocks, and where a fit would have
            seen no wrong answer or no right one.
        combined_with_output: Likewise with max softmax and entropy among its inputs.
        resamples: Of the bootstrap.
        folds: Of the cross-fitting; 0 without.
        seed: Draws resamples and folds.
    """

    right: int
    wrong: int
    scores: tuple[Score, ...]
    baselines: tuple[Score, ...]
    combined: Score | None
    combined_with_output: Score | None
    resamples: int
    folds: int
    seed: int


@dataclass(frozen=True, eq=False, kw_only=True)
class Trace(ReadOnlyArrays):
    """What `trace` found.

    Attributes:
        model: The model.
        blocks: In topological order.
        refusals: Blocks that were not traced, with reasons.
        max_softmax: (samples,) largest class probability; None where no output has class scores.
        entropy: (samples,) of the class probabilities, in nats; None likewise.
        correct: (samples,) whether top-1 is the label; None without labels or class scores.
        separation: None without `correct`, or where all answers are right or all are wrong.
        warnings: Sentences for the user.
        provenance: Who made it.
    """

    model: ModelFacts
    blocks: tuple[BlockTrace, ...]
    refusals: tuple[Refusal, ...]
    max_softmax: Floats | None
    entropy: Floats | None
    correct: Truths | None
    separation: Separation | None
    warnings: tuple[str, ...]
    provenance: Provenance
