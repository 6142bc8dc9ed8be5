"""Activations beyond piecewise linear ones, and what is proved of layers phi(Wx + b) with them.

SiLU, GELU and their like satisfy phi(t) - phi(-t) = t, as ReLU does; Tanh, Elu and their like rise,
with a slope that first grows and then falls. Either makes a bracket of the singular values behind
the activation, and of the mean width. These functions are not homogeneous, so that the radius of
the ball is a part of every result. docs/theory.md, section 8, has the statements and the proofs.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

import numpy as np
import numpy.typing as npt

from onnx_relusv.core.blocks import Activation, Floats
from onnx_relusv.core.errors import UsageError
from onnx_relusv.runtime.kernels import formulas
from onnx_relusv.spectra.singular import singular_values

RELU = Activation(kind="relu", slopes=np.zeros(1))
_OPERATIONS = formulas.ArrayOperations()
# Given away for the rounding of values, of slopes and of where slopes turn.
_ROUNDING = 1e-9
# How far on either side of where a slope turns, or jumps, it is looked at.
_BESIDE = 1e-10
_EPSILON = float(np.finfo(np.float64).eps)


@dataclass(frozen=True, kw_only=True)
class ActivationFunction:
    """An activation phi that acts on every coordinate, with what bounds need to know of it.

    A function of one's own is one more of these; its flags are claims that nothing checks.

    Attributes:
        name: What it is called.
        formula: phi and phi'.
        lipschitz: The least upper bound of |phi'|.
        lower_factor: The largest f with |phi(t) - phi(-t)| >= 2 f |t| for all t; 0 where phi
            levels off, so that it depends on the radius what holds.
        turning: Where phi' turns from growing to falling or back, or jumps; between two
            neighbours it is monotone.
        kinks: Those where it jumps.
        gated: Whether phi(t) = t h(t) with a gate h that never falls and goes from 0 to 1.
        halves: Whether phi(t) - phi(-t) = t for all t, and phi'(t) >= 1/2 for t >= 0.
        rising: Whether phi' >= 0 never grows again once it has fallen.
        off_relu: The length of the interval that phi - ReLU fills; infinite if it is unbounded.
            Said of functions that are gated or halve.
    """

    name: str
    formula: formulas.Formula
    lipschitz: float
    lower_factor: float = 0.0
    turning: tuple[float, ...] = ()
    kinks: tuple[float, ...] = ()
    gated: bool = False
    halves: bool = False
    rising: bool = False
    off_relu: float = math.inf

    def __call__(self, t: npt.ArrayLike) -> Floats:
        """phi(t), float64."""
        value: Floats = self._evaluated(t)[0]
        return value

    def derivative(self, t: npt.ArrayLike) -> Floats:
        """phi'(t), float64; at a kink one of the one-sided limits."""
        slope: Floats = self._evaluated(t)[1]
        return slope

    @property
    def at_zero(self) -> float:
        """phi(0), which moves all answers alike and counts in no measure."""
        return float(self(0.0))

    @property
    def homogeneous(self) -> bool:
        """Whether phi(ct) = c phi(t) for c > 0: of none that is not piecewise linear."""
        return False

    def steepest(self, low: Floats, high: Floats) -> Floats:
        """The least upper bound of |phi'| between low and high."""
        largest = np.max(np.abs(self._slopes(low, high)), axis=0) * (1 + _ROUNDING)
        return np.asarray(np.minimum(largest, self.lipschitz))

    def flattest(self, low: Floats, high: Floats) -> Floats:
        """The largest lower bound of phi' between low and high."""
        return np.asarray(np.min(self._slopes(low, high), axis=0))

    def _slopes(self, low: Floats, high: Floats) -> Floats:
        """(candidates, ...) phi' at both ends and beside the turning points between them."""
        ends = self.derivative(np.stack([low, high]))
        candidates = [*ends]
        for point in self.turning:
            beside = _BESIDE * max(1.0, abs(point))
            inside = (low <= point) & (point <= high)
            for slope in self.derivative([point - beside, point + beside]):
                candidates.append(np.where(inside, slope, ends[0]))
        return np.stack(candidates)

    def _evaluated(self, t: npt.ArrayLike) -> tuple[Floats, Floats]:
        # Powers of far arguments overflow on their way into a gate that is 0 or 1.
        with np.errstate(over="ignore", under="ignore"):
            value, derivative = self.formula(np.asarray(t, np.float64), _OPERATIONS)
        shape = np.shape(t)
        return np.broadcast_to(value, shape), np.broadcast_to(derivative, shape)


