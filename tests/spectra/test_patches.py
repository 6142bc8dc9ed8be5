"""Patch geometry against numpy's own sliding windows over an array of indices."""

from math import ceil, prod

import numpy as np
from examples import conv
from hypothesis import given
from hypothesis import strategies as st
from numpy.lib.stride_tricks import sliding_window_view

from onnx_relusv.core.blocks import Geometry
from onnx_relusv.core.kinds import explicit_pads, output_lengths, patch_index


@st.composite
def convs_with_lengths(draw: st.DrawFn) -> tuple[Geometry, tuple[int, ...]]:
    axes = draw(st.integers(1, 2))

    def along_axes(least: int, most: int, count: int = axes) -> tuple[int, ...]:
        return tuple(draw(st.integers(least, most)) for _ in range(count))

    geometry = conv(
        1,
        1,
        along_axes(1, 4),
        strides=along_axes(1, 3),
        dilations=along_axes(1, 3),
        pads=along_axes(0, 3, 2 * axes),
        auto_pad=draw(st.sampled_from(["NOTSET", "VALID", "SAME_UPPER", "SAME_LOWER"])),
    )
    # A kernel of 4 with dilation 3 reaches over 10 values.
    return geometry, along_axes(10, 13)


@given(convs_with_lengths())
def test_patches_are_sliding_windows(case: tuple[Geometry, tuple[int, ...]]) -> None:
    geometry, lengths = case
    axes = len(lengths)
    pads = explicit_pads(geometry, lengths)
    padded = tuple(lengths[i] + pads[i] + pads[i + axes] for i in range(axes))
    reach = tuple((k - 1) * d + 1 for k, d in zip(geometry.kernel, geometry.dilations, strict=True))
    windows = sliding_window_view(np.arange(prod(padded)).reshape(padded), reach)
    windows = windows[
        (
            *(slice(None, None, stride) for stride in geometry.strides),
            *(slice(None, None, dilation) for dilation in geometry.dilations),
        )
    ]
    assert output_lengths(geometry, lengths) == windows.shape[:axes]
    expected = windows.reshape(prod(windows.shape[:axes]), -1).T
    everywhere = np.arange(expected.shape[1])
    assert np.array_equal(patch_index(geometry, lengths, everywhere), expected)
    some = everywhere[::3][::-1]
    assert np.array_equal(patch_index(geometry, lengths, some), expected[:, some])


@given(convs_with_lengths())
def test_same_pads_give_one_output_a_stride(case: tuple[Geometry, tuple[int, ...]]) -> None:
    geometry, lengths = case
    axes = len(lengths)
    pads = explicit_pads(geometry, lengths)
    if geometry.auto_pad == "NOTSET":
        assert pads == geometry.pads
    elif geometry.auto_pad == "VALID":
        assert not any(pads)
    else:
        assert output_lengths(geometry, lengths) == tuple(
            ceil(length / stride) for length, stride in zip(lengths, geometry.strides, strict=True)
        )
        for begin, end in zip(pads[:axes], pads[axes:], strict=True):
            more = end - begin if geometry.auto_pad == "SAME_UPPER" else begin - end
            assert more in (0, 1)


def test_the_odd_pad_goes_to_the_named_side() -> None:
    for auto_pad, pads in (("SAME_UPPER", (0, 1, 1, 1)), ("SAME_LOWER", (1, 1, 0, 1))):
        geometry = conv(1, 1, (2, 3), auto_pad=auto_pad)
        assert explicit_pads(geometry, (5, 5)) == pads


def test_by_hand() -> None:
    # Rows of 3 values, padded by one on the left: 0 1 2 3 / 4 5 6 7, taps two apart.
    geometry = conv(1, 1, (1, 2), dilations=(1, 2), pads=(0, 1, 0, 0))
    assert output_lengths(geometry, (2, 3)) == (2, 2)
    assert patch_index(geometry, (2, 3), np.arange(4)).tolist() == [[0, 1, 4, 5], [2, 3, 6, 7]]
