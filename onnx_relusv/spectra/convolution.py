"""Convolutions as linear maps: where their patches lie, and their singular values on feature maps.

`patch_index` says which input values a Conv multiplies its kernel with: im2col as an index, without
the copying. This patch view, the kernel as a matrix, is right for ranks and output errors. The
operator on whole feature maps is another map with other, larger singular values: at most the root
of the number of kernel positions times those of the patch view.

On a torus the operator falls apart into one small matrix for every frequency, the Fourier
transform of the kernel (Sedghi, Gupta, Long, "The Singular Values of Convolutional Layers", ICLR
2019). A stride s keeps every s-th output: then s frequencies an axis fall together, and their
matrices stand side by side, divided by the root of s. Zero padding is no torus: the padded
operator is a part of the operator on a torus that is larger by the padding, so its largest
singular value is at most that one's, while its other values are not those of the torus.
"""

from collections.abc import Iterator, Sequence
from itertools import product
from math import ceil, gcd, prod, sqrt
from typing import Any

import numpy as np
import numpy.typing as npt
import scipy.sparse.linalg

from onnx_relusv.core.blocks import Floats, Geometry
from onnx_relusv.core.errors import UsageError
from onnx_relusv.core.kinds import explicit_pads
from onnx_relusv.spectra.layers import finite

# The symbol is a trigonometric polynomial of low degree: on a finer torus its largest norm grows
# by less than a percent for kernels of up to 9.
LONGEST_AXIS = 64
_CHUNK_BYTES = 64 << 20
_POWER_STEPS = 12
_EXACT_FREQUENCIES = 4
# Of the squares of singular values, beside the percent that a finer torus may add.
_LANCZOS_TOLERANCE = 1e-7
_SMALLEST_FOR_LANCZOS = 64

Complex = npt.NDArray[np.complex128]


