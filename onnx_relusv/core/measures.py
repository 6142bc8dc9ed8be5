"""The frozen records of what was measured.

Of blocks, and of what may become of them; of a written file: its latency, its drop, the damage of
what it changed; and how far one output of a model is from the same output of another.
"""

import math
from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np
import numpy.typing as npt

from onnx_relusv.core.blocks import Floats, ReadOnlyArrays
from onnx_relusv.core.codec import Axes, Count, Limits, NonNegative, Whole

# Of s_0 .. s_(r-1), or of other values that no NaN is among.
_Values = Annotated[Floats, Axes(("rank",)), Limits(least=0)]


@dataclass(frozen=True, eq=False, kw_only=True)
class ReluSingularValues(ReadOnlyArrays):
    """Bounds and estimates of s_0 .. s_(r-1), r = min(out, in).

    Attributes:
        sigma: (r,) ordinary singular values, descending, in the metric and for the radius.
        lower: (r,) certified lower bounds of s_k; 0 where nothing better is proved.
        estimate: (r,) estimates, clipped into the bracket; neither bound. NaN where none was
            computed.
        upper: (r,) certified upper bounds of s_k.
        ranks: The k that were estimated.
        converged: (len(ranks),) bool, whether the ascent's best start had stopped growing and a
            second start agreed to 1 %. Where not, try more iterations or starts.
        iterations: Steps of the ascent.
        starts: Starts for each k.
        seed: What drew them.
        provider: The execution provider that ran it.
    """

    sigma: _Values
    lower: _Values
    upper: _Values
    estimate: Annotated[Floats, Axes(("rank",))]
    ranks: tuple[Whole, ...]
    converged: Annotated[npt.NDArray[np.bool_], Axes(("estimated",))]
    iterations: int
    starts: int
    seed: int
    provider: str


@dataclass(frozen=True, kw_only=True)
class Width:
    """A Gaussian mean width.

    Attributes:
        value: The width; an estimate where it was sampled.
        lower: Certified lower bound; 0 where nothing better is proved.
        upper: Certified upper bound; infinite where none is proved.
        standard_error: Of the value, from the sampling alone; 0 where it was not sampled. What
            the ascents missed comes on top and makes the value too low.
        iterations: Points of the quadrature, or steps of every ascent.
        converged: Quadrature: half as many points give the same to 1e-7. Sampling: nine in ten
            ascents had stopped growing.
        seed: What drew the sample; None where none was drawn.
        provider: The execution provider; numpy for the quadrature.
    """

    value: float
    lower: float
    upper: float
    standard_error: float
    iterations: int
    converged: bool
    seed: int | None
    provider: str


@dataclass(frozen=True, eq=False, kw_only=True)
class Approximation(ReadOnlyArrays):
    """A matrix L of low rank that stands in for a layer's weight behind the activation.

    Attributes:
        left: (out, k) float64.
        right: (k, in) float64; L = left @ right.
        value: The largest gap |phi(Wx + b) - phi(Lx + b)| that was found: from below.
        truncated: The same for the truncated SVD, from the same starts; never less than `value`.
        steps: Of the outer minimisation.
        iterations: Steps of each ascent.
        seed: What drew starts and noise.
        provider: The execution provider of the ascents.
    """

    left: Floats
    right: Floats
    value: float
    truncated: float
    steps: int
    iterations: int
    seed: int
    provider: str


@dataclass(frozen=True, eq=False, kw_only=True)
class ActivatedWidths(ReadOnlyArrays):
    """What single inputs make of a layer: their activated operators A_x = diag(phi'(Wx + b)) W.

    Attributes:
        active: (n,) number of units whose derivative is not zero.
        lower: (n,) certified lower bounds of the Gaussian mean width of A_x.
        upper: (n,) certified upper bounds, the Frobenius norms rounded up.
        value: (n,) the widths to 1e-6 where exact ones were asked for, otherwise NaN.
        largest: (n,) largest ReLU singular values of A_x; estimates from below, up to the rounding
            of float32 products.
        margin: (n,) distance of the input to the nearest point at which a unit's activation
            changes its branch; infinite where no unit has one.
        iterations: Power steps of the largest ReLU singular values.
        converged: (n,) bool, whether the last of them gained less than 1e-4, relatively.
        seed: As asked for; nothing is drawn.
        provider: The execution provider that ran the graphs.
    """

    active: Floats
    lower: Floats
    upper: Floats
    value: Floats
    largest: Floats
    margin: Floats
    iterations: int
    converged: npt.NDArray[np.bool_]
    seed: int
    provider: str


