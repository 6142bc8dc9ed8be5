"""Integer weights: exact where they can be, near in the data's metric, and what they promise."""

from itertools import product

import numpy as np
import pytest
from examples import conv, gemm, linear_map, moments
from hypothesis import given, settings
from hypothesis import strategies as st

from onnx_relusv.core.blocks import Floats, Geometry
from onnx_relusv.rewrites.low_rank.factors import composed_level
from onnx_relusv.rewrites.low_rank.forms import FORMS, double_layer
from onnx_relusv.rewrites.low_rank.rounding import (
    LARGEST,
    LARGEST_OF_TWO,
    added_in_16_bits,
    in_metric,
    nearest,
    products,
    rounded,
    row_scales,
)

CASES = [
    (gemm(40, 24), "pair", 6),
    (gemm(40, 24), "dense", 24),
    (conv(12, 16, (3, 3)), "channel", 6),
    (conv(12, 16, (3, 3)), "spatial", 8),
    (conv(12, 16, (3, 3)), "tucker", 9),
    (conv(12, 16, (3, 3)), "dense", 16),
    (conv(12, 16, (3, 3), groups=2), "channel", 3),
    (conv(12, 16, (3, 2), groups=2), "spatial", 4),
    (conv(12, 16, (3, 3), groups=2), "tucker", 5),
    (conv(12, 16, (3, 3), groups=2), "dense", 8),
]


# As if every column's products were added in 32 bits.
ALONE = np.empty((0, 2), np.int64)


def covariance(columns: int, seed: int = 0) -> Floats:
    rng = np.random.default_rng(seed)
    root = rng.standard_normal((columns, columns)) * np.geomspace(0.1, 3, columns)
    return np.asarray(root @ root.T / columns)


def energy(gap: Floats, metric: Floats) -> float:
    return float(np.einsum("ij,jk,ik->", gap, metric, gap))


@pytest.mark.parametrize(("geometry", "form", "rank"), CASES)
def test_every_weight_is_an_integer_times_the_scale_of_its_row(
    geometry: Geometry, form: str, rank: int
) -> None:
    rng = np.random.default_rng(1)
    seen = moments(geometry, rng)
    factors = double_layer(form, geometry, linear_map(geometry, rng), seen, rank)
    for fed_back in (False, True):
        found = rounded(geometry, factors, seen, 0, fed_back=fed_back)
        layers = FORMS[form].as_layers(geometry, found.matrices)
        assert len(found.scales) == len(layers)
        for layer, scale in zip(layers, found.scales, strict=True):
            assert scale.shape == layer.shape[:2]
            np.testing.assert_array_equal(scale, scale.astype(np.float32))
            integers = np.rint(layer / scale[:, :, None])
            assert np.abs(integers).max() <= LARGEST
            np.testing.assert_array_equal(products(integers, scale), layer)


def saturated(bytes_: np.ndarray, integers: np.ndarray) -> np.ndarray:
    """What x86 processors without VNNI make of a patch and rows, in the order of kernels."""
    products_ = bytes_.astype(np.int64) * integers.astype(np.int64)
    if products_.shape[-1] % 2:
        products_ = np.pad(products_, [(0, 0), (0, 1)])
    of_two = products_.reshape(*products_.shape[:-1], -1, 2).sum(axis=-1)
    return np.asarray(np.clip(of_two, -(2**15), 2**15 - 1).sum(axis=-1))


@pytest.mark.parametrize(("geometry", "form", "rank"), CASES)
@pytest.mark.parametrize("shift", [0.0, 2.0, -2.0])
def test_no_sum_of_two_products_is_cut_off(
    geometry: Geometry, form: str, rank: int, shift: float
) -> None:
    """Of the worst bytes that there are, for rows of entries of one sign too."""
    rng = np.random.default_rng(11)
    seen = moments(geometry, rng)
    linear = linear_map(geometry, rng)
    shifted = replaced(linear, linear.weight + shift)
    factors = double_layer(form, geometry, shifted, seen, rank)  # type: ignore[arg-type]
    layers = FORMS[form].layers(geometry, rank)
    for fed_back in (False, True):
        found = rounded(geometry, factors, seen, 0, fed_back=fed_back)
        matrices = FORMS[form].as_layers(geometry, found.matrices)
        for layer, matrix, scale in zip(layers, matrices, found.scales, strict=True):
            values = int(np.prod(layer.kernel))
            rows = np.rint(matrix / scale[:, :, None]).reshape(-1, layer.columns)
            # As a kernel reads them: a value of the kernel, and of it all channels.
            rows = rows.reshape(len(rows), -1, values).swapaxes(1, 2).reshape(len(rows), -1)
            for sign in (1, -1):
                worst = np.where(sign * rows > 0, 255, 0)
                np.testing.assert_array_equal(saturated(worst, rows), (worst * rows).sum(axis=1))


