"""Sums of products against numpy, whatever the order of the batches."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from onnx_relusv.runtime.session import CPU, CUDA
from onnx_relusv.spectra.product_sums import ProductSums


def added(z: np.ndarray, t: np.ndarray, cuts: list[int], provider: str = CPU) -> ProductSums:
    sums = ProductSums(len(z), z.shape[2], t.shape[2], provider)
    for start, stop in zip([0, *cuts], [*cuts, z.shape[1]], strict=True):
        sums.add(z[:, start:stop], t[:, start:stop])
    return sums


@given(
    st.integers(1, 3),
    st.integers(1, 9),
    st.integers(0, 4),
    st.lists(st.integers(1, 20), max_size=3, unique=True).map(sorted),
    st.sampled_from([np.float32, np.float64]),
    st.integers(0, 2**32),
)
def test_they_are_means_of_products(
    groups: int, columns: int, rows: int, cuts: list[int], dtype: type, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    z = rng.standard_normal((groups, 21, columns)).astype(dtype)
    t = rng.standard_normal((groups, 21, rows)).astype(dtype)
    sums = added(z, t, cuts)
    assert sums.rows == 21
    mean, second, target, cross = sums.means()
    z, t = z.astype(np.float64), t.astype(np.float64)
    # Float64 sums of 21 numbers around 1, in other orders.
    for found, expected in (
        (mean, z.mean(axis=1)),
        (second, z.transpose(0, 2, 1) @ z / 21),
        (target, t.mean(axis=1)),
        (cross, t.transpose(0, 2, 1) @ z / 21),
    ):
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-13)
    # The one half is the other, to the bit.
    np.testing.assert_array_equal(second, second.transpose(0, 2, 1))


def test_sums_are_in_float64() -> None:
    sums = ProductSums(1, 1, 1, CPU)
    # In float32, adding 1 to 2^24 changes nothing.
    for value in (2.0**12, 1.0):
        z = np.full((1, 1, 1), value, np.float32)
        sums.add(z, z)
    _, second, _, cross = sums.means()
    assert second.item() == cross.item() == (2**24 + 1) / 2


@pytest.mark.gpu
def test_cuda_and_the_cpu_add_up_alike() -> None:
    rng = np.random.default_rng(0)
    z, t = (rng.standard_normal((2, 50, length)).astype(np.float32) for length in (12, 5))
    first, second = (added(z, t, [20, 33], provider).means() for provider in (CPU, CUDA))
    for one, other in zip(first, second, strict=True):
        # Float64 on both.
        np.testing.assert_allclose(one, other, rtol=0, atol=1e-12)
