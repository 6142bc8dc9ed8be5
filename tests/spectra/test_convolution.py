"""All singular values of circular convolutions against their dense matrices."""

from math import prod

import numpy as np
import pytest
from convolutions import circular_matrix, whole_numbers
from hypothesis import given
from hypothesis import strategies as st

from onnx_relusv.core.errors import UsageError
from onnx_relusv.spectra.convolution import convolution_singular_values

# Of a float64 SVD of some hundred rows, and of the phases of a Fourier transform.
ROUNDING = 1e-10

# kernel shape, torus, strides, dilations, groups
CIRCULAR = {
    "1-D": ((3, 2, 3), (8,), (1,), (1,), 1),
    "1-D, even kernel and torus of odd length": ((2, 3, 4), (7,), (1,), (1,), 1),
    "1-D, strides": ((4, 2, 3), (12,), (3,), (1,), 1),
    "1-D, strides beyond the kernel": ((2, 2, 2), (12,), (4,), (1,), 1),
    # With a length that has no common divisor with it, a dilation changes nothing.
    "1-D, dilations": ((3, 2, 3), (9,), (1,), (3,), 1),
    "1-D, a dilation without effect": ((3, 2, 3), (10,), (1,), (3,), 1),
    "1-D, dilations that divide the torus": ((3, 2, 4), (8,), (1,), (4,), 1),
    "1-D, strides and dilations": ((2, 3, 3), (12,), (2,), (2,), 1),
    "1-D, a kernel longer than the torus": ((3, 2, 7), (4,), (1,), (1,), 1),
    "1-D, longer, strides": ((3, 2, 9), (4,), (2,), (1,), 1),
    "1-D, a torus of one": ((3, 2, 3), (1,), (1,), (1,), 1),
    "2-D": ((3, 2, 3, 3), (5, 4), (1, 1), (1, 1), 1),
    "2-D, strides": ((5, 2, 3, 2), (6, 4), (3, 2), (1, 1), 1),
    "2-D, dilations": ((2, 3, 2, 3), (5, 6), (1, 1), (2, 3), 1),
    "2-D, groups": ((4, 2, 3, 3), (4, 5), (1, 1), (1, 1), 2),
    "2-D, depthwise": ((3, 1, 3, 3), (4, 4), (1, 1), (1, 1), 3),
    "2-D, all at once": ((6, 2, 2, 3), (4, 6), (2, 3), (2, 1), 3),
    "2-D, longer than the torus": ((2, 2, 5, 3), (3, 2), (1, 2), (1, 1), 1),
}


@pytest.mark.parametrize("name", CIRCULAR)
def test_all_singular_values_of_a_circular_convolution(name: str) -> None:
    shape, lengths, strides, dilations, groups = CIRCULAR[name]
    kernel = whole_numbers(*shape)
    found = convolution_singular_values(
        kernel, lengths, strides=strides, dilations=dilations, groups=groups
    )
    matrix = circular_matrix(kernel, lengths, strides, dilations, groups)
    expected = np.linalg.svd(matrix, compute_uv=False)
    frequencies = prod(lengths) // prod(strides)
    each = min(shape[0] // groups, shape[1] * prod(strides))
    assert found.shape == (groups * frequencies * each,) == expected.shape
    assert np.allclose(found, expected, rtol=0, atol=ROUNDING * expected[0])
    assert np.all(np.diff(found) <= 0)


@pytest.mark.parametrize("name", [name for name in CIRCULAR if "dilations" in name])
def test_a_symbol_without_the_dilation_is_noticed(name: str) -> None:
    # Shows that the test above can fail.
    shape, lengths, strides, dilations, groups = CIRCULAR[name]
    kernel = whole_numbers(*shape)
    wrong = convolution_singular_values(kernel, lengths, strides=strides, groups=groups)
    expected = np.linalg.svd(
        circular_matrix(kernel, lengths, strides, dilations, groups), compute_uv=False
    )
    assert np.abs(wrong - expected).max() > 1e-3 * expected[0]


@given(st.data())
def test_any_circular_convolution_of_one_axis(data: st.DataObject) -> None:
    groups, stride, dilation = (data.draw(st.integers(1, 3)) for _ in range(3))
    outputs, inputs, taps = (data.draw(st.integers(1, 4)) for _ in range(3))
    length = stride * data.draw(st.integers(1, 6))
    kernel = whole_numbers(groups * outputs, inputs, taps, seed=data.draw(st.integers(0, 99)))
    found = convolution_singular_values(
        kernel, (length,), strides=(stride,), dilations=(dilation,), groups=groups
    )
    matrix = circular_matrix(kernel, (length,), (stride,), (dilation,), groups)
    # |T|_F^2 needs no decomposition.
    assert np.sum(found**2) == pytest.approx(np.sum(matrix**2), rel=1e-10, abs=1e-10)
    assert found[0] == pytest.approx(np.linalg.norm(matrix, 2), rel=1e-10, abs=1e-10)


def test_what_does_not_fit_is_refused() -> None:
    for change, message in (
        ({"lengths": (8,)}, "2 spatial axes; lengths, strides and dilations need one number"),
        ({"strides": (1,)}, "2 spatial axes"),
        ({"dilations": (1, 1, 1)}, "2 spatial axes"),
        ({"kernel": np.ones((2, 3)), "lengths": ()}, "0 spatial axes"),
        ({"kernel": np.ones(2), "lengths": ()}, "0 spatial axes"),
        ({"lengths": (8, 0)}, "have to be 1 or more"),
        ({"strides": (0, 1)}, "have to be 1 or more"),
        ({"dilations": (1, -1)}, "have to be 1 or more"),
        ({"groups": 0}, "have to be 1 or more"),
        ({"groups": 3}, "4 output channels do not divide into 3 groups"),
        ({"strides": (3, 1)}, r"Lengths \(8, 6\) have to be multiples of strides \(3, 1\)"),
        ({"kernel": np.full((4, 2, 3, 3), np.nan)}, "The kernel holds NaN"),
    ):
        given_ones = {"kernel": np.ones((4, 2, 3, 3)), "lengths": (8, 6), **change}
        with pytest.raises(UsageError, match=message):
            convolution_singular_values(given_ones.pop("kernel"), **given_ones)
