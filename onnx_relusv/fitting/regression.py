"""Asymmetric reduced-rank regression: the best factors for the input that is really delivered.

The target is what the original answers, t; the input is z, which the blocks before delivered. The
best linear map of z is

    M = E[t z'] E[zz']^(-1)      (centred moments, ridge towards W),

and since the rest of the error does not depend on L, the best L of a form and rank is that of M in
the metric of z, after Zhang, Zou, He, Sun, "Accelerating Very Deep Convolutional Networks for
Classification and Detection" (2015), section 3.2. The bias follows from the means.

What all class scores of a sample have in common: nothing to a softmax, but seen by others.

A divergence of class scores says nothing of it, so a fit to that leaves it anywhere. Added to every
row of the last map alike, least squares put it where the targets have it, for those who read the
scores themselves.

Which errors of a block its consumers feel: a metric on its outputs.

A change e of the pre-activation reaches the consumers as W_c (m * e), m the 0/1 mask of active
units, W_c their stacked weights. With the mask independent of e, and of the other units,

    E|W_c (m * e)|^2 = E e'Se,    S = (W_c' W_c) * (pp' + diag(p - p^2)),

p the shares of inputs on which units are active, * entry by entry; S is positive semidefinite by
Schur's product theorem. p is read off the mean and variance of the pre-activation as if it were
normal. All of this is an estimate, so a share of the identity is kept.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

import numpy as np
import scipy.linalg
import scipy.special

from onnx_relusv.core.blocks import Activation, Floats, LinearMap, Moments
from onnx_relusv.core.linear_algebra import solved
from onnx_relusv.core.plans import Factors
from onnx_relusv.core.reduction import Change, Fitted, weighted
from onnx_relusv.rewrites.low_rank.forms import FORMS, double_layer
from onnx_relusv.spectra.moments import LEAST_VARIANCE, sketched_moments
from onnx_relusv.spectra.product_sums import CovarianceSketch, Rows, TargetMoments
from onnx_relusv.spectra.singular import is_reduced

# Of the mean variance of what the last map reads.
_RIDGE = 1e-3
_TINY = 1e-30


def recentred(factors: Factors, rows: Rows) -> Factors:
    """Factors of class scores with a mean over the classes near the target's; softmax is the same.

    Args:
        factors: Of a block with one group, whose last map has a row for every class.
        rows: What the mean is fitted to.
    """
    *before, last = factors.matrices
    if not FORMS[factors.form].rows_are_outputs or len(before) > 1:
        return factors
    z = rows.z[0].astype(np.float64)
    seen = z if not before else z @ before[0][0].T
    wanted = rows.target[0].astype(np.float64).mean(axis=1)
    missing = wanted - seen @ last[0].mean(axis=0) - factors.bias.mean()
    centred = seen - seen.mean(axis=0)
    gram = centred.T @ centred / len(seen)
    gram[np.diag_indices_from(gram)] += _RIDGE * np.trace(gram) / len(gram) + _TINY
    added = solved(gram, (centred.T @ missing / len(seen))[:, None])[:, 0]
    offset = float(np.mean(missing - seen @ added))
    changed = factors.with_matrices((*before, last + added))
    return replace(changed, bias=factors.bias + offset)


# Of the mean of S's diagonal: what errors count that the estimate takes for harmless.
_IDENTITY = 0.3


def importance_root(
    activation: Activation, mean: Floats, variance: Floats, consumers: Iterable[LinearMap]
) -> Floats | None:
    """An upper triangular R with S = R'R, scaled to a mean diagonal of 1.

    Args:
        activation: The block's; slopes count as activity.
        mean: (out,) means of the pre-activation.
        variance: (out,) its variances.
        consumers: The linear maps, of one group each, that read the block's output.

    Returns:
        (out, out) float64; None where the consumers' weights are zero.
    """
    units = len(mean)
    gram = _gram(units, consumers)
    deviation = np.sqrt(np.maximum(variance, np.finfo(np.float64).tiny))
    active = scipy.special.ndtr(mean / deviation)
    if activation.kind == "none":
        active = np.ones(units)
    else:
        slopes = np.broadcast_to(activation.slopes, (units,)) ** 2
        active = active + (1 - active) * slopes
    together = np.outer(active, active)
    together[np.diag_indices_from(together)] = active
    felt = gram * together
    metric = _normalised(felt)
    return None if metric is None else np.asarray(np.linalg.cholesky(metric).T)


def consumers_gram(units: int, consumers: Iterable[LinearMap]) -> Floats | None:
    """W_c'W_c with a share of the identity, scaled to a mean diagonal of 1.

    Behind the activation nothing is masked any more: the error e of the answers reaches the
    consumers as W_c e.

    Args:
        units: Output channels of the block.
        consumers: The linear maps, of one group each, that read its output.

    Returns:
        (out, out) float64; None where the consumers' weights are zero.
    """
    return _normalised(_gram(units, consumers))


def _gram(units: int, consumers: Iterable[LinearMap]) -> Floats:
    gram = np.zeros((units, units))
    for consumer in consumers:
        # A Conv's columns are (channel, tap): every tap meets the channel's errors.
        taps = consumer.weight[0].reshape(consumer.weight.shape[1], units, -1)
        flat = taps.transpose(0, 2, 1).reshape(-1, units)
        gram += flat.T @ flat
    return gram


def _normalised(felt: Floats) -> Floats | None:
    level = float(np.trace(felt)) / len(felt)
    if not level > 0:
        return None
    felt = felt.copy()
    felt[np.diag_indices_from(felt)] += _IDENTITY * level
    return felt / ((1 + _IDENTITY) * level)


# Shares of the mean variance of z, from a nearly free regression to one that hardly leaves W.
RIDGES = (1e-3, 1e-2, 1e-1, 1.0)
# Those that few samples need, where a fit has to be quick.
CLOSED_RIDGES = (1e-2, 1e-1)
_HALF_A_STEP = 10**0.5
# Of inputs that are zero: the square of the least float32.
_NO_VARIANCE = 1e-76
# Of a sketch of the rows that a wide block is fitted to.
_ROWS_A_TERM = 4


def finer(best: float) -> tuple[float, ...]:
    """Ridges half a step around the best one of `RIDGES`.

    None where that is the least of them: rows are enough then, and hardly any ridge is needed.
    """
    return () if best == RIDGES[0] else (best / _HALF_A_STEP, best * _HALF_A_STEP)


def regression(towards: Floats, means: TargetMoments, ridge: float) -> LinearMap:
    """The best linear map M of z, and its bias.

    Args:
        towards: (groups, rows, columns), what it is drawn towards, W: the block's own map, of the
            channels that are left.
        means: Moments of z and of the target, of these channels.
        ridge: How strongly, as a share of the mean variance of z.
    """
    maps = []
    for W, second, cross, mean, target in zip(
        towards, means.second, means.cross, means.mean, means.target, strict=True
    ):
        metric = second - np.outer(mean, mean)
        # Inputs that hardly vary leave nothing but the difference's rounding.
        least = LEAST_VARIANCE * np.trace(second) / len(metric) + _NO_VARIANCE
        pull = max(ridge * np.trace(metric) / len(metric), least)
        metric[np.diag_indices_from(metric)] += pull
        seen = cross - np.outer(target, mean) + pull * W
        maps.append(solved(metric, seen.T).T)
    weight = np.stack(maps)
    bias = means.target - np.einsum("grc,gc->gr", weight, means.mean)
    return LinearMap(weight, bias.reshape(-1))


def rows_regressions(towards: Floats, rows: Rows, ridges: Sequence[float]) -> Iterator[LinearMap]:
    """The same from rows that were collected, without a square array of columns, ridge by ridge.

    With centred rows Z and what W leaves of the targets, E = T - ZW', the ridge's answer is

        M = W + E' (ZZ' + n pull I)^(-1) Z,

    whose system has as many unknowns as there are rows.

    Args:
        towards: (groups, rows, columns) W.
        rows: Patches and targets of the channels that are left.
        ridges: As shares of the mean variance of z.
    """
    missing, count = rows.missing, rows.count
    prepared = []
    for W, z, t in zip(towards, rows.z, missing, strict=True):
        z, t = z.astype(np.float64), t.astype(np.float64)
        mean, target = z.mean(axis=0), t.mean(axis=0)
        z -= mean
        prepared.append((W, z, (t - target) - z @ W.T, mean, target, z @ z.T))
    for ridge in ridges:
        maps, biases = [], []
        for W, z, left, mean, target, gram in prepared:
            variance = float(np.trace(gram)) / (count * z.shape[1])
            system = gram.copy()
            least = LEAST_VARIANCE * (variance + float(np.mean(mean**2))) + _NO_VARIANCE
            system[np.diag_indices_from(system)] += count * max(ridge * variance, least)
            M = W + solved(system, left).T @ z
            maps.append(M)
            biases.append(target - M @ mean)
        yield LinearMap(np.stack(maps), np.concatenate(biases))


def sketched(rows: Rows, samples: int) -> Moments:
    """Factored moments of rows that were collected.

    Args:
        rows: The rows.
        samples: How many independent samples they came from.
    """
    sketches = []
    for z in rows.z:
        sketch = CovarianceSketch(z.shape[1], max(1, len(z) // _ROWS_A_TERM))
        sketch.add(z)
        sketches.append(sketch)
    return sketched_moments(sketches, samples)


def has_nearest(fitted: Fitted) -> bool:
    """Whether a map is large, and its form such that `nearest_in_span` serves in comparisons."""
    form, matrices = FORMS[fitted.factors.form], fitted.factors.matrices
    return (
        len(matrices) == 2 and form.rows_are_outputs and is_reduced(fitted.target.weight.shape[1:])
    )


def nearest_in_span(fitted: Fitted, linear: LinearMap, moments: Moments) -> Fitted:
    """Factors of another map with the last matrix of some that are there, and the best first one.

    What they miss of the map is what does not lie in the span of the last matrix, in any metric.

    Args:
        fitted: Factors of two matrices, whose rows are outputs.
        linear: The other map, M.
        moments: Of its input.
    """
    last = fitted.factors.matrices[-1]
    turned = last.transpose(0, 2, 1)
    first = np.asarray(np.linalg.solve(turned @ last, turned @ linear.weight), np.float64)
    mean = moments.mean[:, :, None]
    missed = linear.weight @ mean - last @ (first @ mean)
    factors = replace(
        fitted.factors.with_matrices((first, last)), bias=linear.bias + missed.reshape(-1)
    )
    return Fitted(factors, linear, moments)


def in_metric(change: Change, linear: LinearMap, moments: Moments, root: Floats | None) -> Fitted:
    """The factors of a map in the metric of its input, and of what consumers feel.

    Args:
        change: What is wanted.
        linear: The map M.
        moments: Of its input.
        root: (out, out) upper triangular R; outputs are judged by |R(...)|. None for I.
    """
    form, geometry, rank = change.form, change.reduced.geometry, change.rank
    if root is None:
        factors = double_layer(form, geometry, linear, moments, rank)
        return Fitted(replace(factors, kept=change.kept), linear, moments)
    # Outputs weighted by R: the factors of RM, with R taken off the second one again.
    target = weighted(root, linear)
    seen_by_consumers = double_layer(form, geometry, target, moments, rank)
    *before, last = seen_by_consumers.matrices
    second = scipy.linalg.solve_triangular(root, last[0])
    offset = scipy.linalg.solve_triangular(root, seen_by_consumers.bias)
    factors = replace(
        seen_by_consumers, matrices=(*before, second[None]), bias=offset, kept=change.kept
    )
    return Fitted(factors, target, moments, root)