@dataclass(frozen=True, eq=False, kw_only=True)
class Spectrum(ReluSingularValues):
    """What is known of a block's ReLU singular values, on the unit ball, and mean widths.

    With moments, all of it is about the linear map seen through the centred covariance C of its
    input, W C^(1/2); without, about W. Grouped Conv: the largest over the groups. Bounds are of the
    block without its bias, and estimates of a geometric ladder of 12 k at most.

    Attributes:
        untrained: (r,) singular values of one layer of the same shape with independent Gaussian
            weights, in the same metric, scaled to the same Frobenius norm; drawn by the seed.
        operator_norm: Largest singular value of a Conv as an operator on whole feature maps, on
            a torus as long as the padded input, without the metric; NaN for other blocks.
        mean_width: Gaussian mean width of the linear image of the unit ball.
        relu_mean_width_lower: Certified lower bound of the width after the activation; 0 where
            nothing better is proved.
        relu_mean_width_upper: Certified upper bound.
        relu_mean_width: Monte Carlo estimate from below.
        relu_mean_width_error: Standard error of that estimate from the sampling of g alone.
        in_data_metric: Whether statistics of the input, real or assumed, shaped the metric.
    """

    untrained: _Values
    operator_norm: float
    mean_width: NonNegative
    relu_mean_width_lower: NonNegative
    relu_mean_width_upper: NonNegative
    relu_mean_width: NonNegative
    relu_mean_width_error: NonNegative
    in_data_metric: bool

    def problem(self) -> str | None:
        """What is wrong with it as a whole."""
        if len(self.ranks) != len(self.converged) or any(k >= len(self.sigma) for k in self.ranks):
            return "the ranks of its estimates are others."
        return None

    @property
    def s_0_estimate(self) -> float:
        """The estimate of s_0; NaN where none was computed."""
        return float(self.estimate[0])

    @property
    def stable_rank(self) -> float:
        """Sum of the squared singular values over the largest one squared; 0 for a zero map."""
        return float(np.sum(self.sigma**2) / self.sigma[0] ** 2) if self.sigma[0] > 0 else 0.0


@dataclass(frozen=True, kw_only=True)
class Latency:
    """Median seconds of one run at a batch size, measured interleaved."""

    batch: int
    before: float
    after: float


@dataclass(frozen=True, kw_only=True)
class ModelledTime:
    """Share of the original's time of a run at a batch size, by a model of the kernels."""

    batch: Count
    share: NonNegative


@dataclass(frozen=True, kw_only=True)
class SampleCounts:
    """How many samples there were, and what for.

    Attributes:
        given: In the file.
        taken: Of these, all or as many as were drawn.
        fit: That factors were fitted to.
        select: That sizes, forms and factors were chosen on.
        certify: That were set aside for certifying.
        test: In a file of their own, that the result was judged on; 0 where none was given.
    """

    given: int
    taken: int
    fit: int
    select: int
    certify: int = 0
    test: int = 0


@dataclass(frozen=True, kw_only=True)
class FeedChange:
    """How far the outputs change on one synthetic feed.

    Attributes:
        inputs: What it holds, in words.
        samples: How many samples.
        change: Of the output that changes most, see `OutputChange.change`; None where nothing at
            all changes though blocks did, which tells nothing.
    """

    inputs: str
    samples: int
    change: float | None


@dataclass(frozen=True, kw_only=True)
class Correction:
    """What became of the corrective round.

    Attributes:
        damage: Of the compressed network to the outputs, on the samples for choosing, with the
            plan by damages that were measured one by one.
        corrected: With the plan by joint damages; None where that promised too little to be
            fitted.
    """

    damage: float
    corrected: float | None = None

    @property
    def taken(self) -> bool:
        """Whether the second plan is the one that was carried out."""
        return self.corrected is not None and self.corrected < self.damage


@dataclass(frozen=True, kw_only=True)
class LatencyOutcome:
    """What came of a budget on latency.

    Attributes:
        asked: Share of the original's time of a run.
        planned: That share as the plan estimated it; None where the plan does not say.
        measured: The written file in turns with the original: seconds of the fastest runs.
        provider: The execution provider that ran both.
        threads: Of one operator, as onnxruntime chose; None where that cannot be seen.
    """

    asked: float
    planned: float | None
    measured: Latency
    provider: str
    threads: int | None

    @property
    def share(self) -> float:
        """The measured share of the original's time."""
        return self.measured.after / self.measured.before


# scores: class scores, one row a sample. values: other numbers. labels: whole numbers of 32 or 64
# bits and truth values, which are equal or not. text: likewise. list: rows that are there or not,
# as of NonZero or a non-maximum suppression. nothing: it never held anything.
OutputKind = Literal["scores", "values", "labels", "text", "list", "nothing"]
OutputForm = Literal["tensor", "sequence", "map", "nothing"]


