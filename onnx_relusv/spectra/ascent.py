"""Ascents: lower estimates of inner maxima and suprema, and how far they can be trusted.

The graphs of `runtime/kernels/ascents` climb from many starts in float32. Where the set of active
units no longer changes, an ascent of |phi(Wx)| is a power method for one linear map, the activated
operator, whose limit is that map's top singular vector: so the last digits of the largest ReLU
singular value are found in float64 by going from top vector to top vector (`polished`).
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import scipy.linalg
import scipy.sparse.linalg

from onnx_relusv.core.blocks import Activation, Floats, ReadOnlyArrays
from onnx_relusv.runtime.kernels.ascents import Ascent, StandIn, gap_kernel, width_kernel
from onnx_relusv.runtime.session import Session
from onnx_relusv.spectra.activation_functions import ActivationFunction
from onnx_relusv.spectra.layers import Effort, Layer, activated

_MOST_STEPS = 8
_SMALLEST_FOR_LANCZOS = 64


def polished(reduced: Floats, slopes: Floats, x: Floats, value: float) -> float:
    """Goes from top vector to top vector as long as |phi(Wx)| grows, without a bias or ceiling.

    Args:
        reduced: (out, r) float64, W.
        slopes: (out,) float64, of phi for negative arguments.
        x: (r,) unit vector.
        value: |phi(Wx)| at x, or a value that is reached elsewhere.

    Returns:
        The largest value reached, computed in float64 at a unit vector; never less than `value`.
    """
    for _ in range(_MOST_STEPS):
        active = np.where(reduced @ x > 0, 1.0, slopes)[:, None] * reduced
        x = _top_vector(active, x)
        y = reduced @ x
        reached = float(np.linalg.norm(np.where(y > 0, y, slopes * y)))
        if reached <= value:
            return value
        gain, value = reached / value - 1 if value else math.inf, reached
        if gain < np.finfo(float).eps:
            break
    return value


def _top_vector(matrix: Floats, start: Floats) -> Floats:
    """The right singular vector of the largest singular value, on the start's side."""
    columns = matrix.shape[1]
    if columns <= _SMALLEST_FOR_LANCZOS:
        x = scipy.linalg.eigh(matrix.T @ matrix, subset_by_index=[columns - 1] * 2)[1][:, 0]
    else:
        square = scipy.sparse.linalg.LinearOperator(
            (columns, columns), matvec=lambda v: matrix.T @ (matrix @ v), dtype=np.float64
        )
        try:
            x = scipy.sparse.linalg.eigsh(square, k=1, v0=start, tol=1e-12)[1][:, 0]
        except scipy.sparse.linalg.ArpackNoConvergence:
            return start
    return np.asarray(-x if x @ start < 0 else x)


# A start has arrived when the last fifth of its steps gained less than this share, and the answer
# is believed when a second start came this close to the best one.
_STILL_GAINING = 1e-3
_AGREEING = 1e-2
_SETTLING = 5
_TINY = float(np.finfo(np.float32).tiny)
# Beside a map of sigma_1 = 1, farther biases and ceilings make no difference in float32.
_FARTHEST = 1e15
_SMALLEST_UNIT, _LARGEST_UNIT, _FARTHEST_BIAS = 1e-4, 1e9, 1e12


@dataclass(frozen=True, eq=False)
class Climb(ReadOnlyArrays):
    """The result of an ascent.

    Attributes:
        best: (n,) float64, the largest value of each.
        settled: (n,) bool: the best start had stopped growing.
        converged: (n,) bool: it had, and a second start agrees.
    """

    best: Floats
    settled: np.ndarray
    converged: np.ndarray


