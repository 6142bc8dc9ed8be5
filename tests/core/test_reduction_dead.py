"""What is always zero in the map of what is left: it needs nothing, and tells nothing."""

from dataclasses import replace

import numpy as np
import pytest
from examples import conv, gemm, linear_map, moments

from onnx_relusv.core.blocks import Geometry
from onnx_relusv.core.plans import Kept
from onnx_relusv.core.reduction import reduced_map, whole_map

# Float64 through one solve with a condition of some thousands.
EXACT = 1e-10
CASES = {
    "gemm": gemm(6, 4),
    "conv": conv(6, 4, (3, 2)),
    "groups": conv(12, 4, (1, 2), groups=2),
}


def kept(inputs: list[int], outputs: int, dead: list[int]) -> Kept:
    mask = np.zeros(6, np.bool_)
    mask[dead] = True
    return Kept(inputs=np.array(inputs), outputs=np.arange(outputs), dead=mask)


@pytest.mark.parametrize("name", CASES)
def test_dead_inputs_are_dropped_and_no_more(name: str) -> None:
    geometry, rng = CASES[name], np.random.default_rng(0)
    linear = linear_map(geometry, rng)
    assumed = moments(geometry, rng)
    left = kept([0, 2, 3, 5], geometry.out_channels, [1, 4])
    found = reduced_map(geometry, linear, assumed, left)
    values = geometry.columns // 6
    columns = (np.array([0, 2, 3, 5])[:, None] * values + np.arange(values)).ravel()
    np.testing.assert_array_equal(found.weight, linear.weight[..., columns])
    np.testing.assert_array_equal(found.bias, linear.bias)
    # As inputs of which nothing is known they would have been made up for.
    other = reduced_map(geometry, linear, assumed, replace(left, dead=None))
    assert np.abs(other.weight - found.weight).max() > 1e-3


@pytest.mark.parametrize("name", CASES)
def test_others_are_made_up_for_as_if_dead_inputs_had_never_been_there(name: str) -> None:
    """Input 4 is dead and stays, 1 is dead and goes, 3 goes."""
    geometry, rng = CASES[name], np.random.default_rng(1)
    linear = linear_map(geometry, rng)
    assumed = moments(geometry, rng)
    left = kept([0, 2, 4, 5], geometry.out_channels, [1, 4])
    found = whole_map(geometry, reduced_map(geometry, linear, assumed, left), left)
    values, alive = geometry.columns // 6, np.array([0, 2, 3, 5])
    columns = (alive[:, None] * values + np.arange(values)).ravel()
    fewer: Geometry = replace(geometry, in_channels=4 * geometry.groups)
    without = Kept(inputs=np.array([0, 1, 3]), outputs=np.arange(geometry.out_channels))
    expected = whole_map(
        fewer,
        reduced_map(
            fewer,
            replace(linear, weight=linear.weight[..., columns]),
            replace(
                assumed,
                mean=assumed.mean[:, columns],
                covariance=assumed.covariance[:, columns[:, None], columns],
            ),
            without,
        ),
        without,
    )
    np.testing.assert_allclose(found.weight[..., columns], expected.weight, atol=EXACT)
    np.testing.assert_allclose(found.bias, expected.bias, atol=EXACT)
    gone = np.setdiff1d(np.arange(geometry.columns), columns)
    assert not found.weight[..., gone].any()


def test_only_dead_inputs_are_left() -> None:
    geometry, rng = CASES["gemm"], np.random.default_rng(2)
    linear = linear_map(geometry, rng)
    assumed = moments(geometry, rng)
    found = reduced_map(geometry, linear, assumed, kept([4], 4, [1, 4]))
    alive = [0, 2, 3, 5]
    np.testing.assert_array_equal(found.weight, np.zeros((1, 4, 1)))
    expected = linear.bias + linear.weight[0][:, alive] @ assumed.mean[0, alive]
    np.testing.assert_allclose(found.bias, expected, atol=EXACT)