@dataclass(frozen=True, kw_only=True)
class NotFinite:
    """How many entries of one model's output are no finite numbers.

    Attributes:
        nan: Those that are NaN.
        infinite: Those that are infinite, of either sign.
    """

    nan: int = 0
    infinite: int = 0

    @property
    def count(self) -> int:
        """All of them."""
        return self.nan + self.infinite


@dataclass(frozen=True, kw_only=True)
class OutputChange:
    """How far an output of a second model is from the first's, over all samples.

    Numbers are compared where both are finite. What only one of the two has, of outputs whose
    length differs, is compared with zero, but for lists of numbers: these are compared in the runs
    where they are equally long.

    Attributes:
        name: The output's.
        kind: What it is compared as.
        form: What holds it.
        agreement: Of scores, the share of samples with the same top-1, which a NaN has not; of
            labels and text, of equal entries; of lists, of the rows of either that both have, of
            lists of numbers the shorter length beside the longer one. None of values.
        relative: L2 of the difference over L2 of the first, 0 where both are zero, infinite where
            the first is. NaN where no entries are finite in both models; None where it is not
            numbers that are compared.
        mean: Mean absolute difference; NaN and None likewise.
        largest: Largest absolute difference; NaN and None likewise.
        entries: How many entries were looked at, in the longer of the two.
        before: The first model's entries that are not finite.
        after: The second's.
        mismatched: Entries that are not finite in one of the two, and not the same in the other.
        runs: How many runs there were.
        other_shape: In how many of them it had another shape or length than the first's.
        varies: Whether the first model's output is not the same for all samples, to rounding; where
            it is, how far the second's is from it tells nothing of other samples.
    """

    name: str
    kind: OutputKind
    form: OutputForm = "tensor"
    agreement: float | None = None
    relative: float | None = None
    mean: float | None = None
    largest: float | None = None
    entries: int = 0
    before: NotFinite = NotFinite()
    after: NotFinite = NotFinite()
    mismatched: int = 0
    runs: int = 1
    other_shape: int = 0
    varies: bool = True

    @property
    def change(self) -> float:
        """How much it changed, from 0 on.

        Of numbers `relative`; of labels, text and lists the share that differs; of lists of
        numbers the larger of both. Infinite where the second model gives a NaN, or something that
        is not finite in one of the two alone.
        """
        if self.after.nan or self.mismatched:
            return math.inf
        found = [] if self.relative is None else [self.relative]
        if self.kind != "scores" and self.agreement is not None:
            found.append(1 - self.agreement)
        if not found:
            return math.inf if self.other_shape else 0.0
        return math.inf if any(map(math.isnan, found)) else max(found)


@dataclass(frozen=True)
class ConfidenceInterval:
    """Where a quantity lies with a probability that is said beside it, in its own unit.

    Attributes:
        lower: Its lower end.
        upper: Its upper end.
    """

    lower: float
    upper: float


@dataclass(frozen=True, kw_only=True)
class DamageCurve:
    """What a form of a block, with every other block as it was, does to the outputs.

    Attributes:
        key: The block's.
        form: Its name.
        ranks: Increasing; those that were measured.
        damages: Divergence of the outputs at each; measured on held-out samples, with factors
            that are best in the metric of the block's input.
    """

    key: str
    form: str
    ranks: tuple[Count, ...]
    damages: tuple[NonNegative, ...]

    def problem(self) -> str | None:
        """What is wrong with it as a whole."""
        return _uneven(ranks=self.ranks, damages=self.damages)


@dataclass(frozen=True, kw_only=True)
class IntegerDamage:
    """What 8-bit integers in a block and its input, all else as it was, do to the outputs.

    Attributes:
        key: The block's.
        damage: Measured on held-out samples.
    """

    key: str
    damage: NonNegative


@dataclass(frozen=True, kw_only=True)
class GroupCurve:
    """What the removal of a group's units, with everything else as it was, does to the outputs.

    Attributes:
        key: The group's.
        counts: Increasing: units that are kept; those that were measured.
        damages: Divergence of the outputs at each, with consumers that reproduce what is gone as
            well as they can; measured on held-out samples.
    """

    key: str
    counts: tuple[Count, ...]
    damages: tuple[NonNegative, ...]

    def problem(self) -> str | None:
        """What is wrong with it as a whole."""
        return _uneven(counts=self.counts, damages=self.damages)


def _uneven(**lists: tuple[float, ...]) -> str | None:
    (one, first), (other, second) = lists.items()
    if len(first) == len(second):
        return None
    return f"{len(first)} {one} and {len(second)} {other}; each needs its own."


# What was measured of an item's options.
Measured = DamageCurve | GroupCurve | IntegerDamage
