"""Scales of tensors: what integers tell of them, against onnxruntime's own operators."""

import numpy as np
import pytest
from graphs import model_proto, run
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import numpy_helper

from onnx_relusv.core.plans import Int8Format
from onnx_relusv.core.reduction import ActivationScale
from onnx_relusv.rewrites.int8.ranges import RangeObserver, activation_scale, fake_quantized

TEXT = "(float[N] x) => (float[N] y) { q = QuantizeLinear(x, s, z) y = DequantizeLinear(q, s, z) }"


def by_onnxruntime(values: np.ndarray, scale: ActivationScale) -> np.ndarray:
    proto = model_proto(TEXT, {"s": np.array(scale.scale, np.float32)})
    kind = np.int8 if scale.signed else np.uint8
    proto.graph.initializer.append(numpy_helper.from_array(np.array(scale.zero_point, kind), "z"))
    return run(proto, {"x": values})["y"]


FORMATS: tuple[Int8Format, ...] = ("u8s8", "s8s8")


@given(
    st.floats(-1e3, 1e3, width=32),
    st.floats(0, 2e3, width=32),
    st.integers(0, 2**32 - 1),
    st.sampled_from(FORMATS),
)
@settings(deadline=None, max_examples=60)
def test_integers_tell_what_onnxruntime_says(
    low: float, length: float, seed: int, int8_format: Int8Format
) -> None:
    scale = activation_scale(low, low + length, int8_format)
    rng = np.random.default_rng(seed)
    values = rng.uniform(low - length / 4, low + 1.25 * length, 200).astype(np.float32)
    # Halves of a step are where roundings differ.
    values[:40] = (np.arange(40) - 20 + 0.5) * np.float32(scale.scale)
    np.testing.assert_array_equal(fake_quantized(values, scale), by_onnxruntime(values, scale))


@given(st.floats(-1e6, 1e6), st.floats(-1e6, 1e6), st.sampled_from(FORMATS))
def test_zero_is_told_exactly_and_nothing_in_the_range_is_far_off(
    one: float, other: float, int8_format: Int8Format
) -> None:
    least, largest = min(one, other), max(one, other)
    scale = activation_scale(least, largest, int8_format)
    assert scale.scale > 0
    assert 0 <= scale.zero_point <= (0 if scale.signed else 255)
    assert scale.signed == (int8_format == "s8s8")
    assert fake_quantized(np.zeros(1, np.float32), scale)[0] == 0
    values = np.linspace(min(least, 0), max(largest, 0), 301).astype(np.float32)
    # Half a step; half of another at an end, since the zero point is whole; and float32.
    allowed = scale.scale * (1 + 1e-3)
    assert (
        np.abs(fake_quantized(values, scale) - values).max() <= allowed + np.finfo(np.float32).tiny
    )


def test_what_has_no_range_has_a_scale() -> None:
    assert RangeObserver().scale() == ActivationScale(1.0, 0)
    seen = RangeObserver()
    seen.add(np.zeros(5, np.float32))
    seen.add(np.array([np.nan, np.inf], np.float32))
    assert seen.scale() == ActivationScale(1.0, 0)


def squared_error(values: np.ndarray, scale: ActivationScale) -> float:
    return float(np.sum((fake_quantized(values, scale) - values.astype(np.float64)) ** 2))


@pytest.mark.parametrize("int8_format", FORMATS)
@pytest.mark.parametrize("kind", ["normal", "relu", "outlier", "negative"])
def test_the_scale_does_less_harm_than_that_of_the_extremes(
    kind: str, int8_format: Int8Format
) -> None:
    rng = np.random.default_rng(4)
    values = rng.standard_normal(400_000)
    if kind == "relu":
        values = np.maximum(values, 0)
    elif kind == "outlier":
        values[7] = 12
    elif kind == "negative":
        values = -np.abs(values)
    values = values.astype(np.float32)
    seen = RangeObserver()
    for part in np.split(values, 8):
        seen.add(part)
    extremes = activation_scale(float(values.min()), float(values.max()), int8_format)
    found = squared_error(values, seen.scale(int8_format))
    plain = squared_error(values, extremes)
    assert seen.scale(int8_format, "min_max") == extremes
    # The bins are a thousandth of the range wide, a quarter of a step, which blurs little.
    assert found <= 1.02 * plain
    if kind == "outlier":
        # To leave it out costs 36 once; to tell it, a step 1.6 times as long, 57 in all, or, of
        # symmetric integers, one twice as long.
        assert found < 0.75 * plain


@pytest.mark.parametrize("int8_format", FORMATS)
@pytest.mark.parametrize("times", [80.0, 120.0])
def test_one_sample_does_not_decide_for_all(times: float, int8_format: Int8Format) -> None:
    rng = np.random.default_rng(5)
    values = np.maximum(rng.standard_normal((256, 600)), 0).astype(np.float32)
    alone, seen, together = (RangeObserver() for _ in range(3))
    alone.add(values)
    strange = values.copy()
    strange[77] *= times
    for part in np.split(strange, 8):
        seen.add(part)
    # All numbers of one sample: what the least squared error over all of them would take.
    together.add(strange.reshape(1, -1))
    others = np.delete(values, 77, axis=0)
    best, found, wrong = (
        squared_error(others, one.scale(int8_format)) for one in (alone, seen, together)
    )
    # Ends that are tried are 1.4 times as far away as the next: twice the error at most.
    assert found <= 2 * best
    assert wrong > 20 * best


def test_the_order_of_samples_does_not_count() -> None:
    rng = np.random.default_rng(6)
    values = rng.standard_normal((60, 40)).astype(np.float32) * rng.uniform(0.1, 30, (60, 1))
    found = set()
    for order in (np.arange(60), np.arange(60)[::-1], rng.permutation(60)):
        seen = RangeObserver()
        # The first ones that are seen decide how wide bins are; all have the largest one first.
        seen.add(values)
        for one in order:
            seen.add(values[one : one + 1])
        found.add(seen.scale())
    assert len(found) == 1


@given(st.lists(st.floats(-1e4, 1e4, width=32), min_size=1, max_size=60), st.integers(1, 5))
@settings(deadline=None)
def test_how_numbers_are_cut_in_batches_does_not_change_their_ends(
    numbers: list[float], parts: int
) -> None:
    values, seen = np.array(numbers, np.float32), RangeObserver()
    for part in np.array_split(values, parts):
        seen.add(part)
    assert seen.least == min(0.0, float(values.min()))
    assert seen.largest == max(0.0, float(values.max()))
    low, high = seen.scale().range
    # Never beyond what was seen, but for half a step that the zero point is rounded by.
    step = seen.scale().scale
    assert low >= seen.least - step
    assert high <= max(seen.largest + step, 255.0)
