"""Measures of the activated operators A_x = diag(phi'(Wx + b)) W of a layer at many inputs x.

With Q = sum sigma_i^2 g_i^2, g standard normal and sigma the singular values of A_x, the mean width
is E Q^(1/2), while E Q = F^2 = |A_x|_F^2 and E Q^2 = F^4 + 2 sum sigma_i^4. Jensen gives w <= F,
and Hoelder, E Q <= (E Q^(1/2))^(2/3) (E Q^2)^(1/3), gives F^3 / (F^4 + 2 sum sigma_i^4)^(1/2) <= w.

`activated_mean_width` measures a layer given as plain arrays; `BlockRecorder` records, batch by
batch, what every sample does in a block of a model.
"""

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from onnx_relusv.core.blocks import Activation, Block, Floats, LinearMap, ReadOnlyArrays
from onnx_relusv.core.errors import UsageError
from onnx_relusv.core.kinds import kind_of
from onnx_relusv.core.measures import ActivatedWidths
from onnx_relusv.core.options import ProviderName
from onnx_relusv.core.traces import BlockTrace
from onnx_relusv.runtime.kernels.traces import DERIVATIVES, FIGURES, OPEN, STEPS, trace_kernel
from onnx_relusv.runtime.providers import choose_provider, kernels_on
from onnx_relusv.runtime.session import as_array, as_value, on_device
from onnx_relusv.samples.samples import Batch
from onnx_relusv.spectra.activation_functions import (
    RELU,
    ActivationFunction,
    AnyActivation,
    named,
)
from onnx_relusv.spectra.layers import check_activation, checked_bias, checked_weight, finite
from onnx_relusv.spectra.mean_widths import width_of

# A last step that gained less than this share says that the ascent has arrived.
_STILL_GAINING = 1e-4
_ROUNDING, _UNDERFLOW = 2.0**-24, 2.0**-126
# Stands for infinity where infinity times zero would come up.
_LARGEST = float(np.finfo(np.float32).max)


@dataclass(frozen=True, eq=False, kw_only=True)
class Figures(ReadOnlyArrays):
    """The measures of activated operators, (samples, positions) each.

    Attributes:
        active: float64, number of units whose derivative is not zero.
        width_lower: float64, certified lower bound of the mean width.
        width_upper: float64, certified upper bound, the Frobenius norm rounded up.
        width: float64, the mean width to 1e-6 if requested, otherwise NaN.
        largest: float64, largest ReLU singular value; estimate from below, up to the rounding of
            float32 products.
        margin: float64, distance of the input to the nearest knee of a unit.
        converged: bool, whether the last power step gained less than 1e-4, relatively.
    """

    active: Floats
    width_lower: Floats
    width_upper: Floats
    width: Floats
    largest: Floats
    margin: Floats
    converged: np.ndarray


