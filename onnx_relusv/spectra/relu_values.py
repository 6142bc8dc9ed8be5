"""ReLU singular values of a layer given as plain arrays."""

import math
from collections.abc import Sequence
from typing import Literal

import numpy as np

from onnx_relusv.errors import UsageError
from onnx_relusv.measures import ReluSingularValues
from onnx_relusv.options import ProviderName
from onnx_relusv.records import Activation, Floats
from onnx_relusv.spectra.approximation import best_approximation_of
from onnx_relusv.spectra.ascent import climb
from onnx_relusv.spectra.bounds import improved_lower, improved_upper
from onnx_relusv.spectra.brackets import RELU, bracket
from onnx_relusv.spectra.layers import (
    at_least,
    checked_bias,
    checked_effort,
    checked_weight,
    layer_of,
)

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
    activation: Activation = RELU,
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
        activation: phi.
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
    if not (radius > 0 and math.isfinite(radius)):
        raise UsageError(f"radius {radius}: use a positive number.")
    nonnegative = domain == "nonnegative"
    layer = layer_of(checked_weight(radius * W), b, metric, activation, nonnegative=nonnegative)
    sigma = np.linalg.norm(layer.reduced, axis=0)
    chosen = tuple(rank_ladder(len(sigma)) if ranks is None else ranks)
    if not chosen or not all(0 <= k < len(sigma) for k in chosen):
        raise UsageError(f"ranks {chosen}: use numbers from 0 to {len(sigma) - 1}.")
    effort = checked_effort(iterations=iterations, starts=starts, seed=seed, provider=provider)
    at_least("approximation_steps", approximation_steps, 0)
    lower, upper = bracket(
        sigma,
        activation,
        bias=b if b.any() else None,
        free_bias=free_bias,
        nonnegative=layer.rotation is not None,
    )
    climbed = climb(layer, chosen, effort)
    values = climbed.best.copy()
    if not free_bias:
        lower = lower.copy()
        if 0 in chosen:
            # L = 0 is the only choice, so every input that was met is a proof.
            lower[0] = max(lower[0], values[chosen.index(0)] * (1 - _ROUNDING))
        lower = improved_lower(lower, layer)
    if certificate_steps is None:
        certificate_steps = CERTIFICATE_STEPS if len(W) <= LARGEST_CERTIFIED else 0
    at_least("certificate_steps", certificate_steps, 0)
    upper = improved_upper(upper, layer, chosen, certificate_steps)
    if approximation_steps:
        for place, k in enumerate(chosen):
            if k:
                found = best_approximation_of(layer, k, approximation_steps, effort)
                values[place] = found.value
    estimate = np.full(len(sigma), np.nan)
    estimate[list(chosen)] = np.clip(values, lower[list(chosen)], upper[list(chosen)])
    return ReluSingularValues(
        sigma=sigma,
        lower=lower,
        estimate=estimate,
        upper=upper,
        ranks=chosen,
        converged=climbed.converged,
        iterations=iterations,
        starts=starts,
        seed=seed,
        provider=effort.provider,
    )


def rank_ladder(count: int, most: int = MOST_RANKS) -> list[int]:
    """At most `most` of the ranks 0 .. count - 1: 0, and a geometric ladder up to the last."""
    if count <= most:
        return list(range(count))
    steps = np.geomspace(1, count - 1, most - 1).round().astype(int)
    return [0, *np.unique(steps).tolist()]
