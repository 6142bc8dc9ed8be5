"""Weights as 8-bit integers: a scale for every row, and integers chosen in the data's metric.

A row w of a layer becomes s q with integers q from -127 to 127. Without VNNI, x86 processors
multiply the unsigned bytes of an input with the signed ones of a weight and add the products two by
two in 16 bits, where larger sums are cut off. So of two integers whose products are added there the
sum is within 128 on either side of 0, for 255 * 128 < 2^15: then a file gives the same answers on
every processor. s is the least number that allows both.

Rounding every entry to the nearest is best where inputs are uncorrelated. With C the covariance of
the layer's input, what counts is |(w - s q) C^(1/2)|: so columns are rounded one after the other,
and what one loses is made up for by those that are still to come, as in optimal brain quantisation
(Frantar, Alistarh, Optimal Brain Compression, NeurIPS 2022, eq. 7), with the columns of the largest
variance first. The bias takes what the mean of the input loses.

Between the two layers of a pair, and before and behind the core of a tucker, any invertible map may
be put and taken back: L stays the same. The ranges of latent channels differ much, and a tensor has
one scale. An orthogonal map that mixes them all makes their ranges about equal; whether it is put
there is decided by the noise that rounding is expected to make, with and without it.
"""

from collections.abc import Sequence
from dataclasses import replace
from math import prod

import numpy as np
import numpy.typing as npt
import scipy.linalg

from onnx_relusv.core.blocks import FactoredCovariance, Floats, Geometry, Moments
from onnx_relusv.core.plans import Factors
from onnx_relusv.rewrites.low_rank.form import Form
from onnx_relusv.rewrites.low_rank.forms import FORMS

LARGEST = 127
# Of two integers of a weight whose products with unsigned bytes are added in 16 bits.
LARGEST_OF_TWO = 128
# Of the mean variance: so that a column that hardly varies has an inverse.
_DAMPING = 1e-4
# Columns whose errors are passed on together.
_BLOCK = 64
# Standard deviations between 0 and the end of a tensor's range, about.
_REACH = 5.0
# Of the squares of what rounding moves, in steps.
_NOISE = 1 / 12


