"""What is left of a block against least squares on explicit data, and against the whole block."""

from dataclasses import replace

import numpy as np
import pytest
from examples import RELU, block, conv, gemm, linear_map, matmul, moments, prelu
from graphs import evaluated, normal

from onnx_relusv.core.blocks import Floats, Geometry, LinearMap, Moments
from onnx_relusv.core.plans import ChannelMask
from onnx_relusv.core.reduction import (
    compensated_map,
    embed,
    kept_outputs,
    masked_activation,
    masked_block,
    masked_geometry,
    masked_moments,
    of_inputs,
    restrict,
)

# Float64 through one solve with a condition of some thousands.
EXACT = 1e-10


def kept(inputs: list[int], outputs: list[int]) -> ChannelMask:
    return ChannelMask(inputs=np.array(inputs, np.int64), outputs=np.array(outputs, np.int64))


# Of every group of a grouped Conv other outputs stay, and the same inputs.
CASES = {
    "gemm": (gemm(7, 5), kept([0, 2, 3, 6], [1, 2, 4])),
    "matmul, inputs": (matmul(6, 4), kept([5], [0, 1, 2, 3])),
    "gemm, outputs": (gemm(4, 5), kept([0, 1, 2, 3], [0, 4])),
    "conv": (conv(4, 5, (3, 2), pads=(1, 0, 1, 1)), kept([1, 3], [0, 2, 3])),
    "1-D": (conv(5, 4, (3,)), kept([0, 4], [1, 3])),
    "groups": (conv(6, 8, (2, 3), groups=2), kept([0, 2], [0, 2, 5, 7])),
}


def data(geometry: Geometry, rng: np.random.Generator, count: int = 300) -> Floats:
    """(groups, count, columns): correlated columns whose mean is not zero."""
    shape = (geometry.groups, geometry.columns)
    mixing = rng.standard_normal((*shape, geometry.columns)) + 2 * np.eye(geometry.columns)
    drawn = rng.standard_normal((geometry.groups, count, geometry.columns))
    return np.asarray(drawn @ mixing + 3 * rng.standard_normal((geometry.groups, 1, shape[1])))


def moments_of(x: Floats) -> Moments:
    centred = x - x.mean(axis=1, keepdims=True)
    return Moments(
        mean=x.mean(axis=1),
        covariance=centred.transpose(0, 2, 1) @ centred / x.shape[1],
        rows=x.shape[1],
        samples=x.shape[1],
        shrinkage=np.zeros(len(x)),
    )


def columns(geometry: Geometry, left: ChannelMask) -> list[int]:
    """Kept columns, one by one: channel, then kernel value."""
    values = int(np.prod(geometry.kernel))
    return [int(channel) * values + value for channel in left.inputs for value in range(values)]


def rows(geometry: Geometry, left: ChannelMask, group: int) -> list[int]:
    first = group * geometry.rows
    return [int(each) - first for each in left.outputs if first <= each < first + geometry.rows]


@pytest.mark.parametrize("name", CASES)
def test_the_map_is_the_least_squares_answer_of_the_kept_inputs(name: str) -> None:
    geometry, left = CASES[name]
    rng = np.random.default_rng(0)
    linear, x = linear_map(geometry, rng), data(geometry, rng)
    found = compensated_map(geometry, linear, moments_of(x), left)
    biases = found.bias.reshape(geometry.groups, -1)
    for group in range(geometry.groups):
        chosen = rows(geometry, left, group)
        answers = (
            x[group] @ linear.weight[group].T + linear.bias.reshape(geometry.groups, -1)[group]
        )
        seen = np.column_stack([x[group][:, columns(geometry, left)], np.ones(x.shape[1])])
        best = np.linalg.lstsq(seen, answers[:, chosen], rcond=None)[0]
        np.testing.assert_allclose(found.weight[group], best[:-1].T, rtol=EXACT, atol=EXACT)
        np.testing.assert_allclose(biases[group], best[-1], rtol=EXACT, atol=1e-9)
        # Columns that are left as they were do worse, where any are gone.
        plain = linear.weight[group][chosen][:, columns(geometry, left)]
        if len(left.inputs) * geometry.groups < geometry.in_channels:
            assert np.abs(found.weight[group] - plain).max() > 0.1
        else:
            np.testing.assert_array_equal(found.weight[group], plain)


def test_a_duplicate_is_reproduced_exactly() -> None:
    geometry, left = gemm(5, 3), kept([0, 1, 2, 3], [0, 1, 2])
    rng = np.random.default_rng(1)
    linear, x = linear_map(geometry, rng), data(geometry, rng)
    x[:, :, 4] = 2 * x[:, :, 1] - x[:, :, 3] + 0.5
    found = compensated_map(geometry, linear, moments_of(x), left)
    np.testing.assert_allclose(
        x[0][:, :4] @ found.weight[0].T + found.bias,
        x[0] @ linear.weight[0].T + linear.bias,
        atol=1e-9,
    )


