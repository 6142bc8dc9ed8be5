"""Certified bounds of ReLU singular values; proofs are in docs/theory.md.

    s_k(W) = min over rank(L) <= k of max over |x| <= 1 of |phi(Wx + b) - phi(Lx + b)|_2

`bracket` bounds all s_k from one singular value decomposition. Upper bounds: take L as the
truncated SVD; phi is Lipschitz coordinate by coordinate. Lower bounds: the kernel of any L of rank
k meets the span of the first k + 1 right singular vectors in a unit x, and there L's answer is the
same at x and -x, while the block's answers are far apart or far from it. A radius R is the same as
R times the weight.

`improved_lower` and `improved_upper` refine the bracket where that is cheap, and `exact_largest` is
exact for small matrices, by enumeration. "Certified" leaves out the rounding of float64 eigenvalues
and sums, for which a relative 1e-9 is given away.
"""

import math
from collections.abc import Sequence
from itertools import combinations

import numpy as np
import numpy.typing as npt
import scipy.linalg

from onnx_relusv.core.blocks import Activation, Floats
from onnx_relusv.core.errors import UsageError
from onnx_relusv.spectra.layers import Layer, checked_weight


def bracket(
    sigma: Floats,
    activation: Activation,
    *,
    bias: Floats | None = None,
    free_bias: bool = False,
    nonnegative: bool = False,
) -> tuple[Floats, Floats]:
    """Certified lower and upper bounds of all s_k on the unit ball.

    Args:
        sigma: (r,) ordinary singular values, descending.
        activation: The block's activation.
        bias: (out,) the block's bias b; None for none.
        free_bias: Whether L's bias is as free as L; otherwise L keeps b.
        nonnegative: Whether inputs are the non-negative part of the ball only.

    Returns:
        Two (r,) arrays. The upper one is max(1, |a|) sigma for slopes a, always. The lower one,
        for s = sigma, a = min |slope|:

        ========================  ====================  =======================================
        activation                no bias               bias, L keeps it (L's is free)
        ========================  ====================  =======================================
        none                      s                     s
        Relu, LeakyRelu, PRelu    s sqrt((1 + a^2)/2)   (s - |e|)+ times the same
                                                        (times (1 + a)/2), or a s if larger
        Clip from 0 to c          min(s, c)/sqrt(2)     min((s - |e|)+, c/2)/sqrt(2)
                                                        (min((s - |e|)+, c)/2)
        ========================  ====================  =======================================

        e is how far b lies outside of the interval where phi is steep: below 0, or above c.
        The lower bounds with a bias need slopes of 0 or more; with others, and for non-negative
        inputs, nothing but 0 is proved.
    """
    upper = sigma * max(1.0, float(np.max(np.abs(activation.slopes))))
    if nonnegative:
        return np.zeros_like(sigma), upper
    if activation.kind == "none":
        return sigma, sigma
    if bias is None and not free_bias:
        return _without_bias(sigma, activation), upper
    return _with_bias(sigma, activation, bias, free_bias), upper


def _without_bias(sigma: Floats, activation: Activation) -> Floats:
    if activation.ceiling is not None:
        return np.minimum(sigma, activation.ceiling) * math.sqrt(0.5)
    # |phi(y)|^2 + |phi(-y)|^2 = (1 + a^2) |y|^2 coordinate by coordinate.
    flattest = float(np.min(activation.slopes**2))
    return sigma * math.sqrt((1 + flattest) / 2)


def _with_bias(
    sigma: Floats, activation: Activation, bias: Floats | None, free_bias: bool
) -> Floats:
    offset = np.zeros(1) if bias is None else bias
    outside = np.maximum(-offset, 0)
    ceiling = activation.ceiling
    if ceiling is not None:
        outside = outside + np.maximum(offset - ceiling, 0)
    reached = np.maximum(sigma - np.linalg.norm(outside), 0)
    if ceiling is not None:
        if free_bias:
            return np.minimum(reached, ceiling) / 2
        return np.minimum(reached, ceiling / 2) * math.sqrt(0.5)
    if float(np.min(activation.slopes)) < 0:
        return np.zeros_like(sigma)
    # phi stretches every distance by a at least, but never by more than 1 where a > 1.
    flattest = min(1.0, float(np.min(activation.slopes)))
    share = (1 + flattest) / 2 if free_bias else math.sqrt((1 + flattest**2) / 2)
    return np.maximum(flattest * sigma, share * reached)


