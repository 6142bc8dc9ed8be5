"""ReLU singular values of layers: bounds, estimates, and an L better than the truncated SVD.

    s_k = min over rank(L) <= k of max over x of |phi(Wx + b) - phi(Lx + b)|_2

The inner maximum is ascended at truncated SVDs. The outer minimum is approached by steps: the worst
inputs that an ascent reaches for L are kept; L steps against the subgradient of the largest gap
over all of them, and back to rank k by a truncated SVD. Between steps the ascent looks for new
worst inputs. The value is an estimate: L is not proved best, nor its inputs worst.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import numpy.typing as npt
import scipy.linalg

from onnx_relusv.core.blocks import Floats, ReadOnlyArrays
from onnx_relusv.core.errors import UsageError
from onnx_relusv.core.measures import Approximation, ReluSingularValues
from onnx_relusv.core.options import ProviderName
from onnx_relusv.spectra.activation_functions import (
    RELU,
    ActivationFunction,
    AnyActivation,
    named,
    singular_value_bounds,
)
from onnx_relusv.spectra.ascent import climb, climb_gap, starting_points
from onnx_relusv.spectra.bounds import CHUNK_VALUES, bracket, improved_lower, improved_upper
from onnx_relusv.spectra.layers import (
    Effort,
    Layer,
    activated,
    at_least,
    check_activation,
    checked_bias,
    checked_effort,
    checked_metric,
    checked_weight,
    layer_of,
    scaled,
    slopes_at,
)
from onnx_relusv.spectra.singular import singular_values as values_of

_FIRST_STEP = 1.0
# Gaps within a few percent of the largest one count in a step, so that it does not jump to and fro.
_SOFTNESS = 0.02
_MOST_POINTS = 256
# A share of the step: the truncated SVD can be a stationary point that is no minimum.
_NOISE = 0.3


@dataclass(frozen=True, eq=False, kw_only=True)
class LowRank(ReadOnlyArrays):
    """An L of rank k for a layer, in the coordinates of its right singular vectors.

    Attributes:
        map: (out, r) float64.
        value: The largest gap that was reached at it.
        truncated: The largest gap that was reached, from the same starts, at the truncated SVD;
            `value` is never larger.
    """

    map: Floats
    value: float
    truncated: float


def best_approximation(
    weight: npt.ArrayLike,
    rank: int,
    bias: npt.ArrayLike | None = None,
    *,
    activation: AnyActivation = RELU,
    steps: int = 20,
    iterations: int = 50,
    starts: int = 16,
    seed: int = 0,
    provider: ProviderName = "auto",
) -> Approximation:
    """An L of a rank whose largest gap on the unit ball is no larger than the truncated SVD's.

    Args:
        weight: (out, in) W.
        rank: k, from 1 to min(out, in).
        bias: (out,) b, which L keeps; None for none.
        activation: phi, as of `relu_singular_values`.
        steps: Of the minimisation over L; 0 gives the truncated SVD.
        iterations: Steps of each ascent.
        starts: Starts of each ascent, besides the worst inputs so far.
        seed: Draws starts and noise.
        provider: Where ascents run.

    Returns:
        The record; its gaps are lower estimates and prove nothing.

    Raises:
        UsageError: An array has another shape or is not finite, or a number does not fit.
    """
    W = checked_weight(weight)
    if not 1 <= rank <= min(W.shape):
        raise UsageError(f"rank {rank}: use 1 to {min(W.shape)} for a weight of shape {W.shape}.")
    phi = named(activation)
    check_activation(phi, len(W))
    effort = checked_effort(iterations=iterations, starts=starts, seed=seed, provider=provider)
    at_least("steps", steps, 0)
    u, sigma, vt = scipy.linalg.svd(W, full_matrices=False)
    layer = Layer(reduced=u * sigma, activation=phi, bias=checked_bias(bias, len(W)))
    best = best_approximation_of(layer, rank, steps, effort)
    left, lengths, right = scipy.linalg.svd(best.map, full_matrices=False)
    return Approximation(
        left=left[:, :rank] * lengths[:rank],
        right=right[:rank] @ vt,
        value=best.value,
        truncated=best.truncated,
        steps=steps,
        iterations=iterations,
        seed=seed,
        provider=effort.provider,
    )


def best_approximation_of(layer: Layer, rank: int, steps: int, effort: Effort) -> LowRank:
    """The best L of a rank, 1 at least, in so many steps; the truncated SVD if none is better."""
    first = layer.reduced.copy()
    first[:, rank:] = 0
    points = starting_points(layer, [rank], effort)
    kept, best, chosen = np.empty((len(points), 0)), np.inf, first
    low_rank, rng = first, np.random.default_rng([effort.seed, 4])
    for step in range(steps + 1):
        _, values, arrived = climb_gap(layer, low_rank, np.hstack([points, kept]), effort)
        if values.max() < best:
            best, chosen = float(values.max()), low_rank
        kept = np.hstack([kept, arrived[:, np.argsort(-values)[: effort.starts]]])
        kept = kept[:, -_MOST_POINTS:]
        if step < steps:
            length = _FIRST_STEP * best / np.sqrt(step + 1)
            noise = rng.standard_normal(first.shape)
            noise *= _NOISE / np.linalg.norm(noise, 2)
            moved = low_rank - length * (_direction(layer, low_rank, kept) + noise)
            low_rank = _truncated(moved, rank)
    # Both are judged from all worst inputs so far, and from starts that neither was fitted to.
    fresh = starting_points(layer, [rank], replace(effort, seed=effort.seed + 1))
    judges = np.hstack([points, kept, fresh])
    at_first, at_chosen = (
        float(climb_gap(layer, L, judges, effort)[1].max()) for L in (first, chosen)
    )
    if at_chosen >= at_first:
        return LowRank(map=first, value=at_first, truncated=at_first)
    return LowRank(map=chosen, value=at_chosen, truncated=at_first)


def _direction(layer: Layer, low_rank: Floats, points: Floats) -> Floats:
    """The normalised subgradient with respect to L of the largest gap over the points."""
    y = layer.principal(points)
    inner = low_rank @ y + layer.bias[:, None]
    gap = activated(inner, layer.activation) - layer.answers(points)
    lengths = np.linalg.norm(gap, axis=0)
    largest = float(lengths.max()) or 1.0
    weights = np.exp((lengths / largest - 1) / _SOFTNESS)
    slopes = slopes_at(inner, layer.activation)
    gradient = (gap * slopes * (weights / np.maximum(lengths, 1e-30))) @ y.T
    return np.asarray(gradient / (np.linalg.norm(gradient, 2) or 1.0))


def _truncated(matrix: Floats, rank: int) -> Floats:
    u, sigma, vt = scipy.linalg.svd(matrix, full_matrices=False)
    return np.asarray((u[:, :rank] * sigma[:rank]) @ vt[:rank])


Domain = Literal["ball", "nonnegative"]
MOST_RANKS = 12
CERTIFICATE_STEPS, LARGEST_CERTIFIED = 20, 512
# Of float64 sums, given away where a computed value is a bound.
_ROUNDING = 1e-12


def relu_singular_values(
    weight: Floats,
    bias: Floats | None = None,
    metric: Floats | None = None,
    *,
    activation: AnyActivation = RELU,
    domain: Domain = "ball",
    radius: float = 1.0,
    free_bias: bool = False,
    ranks: Sequence[int] | None = None,
    iterations: int = 50,
    starts: int = 16,
    certificate_steps: int | None = None,
    approximation_steps: int = 0,
    seed: int = 0,
    provider: ProviderName = "auto",
) -> ReluSingularValues:
    """Bounds and estimates of the ReLU singular values of x -> phi(Wx + b).

        s_k = min over rank(L) <= k of max over x of |phi(Wx + b) - phi(Lx + b)|_2,  k < r

    x runs through the ball |x| <= R, or its non-negative part, or with a metric C through all x
    with |C^(-1/2) x| <= R. This is our reading of Dittmer, King, Maass, "Singular Values for ReLU
    Layers" (IEEE TNNLS 31(9), 2020).

    Args:
        weight: (out, in) W.
        bias: (out,) b; None for none.
        metric: (in, in) symmetric positive definite C; None for the identity.
        activation: phi: a piecewise linear `Activation`, an `ActivationFunction`, or the name of
            one of `ACTIVATIONS`. Only the former without a ceiling are homogeneous; of others, and
            with a bias, what is found holds for this radius alone.
        domain: "nonnegative" for inputs that come out of a ReLU; not together with a metric.
        radius: R.
        free_bias: Whether L comes with a bias of its own; otherwise it keeps b.
        ranks: The k to estimate; a geometric ladder of 12 at most if None.
        iterations: Steps of the ascent.
        starts: Its starts for each k.
        certificate_steps: Eigendecompositions of an (out, out) matrix that each estimated k
            may cost for an upper bound better than sigma_(k+1); 0 for none; 20 up to 512 rows,
            otherwise 0, if None.
        approximation_steps: Steps of the outer minimisation over L for each k; 0 stays with the
            truncated SVD.
        seed: Draws the starts.
        provider: Where the ascent runs.

    Returns:
        The record; its bounds are certified, its estimates are not.

    Raises:
        UsageError: An array has another shape or is not finite, or settings exclude each other.
    """
    W = checked_weight(weight)
    b = checked_bias(bias, len(W))
    if domain not in ("ball", "nonnegative"):
        raise UsageError(f"domain {domain!r}: use ball or nonnegative.")
    nonnegative = domain == "nonnegative"
    phi = named(activation)
    layer = layer_of(scaled(W, radius), b, metric, phi, nonnegative=nonnegative)
    sigma = np.linalg.norm(layer.reduced, axis=0)
    chosen = tuple(rank_ladder(len(sigma)) if ranks is None else ranks)
    if not chosen or not all(0 <= k < len(sigma) for k in chosen):
        raise UsageError(f"ranks {chosen}: use numbers from 0 to {len(sigma) - 1}.")
    effort = checked_effort(iterations=iterations, starts=starts, seed=seed, provider=provider)
    at_least("approximation_steps", approximation_steps, 0)
    if certificate_steps is None:
        certificate_steps = CERTIFICATE_STEPS if len(W) <= LARGEST_CERTIFIED else 0
    at_least("certificate_steps", certificate_steps, 0)
    values = estimate(
        layer,
        sigma,
        chosen,
        effort,
        free_bias=free_bias,
        certified=chosen,
        certificate_steps=certificate_steps,
        approximation_steps=approximation_steps,
    )
    return ReluSingularValues(
        sigma=sigma,
        lower=values.lower,
        estimate=values.estimate,
        upper=values.upper,
        ranks=chosen,
        converged=values.converged,
        iterations=iterations,
        starts=starts,
        seed=seed,
        provider=effort.provider,
    )


@dataclass(frozen=True, eq=False, kw_only=True)
class Estimates(ReadOnlyArrays):
    """Bounds and estimates of a layer's ReLU singular values.

    Attributes:
        lower: (r,) certified lower bounds.
        upper: (r,) certified upper bounds.
        estimate: (r,) estimates within the bounds; NaN at ranks that are not estimated.
        converged: (ranks,) whether the ascent at each rank had converged.
    """

    lower: Floats
    upper: Floats
    estimate: Floats
    converged: np.ndarray


def estimate(
    layer: Layer,
    sigma: Floats,
    ranks: Sequence[int],
    effort: Effort,
    *,
    free_bias: bool = False,
    certified: Sequence[int] = (0,),
    certificate_steps: int = 0,
    approximation_steps: int = 0,
    chunk_values: int = CHUNK_VALUES,
) -> Estimates:
    """Bounds all ReLU singular values of a layer on the unit ball and estimates some.

    Args:
        layer: The layer.
        sigma: (r,) its singular values, descending.
        ranks: The k to estimate.
        effort: Of every ascent.
        free_bias: As of `relu_singular_values`.
        certified: The k that get upper bounds by duality.
        certificate_steps: As of `relu_singular_values`; 0 for none.
        approximation_steps: As of `relu_singular_values`.
        chunk_values: Of branch and bound, how many values are in memory at a time.
    """
    ranks = list(ranks)
    nonnegative = layer.rotation is not None
    if isinstance(layer.activation, ActivationFunction):
        lower, upper = singular_value_bounds(
            layer.reduced,
            layer.activation,
            layer.bias,
            free_bias=free_bias,
            nonnegative=nonnegative,
        )
    else:
        lower, upper = bracket(
            sigma,
            layer.activation,
            bias=layer.bias if layer.bias.any() else None,
            free_bias=free_bias,
            nonnegative=nonnegative,
        )
    climbed = climb(layer, ranks, effort)
    values = climbed.best.copy()
    if not free_bias:
        lower = lower.copy()
        if 0 in ranks:
            # L = 0 is the only choice, so every input that the ascent reached is a proof.
            lower[0] = max(lower[0], values[ranks.index(0)] * (1 - _ROUNDING))
        lower = improved_lower(lower, layer, chunk_values=chunk_values)
    upper = improved_upper(upper, layer, certified, certificate_steps)
    if approximation_steps:
        for place, k in enumerate(ranks):
            if k:
                values[place] = best_approximation_of(layer, k, approximation_steps, effort).value
    estimates = np.full(len(sigma), np.nan)
    estimates[ranks] = np.clip(values, lower[ranks], upper[ranks])
    return Estimates(lower=lower, upper=upper, estimate=estimates, converged=climbed.converged)


def rank_ladder(count: int, most: int = MOST_RANKS) -> list[int]:
    """At most `most` of the ranks 0 .. count - 1: 0, and a geometric ladder up to the last."""
    if count <= most:
        return list(range(count))
    steps = np.geomspace(1, count - 1, most - 1).round().astype(int)
    return [0, *np.unique(steps).tolist()]


def singular_values(weight: npt.ArrayLike, metric: npt.ArrayLike | None = None) -> Floats:
    """The singular values of W C^(1/2).

    Args:
        weight: (out, in) W.
        metric: (in, in) symmetric positive definite C; the identity if None.

    Returns:
        (min(out, in),) float64, descending, with a relative error below 1e-6 above 1e-5 of the
        largest; below that too without a metric, while in one the error is absolute there.

    Raises:
        UsageError: The weight or the metric has another shape or is not finite, or the metric is
            not symmetric and positive definite.
    """
    W = checked_weight(weight)
    return values_of(W, checked_metric(metric, W.shape[1]))