# Where the slope of SiLU is largest: t tanh(t / 2) = 2. There it is 1/2 + t / 4.
_SILU_TURN = 2.3993572805154675
# Where it is for the tanh form of GELU, and for Mish; its minima are at the next two.
_GELU_TANH_TURN, _MISH_TURN, _MISH_DIP = 1.4185040087908283, 1.490571179485428, -2.256376396360793
_SELU_ALPHA, _SELU_SCALE = 1.67326319217681884765625, 1.05070102214813232421875


def _silu(name: str, steepness: float) -> ActivationFunction:
    turn = _SILU_TURN / steepness
    return ActivationFunction(
        name=name,
        formula=formulas.Silu(steepness),
        lipschitz=0.5 + _SILU_TURN / 4,
        lower_factor=0.5,
        turning=(-turn, turn),
        gated=True,
        halves=True,
        off_relu=0.2784645427610739 / steepness,
    )


def elu_function(alpha: float = 1.0, scale: float = 1.0, name: str = "elu") -> ActivationFunction:
    """Elu, and with a scale Selu.

    Args:
        alpha: Not negative; how far it falls, before scaling.
        scale: Positive.
        name: What it is called.

    Raises:
        UsageError: A number is out of its range.
    """
    if not (0 <= alpha < math.inf and 0 < scale < math.inf):
        raise UsageError(f"alpha {alpha}, scale {scale}: use 0 or more, and a positive number.")
    jumps = (0.0,) if alpha != 1 else ()
    return ActivationFunction(
        name=name,
        formula=formulas.Elu(alpha, scale),
        lipschitz=scale * max(1.0, alpha),
        lower_factor=scale / 2,
        turning=jumps,
        kinks=jumps,
        rising=True,
    )


def hard_sigmoid_function(
    slope: float = 0.2,
    offset: float = 0.5,
    low: float = 0.0,
    high: float = 1.0,
    name: str = "hard_sigmoid",
) -> ActivationFunction:
    """A line that is cut off: slope t + offset between low and high.

    Args:
        slope: Positive; the alpha of ONNX's HardSigmoid.
        offset: Its beta.
        low: Lower limit; finite.
        high: Upper limit, above low; finite.
        name: What it is called.

    Raises:
        UsageError: A number is out of its range.
    """
    if not (0 < slope < math.inf and low < high and np.isfinite([offset, low, high]).all()):
        raise UsageError(
            f"slope {slope}, offset {offset}, low {low}, high {high}: use a positive slope, and "
            "finite limits with the lower one first."
        )
    kinks = ((low - offset) / slope, (high - offset) / slope)
    return ActivationFunction(
        name=name,
        formula=formulas.HardSigmoid(slope, offset, low, high),
        lipschitz=slope,
        turning=kinks,
        kinks=kinks,
        rising=True,
    )


def clip_function(low: float, high: float, name: str = "clip") -> ActivationFunction:
    """A Clip between any finite limits; one from 0 has better bounds as an `Activation`.

    Args:
        low: Lower limit.
        high: Upper limit, above low.
        name: What it is called.

    Raises:
        UsageError: The limits are not finite, or in another order.
    """
    return hard_sigmoid_function(1.0, 0.0, low, high, name)


