"""All measures of one block, from its linear map and the moments of its input."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from onnx_relusv.measures import Spectrum
from onnx_relusv.records import Activation, Block, Floats
from onnx_relusv.spectra.mean_width import mean_width
from onnx_relusv.spectra.relu_values import WidthEstimate, activated_width, bracket, estimate
from onnx_relusv.spectra.singular import Decomposition

ITERATIONS = 30
_STARTS = 16
_DRAWS = 32
_UNKNOWN = WidthEstimate(math.nan, math.nan)


def measure(
    block: Block,
    parts: Sequence[Decomposition],
    *,
    in_data_metric: bool,
    seed: int,
    provider: str,
) -> Spectrum:
    """Measures a block.

    Args:
        block: The block.
        parts: The decomposition of its linear map, one a group.
        in_data_metric: Whether that is W C^(1/2), or W itself.
        seed: Draws starts of the ascent and the g of the mean width.
        provider: Execution provider of the ascent.
    """
    measured = [
        _measure_group(part, _of_group(block, group), seed, provider)
        for group, part in enumerate(parts)
    ]
    # Grouped Conv: the largest of every singular value, and the widths of the widest group.
    widest = max(measured, key=lambda group: group.width)
    return Spectrum(
        sigma=np.max([group.sigma for group in measured], axis=0),
        lower=np.max([group.lower for group in measured], axis=0),
        upper=np.max([group.upper for group in measured], axis=0),
        estimate=np.max([group.estimate for group in measured], axis=0),
        mean_width=widest.width,
        relu_mean_width_lower=widest.width_lower,
        relu_mean_width_upper=widest.width_upper,
        relu_mean_width=widest.activated.value,
        relu_mean_width_error=widest.activated.standard_error,
        in_data_metric=in_data_metric,
        iterations=ITERATIONS,
        seed=seed,
        provider=provider,
    )


@dataclass(frozen=True, eq=False)
class _Group:
    """The measures of one group; all of them are of the block where it has one group."""

    sigma: Floats
    lower: Floats
    upper: Floats
    estimate: Floats
    width: float
    width_lower: float
    width_upper: float
    activated: WidthEstimate


def _measure_group(part: Decomposition, activation: Activation, seed: int, provider: str) -> _Group:
    sigma, reduced = part.sigma, part.reduced
    lower, upper = bracket(sigma, activation)
    width = mean_width(sigma)
    estimates = np.full(len(sigma), np.nan)
    activated = _UNKNOWN
    if activation.kind == "none" or not sigma[0]:
        # Nothing to estimate: the block is linear, or it maps everything to zero.
        estimates, activated = sigma.copy(), WidthEstimate(width, 0.0)
    elif activation.ceiling is None or sigma[0] <= activation.ceiling:
        # On the unit ball no coordinate exceeds sigma_1; below the ceiling a Clip is a Relu.
        found = estimate(
            reduced,
            activation,
            [0],
            iterations=ITERATIONS,
            starts=_STARTS,
            seed=seed,
            provider=provider,
        )
        estimates[0] = np.clip(found[0], lower[0], upper[0])
        activated = activated_width(
            reduced,
            activation,
            draws=_DRAWS,
            iterations=ITERATIONS,
            seed=seed,
            provider=provider,
        )
    low, high = _width_bracket(width, activation)
    return _Group(sigma, lower, upper, estimates, width, low, high, activated)


def _width_bracket(width: float, activation: Activation) -> tuple[float, float]:
    """Certified bounds of the width behind the activation, without bias.

    Upper: phi is 1-Lipschitz coordinate by coordinate (Sudakov, Fernique), for slopes up to 1.
    Lower: phi(y) - phi(-y) = (1 + a) y for one common slope a, so w <= 2 / (1 + a) w_phi.
    """
    slopes = activation.slopes
    if activation.kind == "none":
        return width, width
    upper = width if float(np.max(np.abs(slopes))) <= 1 else math.nan
    common = activation.ceiling is None and slopes.min() == slopes.max() and slopes[0] >= 0
    return (width * (1 + float(slopes[0])) / 2 if common else math.nan), upper


def _of_group(block: Block, group: int) -> Activation:
    """The activation of one group's channels; differs for a PRelu with a slope a channel."""
    slopes = block.activation.slopes
    if block.geometry.groups == 1 or len(slopes) == 1:
        return block.activation
    rows = block.geometry.rows
    return Activation(
        kind=block.activation.kind,
        slopes=slopes[group * rows : (group + 1) * rows],
        ceiling=block.activation.ceiling,
    )