def climb(layer: Layer, ranks: Sequence[int], effort: Effort) -> Climb:
    """Estimates s_k for some k: the inner maximum at L = 0, and at truncated SVDs.

    Returns:
        One value a rank. At k = 0, if L keeps the bias, it is a certified lower bound of s_0;
        elsewhere a lower estimate of the inner maximum at an L that need not be the best.
    """
    sigma = np.linalg.norm(layer.reduced, axis=0)
    best, converged = sigma[list(ranks)].copy(), np.ones(len(ranks), np.bool_)
    activation = layer.activation
    linear = isinstance(activation, Activation) and activation.kind == "none"
    if not layer.reduced.any() or (linear and layer.rotation is None):
        return Climb(best, converged, converged)
    later = np.array([place for place, k in enumerate(ranks) if k], int)
    if len(later):
        climbed = climb_truncations(layer, [ranks[place] for place in later], effort)
        best[later], converged[later] = climbed.best, climbed.converged
    for place, k in enumerate(ranks):
        if not k:
            best[place], converged[place] = climb_largest(layer, effort)
    return Climb(best, converged, converged)


def climb_truncations(layer: Layer, ranks: Sequence[int], effort: Effort) -> Climb:
    """Ascends |phi(Wx + b) - phi(Lx + b)| for truncated SVDs L of ranks from 1 on, in one graph.

    The values are lower estimates of the inner maximum at each L.
    """
    columns = np.repeat(ranks, effort.starts)
    coordinates = np.arange(layer.reduced.shape[1])
    mask = np.asarray(coordinates[:, None] < columns[None, :], np.float64)
    sigma = np.linalg.norm(layer.reduced, axis=0)
    x = starting_points(layer, ranks, effort)
    feeds = {"mask": mask, "scale": _squared(sigma[columns], layer)}
    history, at = _climb(gap_kernel, layer, "mask", feeds, x, effort)
    if isinstance(layer.activation, ActivationFunction):
        # Small answers beside a large one at 0 have few digits in float32.
        points = _feasible(at, layer)
        cut = layer.reduced @ (mask * layer.principal(points)) + layer.bias[:, None]
        gaps = layer.answers(points) - activated(cut, layer.activation)
        return _judged_at(history, np.linalg.norm(gaps, axis=0), len(ranks))
    return _judged(history, len(ranks))


def climb_largest(layer: Layer, effort: Effort) -> tuple[float, bool]:
    """Ascends |phi(Wx + b) - phi(b)|, the gap to the only L of rank 0.

    Returns:
        The best value, computed in float64 at a feasible point, so a certified lower bound of s_0
        if L keeps the bias; and whether the ascent had converged.
    """
    sigma = np.linalg.norm(layer.reduced, axis=0)
    x = starting_points(layer, [0], effort)
    feeds = {"scale": _squared(np.repeat(sigma[:1], x.shape[1]), layer)}
    history, at = _climb(gap_kernel, layer, "none", feeds, x, effort)
    points = _feasible(at, layer)
    centre = activated(layer.bias[:, None], layer.activation)
    values = np.linalg.norm(layer.answers(points) - centre, axis=0)
    best = int(values.argmax())
    value = float(values[best])
    activation = layer.activation
    if isinstance(activation, Activation) and layer.homogeneous and layer.rotation is None:
        slopes = np.broadcast_to(activation.slopes, (len(layer.reduced),))
        value = polished(layer.reduced, slopes, points[:, best], value)
    return value, bool(_judged(history, 1).converged[0])


def climb_gap(
    layer: Layer, other: Floats, x: Floats, effort: Effort
) -> tuple[Climb, Floats, Floats]:
    """Ascends |phi(Wx + b) - phi(Lx + b)| for a single L, from the caller's starts.

    Args:
        layer: The layer.
        other: (out, r) float64, L in the same coordinates.
        x: (coordinates, starts), feasible.
        effort: How hard to try; its `starts` do not count.

    Returns:
        The climb, with one value; (starts,) float64 values at the best points of the starts; and
        these, (coordinates, starts) float64.
    """
    scale = np.repeat(np.linalg.norm(layer.reduced - other, 2), x.shape[1])
    feeds = {"other": other / _largest(layer), "scale": _squared(scale, layer)}
    history, at = _climb(gap_kernel, layer, "map", feeds, x, effort)
    points = _feasible(at, layer)
    answers = activated(other @ layer.principal(points) + layer.bias[:, None], layer.activation)
    values = np.linalg.norm(layer.answers(points) - answers, axis=0)
    return _judged(history, 1), values, points