_TABLE = (
    _silu("silu", 1.0),
    _silu("quick_gelu", 1.702),
    ActivationFunction(
        name="gelu",
        formula=formulas.gelu,
        lipschitz=0.5 * (1 + math.erf(1)) + 1 / (math.e * math.sqrt(math.pi)),
        lower_factor=0.5,
        turning=(-math.sqrt(2), math.sqrt(2)),
        gated=True,
        halves=True,
        off_relu=0.1699712075,
    ),
    ActivationFunction(
        name="gelu_tanh",
        formula=formulas.gelu_tanh,
        lipschitz=1.12899306866,
        lower_factor=0.5,
        turning=(-_GELU_TANH_TURN, _GELU_TANH_TURN),
        gated=True,
        halves=True,
        off_relu=0.1700407506,
    ),
    ActivationFunction(
        name="hard_swish",
        formula=formulas.hard_swish,
        lipschitz=1.5,
        lower_factor=0.5,
        turning=(-3.0, 3.0),
        kinks=(-3.0, 3.0),
        gated=True,
        halves=True,
        off_relu=0.375,
    ),
    ActivationFunction(
        name="mish",
        formula=formulas.mish,
        lipschitz=1.08849816126,
        lower_factor=0.5,
        turning=(_MISH_DIP, _MISH_TURN),
        gated=True,
        off_relu=0.3088434131,
    ),
    ActivationFunction(
        name="softplus",
        formula=formulas.softplus,
        lipschitz=1.0,
        lower_factor=0.5,
        halves=True,
        rising=True,
        off_relu=math.log(2),
    ),
    ActivationFunction(
        name="tanh", formula=formulas.tanh, lipschitz=1.0, turning=(0.0,), rising=True
    ),
    ActivationFunction(
        name="sigmoid", formula=formulas.sigmoid, lipschitz=0.25, turning=(0.0,), rising=True
    ),
    hard_sigmoid_function(),
    elu_function(),
    elu_function(_SELU_ALPHA, _SELU_SCALE, "selu"),
)
# Parameters are ONNX's defaults; the functions above make others, and piecewise linear ones with
# slopes are `Activation`s.
ACTIVATIONS: Mapping[str, Activation | ActivationFunction] = MappingProxyType(
    {
        "relu": RELU,
        "relu6": replace(RELU, kind="clip", ceiling=6.0),
        "leaky_relu": Activation(kind="leaky_relu", slopes=np.array([0.01])),
        **{function.name: function for function in _TABLE},
    }
)
# What measures take.
AnyActivation = Activation | ActivationFunction | str


def named(activation: AnyActivation) -> Activation | ActivationFunction:
    """An activation as it is, or the one of a name.

    Raises:
        UsageError: There is none of that name.
    """
    if not isinstance(activation, str):
        return activation
    if activation not in ACTIVATIONS:
        raise UsageError(f"activation {activation!r}: use one of {', '.join(ACTIVATIONS)}.")
    return ACTIVATIONS[activation]


def singular_value_bounds(
    rows: Floats,
    function: ActivationFunction,
    bias: Floats,
    *,
    free_bias: bool = False,
    nonnegative: bool = False,
) -> tuple[Floats, Floats]:
    """Certified bounds of all s_k of phi(Zx + b) on the unit ball.

    Args:
        rows: (out, r) Z, the weight with radius and metric, in orthogonal coordinates.
        function: phi.
        bias: (out,) b; zeros for none.
        free_bias: Whether L's bias is as free as L; otherwise L keeps b.
        nonnegative: Whether inputs are the non-negative part of the ball only.

    Returns:
        Two (r,) arrays, lower and upper.
    """
    sigma = singular_values(rows)
    upper = _upper(rows, function, bias, sigma) * (1 + _ROUNDING)
    if nonnegative:
        return np.zeros_like(sigma), upper
    lower = _lower(rows, function, bias, sigma, free_bias=free_bias) * (1 - _ROUNDING)
    # A bound of s_k is one of all before it.
    return np.asarray(np.maximum.accumulate(lower[::-1])[::-1]), upper


def _upper(rows: Floats, function: ActivationFunction, bias: Floats, sigma: Floats) -> Floats:
    reach = np.linalg.norm(rows, axis=1)
    low, high = bias - reach, bias + reach
    upper = np.minimum(
        function.lipschitz * sigma, _scaled_values(function.steepest(low, high), rows)
    )
    # With L = 0, which every k has.
    if function.rising:
        change = np.maximum(function(high) - function(bias), function(bias) - function(low))
        # Differences lose digits where the ball is tiny, and nothing is gained there.
        lost = 4 * _EPSILON * (np.abs(function(high)) + np.abs(function(low)))
        upper[0] = min(upper[0], float(np.linalg.norm(change + lost)))
    if function.gated and not bias.any():
        moves = reach > 0
        gates = np.divide(function(reach), reach, out=np.zeros_like(reach), where=moves)
        upper[0] = min(upper[0], float(_scaled_values(gates, rows)[0]))
    return np.asarray(np.minimum.accumulate(upper))