def test_integers_of_the_largest_entry_alone_are_cut_off() -> None:
    row = np.full((1, 4), LARGEST)
    assert saturated(np.full((1, 4), 255), row) < 255 * row.sum()


def test_neighbours_are_channels_of_one_value_of_a_kernel() -> None:
    np.testing.assert_array_equal(added_in_16_bits(gemm(5, 3)), [[0, 1], [2, 3]])
    # Columns are (channel, kernel value); of three channels some neighbours are of two values.
    np.testing.assert_array_equal(
        added_in_16_bits(conv(3, 8, (1, 3))), [[0, 3], [6, 1], [4, 7], [2, 5]]
    )
    assert len(added_in_16_bits(conv(8, 8, (3, 3), groups=8))) == 0
    assert len(added_in_16_bits(conv(8, 16, (3, 3), groups=8))) == 4


@given(st.integers(0, 2**32 - 1), st.integers(1, 9))
@settings(deadline=None)
def test_scales_are_no_larger_than_two_neighbours_need(seed: int, columns: int) -> None:
    rng = np.random.default_rng(seed)
    matrix = rng.standard_normal((2, 4, columns)) + rng.uniform(-2, 2)
    pairs = added_in_16_bits(gemm(columns, 4))
    scales = row_scales(matrix, pairs)
    own = np.abs(matrix).max(axis=2) / LARGEST
    together = [np.abs(matrix[:, :, one] + matrix[:, :, two]) for one, two in pairs]
    needed = np.max([own, *(each / LARGEST_OF_TWO for each in together)], axis=0)
    np.testing.assert_allclose(scales, needed, rtol=1e-6)  # they are float32
    gap = np.abs(nearest(matrix, scales, pairs) - matrix / scales[..., None])
    # Half a step, and no pair gives way: rounding both up is beyond 128 by float rounding alone.
    assert gap.max() <= 0.5 + 1e-4


@pytest.mark.parametrize(("geometry", "form", "rank"), CASES)
def test_feedback_is_nearer_in_the_metric_than_rounding_to_the_nearest(
    geometry: Geometry, form: str, rank: int
) -> None:
    rng = np.random.default_rng(2)
    seen = moments(geometry, rng)
    linear = linear_map(geometry, rng)
    factors = double_layer(form, geometry, linear, seen, rank)
    exact = FORMS[form].compose(geometry, *factors.matrices)
    gaps = {}
    for fed_back in (False, True):
        found = rounded(geometry, factors, seen, 0, fed_back=fed_back)
        kernel = FORMS[form].compose(geometry, *found.matrices)
        gaps[fed_back] = sum(
            energy(W - L, np.asarray(seen.of_group(group)))
            for group, (W, L) in enumerate(zip(exact, kernel, strict=True))
        )
        # Eight bits: a step of 1/127 of the largest entry, of which a row has a few.
        level = composed_level(replaced(linear, exact), kernel, seen)
        assert 0 < level < 0.05
    assert gaps[True] < gaps[False]


def replaced(linear: object, weight: Floats) -> object:
    return type(linear)(weight, linear.bias)  # type: ignore[attr-defined, call-arg]


@pytest.mark.parametrize(("geometry", "form", "rank"), CASES)
def test_the_mean_answer_stays(geometry: Geometry, form: str, rank: int) -> None:
    rng = np.random.default_rng(3)
    seen = moments(geometry, rng)
    factors = double_layer(form, geometry, linear_map(geometry, rng), seen, rank)
    found = rounded(geometry, factors, seen, 0)

    def mean_answer(matrices: tuple[Floats, ...], bias: Floats) -> Floats:
        kernel = FORMS[form].compose(geometry, *matrices)
        return np.asarray((kernel @ seen.mean[:, :, None]).reshape(-1) + bias)

    np.testing.assert_allclose(
        mean_answer(found.matrices, found.bias),
        mean_answer(factors.matrices, factors.bias),
        rtol=1e-10,
        atol=1e-10,
    )


def best_of_all(row: Floats, scale: float, metric: Floats) -> float:
    """The least energy of all integers next to a row: of every entry the two around it."""
    around = [(np.floor(one), np.ceil(one)) for one in row / scale]
    return min(energy((row - scale * np.array(each))[None], metric) for each in product(*around))