@pytest.mark.parametrize("name", CASES)
def test_without_moments_what_is_gone_is_dropped(name: str) -> None:
    geometry, left = CASES[name]
    linear = linear_map(geometry, np.random.default_rng(2))
    found = compensated_map(geometry, linear, None, left)
    for group, weight in enumerate(linear.weight):
        dropped = weight[rows(geometry, left, group)][:, columns(geometry, left)]
        np.testing.assert_array_equal(found.weight[group], dropped)
    np.testing.assert_array_equal(found.bias, linear.bias[left.outputs])
    # Into the whole shape and back again.
    for each in (
        restrict(geometry, linear, left),
        restrict(geometry, embed(geometry, found, left), left),
    ):
        np.testing.assert_array_equal(each.weight, found.weight)
        np.testing.assert_array_equal(each.bias, found.bias)


def on_kept_inputs(geometry: Geometry, left: ChannelMask, x: Floats) -> Floats:
    """An input without the channels that are gone."""
    axis = 1 if geometry.kind == "conv" else x.ndim - 1
    each = geometry.in_channels // geometry.groups
    channels = [group * each + int(c) for group in range(geometry.groups) for c in left.inputs]
    return np.asarray(np.take(x, channels, axis=axis))


@pytest.mark.parametrize("name", CASES)
def test_what_is_left_computes_what_the_whole_one_does_with_zeros(name: str) -> None:
    """On real inputs, so that places of channels and of kernel values have to be right."""
    geometry, left = CASES[name]
    lengths = {0: (3,), 1: (9,), 2: (6, 7)}[len(geometry.kernel)]
    whole = block(geometry, lengths if geometry.kind != "gemm" else ())
    rng = np.random.default_rng(3)
    reduced = compensated_map(geometry, linear_map(geometry, rng), moments(geometry, rng), left)
    x = normal(*(4, *whole.source_shape[1:]), dtype=np.float64)
    small = masked_block(whole, left)
    narrow = on_kept_inputs(geometry, left, x)
    found = evaluated(small, reduced, narrow)
    expected = evaluated(whole, embed(geometry, reduced, left), x)
    axis = 1 if geometry.kind == "conv" else x.ndim - 1
    np.testing.assert_allclose(found, np.take(expected, left.outputs, axis=axis), atol=1e-12)
    gone = np.setdiff1d(np.arange(geometry.out_channels), left.outputs)
    assert not np.take(expected, gone, axis=axis).any()
    assert (small.source_shape, small.output_shape) == (
        (1, *narrow.shape[1:]),
        (1, *found.shape[1:]),
    )
    assert small.geometry == masked_geometry(geometry, left)
    assert (small.geometry.groups, small.key) == (geometry.groups, whole.key)


def test_nothing_is_touched_where_all_stay() -> None:
    geometry = conv(4, 6, (2, 2), groups=2)
    rng = np.random.default_rng(4)
    linear, seen, whole = linear_map(geometry, rng), moments(geometry, rng), block(geometry, (5, 5))
    assert masked_geometry(geometry, None) is geometry
    assert masked_block(whole, None) is whole
    assert masked_activation(RELU, None) is RELU
    for found in (
        compensated_map(geometry, linear, seen, None),
        embed(geometry, linear, None),
        kept_outputs(geometry, linear, None),
        restrict(geometry, linear, None),
    ):
        assert found is linear
    assert masked_moments(geometry, seen, None) is seen
    assert masked_moments(geometry, None, CASES["groups"][1]) is None


def test_slopes_go_with_their_channels() -> None:
    slopes = prelu(0.1, 0.2, 0.3, 0.4)
    left = kept([0], [1, 3])
    np.testing.assert_array_equal(masked_activation(slopes, left).slopes, [0.2, 0.4])
    # One slope is that of all channels.
    np.testing.assert_array_equal(masked_activation(prelu(0.3), left).slopes, [0.3])


def test_moments_are_those_of_the_kept_inputs() -> None:
    for name, (geometry, left) in CASES.items():
        x = data(geometry, np.random.default_rng(5))
        seen = replace(moments_of(x), source="synthetic")
        found = masked_moments(geometry, seen, left)
        assert found is not None, name
        expected = moments_of(x[:, :, columns(geometry, left)])
        np.testing.assert_allclose(found.mean, expected.mean, rtol=1e-12)
        np.testing.assert_allclose(found.covariance, expected.covariance, rtol=1e-12, atol=1e-12)
        assert (found.rows, found.source) == (seen.rows, "synthetic"), name


def test_a_map_of_some_inputs() -> None:
    geometry = conv(3, 2, (2,))
    linear = LinearMap(np.arange(12.0).reshape(1, 2, 6), np.array([7.0, 8.0]))
    found = of_inputs(geometry, linear, np.array([0, 2]))
    np.testing.assert_array_equal(found.weight, [[[0, 1, 4, 5], [6, 7, 10, 11]]])
    np.testing.assert_array_equal(found.bias, [7, 8])