def _lower(
    rows: Floats, function: ActivationFunction, bias: Floats, sigma: Floats, *, free_bias: bool
) -> Floats:
    reach = np.linalg.norm(rows, axis=1)
    scaled = _scaled_values(row_factors(function, bias, reach, free_bias=free_bias), rows)
    count = int(np.count_nonzero(reach))
    return np.maximum(scaled, lower_of_values(sigma, function, bias, count, free_bias=free_bias))


def lower_of_values(
    sigma: Floats,
    function: ActivationFunction,
    bias: Floats,
    count: int,
    *,
    free_bias: bool = False,
) -> Floats:
    """Lower bounds of s_k on the whole ball from (r,) singular values of Z alone.

    The bias may have more rows than Z; `count` is how many of Z's are not zero.
    """
    below, factor = float(np.linalg.norm(np.minimum(bias, 0))), function.lower_factor
    # What is left of the bound without a bias when it moves.
    moved = function.lipschitz * float(np.linalg.norm(bias))
    if function.halves:
        moved = (function.lipschitz - 0.5) * below
    bounds = [factor * sigma - moved]
    if not free_bias and math.isfinite(function.off_relu):
        # All rows are as far from a ReLU as they can be.
        dips = function.off_relu * math.sqrt(count)
        bounds.append(np.maximum(sigma - below, 0) * math.sqrt(0.5) - dips)
        if not bias.any():
            bounds.append(np.hypot(factor * sigma, np.maximum(sigma / 2 - dips, 0)))
    return np.asarray(np.maximum(np.max(bounds, axis=0), 0))


def row_factors(
    function: ActivationFunction, bias: Floats, reach: Floats, *, free_bias: bool
) -> Floats:
    """(out,) f: what the answers at b + t and b - t, |t| <= reach, differ by is at least f |t|.

    From the answer at b, in the root mean square of both, or with a free bias from each other,
    halved.
    """
    low, high = bias - reach, bias + reach
    factors = np.maximum(function.flattest(low, high), 0)
    if function.rising:
        above = _least_secant(function, bias, high, np.inf)
        beneath = _least_secant(function, bias, low, -np.inf)
        together = above + beneath if free_bias else np.hypot(above, beneath) * math.sqrt(2)
        factors = np.maximum(factors, together / 2)
    even = bias >= 0 if function.halves else bias == 0
    return np.where(even, np.maximum(factors, function.lower_factor), factors)


def _least_secant(function: ActivationFunction, start: Floats, end: Floats, side: float) -> Floats:
    """The least slope of a rising phi from the start to any point up to the end.

    Its slope grows and then falls, so that the mean slope is least at once or at the end.
    """
    length = np.abs(end - start)
    values, starts = function(end), function(start)
    # What the difference of two rounded values may be off by.
    lost = 4 * _EPSILON * (np.abs(values) + np.abs(starts))
    secant = np.divide(
        np.maximum(np.abs(values - starts) - lost, 0),
        length,
        out=np.full_like(length, np.inf),
        where=length > 0,
    )
    return np.minimum(secant, function.derivative(np.nextafter(start, side)))


def width_bounds_behind(
    rows: Floats, function: ActivationFunction, bias: Floats
) -> tuple[Floats, Floats, float]:
    """What bounds the mean width behind an activation.

    Args:
        rows: (out, r) Z, in orthogonal coordinates.
        function: phi.
        bias: (out,) b.

    Returns:
        The singular values of a linear map with a smaller, and of one with a larger width, and a
        width that is not smaller; infinite where none is known.
    """
    reach = np.linalg.norm(rows, axis=1)
    low, high = bias - reach, bias + reach
    flat = (function.flattest(low, bias) + function.flattest(bias, high)) / 2
    if function.halves:
        flat = np.where(bias == 0, np.maximum(flat, 0.5), flat)
    least = _scaled_values(np.maximum(flat, 0), rows) * (1 - _ROUNDING)
    most = _scaled_values(function.steepest(low, high), rows) * (1 + _ROUNDING)
    # The answers lie in a box, whose width is the sum of its edges' widths.
    edges = math.inf
    if function.rising:
        lost = 4 * _EPSILON * (np.abs(function(high)) + np.abs(function(low)))
        edges = float((function(high) - function(low) + lost).sum()) / math.sqrt(2 * math.pi)
    return least, most, edges * (1 + _ROUNDING)


def _scaled_values(factors: Floats, rows: Floats) -> Floats:
    """The singular values of diag(factors) Z."""
    return singular_values(factors[:, None] * rows)
