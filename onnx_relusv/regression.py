"""Asymmetric reduced-rank regression: the best factors for the input that is really delivered.

The target is what the original answers, t; the input is z, which the blocks before delivered. The
best linear map of z is

    M = E[t z'] E[zz']^(-1)      (centred moments, ridge towards W),

and since the rest of the error does not depend on L, the best L of a form and rank is that of M in
the metric of z, after Zhang, Zou, He, Sun, "Accelerating Very Deep Convolutional Networks for
Classification and Detection" (2015), section 3.2. The bias follows from the means.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
import scipy.linalg

from onnx_relusv.factors import double_layer
from onnx_relusv.fitted import Change, Fitted, weighted
from onnx_relusv.positive_definite import solved
from onnx_relusv.records import Floats, LinearMap, Moments
from onnx_relusv.spectra.covariance_sketch import CovarianceSketch
from onnx_relusv.spectra.moments import LEAST_VARIANCE, sketched_moments
from onnx_relusv.spectra.target_moments import TargetMoments
from onnx_relusv.spectra.target_rows import Rows

# Shares of the mean variance of z, from a nearly free regression to one that hardly leaves W.
RIDGES = (1e-3, 1e-2, 1e-1, 1.0)
# Of inputs that are zero: the square of the least float32.
_NO_VARIANCE = 1e-76
# Of a sketch of the rows that a wide block is fitted to.
_ROWS_A_TERM = 4


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
