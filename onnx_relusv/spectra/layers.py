"""Layers phi(Wx + b) from plain arrays, checked, in the coordinates in which they are ascended."""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import scipy.linalg

from onnx_relusv.core.blocks import Activation, Floats, ReadOnlyArrays
from onnx_relusv.core.errors import UsageError
from onnx_relusv.core.options import ProviderName
from onnx_relusv.runtime.providers import choose_provider, kernels_on
from onnx_relusv.spectra.activation_functions import ActivationFunction
from onnx_relusv.spectra.singular import decompose


@dataclass(frozen=True, kw_only=True)
class Effort:
    """How hard an ascent tries, and where it runs.

    Attributes:
        iterations: Steps of each start.
        starts: Starts for each rank, or for each draw.
        seed: Draws them.
        provider: Execution provider.
    """

    iterations: int
    starts: int
    seed: int
    provider: str


@dataclass(frozen=True, eq=False, kw_only=True)
class Layer(ReadOnlyArrays):
    """A layer phi(Wx + b) in the coordinates of W's right singular vectors.

    Attributes:
        reduced: (out, r) float64, U diag(sigma), sigma descending.
        activation: phi.
        bias: (out,) float64; zeros for none.
        rotation: (r, in) float64, the right singular vectors, where inputs x are non-negative;
            None where they are not restricted.
    """

    reduced: Floats
    activation: Activation | ActivationFunction
    bias: Floats
    rotation: Floats | None = None

    @property
    def homogeneous(self) -> bool:
        """Whether the layer's answer grows in proportion to its input."""
        return self.activation.homogeneous and not self.bias.any()

    @property
    def is_plain(self) -> bool:
        """Whether phi is a plain Relu and there is no bias."""
        return (
            isinstance(self.activation, Activation)
            and self.homogeneous
            and not self.activation.slopes.any()
        )

    @property
    def coordinates(self) -> int:
        """How many coordinates an ascent has."""
        return int((self.reduced if self.rotation is None else self.rotation).shape[1])

    def principal(self, x: Floats) -> Floats:
        """Columns x, in the coordinates of the ascent, in those of the right singular vectors."""
        return x if self.rotation is None else self.rotation @ x

    def answers(self, x: Floats) -> Floats:
        """phi(Wx + b) for columns x in the coordinates of the ascent, (out, columns) float64."""
        return activated(self.reduced @ self.principal(x) + self.bias[:, None], self.activation)


def activated(y: Floats, activation: Activation | ActivationFunction) -> Floats:
    """phi(y), y of shape (out, columns)."""
    if isinstance(activation, ActivationFunction):
        return activation(y)
    slopes = activation.slopes[:, None]
    rising = np.where(y > 0, y, slopes * y)
    return rising if activation.ceiling is None else np.minimum(rising, activation.ceiling)


def slopes_at(y: Floats, activation: Activation | ActivationFunction) -> Floats:
    """phi'(y), y of shape (out, columns)."""
    if isinstance(activation, ActivationFunction):
        return activation.derivative(y)
    slopes = np.where(y > 0, 1.0, activation.slopes[:, None])
    return slopes if activation.ceiling is None else np.where(y < activation.ceiling, slopes, 0.0)


# Squares of values beyond these could leave float64's range, and bounds of 0 would result.
_SMALLEST, _LARGEST = 1e-100, 1e100


def layer_of(
    weight: Floats,
    bias: Floats,
    metric: Floats | None,
    activation: Activation | ActivationFunction,
    *,
    nonnegative: bool = False,
) -> Layer:
    """The layer in the coordinates of the right singular vectors of W C^(1/2).

    Args:
        weight: (out, in) float64.
        bias: (out,) float64.
        metric: (in, in) symmetric positive definite C; the identity if None.
        activation: phi.
        nonnegative: Whether inputs are non-negative; not together with a metric.

    Raises:
        UsageError: The activation or the metric does not fit, or both restrict the inputs.
    """
    out, columns = weight.shape
    check_activation(activation, out)
    if nonnegative:
        if metric is not None:
            raise UsageError("Non-negative inputs and a metric exclude each other; use one.")
        u, sigma, vt = scipy.linalg.svd(weight, full_matrices=False)
        return Layer(reduced=u * sigma, activation=activation, bias=bias, rotation=vt)
    reduced = decompose(weight, checked_metric(metric, columns)).reduced
    return Layer(reduced=reduced, activation=activation, bias=bias)


