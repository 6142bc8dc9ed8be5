"""Patches, and sums of their products, against numpy, value by value."""

import numpy as np
import pytest
from examples import conv
from onnx import TensorProto

from onnx_relusv.core.blocks import Floats
from onnx_relusv.core.kinds import explicit_pads, output_lengths, patch_index
from onnx_relusv.runtime.kernels.moments import patches_kernel, products_kernel
from onnx_relusv.runtime.session import CPU, CUDA

CONV = conv(4, 6, (3, 2), groups=2, strides=(2, 1), pads=(1, 0, 1, 1))
LENGTHS = (5, 4)


def conv_feeds(x: np.ndarray, samples: int, positions: np.ndarray) -> dict[str, np.ndarray]:
    pads = explicit_pads(CONV, LENGTHS)
    return {
        "x": x,
        "count": np.array([samples]),
        "pads": np.array((0, 0, *pads[:2], 0, 0, *pads[2:])),
        "index": patch_index(CONV, LENGTHS, positions).T.reshape(-1),
        "split": np.array([0, 2, 2, len(positions), 6]),
        "shape": np.array([2, -1, 12]),
    }


def conv_patches(x: np.ndarray, samples: int, positions: np.ndarray) -> Floats:
    """(groups, patches, columns), value by value."""
    heights, widths = output_lengths(CONV, LENGTHS)
    padded = np.pad(x[:samples].astype(np.float64), ((0, 0), (0, 0), (1, 1), (0, 1)))
    columns = []
    for sample in padded:
        for position in positions:
            down, across = position // widths * 2, position % widths
            assert position < heights * widths
            columns.append(sample[:, down : down + 3, across : across + 2].reshape(2, 12))
    return np.array(columns).transpose(1, 0, 2)


TYPES = [
    (TensorProto.FLOAT, np.float32),
    (TensorProto.DOUBLE, np.float64),
    (TensorProto.FLOAT16, np.float16),
]


def test_the_patches_of_a_conv() -> None:
    for element_type, dtype in TYPES:
        rng = np.random.default_rng(0)
        kernel = patches_kernel(CPU, True, element_type)
        # A whole batch, then one whose last samples are padding, at other positions.
        for samples, positions in ((3, np.arange(9)), (2, np.array([0, 4, 7]))):
            x = rng.standard_normal((3, 4, *LENGTHS)).astype(dtype)
            found = kernel.run(conv_feeds(x, samples, positions))["z"]
            assert found.dtype == (np.float64 if dtype == np.float64 else np.float32)
            # Nothing is computed, and nothing smaller than float64 is rounded.
            np.testing.assert_array_equal(found, conv_patches(x, samples, positions))


def test_the_rows_of_a_matrix() -> None:
    for element_type, dtype in TYPES:
        x = np.random.default_rng(0).standard_normal((3, 4, 5)).astype(dtype)
        index = np.array([0, 3, 4, 11])
        feeds = {"x": x, "index": index, "shape": np.array([1, -1, 5])}
        found = patches_kernel(CPU, False, element_type).run(feeds)["z"]
        np.testing.assert_array_equal(found, x.reshape(-1, 5)[index][None])


@pytest.mark.parametrize(("element_type", "dtype"), TYPES[:2])
def test_products_are_added_in_float64(element_type: int, dtype: type) -> None:
    for targets in (0, 3):
        rng = np.random.default_rng(0)
        z, t = (rng.standard_normal((2, 7, length)).astype(dtype) for length in (5, targets))
        total, cross = rng.standard_normal((2, 5, 5)), rng.standard_normal((2, targets, 5))
        found = products_kernel(CPU, element_type).run(
            {"z": z, "t": t, "total": total, "cross": cross}
        )
        z, t = z.astype(np.float64), t.astype(np.float64)
        # Float64 sums of some products.
        expected = total + z.transpose(0, 2, 1) @ z
        assert np.allclose(found["new_total"], expected, rtol=0, atol=1e-13)
        expected = cross + t.transpose(0, 2, 1) @ z
        assert np.allclose(found["new_cross"], expected, rtol=0, atol=1e-13)


def test_sums_are_in_float64() -> None:
    # In float32, adding 1 to 2^24 changes nothing.
    large = np.full((1, 1, 1), 2.0**24)
    one = np.ones((1, 1, 1), np.float32)
    feeds = {"z": one, "t": one, "total": large, "cross": large}
    found = products_kernel(CPU, TensorProto.FLOAT).run(feeds)
    assert found["new_total"].item() == found["new_cross"].item() == 2**24 + 1


def test_kernels_are_built_once() -> None:
    assert patches_kernel(CPU, True, 1) is patches_kernel(CPU, True, 1)
    assert patches_kernel(CPU, True, 1) is not patches_kernel(CPU, False, 1)


@pytest.mark.gpu
def test_cuda_and_the_cpu_take_the_same_patches() -> None:
    x = np.random.default_rng(0).standard_normal((3, 4, *LENGTHS)).astype(np.float32)
    feeds = conv_feeds(x, 3, np.arange(9))
    first, second = (
        patches_kernel(provider, True, TensorProto.FLOAT).run(feeds)["z"]
        for provider in (CPU, CUDA)
    )
    np.testing.assert_array_equal(first, second)