_ROUNDING = 1e-9
# A singular value below this share of the largest may be nothing but rounding.
_NOTHING = 1e-12
# Of branch and bound: values at a time, how many of them are in memory, and the resolution, beyond
# which finer bounds make no difference.
_MOST_VALUES = 4_000_000
CHUNK_VALUES = 1 << 18
_FINE = 1e-3
_FIRST_DIVISIONS = {1: 32, 2: 12}
LARGEST_K = max(_FIRST_DIVISIONS)
# Smoothing of the largest eigenvalue, as a share of it, and the first step.
_SMOOTHING = 0.02
_FIRST_STEP = 2.0
_LEADING, _SMALLEST_FOR_PART = 12, 96


def least_on_subspace(
    reduced: Floats, slopes: Floats, *, chunk_values: int = CHUNK_VALUES
) -> float:
    """A lower bound of s_k: the least of max(|phi(Wx)|, |phi(-Wx)|) over a subspace.

    The kernel of every L of rank k meets every subspace of dimension k + 1, here the span of the
    first k + 1 right singular vectors, in a unit x; there phi(Lx) = 0 = phi(-Lx). The least value
    on that sphere is bounded from below by branch and bound: the function changes by at most
    sigma_1 max(1, |a|) times the distance.

    Args:
        reduced: (out, k + 1) float64, k being 1 or 2: U diag(sigma), first columns.
        slopes: (1,) or (out,) float64 slopes a of phi for negative arguments.
        chunk_values: How many values are in memory at a time.

    Returns:
        A certified lower bound of s_k.
    """
    k = reduced.shape[1] - 1
    sigma = np.linalg.norm(reduced, axis=0)
    if sigma[-1] <= _NOTHING * sigma[0]:
        return 0.0
    steepest = max(1.0, float(np.max(np.abs(slopes))))
    lipschitz = steepest * float(sigma.max())
    # The sphere as the faces of a cube, one of each pair since the function is even; distances
    # only shrink on the way from the cube to the sphere.
    half = 1.0 / _FIRST_DIVISIONS[k]
    ticks = np.arange(-1 + half, 1, 2 * half)
    face = np.stack(np.meshgrid(*[ticks] * k, indexing="ij"), -1).reshape(-1, k)
    cells = np.concatenate([np.insert(face, axis, 1.0, axis=1) for axis in range(k + 1)])
    axes = np.repeat(np.arange(k + 1), len(face))
    settled = math.inf
    while True:
        values = _larger_side(reduced, cells, slopes, max(1, chunk_values // len(reduced)))
        bounds = values - lipschitz * half * math.sqrt(k)
        target = min(settled, float(values.min()) - _FINE * float(sigma[-1]))
        # Cells whose bound is good enough need no finer look.
        open_cells = bounds < target
        settled = min(settled, float(np.min(bounds[~open_cells], initial=math.inf)))
        if not open_cells.any():
            return max(settled, 0.0) * (1 - _ROUNDING)
        if int(open_cells.sum()) * 2**k * len(reduced) > _MOST_VALUES:
            return max(min(settled, float(bounds.min())), 0.0) * (1 - _ROUNDING)
        half /= 2
        cells, axes = _divided(cells[open_cells], axes[open_cells], half)


def _divided(cells: Floats, axes: np.ndarray, half: float) -> tuple[Floats, np.ndarray]:
    """Every cell in two along every axis of its face."""
    k = cells.shape[1] - 1
    moves = half * np.array(np.meshgrid(*[[-1, 1]] * k, indexing="ij")).reshape(k, -1).T
    parts = []
    for axis in range(k + 1):
        shifts = np.insert(moves, axis, 0.0, axis=1)
        parts.append((cells[axes == axis][:, None, :] + shifts).reshape(-1, k + 1))
    counts = [len(part) for part in parts]
    return np.concatenate(parts), np.repeat(np.arange(k + 1), counts)


def _larger_side(reduced: Floats, cells: Floats, slopes: Floats, length: int) -> Floats:
    """max(|phi(Wx)|, |phi(-Wx)|) at the cells' directions x, so many of them at a time."""
    points = cells / np.linalg.norm(cells, axis=1, keepdims=True)
    parts = [points[start : start + length] for start in range(0, len(points), length)]
    return np.concatenate([_larger_answer(part @ reduced.T, slopes) for part in parts])


def _larger_answer(y: Floats, slopes: Floats) -> Floats:
    """max(|phi(y)|, |phi(-y)|) for every row y."""
    positive, negative = np.maximum(y, 0) ** 2, np.minimum(y, 0) ** 2
    at_y = (positive + slopes**2 * negative).sum(axis=1)
    at_minus_y = (negative + slopes**2 * positive).sum(axis=1)
    return np.asarray(np.sqrt(np.maximum(at_y, at_minus_y)))


def largest_upper_bound(gram: Floats, steps: int) -> float:
    """An upper bound of s_0 that is better than sigma_1, by duality.

    s_0^2 = max of u'Gu over u >= 0, |u| = 1, with G = WW'. For every N with non-negative entries
    u'Gu <= u'(G + N)u there, so the largest eigenvalue of G + N is an upper bound of s_0^2. N is
    improved by projected gradient steps on the smoothed largest eigenvalue; each N counts, so the
    number of steps decides how good the bound is, not whether it holds.

    Args:
        gram: (out, out) float64, WW'.
        steps: How many N are tried; 0 gives sigma_1.

    Returns:
        A certified upper bound of s_0, sigma_1 at most.
    """
    gram = np.asarray(gram, np.float64)
    addition = np.zeros_like(gram)
    best = first = max(float(np.linalg.eigvalsh(gram)[-1]), 0.0)
    if not first:
        return 0.0
    for step in range(steps):
        values, vectors = _leading(gram + addition)
        best = min(best, float(values[-1]))
        weights = np.exp((values - values[-1]) / (_SMOOTHING * values[-1]))
        kept = weights > np.finfo(float).eps
        slope = (vectors[:, kept] * (weights[kept] / weights.sum())) @ vectors[:, kept].T
        addition = np.maximum(addition - _FIRST_STEP * first / math.sqrt(step + 1) * slope, 0)
    return math.sqrt(best) * (1 + _ROUNDING)


def _leading(matrix: Floats) -> tuple[Floats, Floats]:
    """The largest eigenvalues, ascending, with their vectors; all of a small matrix.

    The others would hardly count in the smoothed largest one, and the largest is all that a bound
    needs.
    """
    size = len(matrix)
    if size <= _SMALLEST_FOR_PART:
        values, vectors = np.linalg.eigh(matrix)
    else:
        values, vectors = scipy.linalg.eigh(matrix, subset_by_index=[size - _LEADING, size - 1])
    return values, vectors


def truncation_upper_bound(sigma_next: float, sigma_1: float, largest: float) -> float:
    """An upper bound of the inner maximum at the truncated SVD, hence of s_k.

    With x = cos(t) z + sin(t) e, z in the span of the kept right singular vectors and e orthogonal
    to it, the gap is at most sigma_(k+1) sin(t). Coordinate by coordinate it is also at most the
    positive part of (W - L)x where that is positive, and of Lx elsewhere; so its square is at most
    (S sin(t))^2 + (sigma_1 cos(t))^2 if S is an upper bound of s_0 of what the truncation drops.

    Args:
        sigma_next: sigma_(k+1).
        sigma_1: The largest singular value.
        largest: S, an upper bound of s_0(W - L) at L, the truncated SVD.

    Returns:
        A certified upper bound, sigma_(k+1) at most.
    """
    if largest >= sigma_next or not sigma_1:
        return sigma_next
    gain = (sigma_next - largest) * (sigma_next + largest) / sigma_1**2
    return min(sigma_next, sigma_next / math.sqrt(1 + gain) * (1 + _ROUNDING))


def improved_lower(lower: Floats, layer: Layer, *, chunk_values: int = CHUNK_VALUES) -> Floats:
    """Lower bounds with the subspace bound at k = 1 and 2, where L's answer at 0 is 0.

    Args:
        lower: (r,) certified lower bounds.
        layer: The layer; L keeps its bias.
        chunk_values: As of `least_on_subspace`.
    """
    lower = lower.copy()
    activation = layer.activation
    if not isinstance(activation, Activation):
        return nested_lower(lower)
    plain = layer.homogeneous and layer.rotation is None and activation.kind != "none"
    if plain and layer.reduced.any():
        for k in range(1, min(LARGEST_K + 1, len(lower))):
            leading, slopes = layer.reduced[:, : k + 1], activation.slopes
            bound = least_on_subspace(leading, slopes, chunk_values=chunk_values)
            lower[k] = max(lower[k], bound)
    return nested_lower(lower)


def improved_upper(upper: Floats, layer: Layer, ranks: Sequence[int], steps: int) -> Floats:
    """Upper bounds by duality at some k, for a Relu or Clip without bias.

    Args:
        upper: (r,) certified upper bounds.
        layer: The layer.
        ranks: The k.
        steps: Eigendecompositions for each k; 0 changes nothing for a Relu on the ball.
    """
    upper, activation = upper.copy(), layer.activation
    if not isinstance(activation, Activation):
        return nested_upper(upper)
    plain = not layer.bias.any() and not activation.slopes.any()
    if not plain or activation.kind == "none" or not layer.reduced.any():
        return upper
    sigma = np.linalg.norm(layer.reduced, axis=0)
    for k in ranks if steps else ():
        dropped = layer.reduced[:, k:]
        largest = largest_upper_bound(dropped @ dropped.T, steps)
        bound = truncation_upper_bound(sigma[k], sigma[0], largest) if k else largest
        upper[k] = min(upper[k], bound)
    if layer.rotation is not None:
        # For x >= 0, ReLU(Wx) is at most W's positive part times x, entry by entry.
        positive = np.maximum(layer.reduced @ layer.rotation, 0)
        upper[0] = min(upper[0], float(np.linalg.norm(positive, 2)) * (1 + 1e-9))
    return nested_upper(upper)


def nested_lower(lower: Floats) -> Floats:
    """Lower bounds of a sequence that does not increase: what holds for k holds before it."""
    return np.asarray(np.maximum.accumulate(lower[::-1])[::-1])


def nested_upper(upper: Floats) -> Floats:
    """Upper bounds of a sequence that does not increase: what holds for k holds after it."""
    return np.asarray(np.minimum.accumulate(upper))


MOST_ROWS = 14
# An entry of a unit eigenvector below this is zero but for rounding.
_ROUNDING_OF_A_POINT = 1e-12


def exact_largest(weight: npt.ArrayLike) -> float:
    """s_0 of a Relu layer without bias: the square root of max u'WW'u over u >= 0, |u| = 1.

    At the maximum u is positive on some set S of rows and there an eigenvector, for its largest
    eigenvalue, of the rows' Gram matrix; so the sets whose top eigenvector can be taken
    non-negative are all that counts. A set with several top eigenvectors needs no care: if one of
    them is non-negative, another with fewer positive entries is, and its set is enumerated too.

    Args:
        weight: (out, in), at most 14 rows.

    Returns:
        s_0, exact up to the rounding of float64 eigenvalues.

    Raises:
        UsageError: There are more rows, or the weight is no finite matrix.
    """
    weight = checked_weight(weight)
    rows = len(weight)
    if rows > MOST_ROWS:
        raise UsageError(f"{rows} rows: enumeration takes {MOST_ROWS} at most.")
    gram = weight @ weight.T
    best = 0.0
    for size in range(1, rows + 1):
        sets = np.array(list(combinations(range(rows), size)))
        values, vectors = np.linalg.eigh(gram[sets[:, :, None], sets[:, None, :]])
        top = vectors[:, :, -1]
        top = top * np.where(top.sum(axis=1, keepdims=True) < 0, -1, 1)
        counted = (top >= -_ROUNDING_OF_A_POINT).all(axis=1)
        best = max(best, float(np.max(values[counted, -1], initial=0.0)))
    return float(np.sqrt(best))