def climb_width(layer: Layer, g: Floats, effort: Effort) -> Climb:
    """Ascends <g, phi(Wx + b)> for draws g, (out, draws), from so many starts for each.

    The values are lower estimates of each supremum.
    """
    draws, starts = g.shape[1], effort.starts
    rng = np.random.default_rng([effort.seed, 1])
    x = rng.standard_normal((layer.coordinates, draws, starts))
    # One start where the linear layer has its supremum.
    x[:, :, 0] = _uphill(layer, (layer.reduced / _largest(layer)).T @ g)
    feeds = {"g": np.repeat(g, starts, axis=1)}
    x = _feasible(x.reshape(layer.coordinates, -1), layer)
    history, at = _climb(width_kernel, layer, "none", feeds, x, effort)
    if isinstance(layer.activation, ActivationFunction):
        # From the answer at the ball's centre, which moves the mean by nothing and has a variance.
        centre = activated(layer.bias[:, None], layer.activation)
        moves = layer.answers(_feasible(at, layer)) - centre
        values = np.einsum("oc,oc->c", moves, feeds["g"])
        return _judged_at(history, np.maximum(values, 0), draws)
    # The ball's centre counts too, where an ascent on the sphere never comes.
    centre = activated(layer.bias[:, None], layer.activation).T @ g
    history = np.maximum(history, np.repeat(centre, starts, axis=1))
    return _judged(history, draws)


def _climb(
    kernel: Callable[[str, Ascent], Session],
    layer: Layer,
    random_factors: StandIn,
    feeds: Mapping[str, Floats],
    x: Floats,
    effort: Effort,
) -> tuple[Floats, np.ndarray]:
    """Runs a kernel from starts x; history (iterations, columns) in the layer's units, best points.

    The feeds are those besides x and the layer, in units of `_largest`.
    """
    largest, activation = _largest(layer), layer.activation
    ascent = Ascent(
        iterations=effort.iterations,
        random_factors=random_factors,
        clipped=isinstance(activation, Activation) and activation.ceiling is not None,
        inside=not layer.homogeneous,
        nonnegative=layer.rotation is not None,
        plain=layer.is_plain,
        formula=activation.formula if isinstance(activation, ActivationFunction) else None,
    )
    # With sigma_1 = 1: values grow in proportion to the map, the bias and the ceiling together,
    # and squares of the layer's entries could leave float32's range.
    inputs: dict[str, Floats] = {**feeds, "a": layer.reduced / largest, "x": x}
    if isinstance(activation, ActivationFunction):
        # Beyond these units float32 tells the function from no straight line, or from no ReLU.
        inputs["unit"] = np.full((1, 1), np.clip(largest, _SMALLEST_UNIT, _LARGEST_UNIT))
        inputs["offset"] = np.clip(layer.bias.reshape(-1, 1), -_FARTHEST_BIAS, _FARTHEST_BIAS)
    elif not layer.is_plain:
        slopes = np.broadcast_to(activation.slopes, (len(layer.reduced),))
        inputs["slope"] = slopes.reshape(-1, 1)
        inputs["offset"] = np.clip(layer.bias.reshape(-1, 1) / largest, -_FARTHEST, _FARTHEST)
        if activation.ceiling is not None:
            inputs["ceiling"] = np.full((1, 1), min(activation.ceiling / largest, _FARTHEST))
    if layer.rotation is not None:
        inputs["rotation"] = layer.rotation
    # A convex ascent never descends, so that it is best where it ends.
    best = "last" if kernel is gap_kernel and ascent.convex else "at"
    float32 = {name: np.ascontiguousarray(value, np.float32) for name, value in inputs.items()}
    outputs = kernel(effort.provider, ascent).run(float32, ["history", best])
    return outputs["history"][:, 0, :].astype(np.float64) * largest, outputs[best]


