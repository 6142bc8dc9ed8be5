"""The three layers of a tucker against the one layer that they stand for."""

import itertools
from dataclasses import replace
from math import prod

import numpy as np
import pytest
from examples import conv, conv_geometries, factor_shapes, linear_map, moments
from hypothesis import assume, given
from hypothesis import strategies as st
from onnx_graphs import conv_node, run, runnable

from onnx_relusv.core.blocks import Floats, Geometry
from onnx_relusv.core.kinds import output_lengths
from onnx_relusv.rewrites.low_rank.forms import FORMS, double_layer
from onnx_relusv.rewrites.low_rank.tucker import tucker_widths

CONVS = {
    "plain": conv(3, 4, (3, 3)),
    "pads": conv(3, 4, (3, 2), pads=(1, 0, 2, 1)),
    "strides": conv(3, 4, (3, 3), strides=(2, 3), pads=(1, 1, 1, 1)),
    "dilations": conv(3, 4, (3, 2), dilations=(2, 3), pads=(2, 1, 2, 1)),
    "groups": conv(6, 4, (3, 3), groups=2, pads=(1, 1, 1, 1)),
    "SAME_UPPER": conv(3, 4, (4, 2), strides=(2, 1), auto_pad="SAME_UPPER"),
    "SAME_LOWER": conv(3, 4, (4, 2), strides=(1, 2), auto_pad="SAME_LOWER"),
    "VALID": conv(3, 4, (3, 2), strides=(2, 2), auto_pad="VALID"),
    "1-D": conv(3, 4, (3,), strides=(2,), pads=(2, 1)),
    "3-D": conv(3, 4, (2, 3, 2), strides=(1, 2, 1), pads=(1, 0, 1, 0, 2, 1)),
}
LENGTHS = (9, 8, 5)


def kernels(geometry: Geometry, first: Floats, core: Floats, second: Floats) -> list[np.ndarray]:
    """The factors as Conv kernels, put together number by number."""
    groups, in_front, channels = first.shape
    behind = core.shape[1]
    ones = (1,) * len(geometry.kernel)
    found = [
        np.zeros((groups * in_front, channels, *ones), np.float32),
        np.zeros((groups * behind, in_front, *geometry.kernel), np.float32),
        np.zeros((geometry.out_channels, behind, *ones), np.float32),
    ]
    for g in range(groups):
        for i in range(in_front):
            found[0][g * in_front + i] = first[g, i].reshape(channels, *ones)
        for k in range(behind):
            found[1][g * behind + k] = core[g, k].reshape(in_front, *geometry.kernel)
        for o in range(geometry.rows):
            found[2][g * geometry.rows + o] = second[g, o].reshape(behind, *ones)
    return found