def checked_weight(weight: npt.ArrayLike) -> Floats:
    """A weight as a (out, in) float64 array without NaN and infinities."""
    array = finite(weight, "weight")
    if array.ndim != 2 or not array.size:
        raise UsageError(
            f"The weight has shape {array.shape}; it has to be (out, in). A Conv's kernel is one "
            "matrix a group: (out / groups, in / groups * kernel height * kernel width)."
        )
    peak = float(np.abs(array).max())
    if peak and not _SMALLEST <= peak <= _LARGEST:
        raise UsageError(
            f"The weight's largest entry, with the radius if there is one, is {peak:.3g}; scale it "
            f"to between {_SMALLEST:g} and {_LARGEST:g}: without a bias all measures scale with it."
        )
    return array


def scaled(weight: Floats, radius: float) -> Floats:
    """R W, whose unit ball is W's of radius R; W itself for 1.

    Raises:
        UsageError: The radius is no positive number, or makes numbers too large or too small.
    """
    if not (radius > 0 and math.isfinite(radius)):
        raise UsageError(f"radius {radius}: use a positive number.")
    return checked_weight(radius * weight)


def checked_metric(metric: npt.ArrayLike | None, columns: int) -> Floats | None:
    """A metric as a (in, in) float64 array, symmetric and positive definite; None for None."""
    if metric is None:
        return None
    array = finite(metric, "metric")
    if array.shape != (columns, columns):
        raise UsageError(
            f"The metric has shape {array.shape}; for {columns} inputs it has to be "
            f"({columns}, {columns})."
        )
    if np.abs(array - array.T).max() > 1e-6 * np.abs(array).max():
        raise UsageError("The metric is not symmetric.")
    try:
        np.linalg.cholesky(array)
    except np.linalg.LinAlgError as error:
        raise UsageError("The metric is not positive definite.") from error
    return array


def checked_bias(bias: npt.ArrayLike | None, out: int) -> Floats:
    """A bias as a (out,) float64 array; zeros for None."""
    if bias is None:
        return np.zeros(out)
    array = finite(bias, "bias")
    if array.shape != (out,):
        raise UsageError(f"The bias has shape {array.shape}; for {out} rows it has to be ({out},).")
    return array


def check_activation(activation: Activation | ActivationFunction, out: int) -> None:
    """Refuses an activation that does not fit so many rows."""
    if isinstance(activation, ActivationFunction):
        return
    if len(finite(activation.slopes, "slopes")) not in (1, out):
        raise UsageError(f"{len(activation.slopes)} slopes for {out} rows: use 1 or {out}.")
    if activation.ceiling is not None and not activation.ceiling > 0:
        raise UsageError(f"ceiling {activation.ceiling}: use a positive number, or None.")


def checked_effort(*, iterations: int, starts: int, seed: int, provider: ProviderName) -> Effort:
    """How hard an ascent tries, on the provider that is available."""
    return Effort(
        iterations=at_least("iterations", iterations, 1),
        starts=at_least("starts", starts, 1),
        seed=at_least("seed", seed, 0),
        provider=kernels_on(choose_provider(provider)),
    )


def at_least(name: str, value: int, least: int) -> int:
    """A number, refused if it is smaller."""
    if value < least:
        raise UsageError(f"{name} {value}: use {least} or more.")
    return value


def finite(values: npt.ArrayLike, name: str) -> Floats:
    """Values as float64, refused if one of them is NaN or infinite."""
    array = np.asarray(values, np.float64)
    if not np.isfinite(array).all():
        raise UsageError(f"The {name} holds NaN or infinite values.")
    return array