def added_in_16_bits(layer: Geometry) -> npt.NDArray[np.int64]:
    """The columns of a layer whose products onnxruntime's kernels add two by two in 16 bits.

    These are neighbours in the order in which kernels read a patch: the channels of a kernel value,
    and then those of the next one. The last of an odd number is by itself, and so are all columns
    of a depthwise Conv, whose kernels add in 32 bits.

    Args:
        layer: Its geometry.

    Returns:
        (pairs, 2) columns of the weight, which are in the order channel, kernel value.
    """
    if layer.is_depthwise and layer.rows == 1:
        return np.empty((0, 2), np.int64)
    order = np.arange(layer.columns).reshape(-1, prod(layer.kernel)).T.reshape(-1)
    return order[: layer.columns // 2 * 2].reshape(-1, 2)


def row_scales(matrix: Floats, pairs: npt.NDArray[np.int64]) -> Floats:
    """(groups, rows) of a (groups, rows, columns) matrix: float32 numbers, 1 for a row of zeros.

    Args:
        matrix: Of a layer.
        pairs: (pairs, 2) columns that are added in 16 bits.
    """
    largest = np.abs(matrix).max(axis=2, initial=0.0) / LARGEST
    of_two = np.abs(matrix[:, :, pairs].sum(axis=3)).max(axis=2, initial=0.0) / LARGEST_OF_TWO
    needed = np.maximum(largest, of_two)
    scales = np.where(needed > 0, needed, 1.0).astype(np.float32)
    # Of a row so small that its scale has no float32, all that is left is nothing.
    tiny = np.finfo(np.float32).tiny
    return np.asarray(np.maximum(scales, tiny), np.float64)


def products(integers: Floats, scales: Floats) -> Floats:
    """Integers (groups, rows, columns) times scales (groups, rows), as a float32 product has it."""
    # There is no negative zero among integers.
    scaled = (integers.astype(np.float32) + 0) * scales[:, :, None].astype(np.float32)
    return np.asarray(scaled, np.float64)


def nearest(matrix: Floats, scales: Floats, pairs: npt.NDArray[np.int64]) -> Floats:
    """The integers next to a matrix over its scales, as far as pairs of columns allow.

    Args:
        matrix: (..., rows, columns).
        scales: (..., rows).
        pairs: (pairs, 2) columns that are added in 16 bits.
    """
    found = np.clip(np.rint(matrix / scales[..., None]), -LARGEST, LARGEST)
    first, second = pairs.T
    found[..., second] = np.clip(found[..., second], *_room(found[..., first]))
    return np.asarray(found)


def _room(beside: Floats) -> tuple[Floats, Floats]:
    """The least and the largest integer that may be added to another one."""
    return (
        np.maximum(-LARGEST, -LARGEST_OF_TWO - np.minimum(beside, 0)),
        np.minimum(LARGEST, LARGEST_OF_TWO - np.maximum(beside, 0)),
    )


def in_metric(
    matrix: Floats, scales: Floats, pairs: npt.NDArray[np.int64], covariance: Floats
) -> Floats:
    """Integers whose products are near to a matrix in a metric.

    Args:
        matrix: (rows, columns).
        scales: (rows,).
        pairs: (pairs, 2) columns that are added in 16 bits.
        covariance: (columns, columns), positive semidefinite.

    Returns:
        (rows, columns) float64, whole; those of `nearest` where these do as well.
    """
    plain = nearest(matrix, scales, pairs)
    columns = matrix.shape[1]
    spread = float(np.trace(covariance)) / columns
    if not spread > np.finfo(np.float32).tiny:  # nothing varies
        return plain
    order = np.argsort(-np.diagonal(covariance), kind="stable")
    metric = covariance[np.ix_(order, order)] + _DAMPING * spread * np.eye(columns)
    try:
        root = scipy.linalg.cholesky(metric, lower=True)
        inverse = scipy.linalg.lapack.dpotri(root, lower=1)[0]
        inverse = np.tril(inverse) + np.tril(inverse, -1).T
        upper = scipy.linalg.cholesky(inverse, lower=False)
    except scipy.linalg.LinAlgError:
        return plain
    beside = dict(np.concatenate([pairs, pairs[:, ::-1]]).tolist())
    left, found = matrix[:, order].copy(), np.zeros_like(matrix)
    for start in range(0, columns, _BLOCK):
        end = min(start + _BLOCK, columns)
        errors = np.empty((len(matrix), end - start))
        for place in range(start, end):
            column, this = left[:, place], int(order[place])
            own = np.rint(column / scales)
            # Nothing is in the way of the first of two, whose neighbour is still 0.
            own = np.clip(own, *_room(found[:, beside[this]] if this in beside else 0 * own))
            error = (column - own * scales) / upper[place, place]
            found[:, this], errors[:, place - start] = own, error
            left[:, place + 1 : end] -= np.outer(error, upper[place, place + 1 : end])
        left[:, end:] -= errors @ upper[start:end, end:]
    before, after = (_energy(matrix - own * scales[:, None], covariance) for own in (plain, found))
    better: np.ndarray = after < before
    return np.where(better[:, None], found, plain)


def _energy(rows: Floats, covariance: Floats) -> Floats:
    """(rows,) of squares in the metric."""
    return np.asarray(np.einsum("ij,ij->i", rows @ covariance, rows))


def feeds_errors_back(moments: Moments | None) -> bool:
    """Whether columns can make up for what others lose, as moments of a block's input tell."""
    return moments is not None and not moments.factored


def rounded(
    geometry: Geometry,
    factors: Factors,
    moments: Moments | None,
    seed: int,
    *,
    fed_back: bool = True,
) -> Factors:
    """Factors with weights that are 8-bit integers times scales.

    The last layer is fitted anew to what the rounded ones before it deliver, and rounded in the
    covariance of that.

    Args:
        geometry: Of what is left of the block.
        factors: Of it, float.
        moments: Of its input; without any, or with a factored covariance, every number is rounded
            to the nearest.
        seed: Draws what latent channels are mixed by.
        fed_back: Whether a column makes up for what others have lost; otherwise every number is
            rounded to the nearest, which is quicker.
    """
    form = FORMS[factors.form]
    matrices = list(factors.matrices)
    if not feeds_errors_back(moments):
        moments = None
    if len(matrices) > 1:
        matrices[-2:] = _mixed(form, geometry, matrices, moments, seed)
    before = form.compose(geometry, *matrices)
    layers = list(form.as_layers(geometry, matrices))
    scales: list[Floats] = []
    geometries = form.layers(geometry, factors.rank)
    for place, (layer, own) in enumerate(zip(layers, geometries, strict=True)):
        pairs, metrics = added_in_16_bits(own), None
        if moments is not None and fed_back:
            reads = None if place == 0 else form.reads(geometry, layers[:place])
            if reads is not None and place == len(layers) - 1:
                layer = _fitted(layer, before, reads, moments)
            metrics = [
                form.first_metric(geometry, C)
                if reads is None
                else reads[group] @ C @ reads[group].T
                for group, C in enumerate(_squares(moments, len(layer)))
            ]
        scale = row_scales(layer, pairs)
        integers = nearest(layer, scale, pairs)
        if metrics is not None:
            integers = np.stack(
                [
                    in_metric(matrix, steps, pairs, C)
                    for matrix, steps, C in zip(layer, scale, metrics, strict=True)
                ]
            )
        layers[place] = products(integers, scale)
        scales.append(scale)
    found = form.from_layers(geometry, layers)
    bias = factors.bias
    if moments is not None:
        gap = before - form.compose(geometry, *found)
        bias = bias + (gap @ moments.mean[:, :, None]).reshape(-1)
    return replace(factors, matrices=found, bias=bias, scales=tuple(scales))


def _squares(moments: Moments, groups: int) -> list[Floats]:
    found = [moments.of_group(group) for group in range(groups)]
    return [C for C in found if not isinstance(C, FactoredCovariance)]


def _fitted(layer: Floats, target: Floats, reads: Floats, moments: Moments) -> Floats:
    """A last layer that gives the target's answers as well as what it reads allows.

    Args:
        layer: (groups, rows, columns of the layer), what it is without that.
        target: (groups, rows, columns), a dense kernel.
        reads: (groups, columns of the layer, columns).
        moments: Of the block's input.
    """
    found = []
    squares = _squares(moments, len(layer))
    for own, W, V, C in zip(layer, target, reads, squares, strict=True):
        within = V @ C @ V.T
        ridge = _DAMPING * max(float(np.trace(within)) / len(V), np.finfo(np.float64).tiny)
        across = W @ C @ V.T + ridge * own
        regular = within + ridge * np.eye(len(V))
        found.append(scipy.linalg.solve(regular, across.T, assume_a="pos").T)
    return np.stack(found)


def _mixed(
    form: Form,
    geometry: Geometry,
    matrices: Sequence[Floats],
    moments: Moments | None,
    seed: int,
) -> tuple[Floats, Floats]:
    """The last two factors with the latent channels between them mixed, where that is better."""
    first, second = matrices[-2:]
    rank = first.shape[1]
    drawn = np.random.default_rng([seed, rank]).standard_normal((rank, rank))
    Q = np.linalg.qr(drawn)[0]
    turned = Q @ first, second @ Q.T
    metrics = None
    if moments is not None:
        squares = _squares(moments, len(first))
        if len(matrices) == 2:
            metrics = [form.first_metric(geometry, C) for C in squares]
        else:
            reads = form.reads(geometry, matrices[:-2])
            metrics = [V @ C @ V.T for V, C in zip(reads, squares, strict=True)]
    if _expected_noise(*turned, metrics) < _expected_noise(first, second, metrics):
        return turned
    return first, second


def _expected_noise(first: Floats, second: Floats, covariances: Sequence[Floats] | None) -> float:
    """The squares that rounding of the latent tensor and of both layers add to the answers."""
    total = 0.0
    for group, (V, U) in enumerate(zip(first, second, strict=True)):
        C = None if covariances is None else covariances[group]
        variances = np.sum(V**2, axis=1) if C is None else _energy(V, C)
        energy = V.shape[1] if C is None else float(np.trace(C))
        read = np.sum(U**2, axis=0)
        step = 2 * _REACH * np.sqrt(variances.max(initial=0.0)) / (2 * LARGEST + 1)
        steps_in, steps_out = (np.abs(own).max(axis=1) / LARGEST for own in (V, U))
        total += _NOISE * float(
            step**2 * read.sum()
            + steps_out @ steps_out * variances.sum()
            + (steps_in**2 @ read) * energy
        )
    return total
