"""Synthetic inputs: shapes, types, values, and that they can be repeated."""

import ml_dtypes
import numpy as np
import pytest

from onnx_relusv.feeds import DYNAMIC_LENGTHS, candidate_feeds, synthetic_feeds
from onnx_relusv.records import InputSpec


def spec(name: str, dtype: object, *shape: int | None) -> InputSpec:
    return InputSpec(name, np.dtype(dtype), shape)


def test_dynamic_axes_are_filled_in() -> None:
    inputs = [
        spec("image", np.float32, None, 3, None, 7),
        spec("mask", bool, 2, None),
        spec("scale", np.float32),
    ]
    feeds = synthetic_feeds(inputs, 5, 11, np.random.default_rng(0))
    assert {name: value.shape for name, value in feeds.items()} == {
        "image": (5, 3, 11, 7),
        "mask": (2, 11),
        "scale": (),
    }
    assert [value.dtype for value in feeds.values()] == [np.float32, np.bool_, np.float32]


@pytest.mark.parametrize("dtype", [np.int64, np.int32, np.uint8, bool])
def test_whole_numbers_are_0_and_1(dtype: type) -> None:
    # Small enough to be an index into anything.
    values = synthetic_feeds([spec("x", dtype, 100)], 1, 1, np.random.default_rng(0))["x"]
    assert values.dtype == dtype
    assert set(values.astype(int).tolist()) == {0, 1}


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16, ml_dtypes.bfloat16])
def test_floats_are_standard_normal(dtype: type) -> None:
    count = 40_000
    feeds = synthetic_feeds([spec("x", dtype, None, 4)], count // 4, 1, np.random.default_rng(0))
    values = feeds["x"].astype(np.float64)
    assert feeds["x"].dtype == dtype
    # Four standard errors of a mean of 40 000, and of their mean square (whose variance is 2);
    # bfloat16 rounds each value by at most 2^-9 of itself.
    assert abs(values.mean()) < 4 / np.sqrt(count)
    assert abs((values**2).mean() - 1) < 4 * np.sqrt(2 / count)


def test_a_seed_repeats_them() -> None:
    inputs = [spec("x", np.float32, None, 4), spec("y", np.int64, None)]
    first, again, other = (
        synthetic_feeds(inputs, 3, 1, np.random.default_rng(seed)) for seed in (1, 1, 2)
    )
    assert all(np.array_equal(first[name], again[name]) for name in first)
    assert not np.array_equal(first["x"], other["x"])


def test_every_length_is_offered_once() -> None:
    inputs = [spec("x", np.float32, None, 3, None, None)]
    shapes = [feeds["x"].shape for feeds in candidate_feeds(inputs, 2, np.random.default_rng(0))]
    assert shapes == [(2, 3, length, length) for length in DYNAMIC_LENGTHS]
    assert min(DYNAMIC_LENGTHS) == 1


def test_without_dynamic_axes_there_is_one_size() -> None:
    inputs = [spec("x", np.float32, None, 3, 8, 8), spec("y", np.float32)]
    (feeds,) = candidate_feeds(inputs, 2, np.random.default_rng(0))
    assert feeds["x"].shape == (2, 3, 8, 8)
