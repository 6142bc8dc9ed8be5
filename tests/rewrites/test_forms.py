"""The two layers of a form against the one layer that they stand for."""

from dataclasses import replace
from math import prod

import numpy as np
from examples import conv, conv_geometries, factor_shapes, gemm, matmul
from hypothesis import assume, given
from hypothesis import strategies as st
from onnx_graphs import conv_node, run, runnable

from onnx_relusv.core.blocks import Floats, Geometry
from onnx_relusv.core.kinds import output_lengths
from onnx_relusv.rewrites.low_rank.forms import FORMS, available_forms


def small_integers(rng: np.random.Generator, shape: tuple[int, ...]) -> Floats:
    """Whole numbers, so that every float32 sum of this file is exact and == is the right test."""
    return rng.integers(-3, 4, shape).astype(np.float64)


def kernels(
    form: str, geometry: Geometry, first: Floats, second: Floats
) -> tuple[np.ndarray, np.ndarray]:
    """Both factors as Conv kernels, put together number by number."""
    groups, rank = geometry.groups, first.shape[1]
    layers = FORMS[form].layers(geometry, rank)
    inner, outer = (
        np.zeros((groups * rank, geometry.in_channels // groups, *layers[0].kernel), np.float32),
        np.zeros((geometry.out_channels, rank, *layers[1].kernel), np.float32),
    )
    for g in range(groups):
        for k in range(rank):
            inner[g * rank + k] = first[g, k].reshape(inner.shape[1:])
        for o in range(geometry.rows):
            for k in range(rank):
                if form == "spatial":
                    for x in range(geometry.kernel[1]):
                        outer[g * geometry.rows + o, k, 0, x] = second[
                            g, o * geometry.kernel[1] + x, k
                        ]
                else:
                    outer[g * geometry.rows + o, k] = second[g, o, k]
    return inner, outer


def run_both(
    form: str, geometry: Geometry, lengths: tuple[int, ...], rank: int, seed: int
) -> dict[str, np.ndarray]:
    """Runs the dense layer and the double layer, with a bias on the dense and the last one."""
    rng = np.random.default_rng(seed)
    first, second = (small_integers(rng, s) for s in factor_shapes(form, geometry, rank))
    dense = FORMS[form].compose(geometry, first, second)
    inner, outer = kernels(form, geometry, first, second)
    kernel_shape = (geometry.out_channels, geometry.in_channels // geometry.groups)
    layers = FORMS[form].layers(geometry, 1)
    model = runnable(
        [
            conv_node(["x", "dense", "bias"], "expected", geometry, geometry.groups),
            conv_node(["x", "first"], "between", layers[0], geometry.groups),
            conv_node(["between", "second", "bias"], "got", layers[1], geometry.groups),
        ],
        {"x": (2, geometry.in_channels, *lengths)},
        ["expected", "between", "got"],
        {
            "dense": dense.reshape(*kernel_shape, *geometry.kernel).astype(np.float32),
            "first": inner,
            "second": outer,
            "bias": small_integers(rng, (geometry.out_channels,)).astype(np.float32),
        },
    )
    shape = (2, geometry.in_channels, *lengths)
    return {
        **run(model, x=small_integers(rng, shape).astype(np.float32)),
        "inner": inner,
        "outer": outer,
    }


CONVS = {
    "plain": conv(2, 3, (3, 3)),
    "pads": conv(2, 3, (3, 2), pads=(1, 0, 2, 1)),
    "strides": conv(2, 3, (3, 3), strides=(2, 3), pads=(1, 1, 1, 1)),
    "dilations": conv(2, 3, (3, 2), dilations=(2, 3), pads=(2, 1, 2, 1)),
    "groups": conv(4, 6, (3, 3), groups=2, pads=(1, 1, 1, 1)),
    "depthwise": conv(4, 4, (3, 3), groups=4, pads=(1, 1, 1, 1)),
    "SAME_UPPER": conv(2, 3, (4, 2), strides=(2, 1), auto_pad="SAME_UPPER"),
    "SAME_LOWER": conv(2, 3, (4, 2), strides=(1, 2), auto_pad="SAME_LOWER"),
    "VALID": conv(2, 3, (3, 2), strides=(2, 2), auto_pad="VALID"),
}


def test_two_convs_equal_the_composed_one() -> None:
    for name in CONVS:
        for form in ("channel", "spatial"):
            found = run_both(form, CONVS[name], (9, 8), 2, seed=0)
            assert np.any(found["expected"]), name
            assert np.array_equal(found["got"], found["expected"]), name


@given(conv_geometries(), st.sampled_from(["channel", "spatial"]), st.integers(1, 4))
def test_two_convs_equal_the_composed_one_for_any_geometry(
    geometry: Geometry, form: str, rank: int
) -> None:
    lengths = (9, 10)  # one odd, one even: SAME pads them differently
    found = run_both(form, geometry, lengths, rank, seed=1)
    assert np.array_equal(found["got"], found["expected"])
    assert found["got"].shape[2:] == output_lengths(geometry, lengths)
    # What is counted is what the shapes of the tensors say.
    inner, outer, between = found["inner"], found["outer"], found["between"]
    assert FORMS[form].parameters(geometry, rank) == inner.size + outer.size
    counted = inner.size * prod(between.shape[2:]) + outer.size * prod(found["got"].shape[2:])
    source = (1, geometry.in_channels, *lengths)
    assert FORMS[form].macs(geometry, rank, source) == counted


@given(conv_geometries(axes=1), st.integers(1, 3))
def test_one_dimensional_convs(geometry: Geometry, rank: int) -> None:
    assert "spatial" not in available_forms(geometry)
    found = run_both("channel", geometry, (11,), rank, seed=2)
    assert np.array_equal(found["got"], found["expected"])


def test_a_bias_on_the_first_layer_is_wrong_at_the_borders() -> None:
    # Shows that the tests above would notice: the second layer pads the bias away.
    geometry = conv(1, 1, (3, 3), pads=(1, 1, 1, 1))
    layers = FORMS["spatial"].layers(geometry, 1)
    model = runnable(
        [
            conv_node(["x", "first", "bias"], "between", layers[0], 1),
            conv_node(["between", "second"], "got", layers[1], 1),
        ],
        {"x": (1, 1, 4, 4)},
        ["got"],
        {
            "first": np.ones((1, 1, 3, 1), np.float32),
            "second": np.ones((1, 1, 1, 3), np.float32),
            "bias": np.ones(1, np.float32),
        },
    )
    got = run(model, x=np.zeros((1, 1, 4, 4), np.float32))["got"][0, 0]
    assert got[0, 0] == 2
    assert got[1, 1] == 3


def test_same_lower_is_not_same_upper() -> None:
    lower = conv(2, 3, (4, 2), auto_pad="SAME_LOWER")
    for layer, other in zip(
        FORMS["spatial"].layers(lower, 1),
        FORMS["spatial"].layers(replace(lower, auto_pad="SAME_UPPER"), 1),
        strict=True,
    ):
        assert (layer.auto_pad, other.auto_pad) == ("SAME_LOWER", "SAME_UPPER")
    upper = run_both("spatial", replace(lower, auto_pad="SAME_UPPER"), (9, 8), 2, seed=0)
    assert not np.array_equal(
        run_both("spatial", lower, (9, 8), 2, seed=0)["got"], upper["expected"]
    )


@given(conv_geometries(), st.integers(0, 99))
def test_unfold_and_fold_are_inverse(geometry: Geometry, seed: int) -> None:
    shape = (geometry.groups, geometry.rows, geometry.columns)
    weight = np.random.default_rng(seed).standard_normal(shape)
    matrix = FORMS["spatial"].unfold(geometry, weight)
    assert matrix.shape[1:] == (
        FORMS["spatial"].shapes(geometry, 1)[-1][0],
        FORMS["spatial"].shapes(geometry, 1)[0][1],
    )
    assert np.array_equal(FORMS["spatial"].fold(geometry, matrix), weight)
    height, width = geometry.kernel
    kernel = weight.reshape(geometry.groups, geometry.rows, -1, height, width)
    g, o, c, y, x = (length - 1 for length in kernel.shape)
    assert matrix[g, o * width + x, c * height + y] == kernel[g, o, c, y, x]
    assert FORMS["channel"].unfold(geometry, weight) is weight
    assert FORMS["channel"].fold(geometry, weight) is weight


@given(conv_geometries(smallest_kernel=2), st.integers(1, 3), st.integers(0, 99))
def test_compose_is_the_sum_over_inner_channels(geometry: Geometry, rank: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    first, second = (
        rng.standard_normal(shape) for shape in factor_shapes("spatial", geometry, rank)
    )
    height, width = geometry.kernel
    p = first.reshape(geometry.groups, rank, -1, height)
    q = second.reshape(geometry.groups, geometry.rows, width, rank)
    expected = np.einsum("goxk,gkcy->gocyx", q, p)
    got = FORMS["spatial"].compose(geometry, first, second).reshape(expected.shape)
    # Sums of up to three float64 products of numbers around 1, in either order.
    assert np.allclose(got, expected, rtol=0, atol=1e-14)


@given(conv_geometries(), st.sampled_from(["channel", "spatial"]))
def test_the_largest_rank_reproduces_any_kernel(geometry: Geometry, form: str) -> None:
    assume(form == "channel" or min(geometry.kernel) > 1)
    weight = np.random.default_rng(0).standard_normal(
        (geometry.groups, geometry.rows, geometry.columns)
    )
    largest = FORMS[form].largest_rank(geometry)
    matrix = FORMS[form].unfold(geometry, weight)
    assert np.linalg.matrix_rank(matrix).max() == largest


def test_forms_of_each_kind() -> None:
    assert available_forms(gemm(4, 5)) == ("pair",)
    assert available_forms(matmul(4, 5)) == ("pair",)
    assert available_forms(conv(4, 5, (3, 3))) == ("channel", "spatial", "tucker")
    assert available_forms(conv(1, 5, (3, 3))) == ("channel", "spatial")
    assert available_forms(conv(4, 8, (3, 3), groups=4)) == ("channel", "spatial")
    assert available_forms(conv(4, 5, (2, 2, 2))) == ("channel", "tucker")
    assert available_forms(conv(4, 5, (1, 1, 1))) == ("channel",)
    assert available_forms(conv(4, 5, (1, 1))) == ("channel",)
    assert available_forms(conv(4, 5, (3, 1))) == ("channel", "tucker")
    assert available_forms(conv(4, 5, (3,))) == ("channel", "tucker")


def test_pair_counts_by_hand() -> None:
    # 7 -> 3 -> 5 for each of 4 tokens.
    geometry = matmul(7, 5)
    assert FORMS["pair"].parameters(geometry, 3) == 7 * 3 + 3 * 5
    assert FORMS["pair"].macs(geometry, 3, (1, 4, 7)) == 4 * (7 * 3 + 3 * 5)
    assert FORMS["pair"].macs(gemm(7, 5), 3, (1, 7)) == 7 * 3 + 3 * 5
    assert FORMS["pair"].largest_rank(geometry) == 5


@given(st.data())
def test_what_a_layer_reads_is_a_map_of_the_block_s_patch(data: st.DataObject) -> None:
    geometry = data.draw(conv_geometries(smallest_kernel=2))
    form = FORMS[data.draw(st.sampled_from(["channel", "spatial", "tucker"]))]
    assume(form.fits(geometry))
    rank = data.draw(st.integers(1, form.largest_rank(geometry)))
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    matrices = [small_integers(rng, s) for s in factor_shapes(form.name, geometry, rank)]
    layers = form.as_layers(geometry, matrices)
    # Whole numbers: the products are exact.
    np.testing.assert_array_equal(
        layers[-1] @ form.reads(geometry, layers[:-1]), form.compose(geometry, *matrices)
    )
    assert all(
        np.array_equal(own, back)
        for own, back in zip(matrices, form.from_layers(geometry, layers), strict=True)
    )


@given(st.data())
def test_the_first_layer_s_metric_is_that_of_its_own_patches(data: st.DataObject) -> None:
    geometry = data.draw(conv_geometries(smallest_kernel=2))
    form = FORMS[data.draw(st.sampled_from(["channel", "spatial", "tucker"]))]
    assume(form.fits(geometry))
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    # Few patches with whole numbers, by channel, kernel row and kernel column.
    channels, (height, width) = geometry.in_channels // geometry.groups, geometry.kernel
    patches = rng.integers(-3, 4, (8, channels, height, width)).astype(np.float64)
    flat = patches.reshape(8, -1)
    found = form.first_metric(geometry, flat.T @ flat)
    if form.name == "spatial":
        own = patches.transpose(0, 3, 1, 2).reshape(8 * width, -1)
    elif form.name == "tucker":
        own = patches.transpose(0, 2, 3, 1).reshape(8 * height * width, -1)
    else:
        own = flat
    np.testing.assert_allclose(found, own.T @ own * 8 / len(own), rtol=1e-12, atol=1e-12)