class ActivatedOperators:
    """The activated operators of one linear map and activation, with what the graph needs of them.

    Args:
        weight: (groups, rows, columns) float64.
        activation: phi; without one, A_x = W and no unit has a knee. Of one that is not piecewise
            linear, what is measured are derivatives, in place of pre-activations, and margins
            are infinite.
        spatial: Whether pre-activations are (samples, channels, spatial axes ...), or
            (..., features).
        provider: Execution provider.
        exact: Whether mean widths are computed by quadrature too, on the CPU.
    """

    def __init__(
        self,
        weight: Floats,
        activation: Activation | ActivationFunction,
        *,
        spatial: bool,
        provider: str,
        exact: bool = False,
    ) -> None:
        groups, rows, _ = weight.shape
        self._spatial, self._provider = spatial, provider
        # Squares of the weights could leave float32's range, so the graph sees G scaled.
        peak = float(np.abs(weight).max()) or 1.0
        matrix = weight / peak
        gram = matrix @ matrix.transpose(0, 2, 1)
        top = float(np.diagonal(gram, axis1=1, axis2=2).max()) or 1.0
        gram /= top
        squares = np.diagonal(gram, axis1=1, axis2=2)
        self._scale = peak * math.sqrt(top)
        slopes, ceiling, has_knee = np.ones((groups, rows)), _LARGEST, np.zeros_like(squares, bool)
        self._derived = not isinstance(activation, Activation)
        if isinstance(activation, Activation):
            slopes = np.broadcast_to(activation.slopes, (groups * rows,)).reshape(groups, rows)
            has_knee = (squares > 0) & (activation.kind != "none")
            ceiling = _LARGEST if activation.ceiling is None else activation.ceiling
        of_units = {
            "squares": squares,
            "slope": slopes,
            "reciprocal": _reciprocals(np.sqrt(squares)),
            "least": np.where(has_knee, 0, np.inf),
        }
        arrays = {name: values[:, None] for name, values in of_units.items()}
        arrays |= {"gram": gram, "ceiling": np.array([ceiling])}
        # Copied to the device once, and read with every batch.
        self._constants = {
            name: on_device(np.ascontiguousarray(values, np.float32), provider)
            for name, values in arrays.items()
        }
        self._exact = (gram, slopes) if exact else None
        self._shape = (groups, rows)

    def measure(self, y: Any, samples: int, positions: np.ndarray) -> Figures:
        """Measures all samples of a batch at the same positions.

        Args:
            y: OrtValue, the pre-activation, or the derivative at it.
            samples: How many samples are in it: a Conv's first axis, otherwise a divisor of it.
            positions: (p,) int64, into what a sample has: output positions of a Conv flattened in
                C order, otherwise rows.
        """
        groups, rows = self._shape
        shape = [samples, groups * rows, -1] if self._spatial else [samples, -1, groups * rows]
        feeds = {
            "y": y,
            "shape": np.array(shape),
            "index": positions,
            "split": np.array([-1, groups, rows]),
            **self._constants,
        }
        kernel = trace_kernel(
            self._provider, self._spatial, y.element_type(), derived=self._derived
        )
        units = DERIVATIVES if self._derived else OPEN
        names = FIGURES if self._exact is None else (*FIGURES, units)
        values = kernel.run_on_device(feeds, names)
        sums = {
            name: as_array(values[name]).astype(np.float64).reshape(samples, len(positions))
            for name in FIGURES
        }
        lower, upper = width_bracket(sums["square"], sums["fourth"], groups * rows)
        climbed, before = np.sqrt(sums["climbed"]), np.sqrt(sums["before"])
        width = np.full(lower.shape, np.nan)
        if self._exact is not None:
            gram, slopes = self._exact
            of_units = as_array(values[units]).astype(np.float64)
            if not self._derived:
                of_units = np.where(of_units > 0, 1, slopes[:, None])
            width = _widths(of_units, gram).reshape(lower.shape)
        return Figures(
            active=sums["active"],
            width_lower=self._scale * lower,
            width_upper=self._scale * upper,
            width=self._scale * width,
            largest=self._scale * np.maximum(climbed, np.sqrt(sums["single"])),
            margin=sums["margin"] / self._scale,
            converged=climbed - before <= _STILL_GAINING * climbed,
        )


def width_bracket(square: Floats, fourth: Floats, units: int) -> tuple[Floats, Floats]:
    """Certified bounds of mean widths, from float32 sums of non-negative numbers.

    F^2 is off by at most n + 8 roundings of its own size, n being the units, in whatever order it
    was added up, the sum of sigma^4 by twice as many, and both by what underflowed: all of that is
    given away here.

    Args:
        square: F^2, of operators of at most 1 in every row.
        fourth: Sums of sigma^4.
        units: How many rows the operators have.
    """
    # Twice the first order, which covers the higher ones.
    relative = 2 * (units + 8) * _ROUNDING
    least, most = square * (1 - relative), square * (1 + relative) + units * _UNDERFLOW
    # No sum of sigma^4 exceeds F^4.
    fourths = np.minimum(fourth * (1 + 2 * relative) + units**2 * _UNDERFLOW, most**2)
    moment = np.sqrt(least**2 + 2 * fourths)
    lower = np.divide(least**1.5, moment, out=np.zeros_like(square), where=moment > 0)
    return lower, np.where(square > 0, np.sqrt(most), 0)


