"""Synthetic inputs: shapes, types, values, and that they can be repeated."""

import ml_dtypes
import numpy as np

from onnx_relusv.core.blocks import InputSpec
from onnx_relusv.samples.feeds import batch_of, synthetic_feeds


def spec(
    name: str, dtype: object, *shape: int | None, named: tuple[str | None, ...] = ()
) -> InputSpec:
    return InputSpec(name, np.dtype(dtype), shape, named=named)


def test_axes_with_one_name_have_one_length() -> None:
    inputs = [
        spec("image", np.float32, None, 3, None, 7, named=("n", None, "rows")),
        spec("state", np.float32, 2, None, None, named=(None, "n")),
        spec("scale", np.float32),
    ]
    lengths = {"n": 5, "rows": 11, "state, axis 2": 4}
    feeds = synthetic_feeds(inputs, lengths, np.random.default_rng(0))
    assert {name: value.shape for name, value in feeds.items()} == {
        "image": (5, 3, 11, 7),
        "state": (2, 5, 4),
        "scale": (),
    }


def test_whole_numbers_are_0_and_1() -> None:
    # Small enough to be an index into anything.
    for dtype in (np.int64, np.int32, np.uint8, bool):
        values = synthetic_feeds([spec("x", dtype, 100)], {}, np.random.default_rng(0))["x"]
        assert values.dtype == dtype
        assert set(values.astype(int).tolist()) == {0, 1}


def test_what_whole_numbers_hold() -> None:
    for contents, expected in (
        ("zeros", (0, 0)),
        ("ones", (1, 1)),
        ("lengths", (1, 6)),
        ("compared", (None, 16_000)),
    ):
        inputs = [spec("ids", np.int64, None, None, named=("n", "t")), spec("rate", np.int64)]
        lengths, rng = {"n": 2, "t": 6}, np.random.default_rng(0)
        feeds = synthetic_feeds(inputs, lengths, rng, contents, {"rate": 16_000})
        ids, rate = expected
        assert ids is None or (feeds["ids"] == ids).all()
        assert feeds["rate"] == rate


def test_text_is_numbers_first() -> None:
    inputs = [spec("x", object, 40)]
    rng = np.random.default_rng(0)
    held = {name: synthetic_feeds(inputs, {}, rng, name)["x"] for name in ("mixed", "ones")}
    assert {values.dtype.kind for values in held.values()} == {"O"}
    assert [set(values) for values in held.values()] == [{"1", "2"}, {"a", "b"}]


def test_floats_are_standard_normal() -> None:
    for dtype in (np.float32, np.float64, np.float16, ml_dtypes.bfloat16):
        count = 40_000
        inputs = [spec("x", dtype, None, 4, named=("n",))]
        feeds = synthetic_feeds(inputs, {"n": count // 4}, np.random.default_rng(0))
        values = feeds["x"].astype(np.float64)
        assert feeds["x"].dtype == dtype
        # Four standard errors of a mean of 40 000, and of their mean square (whose variance is 2);
        # bfloat16 rounds each value by at most 2^-9 of itself.
        assert abs(values.mean()) < 4 / np.sqrt(count)
        assert abs((values**2).mean() - 1) < 4 * np.sqrt(2 / count)


def test_a_seed_repeats_them() -> None:
    inputs = [spec("x", np.float32, 3, 4), spec("y", np.int64, 3)]
    first, again, other = (
        synthetic_feeds(inputs, {}, np.random.default_rng(seed)) for seed in (1, 1, 2)
    )
    assert all(np.array_equal(first[name], again[name]) for name in first)
    assert not np.array_equal(first["x"], other["x"])


def test_how_many_samples_feeds_hold() -> None:
    state = InputSpec("state", np.dtype(np.float32), (2, None, 4), samples_axis=1)
    rate = InputSpec("rate", np.dtype(np.int64), (), samples_axis=None)
    feeds = {"state": np.zeros((2, 7, 4)), "rate": np.array(3)}
    assert batch_of([rate, state], feeds) == 7
    assert batch_of([rate], feeds) == 1
