"""All measures of one block, from its linear map and the moments of its input."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from onnx_relusv.core.blocks import Activation, Block, Floats, LinearMap, Moments
from onnx_relusv.core.kinds import kind_of
from onnx_relusv.core.measures import Spectrum, Width
from onnx_relusv.spectra.bounds import CHUNK_VALUES, bracket
from onnx_relusv.spectra.convolution import operator_norm
from onnx_relusv.spectra.layers import Effort, Layer
from onnx_relusv.spectra.mean_widths import sampled_width, width_bracket, width_of
from onnx_relusv.spectra.relu_values import CERTIFICATE_STEPS, Estimates, estimate, rank_ladder
from onnx_relusv.spectra.singular import Decomposition, untrained_singular_values

ITERATIONS = 30
STARTS = 8
_DRAWS = 32
# Rows up to which the upper bound of s_0 is improved by duality.
_LARGEST_CERTIFIED = 256
# Of blocks of which no more is estimated than the largest.
_LARGE_STARTS, _LARGE_STEPS = 8, 10


def measure(
    block: Block,
    linear: LinearMap,
    moments: Moments | None,
    parts: Sequence[Decomposition],
    *,
    seed: int,
    provider: str,
    chunk_values: int = CHUNK_VALUES,
    estimates: bool = True,
) -> Spectrum:
    """Measures a block.

    Args:
        block: The block.
        linear: Its linear map.
        moments: Of its input, whose covariance is the metric; None for none.
        parts: The decomposition of the linear map in that metric, one a group.
        seed: Draws starts of the ascent, the g of the mean width, and the untrained layer.
        provider: Execution provider of the ascent.
        chunk_values: Of branch and bound, how many values are in memory at a time.
        estimates: Whether ReLU singular values beyond the largest are estimated; without, that one
            and the width behind the activation are ascended as of blocks too large for more.
    """
    effort = Effort(iterations=ITERATIONS, starts=STARTS, seed=seed, provider=provider)
    large = not (parts[0].aligned and estimates)
    ranks = (0,) if large else tuple(rank_ladder(len(parts[0].sigma)))
    measured = []
    for group, part in enumerate(parts):
        activation, bias = _of_group(block, group), np.zeros(len(part.reduced))
        layer = Layer(reduced=part.reduced, activation=activation, bias=bias)
        measured.append(
            _measure_large(part.sigma, layer, seed)
            if large
            else _measure_group(part.sigma, layer, ranks, effort, chunk_values)
        )
    norm = math.nan
    if kind_of(block.geometry).spatial:
        norm = operator_norm(linear.weight, block.geometry, block.source_shape[2:])
    # Grouped Conv: the largest of every singular value, and the widths of the widest group.
    widest = max(measured, key=lambda group: group.linear_width)
    return Spectrum(
        sigma=np.max([part.sigma for part in parts], axis=0),
        lower=np.max([group.values.lower for group in measured], axis=0),
        upper=np.max([group.values.upper for group in measured], axis=0),
        estimate=np.max([group.values.estimate for group in measured], axis=0),
        ranks=ranks,
        converged=np.all([group.values.converged for group in measured], axis=0),
        untrained=_untrained(linear, moments, parts, seed),
        operator_norm=norm,
        mean_width=widest.linear_width,
        relu_mean_width_lower=widest.width.lower,
        relu_mean_width_upper=widest.width.upper,
        relu_mean_width=widest.width.value,
        relu_mean_width_error=widest.width.standard_error,
        in_data_metric=moments is not None,
        iterations=ITERATIONS,
        starts=STARTS,
        seed=seed,
        provider=provider,
    )


@dataclass(frozen=True, eq=False)
class _Group:
    """The measures of a group; those of the block where it has a single group."""

    values: Estimates
    linear_width: float
    width: Width


def _measure_group(
    sigma: Floats, layer: Layer, ranks: tuple[int, ...], effort: Effort, chunk_values: int
) -> _Group:
    steps = CERTIFICATE_STEPS if len(layer.reduced) <= _LARGEST_CERTIFIED else 0
    return _Group(
        values=estimate(
            layer, sigma, ranks, effort, certificate_steps=steps, chunk_values=chunk_values
        ),
        linear_width=width_of(sigma),
        width=sampled_width(layer, _DRAWS, effort),
    )


def _measure_large(sigma: Floats, layer: Layer, seed: int) -> _Group:
    """Measures a group that is not ascended at truncations, by a few products.

    s_0 and the width behind the activation are ascended from a few starts, in float64.
    """
    activation = layer.activation
    assert isinstance(activation, Activation)  # as all blocks of models have
    lower, upper = bracket(sigma, activation)
    rng = np.random.default_rng([seed, 4])
    slopes = np.broadcast_to(activation.slopes, (len(layer.reduced),))[:, None]
    linear = width_of(sigma)
    largest, draws = ascended(layer.reduced, slopes, _LARGE_STARTS, _LARGE_STEPS, rng)
    if activation.ceiling is None:
        lower[0] = max(lower[0], largest * (1 - 1e-12))
    estimates = np.full(len(lower), np.nan)
    estimates[0] = np.clip(largest if activation.ceiling is None else lower[0], lower[0], upper[0])
    least, most = width_bracket(linear, layer)
    value, error = linear, 0.0
    if activation.kind != "none":
        value = float(np.clip(draws.mean(), least, most))
        error = float(draws.std(ddof=1)) / math.sqrt(len(draws))
    return _Group(
        values=Estimates(
            lower=lower, upper=upper, estimate=estimates, converged=np.zeros(1, np.bool_)
        ),
        linear_width=linear,
        width=Width(
            value=value,
            lower=least,
            upper=most,
            standard_error=error,
            iterations=_LARGE_STEPS,
            converged=False,
            seed=seed,
            provider="numpy",
        ),
    )


def ascended(
    A: Floats, slopes: Floats, starts: int, steps: int, rng: np.random.Generator
) -> tuple[float, Floats]:
    """The largest |phi(Ax)| reached, and for random g the largest <g, phi(Ax)>, |x| = 1.

    Args:
        A: (out, n) float64.
        slopes: (out, 1) of phi for negative arguments.
        starts: Of either.
        steps: Products with A and A'.
        rng: Draws x and g.

    Returns:
        Lower estimates: of the maximum, and (starts,) of the suprema.
    """
    g = rng.standard_normal((len(A), starts))
    x = np.hstack([rng.standard_normal((A.shape[1], starts)), A.T @ g])
    largest, widths = 0.0, np.zeros(starts)
    for _ in range(steps):
        x /= np.maximum(np.linalg.norm(x, axis=0), 1e-300)
        y = A @ x
        slope = np.where(y > 0, 1.0, slopes)
        answers = slope * y
        largest = max(largest, float(np.linalg.norm(answers[:, :starts], axis=0).max()))
        widths = np.maximum(widths, np.einsum("os,os->s", g, answers[:, starts:]))
        x = A.T @ (slope * np.hstack([answers[:, :starts], g]))
    return largest, widths


def _untrained(
    linear: LinearMap, moments: Moments | None, parts: Sequence[Decomposition], seed: int
) -> Floats:
    rng = np.random.default_rng([seed, 3])
    _, rows, columns = linear.weight.shape
    drawn = [
        untrained_singular_values(
            rows,
            columns,
            float(np.linalg.norm(part.sigma)),
            rng,
            None if moments is None or not part.aligned else moments.of_group(group),
        )
        for group, part in enumerate(parts)
    ]
    return np.asarray(np.max(drawn, axis=0))


def _of_group(block: Block, group: int) -> Activation:
    """The activation of one group's channels; differs for a PRelu with a slope a channel."""
    slopes = block.activation.slopes
    if block.geometry.groups == 1 or len(slopes) == 1:
        return block.activation
    rows = block.geometry.rows
    return replace(block.activation, slopes=slopes[group * rows : (group + 1) * rows])
