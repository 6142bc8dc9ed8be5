"""Geometries, blocks, linear maps, moments and spectra for tests: made by hand, or from a seed."""

import numpy as np
from hypothesis import strategies as st

from onnx_relusv.core.blocks import Activation, Block, Geometry, LinearMap, Moments
from onnx_relusv.core.kinds import output_lengths
from onnx_relusv.core.measures import Spectrum
from onnx_relusv.rewrites.low_rank.factors import decompose_block
from onnx_relusv.rewrites.low_rank.forms import FORMS
from onnx_relusv.runtime.session import CPU
from onnx_relusv.spectra.measure import measure

RELU = Activation(kind="relu", slopes=np.zeros(1))
LINEAR = Activation(kind="none", slopes=np.ones(1))


def clip(ceiling: float) -> Activation:
    return Activation(kind="clip", slopes=np.zeros(1), ceiling=ceiling)


def prelu(*slopes: float) -> Activation:
    kind = "leaky_relu" if len(slopes) == 1 else "prelu"
    return Activation(kind=kind, slopes=np.array(slopes))


def gemm(in_features: int, out_features: int) -> Geometry:
    return Geometry(kind="gemm", in_channels=in_features, out_channels=out_features)


def matmul(in_features: int, out_features: int) -> Geometry:
    return Geometry(kind="matmul", in_channels=in_features, out_channels=out_features)


def conv(
    in_channels: int,
    out_channels: int,
    kernel: tuple[int, ...],
    *,
    groups: int = 1,
    strides: tuple[int, ...] | None = None,
    dilations: tuple[int, ...] | None = None,
    pads: tuple[int, ...] | None = None,
    auto_pad: str = "NOTSET",
) -> Geometry:
    axes = len(kernel)
    return Geometry(
        kind="conv",
        in_channels=in_channels,
        out_channels=out_channels,
        groups=groups,
        kernel=kernel,
        strides=strides or (1,) * axes,
        dilations=dilations or (1,) * axes,
        pads=pads or (0,) * (2 * axes),
        auto_pad=auto_pad,
    )


@st.composite
def conv_geometries(draw: st.DrawFn, *, axes: int = 2, smallest_kernel: int = 1) -> Geometry:
    """Small Convs of every kind that onnxruntime runs: SAME pads come without dilation."""
    groups = draw(st.integers(1, 3))
    auto_pad = draw(st.sampled_from(["NOTSET", "VALID", "SAME_UPPER", "SAME_LOWER"]))

    def along_axes(least: int, most: int, count: int = axes) -> tuple[int, ...]:
        return tuple(draw(st.integers(least, most)) for _ in range(count))

    return conv(
        groups * draw(st.integers(1, 3)),
        groups * draw(st.integers(1, 4)),
        along_axes(smallest_kernel, 4),
        groups=groups,
        strides=along_axes(1, 3),
        dilations=along_axes(1, 1 if auto_pad.startswith("SAME") else 2),
        pads=along_axes(0, 3, 2 * axes) if auto_pad == "NOTSET" else None,
        auto_pad=auto_pad,
    )


def block(
    geometry: Geometry,
    lengths: tuple[int, ...] = (),
    *,
    key: str = "y",
    source: str = "x",
    activation: Activation = RELU,
    element_type: int = 1,
    original_bytes: int | None = None,
) -> Block:
    """A block by itself.

    Args:
        geometry: Its geometry.
        lengths: Spatial lengths of a Conv's input, or what is between a MatMul's batch and its
            features.
        key: Its key.
        source: What it reads.
        activation: What follows.
        element_type: Of its weight.
        original_bytes: The weight's and the bias' numbers in float32 if None.
    """
    if geometry.kind == "conv":
        source_shape = (1, geometry.in_channels, *lengths)
        output_shape = (1, geometry.out_channels, *output_lengths(geometry, lengths))
    else:
        source_shape = (1, *lengths, geometry.in_channels)
        output_shape = (1, *lengths, geometry.out_channels)
    numbers = geometry.groups * geometry.rows * geometry.columns + geometry.out_channels
    return Block(
        key=key,
        source=source,
        pre_activation=f"{key}_before",
        nodes=(0,),
        weight=f"{key}_weight",
        geometry=geometry,
        activation=activation,
        consumers=(),
        source_shape=source_shape,
        output_shape=output_shape,
        element_type=element_type,
        original_bytes=4 * numbers if original_bytes is None else original_bytes,
    )


def linear_map(geometry: Geometry, rng: np.random.Generator) -> LinearMap:
    shape = (geometry.groups, geometry.rows, geometry.columns)
    return LinearMap(rng.standard_normal(shape), rng.standard_normal(geometry.out_channels))


def moments(geometry: Geometry, rng: np.random.Generator) -> Moments:
    """Moments of correlated inputs: eigenvalues of the covariance spread over three decades."""
    n = geometry.columns
    covariance = np.empty((geometry.groups, n, n))
    for group in range(geometry.groups):
        basis = np.linalg.qr(rng.standard_normal((n, n)))[0]
        covariance[group] = (basis * np.geomspace(10, 0.01, n)) @ basis.T
    return Moments(
        mean=rng.standard_normal((geometry.groups, n)),
        covariance=(covariance + covariance.transpose(0, 2, 1)) / 2,
        rows=1000,
        samples=100,
        shrinkage=np.zeros(geometry.groups),
    )


def factor_shapes(form: str, geometry: Geometry, rank: int) -> tuple[tuple[int, int, int], ...]:
    return tuple((geometry.groups, *shape) for shape in FORMS[form].shapes(geometry, rank))


def spectrum_of(
    item: Block,
    linear: LinearMap,
    seen: Moments | None = None,
    *,
    seed: int = 0,
    provider: str = CPU,
) -> Spectrum:
    return measure(item, linear, seen, decompose_block(linear, seen), seed=seed, provider=provider)
