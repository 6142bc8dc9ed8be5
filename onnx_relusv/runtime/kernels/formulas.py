"""Activations with their derivatives as formulas, which serve numpy arrays and graphs alike.

A formula takes numbers t and the operations to write it in, and gives phi(t) and phi'(t). At a kink
the derivative is one of its one-sided limits.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import scipy.special

from onnx_relusv.runtime.kernels.parts import Graph, Tensor


class Operations(Protocol):
    """What formulas use besides arithmetic; of arrays, or of tensors under construction."""

    def sigmoid(self, t: Any) -> Any:
        """1 / (1 + exp(-t))."""

    def tanh(self, t: Any) -> Any:
        """The hyperbolic tangent."""

    def erf(self, t: Any) -> Any:
        """The error function."""

    def exp(self, t: Any) -> Any:
        """The exponential."""

    def softplus(self, t: Any) -> Any:
        """log(1 + exp(t))."""

    def between(self, t: Any, low: float, high: float) -> Any:
        """The nearest number within the limits."""

    def where(self, condition: Any, one: Any, other: Any) -> Any:
        """One where the condition holds, otherwise the other."""


class ArrayOperations:
    """Operations of numpy arrays."""

    sigmoid = staticmethod(scipy.special.expit)
    tanh = staticmethod(np.tanh)
    erf = staticmethod(scipy.special.erf)
    exp = staticmethod(np.exp)
    between = staticmethod(np.clip)
    where = staticmethod(np.where)

    @staticmethod
    def softplus(t: Any) -> Any:
        """log(1 + exp(t))."""
        return np.logaddexp(t, 0.0)


class GraphOperations:
    """Operations of tensors of a graph.

    Args:
        graph: Where they add their nodes.
    """

    def __init__(self, graph: Graph) -> None:
        self._op = graph.op

    def sigmoid(self, t: Tensor) -> Tensor:
        """1 / (1 + exp(-t))."""
        return self._op("Sigmoid", t)

    def tanh(self, t: Tensor) -> Tensor:
        """The hyperbolic tangent."""
        return self._op("Tanh", t)

    def erf(self, t: Tensor) -> Tensor:
        """The error function."""
        return self._op("Erf", t)

    def exp(self, t: Tensor) -> Tensor:
        """The exponential."""
        return self._op("Exp", t)

    def softplus(self, t: Tensor) -> Tensor:
        """log(1 + exp(t))."""
        return self._op("Softplus", t)

    def between(self, t: Tensor, low: float, high: float) -> Tensor:
        """The nearest number within the limits."""
        return self._op("Clip", t, low, high)

    def where(self, condition: Tensor, one: Tensor | float, other: Tensor | float) -> Tensor:
        """One where the condition holds, otherwise the other."""
        return self._op("Where", condition, one, other)


# From numbers and operations to phi and phi'; equal ones compare equal, and are built once.
Formula = Callable[[Any, Operations], tuple[Any, Any]]


@dataclass(frozen=True)
class Silu:
    """t sigmoid(steepness t); SiLU with 1, QuickGelu with 1.702."""

    steepness: float = 1.0

    def __call__(self, t: Any, op: Operations) -> tuple[Any, Any]:
        """Phi and phi'."""
        gate, closed = op.sigmoid(t * self.steepness), op.sigmoid(t * -self.steepness)
        return t * gate, gate + t * gate * closed * self.steepness


def gelu(t: Any, op: Operations) -> tuple[Any, Any]:
    """T times the normal distribution function of t."""
    gate = op.erf(t * math.sqrt(0.5)) * 0.5 + 0.5
    return t * gate, gate + t * op.exp(t * t * -0.5) * (1 / math.sqrt(2 * math.pi))


GELU_SCALE, GELU_CUBE = math.sqrt(2 / math.pi), 0.044715


def gelu_tanh(t: Any, op: Operations) -> tuple[Any, Any]:
    """T (1 + tanh(sqrt(2 / pi) (t + 0.044715 t^3))) / 2."""
    inner = (t * t * GELU_CUBE + 1.0) * t * GELU_SCALE
    # (1 + tanh(g)) / 2 is sigmoid(2 g), and its derivative is twice gate times closed.
    gate, closed = op.sigmoid(inner * 2.0), op.sigmoid(inner * -2.0)
    slope = (t * t * (3 * GELU_CUBE) + 1.0) * GELU_SCALE
    return t * gate, gate + gate * closed * t * slope * 2.0


def hard_swish(t: Any, op: Operations) -> tuple[Any, Any]:
    """T times t / 6 + 1/2, which is cut off at 0 and 1."""
    gate = op.between(t * (1 / 6) + 0.5, 0.0, 1.0)
    # Behind the kinks, a derivative that is written as gate + t / 6 would be another.
    rising = op.where(t < 3.0, t * (1 / 3) + 0.5, 1.0)
    return t * gate, op.where(t > -3.0, rising, 0.0)


def mish(t: Any, op: Operations) -> tuple[Any, Any]:
    """T tanh(softplus(t))."""
    gate = op.tanh(op.softplus(t))
    return t * gate, gate + t * op.sigmoid(t) * (gate * gate - 1.0) * -1.0


def softplus(t: Any, op: Operations) -> tuple[Any, Any]:
    """log(1 + exp(t))."""
    return op.softplus(t), op.sigmoid(t)


def tanh(t: Any, op: Operations) -> tuple[Any, Any]:
    """The hyperbolic tangent."""
    # 1 - tanh^2 would lose all digits where it is small.
    return op.tanh(t), op.sigmoid(t * 2.0) * op.sigmoid(t * -2.0) * 4.0


def sigmoid(t: Any, op: Operations) -> tuple[Any, Any]:
    """1 / (1 + exp(-t))."""
    value = op.sigmoid(t)
    return value, value * op.sigmoid(t * -1.0)


@dataclass(frozen=True)
class HardSigmoid:
    """Slope t + offset, cut off at low and high; a Clip with a slope of 1 and an offset of 0."""

    slope: float = 0.2
    offset: float = 0.5
    low: float = 0.0
    high: float = 1.0

    def __call__(self, t: Any, op: Operations) -> tuple[Any, Any]:
        """Phi and phi'."""
        line = t * self.slope + self.offset
        below = op.where(line < self.high, self.slope, 0.0)
        return op.between(line, self.low, self.high), op.where(line > self.low, below, 0.0)


@dataclass(frozen=True)
class Elu:
    """Scale t for positive t, scale alpha (exp(t) - 1) for others."""

    alpha: float = 1.0
    scale: float = 1.0

    def __call__(self, t: Any, op: Operations) -> tuple[Any, Any]:
        """Phi and phi'."""
        decay = op.exp(op.where(t > 0.0, 0.0, t)) * self.alpha
        falling = (decay - self.alpha) * self.scale
        return (
            op.where(t > 0.0, t * self.scale, falling),
            op.where(t > 0.0, self.scale, decay * self.scale),
        )
