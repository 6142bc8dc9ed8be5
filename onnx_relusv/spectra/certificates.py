"""Certified bounds that are better than the bracket's, where they are cheap; plain Relu or Clip.

Proofs are in docs/theory.md; "certified" leaves out the rounding of float64 eigenvalues and sums,
for which a relative 1e-9 is given away.
"""

import math

import numpy as np
import scipy.linalg

from onnx_relusv.records import Floats

_ROUNDING = 1e-9
# A singular value below this share of the largest may be nothing but rounding.
_NOTHING = 1e-12
# Of branch and bound: values at a time, how many of them are in memory, and how fine it gets, since
# below a thousandth nobody looks.
_MOST_VALUES = 4_000_000
_CHUNK_VALUES = 1 << 18
_FINE = 1e-3
_FIRST_DIVISIONS = {1: 32, 2: 12}
LARGEST_K = max(_FIRST_DIVISIONS)
# Smoothing of the largest eigenvalue, as a share of it, and the first step.
_SMOOTHING = 0.02
_FIRST_STEP = 2.0
_LEADING, _SMALLEST_FOR_PART = 12, 96


def least_on_subspace(reduced: Floats, slopes: Floats) -> float:
    """A lower bound of s_k: the least of max(|phi(Wx)|, |phi(-Wx)|) over a subspace.

    The kernel of every L of rank k meets every subspace of dimension k + 1, here the span of the
    first k + 1 right singular vectors, in a unit x; there phi(Lx) = 0 = phi(-Lx). The least value
    on that sphere is bounded from below by branch and bound: the function changes by at most
    sigma_1 max(1, |a|) times the distance.

    Args:
        reduced: (out, k + 1) float64, k being 1 or 2: U diag(sigma), first columns.
        slopes: (1,) or (out,) float64 slopes a of phi for negative arguments.

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
        values = _larger_side(reduced, cells, slopes)
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
        own = cells[axes == axis]
        shifts = np.insert(moves, axis, 0.0, axis=1)
        parts.append((own[:, None, :] + shifts).reshape(-1, k + 1))
    counts = [len(part) for part in parts]
    return np.concatenate(parts), np.repeat(np.arange(k + 1), counts)


def _larger_side(reduced: Floats, cells: Floats, slopes: Floats) -> Floats:
    points = cells / np.linalg.norm(cells, axis=1, keepdims=True)
    length = max(1, _CHUNK_VALUES // len(reduced))
    parts = [points[start : start + length] for start in range(0, len(points), length)]
    return np.concatenate([_larger_answer(part @ reduced.T, slopes) for part in parts])


def _larger_answer(y: Floats, slopes: Floats) -> Floats:
    """max(|phi(y)|, |phi(-y)|) for every row y."""
    positive, negative = np.maximum(y, 0) ** 2, np.minimum(y, 0) ** 2
    one = (positive + slopes**2 * negative).sum(axis=1)
    other = (negative + slopes**2 * positive).sum(axis=1)
    return np.asarray(np.sqrt(np.maximum(one, other)))


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
    spared = (sigma_next - largest) * (sigma_next + largest) / sigma_1**2
    return min(sigma_next, sigma_next / math.sqrt(1 + spared) * (1 + _ROUNDING))