def convolution_singular_values(
    kernel: npt.ArrayLike,
    lengths: Sequence[int],
    *,
    strides: Sequence[int] | None = None,
    dilations: Sequence[int] | None = None,
    groups: int = 1,
) -> Floats:
    """All singular values of a convolution on a torus.

    Args:
        kernel: (out, in / groups, kernel lengths...).
        lengths: Of the torus; each a multiple of its stride.
        strides: One an axis; 1 if None.
        dilations: One an axis; 1 if None.
        groups: Groups of channels.

    Returns:
        Descending, float64: min(out / groups, in / groups * strides) values for each group and
        each of the prod(lengths / strides) frequencies. Exact for circular padding of that length.

    Raises:
        UsageError: Shapes or lengths do not fit.
    """
    array = finite(kernel, "kernel")
    axes = array.ndim - 2
    strides = (1,) * axes if strides is None else tuple(strides)
    dilations = (1,) * axes if dilations is None else tuple(dilations)
    if axes < 1 or not len(lengths) == len(strides) == len(dilations) == axes:
        raise UsageError(
            f"A kernel of shape {array.shape} has {max(axes, 0)} spatial axes; lengths, strides "
            "and dilations need one number for each."
        )
    if min(*lengths, *strides, *dilations, groups) < 1:
        raise UsageError("Lengths, strides, dilations and groups have to be 1 or more.")
    if array.shape[0] % groups:
        raise UsageError(f"{array.shape[0]} output channels do not divide into {groups} groups.")
    if any(length % stride for length, stride in zip(lengths, strides, strict=True)):
        raise UsageError(f"Lengths {tuple(lengths)} have to be multiples of strides {strides}.")
    split = array.reshape(groups, array.shape[0] // groups, array.shape[1], -1)
    taps = _taps(array.shape[2:], dilations)
    frequencies = np.array(list(product(*_reduced(lengths, strides))))
    values = [
        np.linalg.svd(symbols, compute_uv=False).reshape(-1)
        for symbols in _symbols(split, taps, frequencies, lengths, strides)
    ]
    return np.sort(np.concatenate(values))[::-1]


def operator_norm(weight: Floats, geometry: Geometry, lengths: Sequence[int]) -> float:
    """The largest singular value of a Conv block's linear map on whole feature maps.

    The torus is as long as the input and its padding, at most 64 an axis, rounded up to the
    stride. For zero padding this is an upper bound up to the percent that a finer torus may add;
    the largest of the frequencies is found by power steps, so it is an estimate from below.

    Args:
        weight: (groups, rows, columns) float64, as in `LinearMap`.
        geometry: The block's.
        lengths: Spatial lengths of its input.
    """
    channels = geometry.in_channels // geometry.groups
    # Squares of the weights could leave float32's range.
    peak = float(np.abs(weight).max()) or 1.0
    split = (weight / peak).reshape(geometry.groups, geometry.rows, channels, -1)
    if prod(geometry.kernel) == 1:
        # Every output position sees one input position, and no two the same.
        return peak * max(_norm(matrix[:, :, 0]) for matrix in split)
    pads = explicit_pads(geometry, tuple(lengths))
    axes = len(lengths)
    torus = [
        _torus(length + max(begin, end), stride, dilation)
        for length, begin, end, stride, dilation in zip(
            lengths, pads[:axes], pads[axes:], geometry.strides, geometry.dilations, strict=True
        )
    ]
    # Of a real kernel, a frequency and its opposite have the same singular values.
    reduced = _reduced(torus, geometry.strides)
    reduced[-1] = range(len(reduced[-1]) // 2 + 1)
    frequencies = np.array(list(product(*reduced)))
    taps = _taps(geometry.kernel, geometry.dilations)
    # In single precision it is only decided which frequencies are looked at closely.
    rough = [
        _power_norms(symbols.reshape(-1, *symbols.shape[-2:]))
        for symbols in _symbols(
            split.astype(np.float32), taps, frequencies, torus, geometry.strides, np.complex64
        )
    ]
    top = np.argsort(-np.concatenate(rough))[:_EXACT_FREQUENCIES]
    return peak * max(
        _norm(symbols[0, place % geometry.groups])
        for place in top
        for symbols in _symbols(
            split, taps, frequencies[[place // geometry.groups]], torus, geometry.strides
        )
    )


def _torus(length: int, stride: int, dilation: int) -> int:
    """The length of an axis of the torus: all of it, or a shorter one that sees as much."""
    outputs, count = ceil(length / stride), ceil(LONGEST_AXIS / stride)
    if outputs <= count:
        return outputs * stride
    # With a common divisor, dilated positions would fall together on the shorter axis.
    while gcd(count, dilation) > 1:
        count -= 1
    return count * stride


def _taps(kernel: Sequence[int], dilations: Sequence[int]) -> Floats:
    """(kernel positions, axes) offsets, in the order of the flattened kernel."""
    axes = [
        dilation * np.arange(length) for length, dilation in zip(kernel, dilations, strict=True)
    ]
    return np.array(list(product(*axes)), np.float64)


def _reduced(lengths: Sequence[int], strides: Sequence[int]) -> list[range]:
    """Frequencies of the strided output's torus, an axis each."""
    return [range(length // stride) for length, stride in zip(lengths, strides, strict=True)]


def _symbols(
    split: Floats,
    taps: Floats,
    frequencies: np.ndarray,
    lengths: Sequence[int],
    strides: Sequence[int],
    dtype: type[np.complexfloating[Any, Any]] = np.complex128,
) -> Iterator[Complex]:
    """The matrices of the frequencies, (some frequencies, groups, rows, channels * aliases)."""
    groups, rows, channels, positions = split.shape
    aliases = np.array(list(product(*(range(stride) for stride in strides))))
    outputs = np.array(lengths) // np.array(strides)
    flat = split.transpose(3, 0, 1, 2).reshape(positions, -1)
    size = np.dtype(dtype).itemsize
    chunk = max(1, _CHUNK_BYTES // (size * len(aliases) * flat.shape[1]))
    for start in range(0, len(frequencies), chunk):
        part = frequencies[start : start + chunk, None, :] + aliases[None, :, :] * outputs
        angles = 2 * np.pi * (part / np.array(lengths)) @ taps.T
        # Kernels are so short that the sum over their positions beats a fast transform.
        phases = (np.exp(1j * angles) / sqrt(len(aliases))).astype(dtype)
        values = phases.reshape(-1, positions) @ flat.astype(dtype)
        values = values.reshape(len(part), len(aliases), groups, rows, channels)
        yield values.transpose(0, 2, 3, 1, 4).reshape(len(part), groups, rows, -1)


def _power_norms(matrices: npt.NDArray[Any]) -> Floats:
    """Largest singular values of many matrices, from below, to a few percent."""
    rng = np.random.default_rng(0)
    v = rng.standard_normal((len(matrices), matrices.shape[2], 1)).astype(matrices.dtype)
    norms = np.zeros(len(matrices))
    for _ in range(_POWER_STEPS):
        v /= np.maximum(np.linalg.norm(v, axis=1, keepdims=True), 1e-30)
        u = matrices @ v
        norms = np.linalg.norm(u[:, :, 0], axis=1)
        # K* u without a conjugated copy of all K.
        v = (u.conj().transpose(0, 2, 1) @ matrices).conj().transpose(0, 2, 1)
    return norms


def _norm(matrix: npt.NDArray[Any]) -> float:
    if min(matrix.shape) <= _SMALLEST_FOR_LANCZOS or not matrix.any():
        return float(np.linalg.norm(matrix, 2))
    start = np.random.default_rng(0).standard_normal(min(matrix.shape)).astype(matrix.dtype)
    values = scipy.sparse.linalg.svds(
        matrix, k=1, v0=start, tol=_LANCZOS_TOLERANCE, return_singular_vectors=False
    )
    return float(values[0])
