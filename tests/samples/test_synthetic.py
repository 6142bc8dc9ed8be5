"""Synthetic samples: their scale, their spectrum, and that a seed repeats them."""

from pathlib import Path

import numpy as np
import pytest
from graphs import model_proto, normal, saved

from onnx_relusv.graph.channels.operator import NOTHING, Normalisation
from onnx_relusv.graph.channels.operators import normalisation
from onnx_relusv.graph.nodes import view
from onnx_relusv.samples.synthetic import (
    SYNTHETIC_COUNT,
    affordable_count,
    image_axes,
    smooth,
    varied_count,
    write_synthetic,
)


def drawn(folder: Path, example: np.ndarray, normalised: Normalisation, seed: int) -> np.ndarray:
    write_synthetic(folder / "s.npz", {"file": example}, {"file": normalised}, seed)
    with np.load(folder / "s.npz") as archive:
        return np.asarray(archive["file"])


def test_a_seed_repeats_the_file_and_another_does_not(tmp_path: Path) -> None:
    example = np.zeros((1, 3, 8, 8), np.float32)
    files = []
    for seed in (3, 3, 4):
        values = drawn(tmp_path, example, NOTHING, seed)
        assert values.shape == (SYNTHETIC_COUNT, 3, 8, 8)
        assert values.dtype == np.float32
        files.append((tmp_path / "s.npz").read_bytes())
    assert files[0] == files[1]
    assert files[0] != files[2]


@pytest.mark.parametrize("shape", [(1, 40), (1, 3, 16, 16), (1, 16, 16, 3)])
def test_behind_the_models_normalisation_the_variance_is_one(
    tmp_path: Path, shape: tuple[int, ...]
) -> None:
    values = drawn(tmp_path, np.zeros(shape, np.float32), Normalisation(np.array(0.02), -1.5), 0)
    normalised = 0.02 * values.astype(np.float64) - 1.5
    # The mean square of n Gaussians varies by sqrt(2 / n): by 1.4 % for 256 * 40, the fewest here;
    # of smooth images' numbers more than that count. The tolerance is four times as much.
    assert np.mean(normalised**2) == pytest.approx(1, rel=0.06)
    assert abs(normalised.mean()) < 0.1


def test_the_power_falls_with_the_square_of_the_frequency() -> None:
    noise = np.random.default_rng(1).standard_normal((4000, 1, 16, 16))
    power = np.mean(abs(np.fft.fft2(smooth(noise, (2, 3)))) ** 2, axis=(0, 1))
    # The mean of 4,000 squares that are exponentially distributed: four errors are 6 %.
    assert power[0, 2] / power[0, 4] == pytest.approx(4, rel=0.13)
    assert power[1, 1] / power[4, 4] == pytest.approx(16, rel=0.13)


def test_images_are_four_axes_with_channels_second_or_last() -> None:
    assert image_axes((1, 3, 32, 32)) == (2, 3)
    assert image_axes((1, 32, 32, 3)) == (1, 2)
    assert image_axes((1, 64, 7, 7)) == (2, 3)
    assert image_axes((1, 3, 100)) is None


@pytest.mark.parametrize(
    ("body", "scale", "shift"),
    [
        ("c = Sub(x, m) d = Div(c, s)", 0.5, -1.5),
        ("c = Div(x, s) d = Sub(c, m)", 0.5, -3.0),
        ("c = Sub(m, x) d = Mul(s, c)", -2.0, 6.0),
        ("c = Identity(x) d = Add(c, m)", 1.0, 3.0),
        ("d = Sigmoid(x)", 1.0, 0.0),
        ("d = Div(m, x)", 1.0, 0.0),
        ("c = Mul(x, z) d = Add(c, m)", 1.0, 0.0),
    ],
)
def test_a_models_own_normalisation_is_read(
    tmp_path: Path, body: str, scale: float, shift: float
) -> None:
    text = f"(float[N,4] x) => (float[N,?] y) {{ {body} y = MatMul(d, w) }}"
    arrays = {"m": np.float32(3), "s": np.float32(2), "z": np.float32(0), "w": normal(4, 2)}
    used = {key: np.asarray(value) for key, value in arrays.items() if f"{key}" in body + "w"}
    model = saved(model_proto(text, used), tmp_path)
    found = normalisation(model, view(model), "x")
    assert (found.scale, found.shift) == (scale, shift)


