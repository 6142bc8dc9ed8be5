"""The frozen records of what was measured."""

from dataclasses import dataclass
from typing import Annotated

import numpy as np
import numpy.typing as npt

from onnx_relusv.core.blocks import Floats, ReadOnlyArrays
from onnx_relusv.core.codec import Axes, Limits, NonNegative, Whole

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

    sigma: Floats
    lower: Floats
    estimate: Floats
    upper: Floats
    ranks: tuple[int, ...]
    converged: npt.NDArray[np.bool_]
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
class Spectrum(ReadOnlyArrays):
    """What is known of a block's ReLU singular values and mean widths.

    With moments, all of it is about the linear map seen through the centred covariance C of its
    input, W C^(1/2); without, about W. Grouped Conv: the largest over the groups.

    Attributes:
        sigma: (r,) ordinary singular values, descending.
        lower: (r,) certified lower bounds of s_0 .. s_(r-1) on the unit ball, without bias.
        upper: (r,) certified upper bounds.
        estimate: (r,) estimates found by ascent, clipped into the bracket; neither bound. NaN
            where none was computed.
        ranks: The k of the estimates, a geometric ladder of 12 at most.
        converged: (len(ranks),) bool, whether the ascent had stopped growing and a second start
            agreed to 1 %.
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
        iterations: Steps of the ascent.
        starts: Its starts for each k.
        seed: What drew its starts.
        provider: The execution provider that ran it.
    """

    sigma: _Values
    lower: _Values
    upper: _Values
    estimate: Annotated[Floats, Axes(("rank",))]
    ranks: tuple[Whole, ...]
    converged: Annotated[npt.NDArray[np.bool_], Axes(("estimated",))]
    untrained: _Values
    operator_norm: float
    mean_width: NonNegative
    relu_mean_width_lower: NonNegative
    relu_mean_width_upper: NonNegative
    relu_mean_width: NonNegative
    relu_mean_width_error: NonNegative
    in_data_metric: bool
    iterations: int
    starts: int
    seed: int
    provider: str

    def problem(self) -> str | None:
        """What is wrong with it as a whole."""
        if len(self.ranks) != len(self.converged) or any(k >= len(self.sigma) for k in self.ranks):
            return "the ranks of its estimates are others."
        return None

    @property
    def stable_rank(self) -> float:
        """Sum of the squared singular values over the largest one squared; 0 for a zero map."""
        return float(np.sum(self.sigma**2) / self.sigma[0] ** 2) if self.sigma[0] > 0 else 0.0
