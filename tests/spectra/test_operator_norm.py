"""The norm of a padded convolution on feature maps, against its dense matrix and the torus."""

from itertools import product
from math import ceil, prod

import numpy as np
import pytest
from convolutions import largest_of_patches, padded_matrix, patch_view, whole_numbers
from examples import conv, conv_geometries
from hypothesis import assume, given
from hypothesis import strategies as st
from threadpoolctl import threadpool_limits

from onnx_relusv.core.blocks import Floats, Geometry
from onnx_relusv.core.kinds import output_lengths
from onnx_relusv.spectra.convolution import (
    LONGEST_AXIS,
    convolution_singular_values,
    operator_norm,
)

# Of float64 sums of some hundred products.
ROUNDING = 1e-10


def overlaps(geometry: Geometry) -> float:
    """How many patches at most hold one entry of a map, after statement (18)."""
    sides = zip(geometry.kernel, geometry.strides, geometry.dilations, strict=True)
    return prod(ceil(k / s) if d == 1 else k for k, s, d in sides)


def drawn_kernel(geometry: Geometry, seed: int) -> Floats:
    channels = geometry.in_channels // geometry.groups
    return whole_numbers(geometry.out_channels, channels, *geometry.kernel, seed=seed)


@pytest.mark.parametrize("axes", [1, 2])
@given(data=st.data())
def test_the_norm_of_any_padded_convolution(data: st.DataObject, axes: int) -> None:
    geometry = data.draw(conv_geometries(axes=axes))
    lengths = tuple(data.draw(st.integers(1, 16 if axes == 1 else 5)) for _ in range(axes))
    assume(min(output_lengths(geometry, lengths)) >= 1)
    kernel = drawn_kernel(geometry, data.draw(st.integers(0, 99)))
    found = operator_norm(patch_view(kernel, geometry.groups), geometry, lengths)
    exact = float(np.linalg.norm(padded_matrix(kernel, geometry, lengths), 2))
    # An upper bound, but for the percent that power steps may miss.
    assert found >= 0.99 * exact
    most = largest_of_patches(kernel, geometry.groups) * np.sqrt(overlaps(geometry))
    assert found <= most * (1 + ROUNDING) + ROUNDING


@given(data=st.data())
def test_the_norm_is_the_largest_on_the_padded_torus(data: st.DataObject) -> None:
    groups, stride, dilation, outputs, inputs = (data.draw(st.integers(1, 3)) for _ in range(5))
    begin, end = (data.draw(st.integers(0, 3)) for _ in range(2))
    # A whole patch fits: 4 positions 3 apart.
    length = data.draw(st.integers(10, 40))
    geometry = conv(
        groups * inputs,
        groups * outputs,
        (data.draw(st.integers(2, 4)),),
        groups=groups,
        strides=(stride,),
        dilations=(dilation,),
        pads=(begin, end),
    )
    kernel = drawn_kernel(geometry, data.draw(st.integers(0, 99)))
    torus = stride * ceil((length + max(begin, end)) / stride)
    whole = convolution_singular_values(
        kernel, (torus,), strides=(stride,), dilations=(dilation,), groups=groups
    )
    found = operator_norm(patch_view(kernel, groups), geometry, (length,))
    # From below, since power steps choose the frequencies.
    assert 0.99 * whole[0] <= found <= whole[0] * (1 + ROUNDING)
    assert whole[0] >= largest_of_patches(kernel, groups) * (1 - ROUNDING)


def test_wide_layers() -> None:
    # Beyond 64 channels by Lanczos. Random kernels have many frequencies that are nearly equal.
    for channels in ((20, 30), (66, 70), (70, 66)):
        outputs, inputs = channels
        kernel = np.random.default_rng(0).standard_normal((outputs, inputs, 3, 3))
        geometry = conv(inputs, outputs, (3, 3), pads=(1, 1, 1, 1))
        # Several threads only get into each other's way in so small matrices.
        with threadpool_limits(1, user_api="blas"):
            whole = convolution_singular_values(kernel, (4, 4))
            found = operator_norm(patch_view(kernel, 1), geometry, (3, 3))
        assert 0.99 * whole[0] <= found <= whole[0] * (1 + ROUNDING)


def test_a_long_axis_is_looked_at_on_a_shorter_torus() -> None:
    # The finer torus has the frequencies of the coarser one, 64 or without a common divisor 63.
    for taps, dilation, fine in ((3, 1, 1024), (9, 1, 1024), (9, 2, 1008)):
        for seed in range(8):
            kernel = np.random.default_rng(seed).standard_normal((2, 2, taps))
            geometry = conv(2, 2, (taps,), dilations=(dilation,))
            found = operator_norm(patch_view(kernel, 1), geometry, (5000,))
            finer = convolution_singular_values(kernel, (fine,), dilations=(dilation,))[0]
            assert 0.99 * finer <= found <= finer * (1 + ROUNDING)


def test_dilated_positions_do_not_fall_together() -> None:
    # A difference of two far places; on a torus of 64 it would be nothing.
    geometry = conv(1, 1, (2,), dilations=(LONGEST_AXIS,))
    found = operator_norm(np.array([[[1.0, -1.0]]]), geometry, (1000,))
    assert 0.99 * 2 <= found <= 2 * (1 + ROUNDING)


def test_a_1x1_convolution_is_its_matrix() -> None:
    for groups in (1, 2):
        for pads, strides in product(((0, 0, 0, 0), (1, 2, 0, 1)), ((1, 1), (2, 3))):
            kernel = whole_numbers(6, 8 // groups, 1, 1)
            geometry = conv(8, 6, (1, 1), groups=groups, strides=strides, pads=pads)
            found = operator_norm(patch_view(kernel, groups), geometry, (5, 7))
            assert found == pytest.approx(largest_of_patches(kernel, groups), rel=ROUNDING)


def test_the_limits_of_statement_18_are_attained() -> None:
    # Sums of nine: of a constant map nine times it, or a third of that where none overlap.
    for strides, norm in (((1, 1), 9.0), ((3, 3), 3.0), ((1, 3), 3 * np.sqrt(3)), ((5, 5), 3.0)):
        geometry = conv(1, 1, (3, 3), strides=strides)
        found = operator_norm(np.ones((1, 1, 9)), geometry, (30, 30))
        assert found == pytest.approx(norm, rel=ROUNDING)
        assert norm == pytest.approx(3 * np.sqrt(overlaps(geometry)))


def test_the_norm_scales_with_the_kernel() -> None:
    for scale in (1e-60, 1e-20, 1.0, 1e20, 1e60):
        kernel, geometry = whole_numbers(3, 2, 3, 3), conv(2, 3, (3, 3), pads=(1, 1, 1, 1))
        once, scaled = (
            operator_norm(patch_view(factor * kernel, 1), geometry, (6, 6))
            for factor in (1.0, scale)
        )
        assert scaled == pytest.approx(scale * once, rel=1e-9)


def test_groups_give_the_largest_and_zeros_nothing() -> None:
    kernel = whole_numbers(4, 2, 3, 3) * np.array([0.0, 0, 1, 1])[:, None, None, None]
    both, one = conv(4, 4, (3, 3), groups=2), conv(2, 2, (3, 3))
    found = operator_norm(patch_view(kernel, 2), both, (6, 6))
    assert found == operator_norm(patch_view(kernel[2:], 1), one, (6, 6)) > 0
    assert operator_norm(np.zeros((2, 2, 18)), both, (6, 6)) == 0