def test_an_input_that_two_nodes_read_is_not_normalised(tmp_path: Path) -> None:
    text = "(float[N,4] x) => (float[N,4] y) { c = Div(x, s) y = Add(c, x) }"
    model = saved(model_proto(text, {"s": np.asarray(np.float32(2))}), tmp_path)
    assert normalisation(model, view(model), "x") is NOTHING


def varied(
    folder: Path,
    shape: tuple[int, ...],
    input_range: tuple[float, float] | None = None,
    normalised: Normalisation = NOTHING,
    seed: int = 0,
) -> np.ndarray:
    example = {"labels": np.zeros(shape, np.float32)}
    write_synthetic(
        folder / "v.npz",
        example,
        {"labels": normalised},
        seed,
        400,
        varied=True,
        input_range=input_range,
    )
    with np.load(folder / "v.npz") as archive:
        return np.asarray(archive["labels"])


def test_half_of_what_is_fitted_to_are_pictures_and_half_noise(tmp_path: Path) -> None:
    values = varied(tmp_path, (1, 3, 16, 16))
    assert values.shape == (400, 3, 16, 16)
    equal = (values[..., 1:] == values[..., :-1]).mean(axis=(1, 2, 3))
    assert (equal[1::2] == 0).all()
    assert np.median(equal[::2]) > 0.7
    last = varied(tmp_path, (1, 16, 16, 3))
    np.testing.assert_array_equal(np.moveaxis(last[::2], 3, 1), values[::2])
    # What is no image is noise throughout.
    other = varied(tmp_path, (1, 40))
    assert len(np.unique(other)) > 0.999 * other.size


def test_contrasts_differ_and_a_seed_repeats_them(tmp_path: Path) -> None:
    values = varied(tmp_path, (1, 2000))
    deviation = values.std(axis=1)
    # A deviation of 2,000 Gaussians has an error of 1.6 %, and four are 6.4 %.
    assert 0.28 < deviation.min() < 0.35
    assert 1.3 < deviation.max() < 1.6
    # Logarithms are uniform over 1.6, so the median of 400 has an error of 1.6 / 40 = 4 %,
    # of which 0.2 is five.
    assert np.median(deviation) == pytest.approx((0.3 * 1.5) ** 0.5, rel=0.2)
    np.testing.assert_array_equal(values, varied(tmp_path, (1, 2000)))
    assert (values != varied(tmp_path, (1, 2000), seed=1)).any()


def test_the_models_normalisation_and_a_declared_range_hold(tmp_path: Path) -> None:
    bytes_ = Normalisation(np.array(1 / 64), np.array(-2.0))
    raw, plain = varied(tmp_path, (1, 30), None, bytes_), varied(tmp_path, (1, 30))
    # One rounding of float32 in each.
    np.testing.assert_allclose(raw, 128 + 64 * plain, rtol=2e-7, atol=2e-5)
    within = varied(tmp_path, (1, 30), (100.0, 200.0), bytes_)
    np.testing.assert_array_equal(within, raw.clip(100, 200))
    assert raw.min() < 100
    assert raw.max() > 200


def test_as_many_are_fitted_to_as_there_is_room_for() -> None:
    small, image, huge = ((1, 1, 28, 28), (1, 3, 224, 224), (1, 3, 4000, 3000))
    counts = [varied_count({"x": np.zeros(shape, np.float32)}) for shape in (small, image, huge)]
    assert counts == [5000, 445, 64]
    # A fixed batch is one sample a row, and all inputs count.
    assert varied_count({"x": np.zeros((8, 3, 224, 224), np.float32)}) == 445
    assert varied_count(dict.fromkeys("xy", np.zeros(image, np.float32))) == 222


def test_fewer_samples_are_drawn_where_each_takes_long(tmp_path: Path) -> None:
    # A network as large as VGG-16 still gets all of them; those that enlarge images do not.
    assert affordable_count(0) == affordable_count(16_000_000_000) == SYNTHETIC_COUNT
    assert affordable_count(100_000_000_000) == 43
    assert affordable_count(10**13) == 16
    # Where fewer samples have all rows that are looked at, so many, but not too few.
    assert [affordable_count(10**6, enough) for enough in (3, 200, 5_000)] == [128, 200, 256]
    assert affordable_count(10**11, 3) == 43
    write_synthetic(
        tmp_path / "few.npz", {"x": np.zeros((1, 3), np.float32)}, {"x": NOTHING}, 0, 43
    )
    with np.load(tmp_path / "few.npz") as arrays:
        assert arrays["x"].shape == (43, 3)