def run_both(
    geometry: Geometry, dense: Floats, factors: list[np.ndarray], x: np.ndarray, bias: Floats
) -> dict[str, np.ndarray]:
    """Runs the dense layer and the three, with a bias on the dense and the last one."""
    kernel_shape = (geometry.out_channels, geometry.in_channels // geometry.groups)
    layers = FORMS["tucker"].layers(geometry, 1)
    groups = geometry.groups
    model = runnable(
        [
            conv_node(["x", "dense", "bias"], "expected", geometry, groups),
            conv_node(["x", "first"], "before", layers[0], groups),
            conv_node(["before", "core"], "behind", layers[1], groups),
            conv_node(["behind", "second", "bias"], "got", layers[2], groups),
        ],
        {"x": x.shape},
        ["expected", "before", "behind", "got"],
        {
            "dense": dense.reshape(*kernel_shape, *geometry.kernel).astype(np.float32),
            **dict(zip(("first", "core", "second"), factors, strict=True)),
            "bias": bias.astype(np.float32),
        },
    )
    return run(model, x=x.astype(np.float32))


def run_whole_numbers(
    geometry: Geometry, rank: int, seed: int
) -> tuple[dict[str, np.ndarray], list[np.ndarray]]:
    """Of whole numbers every float32 sum is exact, so that == is the right test."""
    rng = np.random.default_rng(seed)

    def whole(shape: tuple[int, ...]) -> Floats:
        return rng.integers(-3, 4, shape).astype(np.float64)

    matrices = [whole(shape) for shape in factor_shapes("tucker", geometry, rank)]
    dense = FORMS["tucker"].compose(geometry, *matrices)
    factors = kernels(geometry, *matrices)
    x = whole((2, geometry.in_channels, *LENGTHS[: len(geometry.kernel)]))
    return run_both(geometry, dense, factors, x, whole((geometry.out_channels,))), factors


def test_three_convs_equal_the_composed_one() -> None:
    for name in CONVS:
        for rank in (2, 5):
            found, _ = run_whole_numbers(CONVS[name], rank, seed=0)
            assert np.any(found["expected"]), name
            assert np.array_equal(found["got"], found["expected"]), name


@given(st.integers(1, 3).flatmap(lambda axes: conv_geometries(axes=axes)), st.integers(1, 9))
def test_three_convs_equal_the_composed_one_for_any_geometry(geometry: Geometry, rank: int) -> None:
    lengths = LENGTHS[: len(geometry.kernel)]
    assume(min(output_lengths(geometry, lengths)) > 0)
    found, factors = run_whole_numbers(geometry, rank, seed=1)
    assert np.array_equal(found["got"], found["expected"])
    # What is counted is what the shapes of the tensors say.
    assert FORMS["tucker"].parameters(geometry, rank) == sum(factor.size for factor in factors)
    counted = sum(
        factor.size * prod(found[tensor].shape[2:])
        for factor, tensor in zip(factors, ("before", "behind", "got"), strict=True)
    )
    source = (1, geometry.in_channels, *lengths)
    assert FORMS["tucker"].macs(geometry, rank, source) == counted


@pytest.mark.parametrize("name", CONVS)
def test_at_the_largest_rank_it_is_onnxruntime_s_own_conv(name: str) -> None:
    for with_moments in (False, True):
        geometry, rng = CONVS[name], np.random.default_rng(0)
        linear = linear_map(geometry, rng)
        seen = moments(geometry, rng) if with_moments else None
        rank = FORMS["tucker"].largest_rank(geometry)
        factors = double_layer("tucker", geometry, linear, seen, rank)
        assert len(factors.matrices) == 3
        three = kernels(geometry, factors.matrices[0], factors.matrices[1], factors.matrices[-1])
        x = rng.standard_normal((2, geometry.in_channels, *LENGTHS[: len(geometry.kernel)]))
        found = run_both(geometry, linear.weight, three, x, linear.bias)
        # Float32 sums of at most 60 products, three times.
        assert (
            np.abs(found["got"] - found["expected"]).max() < 1e-5 * np.abs(found["expected"]).max()
        )


def test_a_bias_on_the_first_layer_is_wrong_at_the_borders() -> None:
    # Shows that the tests above would notice: the core pads it away.
    geometry = conv(1, 1, (3, 3), pads=(1, 1, 1, 1))
    layers = FORMS["tucker"].layers(geometry, 1)
    model = runnable(
        [
            conv_node(["x", "one", "bias"], "before", layers[0], 1),
            conv_node(["before", "core"], "behind", layers[1], 1),
            conv_node(["behind", "one"], "got", layers[2], 1),
        ],
        {"x": (1, 1, 4, 4)},
        ["got"],
        {
            "one": np.ones((1, 1, 1, 1), np.float32),
            "core": np.ones((1, 1, 3, 3), np.float32),
            "bias": np.ones(1, np.float32),
        },
    )
    got = run(model, x=np.zeros((1, 1, 4, 4), np.float32))["got"][0, 0]
    assert got[0, 0] == 4
    assert got[1, 1] == 9


def test_stride_and_pads_are_the_core_s() -> None:
    geometry = conv(4, 6, (3, 2), groups=2, strides=(2, 1), dilations=(1, 2), pads=(1, 0, 2, 1))
    first, core, last = FORMS["tucker"].layers(geometry, 1)
    for layer in (first, last):
        assert (layer.kernel, layer.strides, layer.pads) == ((1, 1), (1, 1), (0, 0, 0, 0))
        assert (layer.dilations, layer.auto_pad) == ((1, 1), "NOTSET")
    assert (core.kernel, core.strides, core.pads) == ((3, 2), (2, 1), (1, 0, 2, 1))
    assert core.dilations == (1, 2)
    lower = replace(geometry, auto_pad="SAME_LOWER", dilations=(1, 1))
    assert [layer.auto_pad for layer in FORMS["tucker"].layers(lower, 1)] == [
        "NOTSET",
        "SAME_LOWER",
        "NOTSET",
    ]


@given(conv_geometries(), st.integers(1, 5), st.integers(0, 99))
def test_compose_is_the_sum_over_both_inner_channels(
    geometry: Geometry, rank: int, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    first, core, second = (
        rng.standard_normal(shape) for shape in factor_shapes("tucker", geometry, rank)
    )
    split = core.reshape(*core.shape[:2], first.shape[1], -1)
    expected = np.einsum("gok,gkiv,gic->gocv", second, split, first)
    got = FORMS["tucker"].compose(geometry, first, core, second).reshape(expected.shape)
    # Sums of up to fifteen float64 products of numbers around 1, in either order.
    assert np.allclose(got, expected, rtol=0, atol=1e-13)


@given(conv_geometries(), st.integers(1, 5), st.integers(0, 99))
def test_the_chain_rule_through_the_core(geometry: Geometry, rank: int, seed: int) -> None:
    """The slope of a sum that is linear in each factor: differences have no error of their own."""
    rng = np.random.default_rng(seed)
    first, core, _ = (
        rng.standard_normal(shape) for shape in factor_shapes("tucker", geometry, rank)
    )
    pull = rng.standard_normal(FORMS["tucker"].inner(first, core).shape)
    first_slope, core_slope = FORMS["tucker"].inner_slopes(pull, first, core)
    moved_first, moved_core = (rng.standard_normal(each.shape) for each in (first, core))
    before = np.sum(pull * FORMS["tucker"].inner(first, core))
    for slope, step, after in (
        (first_slope, moved_first, np.sum(pull * FORMS["tucker"].inner(first + moved_first, core))),
        (core_slope, moved_core, np.sum(pull * FORMS["tucker"].inner(first, core + moved_core))),
    ):
        assert slope.shape == step.shape
        # A few hundred float64 products of numbers around 1.
        assert np.sum(slope * step) == pytest.approx(after - before, rel=1e-10, abs=1e-10)


def test_widths_by_hand() -> None:
    # Nine kernel values: a third as many channels before the core as behind it, rounded up.
    geometry = conv(64, 128, (3, 3))
    assert [tucker_widths(geometry, rank) for rank in (1, 3, 4, 30)] == [
        (1, 1),
        (1, 3),
        (2, 4),
        (10, 30),
    ]
    assert FORMS["tucker"].parameters(geometry, 30) == 10 * 64 + 30 * 10 * 9 + 128 * 30
    # Where all 128 are there behind the core, it only gets wider in front.
    assert tucker_widths(geometry, 150) == (50, 128)
    assert FORMS["tucker"].largest_rank(geometry) == 190
    assert tucker_widths(geometry, 190) == (64, 128)
    assert tucker_widths(geometry, 189) == (63, 128)


@given(st.integers(1, 3).flatmap(lambda axes: conv_geometries(axes=axes)))
def test_nothing_shrinks_with_the_rank(geometry: Geometry) -> None:
    largest = FORMS["tucker"].largest_rank(geometry)
    widths = [tucker_widths(geometry, rank) for rank in range(1, largest + 3)]
    for before, after in itertools.pairwise(widths):
        assert before[0] <= after[0]
        assert before[1] <= after[1]
    numbers = [FORMS["tucker"].parameters(geometry, rank) for rank in range(1, largest + 1)]
    assert numbers == sorted(numbers)
    # From the largest rank on there is all that a kernel has, and not before.
    whole = tucker_widths(geometry, 10**6)
    assert widths[largest - 1] == whole
    assert largest == 1 or widths[largest - 2] != whole
    for in_front, behind in widths:
        assert behind <= in_front * prod(geometry.kernel)
