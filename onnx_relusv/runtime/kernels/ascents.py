"""Graphs that ascend, for ReLU singular values and mean widths.

Each works for every shape: dimensions arrive as inputs. The loops are ONNX Loops, so no Python runs
inside an ascent. Many ascents share one product: a column is one ascent.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np

from onnx_relusv.runtime.kernels.formulas import Formula, GraphOperations
from onnx_relusv.runtime.kernels.parts import FLOAT, Graph, Tensor
from onnx_relusv.runtime.session import Session

# What stands in for the map A: nothing but the bias; A with coordinates masked; another map.
StandIn = Literal["none", "mask", "map"]

_TINY = 1e-30
# What is not convex is ascended in steps that get shorter, or else they jump to and fro between
# the sides of a ridge: along a cosine over four fifths of them, then so short that a start which
# still grows has not arrived.
_FALLING, _SHORTEST = 0.8, 0.01
_FACTOR = 4.0
# From a vector to its product with a derivative, diagonal in the units.
_Pull = Callable[[Tensor], Tensor]
# From coordinates to the gap between the map and its stand-in, and the gradient of half its square.
_Compared = Callable[[Tensor], tuple[Tensor, Tensor]]


@dataclass(frozen=True)
class Ascent:
    """What a graph ascends.

    phi(y) = max(y, 0) + slope * min(y, 0), from above cut off at a ceiling where `clipped`; or what
    a formula says of unit * y + b, in that unit.

    Attributes:
        iterations: Steps.
        random_factors: What A is compared with.
        clipped: Whether phi has a ceiling.
        inside: Whether x may lie inside of the unit ball; otherwise it lies on the sphere, where
            maxima of positively homogeneous functions are found.
        nonnegative: Whether x has to be non-negative; A then acts on `rotation` @ x.
        plain: Whether phi is a plain Relu and b is 0, the commonest layer by far; that spares half
            of the work besides the products.
        formula: Of an activation that is not piecewise linear; goes with `inside` alone.
    """

    iterations: int
    random_factors: StandIn = "none"
    clipped: bool = False
    inside: bool = False
    nonnegative: bool = False
    plain: bool = False
    formula: Formula | None = None

    @property
    def convex(self) -> bool:
        """Whether the gap is a convex function: that to L = 0, without bias and ceiling."""
        return self.random_factors == "none" and not (self.inside or self.clipped)


@lru_cache(maxsize=32)
def gap_kernel(provider: str, ascent: Ascent) -> Session:
    """Ascends |phi(Ax + b) - phi(Lx + b)| over x, for many L and starts at once; opset 17.

    With A = W V (V the right singular vectors) and m the 0/1 mask of the first k coordinates,
    A(m * x) is the truncated SVD's Lx; the stand-in "none" is L = 0.

    A step adds the gradient of half the square, divided by the square's own scale, and projects:
    for L = 0 without bias the function is convex, and that is a step of the generalised power
    method, which never descends. Elsewhere steps get shorter. The largest value of all steps is
    kept, so that a bad step loses nothing.

    Inputs:
        a: (out, r) float32. slope, offset: (out, 1) float32; the offset is b (not plain only).
        ceiling: (1, 1) float32 (clipped only).
        unit: (1, 1) float32, in place of slope: the layer's numbers are a, and gaps, times this,
            the offset is in their own (formula only).
        mask: (r, columns) float32 (stand-in "mask" only).
        other: (out, r) float32, L (stand-in "map" only).
        rotation: (r, coordinates) float32 (non-negative only); otherwise coordinates = r.
        scale: (1, columns) float32, the squared largest gap that is possible, positive.
        x: (coordinates, columns) float32, feasible columns.

    Outputs:
        history: (iterations, 1, columns) float32, the largest gap that each start has met so far:
            lower estimates of the inner maximum.
        at: (coordinates, columns) float32, where each start has met it.
        last: (coordinates, columns) float32, where each start is one step later than the last gap.
    """
    layer = _Layer("gap", ascent)
    graph = layer.graph
    scale = graph.input("scale", 2)
    step_scale = scale / _FACTOR
    compared = _gap_to_bias(layer) if ascent.random_factors == "none" else _gap_to_map(layer)

    def step(x: Tensor, number: Tensor) -> tuple[Tensor, Tensor]:
        gap, gradient = compared(layer.coordinates(x))
        square = graph.op("ReduceSumSquare", gap, axes=[0], keepdims=1)
        # A long step: at this scale the gradient outweighs x where the gap is near its limit.
        length = step_scale if ascent.convex else layer.shortened(step_scale, number)
        return graph.op("Sqrt", square), layer.back(gradient) / length

    return layer.opened(provider, step, scale * 0.0, never_descends=ascent.convex)


@lru_cache(maxsize=32)
def width_kernel(provider: str, ascent: Ascent) -> Session:
    """Ascends <g, phi(Ax + b)> over x, one column a draw of g; opset 17.

    A step adds the gradient, of length 1 at first and shorter later, and projects.

    Inputs:
        a: (out, r) float32. slope, offset: (out, 1) float32 (not plain only).
        ceiling: (1, 1) float32 (clipped only).
        unit: (1, 1) float32, as of `gap_kernel` (formula only).
        rotation: (r, coordinates) float32 (non-negative only).
        g: (out, columns) float32.
        x: (coordinates, columns) float32, feasible columns.

    Outputs:
        history: (iterations, 1, columns) float32, the largest value met so far: lower estimates
            of each supremum.
        at: (coordinates, columns) float32, where each has met it.
        last: (coordinates, columns) float32, where each is one step later than the last value.
    """
    layer = _Layer("width", ascent)
    g = layer.graph.input("g", 2)

    def step(x: Tensor, number: Tensor) -> tuple[Tensor, Tensor]:
        answers, pull = layer.activated(layer.a @ layer.coordinates(x))
        gradient = layer.back(layer.a_turned @ pull(g))
        length = layer.length(gradient, _TINY)
        return (g * answers).sum(0), gradient / layer.shortened(length, number)

    # Below every value that can be met: with a bias, suprema may be negative.
    lowest = g.sum(0) * 0.0 - float(np.finfo(np.float32).max)
    return layer.opened(provider, step, lowest, never_descends=False)


def _gap_to_bias(layer: "_Layer") -> _Compared:
    rest = None
    if not layer.ascent.plain:
        rest, _ = layer.activated(layer.graph.input("offset", 2), add_offset=False)

    def compared(y: Tensor) -> tuple[Tensor, Tensor]:
        answers, pull = layer.activated(layer.a @ y)
        gap = answers if rest is None else answers - rest
        # Where the derivative of a Relu is 0, so is its answer.
        return gap, layer.a_turned @ (gap if rest is None else pull(gap))

    return compared


def _gap_to_map(layer: "_Layer") -> _Compared:
    a, a_turned = layer.a, layer.a_turned
    if layer.ascent.random_factors == "mask":
        mask = layer.graph.input("mask", 2)
    else:
        other = layer.graph.input("other", 2)
        other_turned = other.transposed(1, 0)

    def compared(y: Tensor) -> tuple[Tensor, Tensor]:
        masked = layer.ascent.random_factors == "mask"
        answers, pull = layer.activated(a @ y)
        others, other_pull = layer.activated(a @ (y * mask) if masked else other @ y)
        gap = answers - others
        back = other_pull(gap)
        downward = (a_turned @ back) * mask if masked else other_turned @ back
        return gap, a_turned @ pull(gap) - downward

    return compared


class _Layer:
    """The layer phi(Ax + b) in a graph that ascends."""

    def __init__(self, name: str, ascent: Ascent) -> None:
        self.graph = Graph(name)
        self.a = self.graph.input("a", 2)
        self.a_turned = self.a.transposed(1, 0)
        self.ascent = ascent
        self._rotation = self._rotation_turned = None
        if ascent.nonnegative:
            self._rotation = self.graph.input("rotation", 2)
            self._rotation_turned = self._rotation.transposed(1, 0)

    def coordinates(self, x: Tensor) -> Tensor:
        """What A acts on."""
        return x if self._rotation is None else self._rotation @ x

    def back(self, gradient: Tensor) -> Tensor:
        """The gradient in the coordinates of x."""
        return gradient if self._rotation_turned is None else self._rotation_turned @ gradient

    def activated(self, y: Tensor, *, add_offset: bool = True) -> tuple[Tensor, _Pull]:
        """phi(y + b), and the product with its derivative."""
        graph = self.graph
        if self.ascent.plain:
            active = y > 0.0
            return graph.op("Relu", y), lambda vector: graph.op("Where", active, vector, 0.0)
        if self.ascent.formula is not None:
            unit = graph.input("unit", 2)
            t = y * unit + graph.input("offset", 2) if add_offset else y
            value, derivative = self.ascent.formula(t, GraphOperations(graph))
            return value / unit, lambda vector: vector * derivative
        slopes, offset = graph.input("slope", 2), graph.input("offset", 2)
        y = y + offset if add_offset else y
        slope = graph.op("Where", y > 0.0, 1.0, slopes)
        answers = y * slope
        if self.ascent.clipped:
            ceiling = graph.input("ceiling", 2)
            answers = graph.op("Min", answers, ceiling)
            slope = graph.op("Where", y < ceiling, slope, 0.0)
        return answers, lambda vector: vector * slope

    def length(self, columns: Tensor, least: float) -> Tensor:
        """The length of columns, or `least` where that is larger."""
        return self.graph.op("Max", self.graph.op("ReduceL2", columns, axes=[0], keepdims=1), least)

    def shortened(self, divisor: Tensor, number: Tensor) -> Tensor:
        """What a step is divided by where steps get shorter, at the step of a number."""
        turn = math.pi / (_FALLING * self.ascent.iterations)
        angle = self.graph.op("Min", number.cast(FLOAT) * turn, math.pi)
        falling = (self.graph.op("Cos", angle) + 1.0) / 2.0
        return divisor / self.graph.op("Max", falling, _SHORTEST)

    def opened(
        self,
        provider: str,
        step: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]],
        lowest: Tensor,
        *,
        never_descends: bool,
    ) -> Session:
        """The kernel that takes steps and keeps the best value.

        Args:
            provider: The execution provider.
            step: From x and a step's number to the value at x, (1, columns), and the step.
            lowest: (1, columns), what is taken for the best value before the first step.
            never_descends: Whether the last value is the best one.
        """
        graph = self.graph
        start = graph.input("x", 2)

        def body(
            number: Tensor, x: Tensor, best: Tensor, at: Tensor
        ) -> tuple[tuple[Tensor, Tensor, Tensor], Tensor]:
            reached, moved = step(x, number)
            best_now = graph.op("Max", best, reached)
            at_now = x if never_descends else graph.op("Where", reached > best, x, at)
            return (self._projected(x + moved), best_now, at_now), best_now

        last, _, at, history = graph.loop(self.ascent.iterations, (start, lowest, start), body)
        for name, tensor, rank in (("history", history, 3), ("at", at, 2), ("last", last, 2)):
            graph.output(name, tensor, rank)
        return graph.opened(provider)

    def _projected(self, x: Tensor) -> Tensor:
        """The nearest feasible columns, or for the sphere those in the same direction."""
        if self.ascent.nonnegative:
            x = self.graph.op("Relu", x)
        return x / self.length(x, 1.0 if self.ascent.inside else _TINY)