def _squared(scale: Floats, layer: Layer) -> Floats:
    """The squares, (1, columns), of gaps that are possible, for the gap kernel."""
    if isinstance(layer.activation, ActivationFunction):
        # Where answers level off, steps for what a linear layer could do would be too short.
        scale = np.minimum(scale, _largest_change(layer.activation, layer.reduced, layer.bias))
    return np.asarray(np.maximum((scale / _largest(layer)) ** 2, _TINY)[None, :])


def _largest_change(function: ActivationFunction, rows: Floats, bias: Floats) -> float:
    """What |phi(Zx + b) - phi(Zy + b)| cannot exceed for x and y in the unit ball.

    Only where phi is rising; infinite otherwise.
    """
    if not function.rising:
        return math.inf
    reach = np.linalg.norm(rows, axis=1)
    return float(np.linalg.norm(function(bias + reach) - function(bias - reach)))


def _largest(layer: Layer) -> float:
    return float(np.linalg.norm(layer.reduced, axis=0).max()) or 1.0


def starting_points(layer: Layer, ranks: Sequence[int], effort: Effort) -> Floats:
    """(coordinates, ranks * starts): a few where a truncation hurts most, the others anywhere."""
    rng = np.random.default_rng([effort.seed, 0])
    x = rng.standard_normal((layer.coordinates, len(ranks), effort.starts))
    for row, k in enumerate(ranks):
        direction = np.zeros(layer.reduced.shape[1])
        # With k = r nothing is cut, and no direction is better than another.
        direction[min(k, len(direction) - 1)] = 1
        for start, sign in zip(range(effort.starts), (1, -1), strict=False):
            x[:, row, start] = _uphill(layer, sign * direction)
    return _feasible(x.reshape(layer.coordinates, -1), layer)


def _uphill(layer: Layer, direction: Floats) -> Floats:
    """A direction among the right singular vectors, in the coordinates of the ascent."""
    return direction if layer.rotation is None else layer.rotation.T @ direction


def _feasible(x: Floats, layer: Layer) -> Floats:
    """Columns on the unit sphere, in its non-negative part where inputs are; float64."""
    x = np.asarray(x, np.float64)
    if layer.rotation is not None:
        x = np.maximum(x, 0)
    norms = np.linalg.norm(x, axis=0, keepdims=True)
    if not layer.homogeneous:
        # The maximum may lie inside the ball.
        norms = np.maximum(norms, 1)
    return np.asarray(x / np.maximum(norms, _TINY))


def _judged_at(history: Floats, values: Floats, count: int) -> Climb:
    """What the history says of the climbs, with values that were computed in float64."""
    judged = _judged(history, count)
    best = values.reshape(count, -1).max(axis=1)
    return Climb(best, judged.settled, judged.converged)


def _judged(history: Floats, count: int) -> Climb:
    """The best of every `count` groups of columns of a (iterations, ..., columns) history."""
    values = history.reshape(len(history), count, -1)
    best = values[-1].max(axis=1)
    # After a single step it is unknown what another step would gain.
    unknown = np.full_like(values[0], -np.inf)
    then = values[-1 - max(1, len(values) // _SETTLING)] if len(values) > 1 else unknown
    before = then[np.arange(count), np.argmax(values[-1], axis=1)]
    settled = best - before <= _STILL_GAINING * np.abs(best)
    agreeing = (values[-1] >= (best - _AGREEING * np.abs(best))[:, None]).sum(axis=1) > 1
    return Climb(best.astype(np.float64), settled, settled & agreeing)
