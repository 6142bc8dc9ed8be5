"""ReLU-aware refinement: factors that are right behind the activation, not only before it.

A regression minimises the error of Lz + b' against Wx + b. What the next layers see is behind phi,
where an error on an inactive unit is nothing, and where the consumers of a unit decide how much
the rest counts:

    E e'Se,    e = phi(Lz + b' + s') - phi(Wx + b + s),

S the consumers' Gram matrix or the identity, s and s' what shortcuts add. It is the objective of
Zhang, Zou, He, Sun (2015), equation 8, with S; it is descended by Adam (Kingma, Ba, 2015) on the
factors and the bias, over rows that are drawn from all batches. From time to time rows that no step
saw are looked at, and the factors that are best on them are kept; the start is among them.

Where a block's answers are class scores, their squared error is not what counts: there the
Kullback-Leibler divergence of softmax(Lz + b') from softmax(Wx + b) is descended in its place. What
all scores of a sample have in common is nothing to a softmax, so steps carry it anywhere; it is put
back afterwards (common_shift).
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from onnx_relusv import forms
from onnx_relusv.balance import balanced
from onnx_relusv.common_shift import levelled
from onnx_relusv.decisions import Factors
from onnx_relusv.progress import Advance, unseen
from onnx_relusv.records import Activation, Floats, Geometry, ReadOnlyArrays
from onnx_relusv.runtime.refine_kernels import (
    error_kernel,
    score_error_kernel,
    score_slope_kernel,
    slope_kernel,
)
from onnx_relusv.runtime.session import Session
from onnx_relusv.spectra.target_rows import Rows

_ROWS_A_STEP = 1024
# How often the rows that no step saw are looked at, and how many steps are taken before each look.
# A number of epochs would take fewer steps the fewer rows there are, and it is steps that it needs.
LOOKS = 16
_STEPS_A_LOOK = 12
# Of the root mean square of a factor's entries: how far one step moves each of them, at first.
_STEP = 1.5e-2
_MOMENTUM, _MEMORY = 0.9, 0.99
_TINY = 1e-30
# Beside what an error of float32 makes of targets. Of less than this there is nothing to refine.
_ROUNDINGS = 8 * float(np.finfo(np.float32).eps)


class _Kernels(NamedTuple):
    """What computes one thing, of answers and of class scores."""

    of_answers: Callable[..., Session]
    of_scores: Callable[[str], Session]


_JUDGING = _Kernels(error_kernel, score_error_kernel)
_SLOPING = _Kernels(slope_kernel, score_slope_kernel)


@dataclass(frozen=True, eq=False, kw_only=True)
class Objective(ReadOnlyArrays):
    """E e'Se over rows, or the divergence of class scores, for factors of a block.

    Attributes:
        geometry: The block's.
        activation: What is behind the block's answer, or behind the sum that it goes into.
        importance: (out, out) float64 S; None for the identity.
        provider: Execution provider.
        scores: Whether the answers are class scores, which are compared behind a softmax. The
            block then has one group, no activation, and no shortcut.
    """

    geometry: Geometry
    activation: Activation
    importance: Floats | None
    provider: str
    scores: bool = False

    def value(self, factors: Factors, rows: Rows) -> float:
        """The mean of e'Se, or of the divergences in nats."""
        starts = range(0, rows.count, _ROWS_A_STEP)
        total = sum(
            float(self._run(factors, rows, slice(start, start + _ROWS_A_STEP), _JUDGING)["loss"])
            for start in starts
        )
        return total / max(rows.count, 1)

    def rounding(self, rows: Rows) -> float:
        """A value that rounding alone can make."""
        target = rows.target.astype(np.float64)
        if self.scores:
            return _ROUNDINGS * float(np.mean(np.abs(target).max(axis=2)))
        return _ROUNDINGS**2 * float(np.mean(np.sum(target**2, axis=(0, 2))))

    def slope(self, factors: Factors, rows: Rows, chosen: slice) -> tuple[np.ndarray, Floats]:
        """Half the derivative of the mean over some rows, with respect to L and b'.

        Of divergences it is the derivative itself.

        Returns:
            (groups, rows, columns) float32 and (out,) float64.
        """
        found = self._run(factors, rows, chosen, _SLOPING)
        count = chosen.stop - chosen.start
        map_slope = found["map_slope"] / np.float32(count)
        return map_slope, found["bias_slope"].reshape(-1).astype(np.float64) / count

    def _run(
        self, factors: Factors, rows: Rows, chosen: slice, kernels: _Kernels
    ) -> dict[str, np.ndarray]:
        geometry, activation = self.geometry, self.activation
        composed = forms.compose(factors.form, geometry, *_singles(factors))
        shape = (geometry.groups, 1, geometry.rows)
        feeds = {
            "z": rows.z[:, chosen],
            "target": rows.target[:, chosen],
            "map": composed,
            "bias": factors.bias.reshape(shape),
        }
        if self.scores:
            return _run(kernels.of_scores(self.provider), feeds)
        slopes = np.broadcast_to(activation.slopes, (geometry.out_channels,))
        feeds["slope"] = slopes.reshape(shape)
        if rows.shift is not None:
            feeds["shift"] = rows.shift[:, chosen]
        if activation.ceiling is not None:
            feeds["ceiling"] = np.full((1, 1, 1), activation.ceiling)
        if self.importance is not None:
            feeds["importance"] = self.importance[None]
        kernel = kernels.of_answers(
            self.provider,
            clipped=activation.ceiling is not None,
            weighted=self.importance is not None,
            shifted=rows.shift is not None,
        )
        return _run(kernel, feeds)