@given(st.integers(0, 2**32 - 1), st.integers(2, 7))
@settings(deadline=None)
def test_in_a_metric_a_row_lies_between_the_best_and_the_nearest(seed: int, columns: int) -> None:
    rng = np.random.default_rng(seed)
    row, metric = rng.standard_normal((1, columns)), covariance(columns, seed)
    scale = np.abs(row).max(axis=1) / 3  # coarse, so that integers differ
    found = in_metric(row, scale, ALONE, metric)
    np.testing.assert_array_equal(found, np.rint(found))
    own = energy(row - found * scale[:, None], metric)
    plain = energy(row - nearest(row, scale, ALONE) * scale[:, None], metric)
    assert own <= plain * (1 + 1e-12)
    # Feedback may leave the two integers around an entry, so it may even be better than these.
    assert own <= max(plain, best_of_all(row[0], float(scale[0]), metric)) * (1 + 1e-12)


def test_feedback_comes_near_to_the_best_integers_there_are() -> None:
    found, best, plain = [], [], []
    for seed in range(40):
        rng = np.random.default_rng(seed)
        row, metric = rng.standard_normal((1, 8)), covariance(8, seed)
        scale = np.abs(row).max(axis=1) / 3
        own = in_metric(row, scale, ALONE, metric)
        found.append(energy(row - own * scale[:, None], metric))
        best.append(best_of_all(row[0], float(scale[0]), metric))
        plain.append(energy(row - nearest(row, scale, ALONE) * scale[:, None], metric))
    # It is greedy: it takes most, not all, of what there is to be had.
    assert np.mean(found) - np.mean(best) < 0.5 * (np.mean(plain) - np.mean(best))


def test_of_uncorrelated_columns_the_nearest_integers_are_the_best() -> None:
    rng = np.random.default_rng(5)
    matrix, metric = rng.standard_normal((6, 9)), np.diag(rng.uniform(0.1, 4, 9))
    scale = np.abs(matrix).max(axis=1) / LARGEST
    np.testing.assert_array_equal(
        in_metric(matrix, scale, ALONE, metric), nearest(matrix, scale, ALONE)
    )


def test_rows_of_zeros_and_of_tiny_numbers_have_scales_too() -> None:
    matrix = np.zeros((1, 3, 4))
    matrix[0, 1] = 1e-60
    matrix[0, 2, 0] = -2.0
    scales = row_scales(matrix, ALONE)
    assert np.all(np.isfinite(scales))
    assert np.all(scales > 0)
    integers = nearest(matrix, scales, ALONE)
    np.testing.assert_array_equal(integers[0, :2], 0)
    assert integers[0, 2, 0] == -LARGEST
    # There is no negative zero among integers.
    assert not np.signbit(products(np.full((1, 1, 1), -0.0), np.ones((1, 1))))


def test_a_covariance_that_is_singular_is_no_obstacle() -> None:
    rng = np.random.default_rng(6)
    matrix = rng.standard_normal((4, 6))
    scale = np.abs(matrix).max(axis=1) / LARGEST
    np.testing.assert_array_equal(
        in_metric(matrix, scale, ALONE, np.zeros((6, 6))), nearest(matrix, scale, ALONE)
    )


def test_latent_channels_of_unequal_ranges_are_mixed() -> None:
    """Their largest range, which a tensor's one scale follows, comes down to about the mean."""
    geometry = gemm(64, 32)
    rng = np.random.default_rng(7)
    strength = np.geomspace(10, 0.2, 16)
    bases = [np.linalg.qr(rng.standard_normal((length, 16)))[0] for length in (32, 64)]
    weight = (bases[0] * strength) @ bases[1].T
    linear = replaced(linear_map(geometry, rng), weight[None])
    seen = moments(geometry, rng)
    factors = double_layer("pair", geometry, linear, seen, 16)  # type: ignore[arg-type]
    found = rounded(geometry, factors, seen, 0)

    def spread(first: Floats) -> float:
        C = np.asarray(seen.of_group(0))
        variances = np.einsum("ij,jk,ik->i", first[0], C, first[0])
        return float(np.sqrt(variances.max() / variances.mean()))

    assert spread(found.matrices[0]) < 0.75 * spread(factors.matrices[0])
    exact, kernel = (FORMS["pair"].compose(geometry, *own.matrices) for own in (factors, found))
    assert composed_level(linear, kernel, seen) < 0.02  # type: ignore[arg-type]
    assert np.linalg.norm(exact - kernel) < 0.05 * np.linalg.norm(exact)


def test_without_moments_the_bias_stays_and_numbers_are_rounded_to_the_nearest() -> None:
    geometry = gemm(20, 12)
    rng = np.random.default_rng(8)
    factors = double_layer("dense", geometry, linear_map(geometry, rng), None, 12)
    found = rounded(geometry, factors, None, 0)
    np.testing.assert_array_equal(found.bias, factors.bias)
    (matrix,), (scale,) = factors.matrices, found.scales
    pairs = added_in_16_bits(geometry)
    np.testing.assert_array_equal(found.matrices[0], products(nearest(matrix, scale, pairs), scale))
    assert np.abs(found.matrices[0] - matrix).max() <= 0.5 * scale.max() * (1 + 1e-6)
