"""A better L than the truncated SVD: the outer minimum of the ReLU singular values, by steps.

The worst inputs that an ascent finds for L are kept; L steps against the subgradient of the
largest gap over all of them, and back to rank k by a truncated SVD. Between steps the ascent looks
for new worst inputs. The value is an estimate: L is not proved best, nor its inputs worst.
"""

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import scipy.linalg

from onnx_relusv.errors import UsageError
from onnx_relusv.measures import Approximation
from onnx_relusv.options import ProviderName
from onnx_relusv.records import Activation, Floats, ReadOnlyArrays
from onnx_relusv.spectra.ascent import climb_gap, starting_points
from onnx_relusv.spectra.brackets import RELU
from onnx_relusv.spectra.layer import Effort, Layer, activated
from onnx_relusv.spectra.layers import (
    at_least,
    check_activation,
    checked_bias,
    checked_effort,
    checked_weight,
)

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
        value: The largest gap that was found at it.
        truncated: The largest gap that was found, from the same starts, at the truncated SVD;
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
    activation: Activation = RELU,
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
        activation: phi.
        steps: Of the minimisation over L; 0 gives the truncated SVD.
        iterations: Steps of each ascent.
        starts: Starts of each ascent, besides the worst inputs so far.
        seed: Draws starts and noise.
        provider: Where ascents run.

    Returns:
        The record; its gaps are found from below and prove nothing.

    Raises:
        UsageError: An array has another shape or is not finite, or a number does not fit.
    """
    W = checked_weight(weight)
    if not 1 <= rank <= min(W.shape):
        raise UsageError(f"rank {rank}: use 1 to {min(W.shape)} for a weight of shape {W.shape}.")
    check_activation(activation, len(W))
    effort = checked_effort(iterations=iterations, starts=starts, seed=seed, provider=provider)
    at_least("steps", steps, 0)
    u, sigma, vt = scipy.linalg.svd(W, full_matrices=False)
    layer = Layer(reduced=u * sigma, activation=activation, bias=checked_bias(bias, len(W)))
    found = best_approximation_of(layer, rank, steps, effort)
    left, lengths, right = scipy.linalg.svd(found.map, full_matrices=False)
    return Approximation(
        left=left[:, :rank] * lengths[:rank],
        right=right[:rank] @ vt,
        value=found.value,
        truncated=found.truncated,
        steps=steps,
        iterations=iterations,
        seed=seed,
        provider=effort.provider,
    )


def best_approximation_of(layer: Layer, rank: int, steps: int, effort: Effort) -> LowRank:
    """Improves the truncated SVD.

    Args:
        layer: The layer.
        rank: k, 1 at least.
        steps: Steps of the outer minimisation.
        effort: Of every ascent.

    Returns:
        The best L that was met, or the truncated SVD where none was better.
    """
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
    # Both are judged from all worst inputs that were met, and from starts that neither has seen.
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
    y = points if layer.rotation is None else layer.rotation @ points
    inner = low_rank @ y + layer.bias[:, None]
    gap = activated(inner, layer.activation) - layer.answers(points)
    lengths = np.linalg.norm(gap, axis=0)
    largest = float(lengths.max()) or 1.0
    weights = np.exp((lengths / largest - 1) / _SOFTNESS)
    slopes = np.where(inner > 0, 1.0, layer.activation.slopes[:, None])
    if layer.activation.ceiling is not None:
        slopes = np.where(inner < layer.activation.ceiling, slopes, 0.0)
    gradient = (gap * slopes * (weights / np.maximum(lengths, 1e-30))) @ y.T
    return np.asarray(gradient / (np.linalg.norm(gradient, 2) or 1.0))


def _truncated(matrix: Floats, rank: int) -> Floats:
    u, sigma, vt = scipy.linalg.svd(matrix, full_matrices=False)
    return np.asarray((u[:, :rank] * sigma[:rank]) @ vt[:rank])
