"""Measures of a block's activated operators A_x = diag(phi'(Wx + b)) W at many inputs.

With Q = sum sigma_i^2 g_i^2, g standard normal and sigma the singular values of A_x, the mean width
is E Q^(1/2), while E Q = F^2 = |A_x|_F^2 and E Q^2 = F^4 + 2 sum sigma_i^4. Jensen gives w <= F,
and Hoelder, E Q <= (E Q^(1/2))^(2/3) (E Q^2)^(1/3), gives F^3 / (F^4 + 2 sum sigma_i^4)^(1/2) <= w.
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from onnx_relusv.records import Activation, Floats, ReadOnlyArrays
from onnx_relusv.runtime.session import as_array, on_device
from onnx_relusv.runtime.trace_kernels import FIGURES, OPEN, trace_kernel
from onnx_relusv.spectra.mean_width import width_of

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
        lower: float64, certified lower bound of the mean width.
        upper: float64, certified upper bound, the Frobenius norm rounded up.
        width: float64, the mean width to 1e-6 if asked for, otherwise NaN.
        largest: float64, largest ReLU singular value; estimate from below, up to the rounding of
            float32 products.
        margin: float64, distance of the input to the nearest knee of a unit.
        converged: bool, whether the last power step gained less than 1e-4, relatively.
    """

    active: Floats
    lower: Floats
    upper: Floats
    width: Floats
    largest: Floats
    margin: Floats
    converged: np.ndarray


class ActivatedOperators:
    """The activated operators of one linear map and activation, with what the graph needs of them.

    Args:
        weight: (groups, rows, columns) float64.
        activation: phi; without one, A_x = W and no unit has a knee.
        is_conv: Whether pre-activations are (samples, channels, spatial axes ...), or
            (..., features).
        provider: Execution provider.
        exact: Whether mean widths are computed by quadrature too, on the CPU.
    """

    def __init__(
        self,
        weight: Floats,
        activation: Activation,
        *,
        is_conv: bool,
        provider: str,
        exact: bool = False,
    ) -> None:
        groups, rows, _ = weight.shape
        self._is_conv, self._provider = is_conv, provider
        # Squares of the weights could leave float32's range, so the graph sees G scaled.
        peak = float(np.abs(weight).max()) or 1.0
        matrix = weight / peak
        gram = matrix @ matrix.transpose(0, 2, 1)
        top = float(np.diagonal(gram, axis1=1, axis2=2).max()) or 1.0
        gram /= top
        squares = np.diagonal(gram, axis1=1, axis2=2)
        self._scale = peak * math.sqrt(top)
        slopes = np.broadcast_to(activation.slopes, (groups * rows,)).reshape(groups, rows)
        has_knee = (squares > 0) & (activation.kind != "none")
        of_units = {
            "squares": squares,
            "slope": slopes,
            "reciprocal": _reciprocals(np.sqrt(squares)),
            "least": np.where(has_knee, 0, np.inf),
        }
        ceiling = _LARGEST if activation.ceiling is None else activation.ceiling
        arrays = {name: values[:, None] for name, values in of_units.items()}
        arrays |= {"gram": gram, "ceiling": np.array([ceiling])}
        # Put there once, and read batch after batch.
        self._constants = {
            name: on_device(np.ascontiguousarray(values, np.float32), provider)
            for name, values in arrays.items()
        }
        self._exact = (gram, slopes) if exact else None
        self._shape = (groups, rows)

    def measure(self, y: Any, samples: int, positions: np.ndarray) -> Figures:
        """Measures all samples of a batch at the same positions.

        Args:
            y: OrtValue, the pre-activation.
            samples: How many samples are in it: a Conv's first axis, otherwise a divisor of it.
            positions: (p,) int64, into what a sample has: output positions of a Conv flattened in
                C order, otherwise rows.
        """
        groups, rows = self._shape
        shape = [samples, groups * rows, -1] if self._is_conv else [samples, -1, groups * rows]
        feeds = {
            "y": y,
            "shape": np.array(shape),
            "index": positions,
            "split": np.array([-1, groups, rows]),
            **self._constants,
        }
        kernel = trace_kernel(self._provider, self._is_conv, y.element_type())
        names = FIGURES if self._exact is None else (*FIGURES, OPEN)
        values = kernel.run_on_device(feeds, names)
        found = {
            name: as_array(values[name]).astype(np.float64).reshape(samples, len(positions))
            for name in FIGURES
        }
        lower, upper = width_bracket(found["square"], found["fourth"], groups * rows)
        climbed, before = np.sqrt(found["climbed"]), np.sqrt(found["before"])
        width = np.full(lower.shape, np.nan)
        if self._exact is not None:
            width = _widths(as_array(values[OPEN]), *self._exact).reshape(lower.shape)
        return Figures(
            active=found["active"],
            lower=self._scale * lower,
            upper=self._scale * upper,
            width=self._scale * width,
            largest=self._scale * np.maximum(climbed, np.sqrt(found["single"])),
            margin=found["margin"] / self._scale,
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


def _widths(is_open: np.ndarray, gram: Floats, slopes: Floats) -> Floats:
    """Mean widths by quadrature, of the groups' operators together.

    Args:
        is_open: (groups, n, rows) bool.
        gram: (groups, rows, rows).
        slopes: (groups, rows).
    """
    derivatives = np.where(is_open, 1, slopes[:, None])
    return np.array(
        [width_of(_singular_values(gram, derivatives[:, row])) for row in range(is_open.shape[1])]
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