def _reciprocals(lengths: Floats) -> Floats:
    """One over every length, and 0 for 0."""
    inverse = np.divide(1, lengths, out=np.zeros_like(lengths), where=lengths > 0)
    return np.minimum(inverse, _LARGEST)


def _widths(derivatives: Floats, gram: Floats) -> Floats:
    """Mean widths by quadrature, of the groups' operators together.

    Args:
        derivatives: (groups, n, rows).
        gram: (groups, rows, rows).
    """
    return np.array(
        [
            width_of(_singular_values(gram, derivatives[:, row]))
            for row in range(derivatives.shape[1])
        ]
    )


def _singular_values(gram: Floats, derivative: Floats) -> Floats:
    squares = []
    for group, d in zip(gram, derivative, strict=True):
        active = np.flatnonzero(d)
        squares.append(
            np.linalg.eigvalsh(d[active, None] * group[np.ix_(active, active)] * d[active])
        )
    values: Floats = np.sqrt(np.maximum(np.concatenate(squares), 0))
    return values


# Well inside float32.
_FARTHEST = 1e38


def activated_mean_width(
    weight: npt.ArrayLike,
    bias: npt.ArrayLike | None,
    inputs: npt.ArrayLike,
    *,
    activation: AnyActivation = RELU,
    exact: bool = False,
    seed: int = 0,
    provider: ProviderName = "auto",
    chunk_bytes: int = 32 << 20,
) -> ActivatedWidths:
    """Measures what the layer phi(Wx + b) is at single inputs: A_x = diag(phi'(Wx + b)) W.

    The mean width w(A_x) lies, certified, in [F^3 / (F^4 + 2 sum sigma^4)^(1/2), F], F being the
    Frobenius norm of A_x and sigma its singular values; that costs no decomposition. Exact widths
    take one eigendecomposition an input, of as many rows as are active.

    Args:
        weight: (out, in) W.
        bias: (out,) b; None for none.
        inputs: (n, in) the x.
        activation: phi: a piecewise linear `Activation`, an `ActivationFunction`, or the name of
            one of `ACTIVATIONS`. Of a Clip, a unit is active strictly between 0 and the ceiling.
        exact: Whether `value` is computed.
        seed: Goes into the record, as of the other measures; nothing is drawn.
        provider: Where the graph runs.
        chunk_bytes: Of pre-activations that are measured at a time.

    Returns:
        The record, with one number an input in every array.

    Raises:
        UsageError: An array or the slopes have another shape or are not finite, the ceiling is not
            positive, or the provider does not work.
    """
    W = checked_weight(weight)
    out, columns = W.shape
    b = checked_bias(bias, out)
    x = finite(inputs, "inputs")
    if x.ndim != 2 or x.shape[1] != columns or not len(x):
        raise UsageError(
            f"The inputs have shape {x.shape}; for a weight of shape {W.shape} they have to be "
            f"(n, {columns}), with one input at least."
        )
    phi = named(activation)
    check_activation(phi, out)
    chosen = kernels_on(choose_provider(provider))
    # The layer divided by its largest weight, because the graph computes in float32.
    peak = float(np.abs(W).max()) or 1.0
    if isinstance(phi, Activation) and phi.ceiling is not None:
        phi = replace(phi, ceiling=phi.ceiling / peak)
    W, b = W / peak, b / peak
    operators = ActivatedOperators(W[None], phi, spatial=False, provider=chosen, exact=exact)
    length = max(1, chunk_bytes // (8 * out))
    parts, distances = [], []
    for start in range(0, len(x), length):
        y = np.clip(x[start : start + length] @ W.T + b, -_FARTHEST, _FARTHEST)
        if isinstance(phi, ActivationFunction):
            distances.append(_to_kinks(peak * y, phi, peak * np.linalg.norm(W, axis=1)))
            y = phi.derivative(peak * y)
        parts.append(operators.measure(as_value(y), len(y), np.array([0])))
    joined = {
        name: np.concatenate([getattr(part, name)[:, 0] for part in parts])
        for name in (*_RECORDED, "converged")
    }
    if distances:
        joined["margin"] = np.concatenate(distances)
    return ActivatedWidths(
        active=joined["active"],
        lower=peak * joined["width_lower"],
        upper=peak * joined["width_upper"],
        value=peak * joined["width"],
        largest=peak * joined["largest"],
        margin=joined["margin"],
        iterations=STEPS,
        converged=joined["converged"],
        seed=seed,
        provider=chosen,
    )


def _to_kinks(y: Floats, phi: ActivationFunction, lengths: Floats) -> Floats:
    """(n,) distances of inputs to the nearest one at which a unit's derivative jumps.

    Args:
        y: (n, units) pre-activations.
        phi: The activation.
        lengths: (units,) of the units' weights; those of 0 have no such input.
    """
    moving = lengths > 0
    if not phi.kinks or not moving.any():
        return np.full(len(y), np.inf)
    apart = np.abs(y[:, moving, None] - np.array(phi.kinks)).min(axis=2)
    return np.asarray((apart / lengths[moving]).min(axis=1))


# What is recorded of every sample, by the names that it has in `Figures` and in a block's trace.
_RECORDED = ("active", "width_lower", "width_upper", "width", "largest", "margin")
POSITIONS = 8


class BlockRecorder:
    """The activated operators of one block at the inputs that go through it.

    Where a sample has more than one output position, as in a Conv or in a MatMul on sequences,
    figures are means over 8 positions, or all if there are fewer. The seed draws them once, so all
    samples are measured at the same ones.

    Args:
        block: The block, with an activation.
        linear: Its linear map.
        samples: How many samples will come.
        provider: Execution provider.
        seed: Draws positions.
        exact: Whether mean widths are computed, and not only bounded.
    """

    def __init__(
        self,
        block: Block,
        linear: LinearMap,
        samples: int,
        *,
        provider: str,
        seed: int,
        exact: bool,
    ) -> None:
        self.block = block
        self._kind = kind_of(block.geometry)
        self._operators = ActivatedOperators(
            linear.weight,
            block.activation,
            spatial=self._kind.spatial,
            provider=provider,
            exact=exact,
        )
        self._rng = np.random.default_rng(seed)
        self._positions: np.ndarray | None = None
        self._shape: tuple[int, ...] = ()
        self._recorded = {name: np.empty(samples) for name in _RECORDED}

    def add(self, values: Any, batch: Batch) -> str | None:
        """Measures the real samples of a batch.

        Args:
            values: OrtValue, the block's pre-activation.
            batch: What it was computed from.

        Returns:
            None, or why the block cannot be traced; nothing is recorded then.
        """
        shape = tuple(values.shape())
        problem = self._problem(shape, batch.size)
        if problem is not None:
            return problem
        if self._positions is None:
            available = self._kind.positions(shape, batch.size)
            count = min(available, POSITIONS)
            self._positions = np.sort(self._rng.choice(available, count, replace=False))
            self._shape = shape[1:]
        figures = self._operators.measure(values, batch.size, self._positions)
        real = slice(batch.start, batch.start + batch.count)
        for name, recorded in self._recorded.items():
            recorded[real] = getattr(figures, name).mean(axis=1)[: batch.count]
        return None

    def _problem(self, shape: tuple[int, ...], size: int) -> str | None:
        if len(shape) < 2 or not all(shape):
            return f"its pre-activation has shape {shape}, which holds no outputs of samples"
        # Measured with one sample, so the length of axis 0 says how many rows each has.
        rows = self.block.output_shape[0]
        if shape[0] != size * rows or (self._kind.spatial and rows != 1):
            return (
                f"its pre-activation has shape {shape} for a batch of {size}, so it is not known "
                "which part belongs to which sample"
            )
        if self._positions is not None and shape[1:] != self._shape:
            return (
                f"its pre-activation has shape {shape[1:]} after axis 0 in one batch, and "
                f"{self._shape} before"
            )
        return None

    def trace(self) -> BlockTrace:
        """What was recorded."""
        assert self._positions is not None  # there is at least one sample
        return BlockTrace(
            key=self.block.key,
            units=self.block.geometry.out_channels,
            positions=len(self._positions),
            **self._recorded,
        )
