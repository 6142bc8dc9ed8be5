"""Gaussian mean width behind the activation: E sup over |x| <= 1 of <g, phi(Wx + b)>.

Bounds, without a bias, from w, the width before the activation (proofs in docs/theory.md):

- w_phi <= max(1, |a|) w, since phi is Lipschitz coordinate by coordinate (Sudakov, Fernique); a
  bias changes nothing about it.
- w_phi >= (1 + min a) / 2 w for slopes a of -1 or more, since phi(y) - phi(-y) = (1 + a) y.
"""

import math

import numpy as np
import numpy.typing as npt

from onnx_relusv.measures import Width
from onnx_relusv.options import ProviderName
from onnx_relusv.records import Activation, Floats
from onnx_relusv.spectra.ascent import climb_width
from onnx_relusv.spectra.brackets import RELU
from onnx_relusv.spectra.layer import Effort, Layer
from onnx_relusv.spectra.layers import (
    at_least,
    checked_bias,
    checked_effort,
    checked_weight,
    layer_of,
)
from onnx_relusv.spectra.mean_width import width_of

_SETTLED_SHARE = 0.9


def relu_mean_width(
    weight: npt.ArrayLike,
    bias: npt.ArrayLike | None = None,
    metric: Floats | None = None,
    *,
    activation: Activation = RELU,
    draws: int = 64,
    iterations: int = 50,
    starts: int = 2,
    seed: int = 0,
    provider: ProviderName = "auto",
) -> Width:
    """The Gaussian mean width of the image of the unit ball under x -> phi(Wx + b).

    Args:
        weight: (out, in) W.
        bias: (out,) b; None for none.
        metric: (in, in) symmetric positive definite C: x runs through |C^(-1/2) x| <= 1; the unit
            ball if None.
        activation: phi.
        draws: How many g; the standard error falls with the root of it.
        iterations: Steps of the ascent for each g.
        starts: Starts for each g, whose best one counts.
        seed: Draws g and the starts.
        provider: Where the ascents run.

    Returns:
        The mean over g of suprema that are met from below, and certified bounds.

    Raises:
        UsageError: An array has another shape or is not finite, or a number is too small.
    """
    W = checked_weight(weight)
    effort = checked_effort(iterations=iterations, starts=starts, seed=seed, provider=provider)
    layer = layer_of(W, checked_bias(bias, len(W)), metric, activation)
    return sampled_width(layer, at_least("draws", draws, 2), effort)


def sampled_width(layer: Layer, draws: int, effort: Effort) -> Width:
    """The mean width behind a layer's activation, sampled, with certified bounds."""
    linear = width_of(np.linalg.norm(layer.reduced, axis=0))
    lower, upper = width_bracket(linear, layer)
    if layer.activation.kind == "none" or not linear:
        # The width of a shifted set is that of the set: E <g, b> = 0.
        value, error, converged = linear, 0.0, True
    else:
        g = np.random.default_rng([effort.seed, 2]).standard_normal((len(layer.reduced), draws))
        found = climb_width(layer, g, effort)
        value = float(found.best.mean())
        error = float(found.best.std(ddof=1)) / math.sqrt(draws)
        converged = float(found.settled.mean()) >= _SETTLED_SHARE
    return Width(
        value=value,
        lower=lower,
        upper=upper,
        standard_error=error,
        iterations=effort.iterations,
        converged=converged,
        seed=effort.seed,
        provider=effort.provider,
    )


def width_bracket(linear: float, layer: Layer) -> tuple[float, float]:
    """Certified bounds of the width behind the activation from the one before it."""
    slopes = layer.activation.slopes
    if layer.activation.kind == "none":
        return linear, linear
    upper = linear * max(1.0, float(np.max(np.abs(slopes))))
    if not layer.homogeneous:
        return 0.0, upper
    return linear * max(0.0, 1 + float(np.min(slopes))) / 2, upper