def _run(kernel: Session, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    ready = {name: np.ascontiguousarray(each, np.float32) for name, each in feeds.items()}
    return kernel.run(ready)


def refined(
    start: Factors,
    objective: Objective,
    fitting: Rows,
    selecting: Rows,
    rng: np.random.Generator,
    advance: Advance = unseen,
) -> Factors:
    """Factors with a smaller objective on the selecting rows, or the start where none are found.

    Args:
        start: Where to begin.
        objective: What to descend.
        fitting: Rows that steps are taken on.
        selecting: Rows that decide at which look the factors are kept.
        rng: Shuffles.
        advance: Told of every look.
    """
    # Steps of one length then do as much to every factor.
    even = start.with_matrices(balanced(*start.matrices))
    best, least = start, objective.value(start, selecting)
    if least <= objective.rounding(selecting):
        advance(LOOKS)
        return start
    spread = float(np.std(fitting.target)) or 1.0
    sizes = [*map(_size, even.matrices), spread]
    optimizer = _Adam([*even.matrices, even.bias])
    steps = LOOKS * _STEPS_A_LOOK
    fitting = fitting.at(rng.permutation(fitting.count))
    parts = _parts(fitting.count, rng)
    for _ in range(LOOKS):
        for part in islice(parts, _STEPS_A_LOOK):
            current = _with(even, optimizer.parameters)
            map_slope, bias_slope = objective.slope(current, fitting, part)
            share = _STEP * 0.5 * (1 + np.cos(np.pi * optimizer.steps / steps))
            optimizer.step(
                [*_chained(current, objective.geometry, map_slope), bias_slope],
                [share * size for size in sizes],
            )
        current = _with(even, optimizer.parameters)
        reached = objective.value(current, selecting)
        if reached < least:
            best, least = current, reached
        advance(1)
    return levelled(best, fitting) if objective.scores and best is not start else best


def _parts(count: int, rng: np.random.Generator) -> Iterator[slice]:
    """The rows of one step after the other, all of them before any comes again, without an end.

    Rows that stand together are read several times faster than rows from everywhere, so that it
    is the parts that come in another order every time, and not the rows within them.
    """
    bounds = np.linspace(0, count, 1 + max(1, count // _ROWS_A_STEP)).astype(int)
    while True:
        for at in rng.permutation(len(bounds) - 1):
            yield slice(bounds[at], bounds[at + 1])


def _chained(factors: Factors, geometry: Geometry, map_slope: np.ndarray) -> list[Floats]:
    """The slope with respect to the factors, in the order in which their layers run."""
    matrix = forms.unfold(factors.form, geometry, map_slope)
    *before, last = _singles(factors)
    if not before:
        return [np.asarray(matrix, np.float64)]
    inner_slope = np.asarray(last.transpose(0, 2, 1) @ matrix, np.float32)
    last_slope = matrix @ forms.inner(*before).transpose(0, 2, 1)
    slopes = (*forms.inner_slopes(inner_slope, *before), last_slope)
    return [np.asarray(slope, np.float64) for slope in slopes]


def _singles(factors: Factors) -> list[npt.NDArray[np.float32]]:
    """The factors in the precision of the graph: their products are as large as the graph's own."""
    return [matrix.astype(np.float32) for matrix in factors.matrices]


def _with(factors: Factors, parameters: Sequence[Floats]) -> Factors:
    *matrices, bias = parameters
    return replace(factors.with_matrices(matrices), bias=bias)


def _size(values: Floats) -> float:
    return float(np.sqrt(np.mean(values**2)))


class _Adam:
    """First-order steps whose lengths follow the running size of each entry's slope."""

    def __init__(self, parameters: Sequence[Floats]) -> None:
        self.parameters = [np.array(values) for values in parameters]
        self._means = [np.zeros_like(values) for values in parameters]
        self._squares = [np.zeros_like(values) for values in parameters]
        self.steps = 0

    def step(self, slopes: Sequence[Floats], lengths: Sequence[float]) -> None:
        """Moves every entry by about `lengths` at most."""
        self.steps += 1
        first, second = 1 - _MOMENTUM**self.steps, 1 - _MEMORY**self.steps
        for index, slope in enumerate(slopes):
            mean = _MOMENTUM * self._means[index] + (1 - _MOMENTUM) * slope
            square = _MEMORY * self._squares[index] + (1 - _MEMORY) * slope**2
            self._means[index], self._squares[index] = mean, square
            moved = (mean / first) / (np.sqrt(square / second) + _TINY)
            self.parameters[index] = self.parameters[index] - lengths[index] * moved
