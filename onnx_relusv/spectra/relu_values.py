"""ReLU singular values and the mean width behind the activation: brackets and estimates.

    s_k(W) = min over rank(L) <= k of max over |x| <= 1 of |phi(Wx) - phi(Lx)|_2.

The bracket is proved for every k from the ordinary singular values sigma_1 >= sigma_2 >= ...:
take L as the truncated SVD for the upper end; for the lower one, the kernel of any L of rank k
meets the span of the first k + 1 right singular vectors in a unit x, and x or -x is bad enough.
The estimate ascends the inner maximum at the truncated SVD: from below, but at an L that need not
be the best; so it is neither bound, and is clipped into the bracket.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from onnx_relusv.records import Activation, Floats
from onnx_relusv.runtime.kernels import gap_kernel, width_kernel

SQRT_HALF = math.sqrt(0.5)


def bracket(sigma: Floats, activation: Activation) -> tuple[Floats, Floats]:
    """Certified lower and upper bounds of all s_k on the unit ball, for a block without bias.

    Args:
        sigma: (r,) ordinary singular values, descending.
        activation: The block's activation.

    Returns:
        Two (r,) arrays. Relu: sigma / sqrt(2) and sigma. Clip at c: min(sigma, c) / sqrt(2) and
        sigma. LeakyRelu and PRelu with slopes a: sigma sqrt((1 + min a^2) / 2) and
        max(1, |a|) sigma. No activation: sigma twice.
    """
    if activation.kind == "none":
        return sigma, sigma
    if activation.ceiling is not None:
        return np.minimum(sigma, activation.ceiling) * SQRT_HALF, sigma
    steepest = max(1.0, float(np.max(np.abs(activation.slopes))))
    flattest = float(np.min(activation.slopes**2))
    # |phi(y)|^2 + |phi(-y)|^2 = (1 + a^2) |y|^2 coordinate by coordinate.
    return sigma * math.sqrt((1 + flattest) / 2), sigma * steepest


def estimate(
    reduced: Floats,
    activation: Activation,
    ranks: Sequence[int],
    *,
    iterations: int,
    starts: int,
    seed: int,
    provider: str,
) -> Floats:
    """Estimates s_k for some k, all in one batched ascent.

    Args:
        reduced: (out, r) float64, U diag(sigma): the block's map in its right singular vectors.
        activation: Relu, LeakyRelu, PRelu or none; a Clip is taken for a Relu.
        ranks: The k.
        iterations: Steps of the ascent.
        starts: Starting points for each k.
        seed: Draws them.
        provider: Execution provider.

    Returns:
        (len(ranks),) float64: lower estimates of the inner maximum at the truncated SVD.
    """
    scaled, largest = _scaled(reduced)
    sigma = np.linalg.norm(scaled, axis=0)
    coordinates = reduced.shape[1]
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((len(ranks), coordinates, starts), dtype=np.float32)
    for row, k in enumerate(ranks):
        # One start where the truncation hurts most; the others everywhere.
        x[row, :, 0] = 0
        x[row, k, 0] = 1
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    mask = (np.arange(coordinates)[None, :] < np.asarray(ranks)[:, None]).astype(np.float32)
    scale = np.maximum(sigma[list(ranks)] ** 2, np.finfo(np.float32).tiny)
    outputs = gap_kernel(provider, iterations).run(
        {
            "a": scaled,
            "mask": mask[:, :, None],
            "slope": _slopes(activation, len(reduced)),
            "scale": scale.astype(np.float32).reshape(-1, 1, 1),
            "x": x,
        }
    )
    return np.asarray(largest * outputs["best"].max(axis=(1, 2)), np.float64)


@dataclass(frozen=True)
class WidthEstimate:
    """Monte Carlo mean width: each supremum is met from below; the error is the sampling's."""

    value: float
    standard_error: float


def activated_width(
    reduced: Floats,
    activation: Activation,
    *,
    draws: int,
    iterations: int,
    seed: int,
    provider: str,
) -> WidthEstimate:
    """Estimates E sup_(|x| <= 1) <g, phi(Wx)> from below by ascent for a number of draws of g.

    Args:
        reduced: (out, r) float64, U diag(sigma).
        activation: Relu, LeakyRelu, PRelu or none.
        draws: How many g.
        iterations: Steps of each ascent.
        seed: Draws g and the starts.
        provider: Execution provider.
    """
    scaled, largest = _scaled(reduced)
    rng = np.random.default_rng(seed)
    g = rng.standard_normal((len(reduced), draws), dtype=np.float32)
    x = scaled.T @ g
    x /= np.maximum(np.linalg.norm(x, axis=0, keepdims=True), np.finfo(np.float32).tiny)
    outputs = width_kernel(provider, iterations).run(
        {
            "a": scaled,
            "slope": _slopes(activation, len(reduced)),
            "g": g,
            "x": x,
        }
    )
    values = largest * outputs["best"].astype(np.float64)
    return WidthEstimate(float(values.mean()), float(values.std(ddof=1) / math.sqrt(draws)))


def _scaled(reduced: Floats) -> tuple[np.ndarray, float]:
    """The map in float32 with sigma_1 = 1, and its sigma_1.

    Both measures grow in proportion to the map, whose squares could leave float32's range.
    """
    largest = float(np.linalg.norm(reduced, axis=0).max()) or 1.0
    return (reduced / largest).astype(np.float32), largest


def _slopes(activation: Activation, out_channels: int) -> np.ndarray:
    slopes = np.broadcast_to(activation.slopes, (out_channels,))
    return slopes.astype(np.float32).reshape(-1, 1)
