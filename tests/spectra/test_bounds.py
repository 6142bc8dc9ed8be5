"""Where the better bounds are put, and where they would be wrong."""

import numpy as np
import pytest
from examples import LINEAR, RELU, clip, prelu
from hypothesis import given
from relu_maps import directions, exact_s0, integer_weights, layer, phi

from onnx_relusv.core.blocks import Floats
from onnx_relusv.spectra.bounds import (
    improved_lower,
    improved_upper,
    least_on_subspace,
    nested_lower,
    nested_upper,
)

W = np.random.default_rng(0).standard_normal((8, 6))
SIGMA = np.linalg.svd(W, compute_uv=False)


def test_what_holds_for_k_holds_before_and_after_it() -> None:
    bounds = np.array([3.0, 1.0, 2.0, 0.5])
    assert nested_lower(bounds).tolist() == [3, 2, 2, 0.5]
    assert nested_upper(bounds).tolist() == [3, 1, 1, 0.5]


def test_lower_bounds_get_better_at_1_and_2() -> None:
    for activation in (RELU, prelu(0.3), prelu(*np.linspace(-1, 2, 8))):
        item = layer(W, activation)
        found = improved_lower(np.zeros(6), item)
        first, second = (
            least_on_subspace(item.reduced[:, : k + 1], activation.slopes) for k in (1, 2)
        )
        assert first > 0.7 * SIGMA[1]
        assert found.tolist() == [max(first, second), max(first, second), second, 0, 0, 0]
        assert (improved_lower(SIGMA, item) >= SIGMA).all()


def test_lower_bounds_stay_where_a_subspace_proves_nothing() -> None:
    for item in (
        layer(W, LINEAR),
        layer(W, clip(1.0)),
        layer(W, bias=np.ones(8)),
        layer(W, nonnegative=True),
        layer(0 * W),
    ):
        lower = np.array([1.0, 0.5, 0.7, 0, 0, 0])
        assert improved_lower(lower, item).tolist() == [1, 0.7, 0.7, 0, 0, 0]  # type: ignore[arg-type]


def test_upper_bounds_get_better_at_the_ranks_asked_for() -> None:
    for activation in (RELU, clip(1.0)):
        found = improved_upper(SIGMA, layer(W, activation), [0, 2], 20)
        assert exact_s0(W) <= found[0] < 0.97 * SIGMA[0]
        assert found[2] < SIGMA[2]
        assert found[[1, 3, 4, 5]].tolist() == np.minimum(SIGMA, found[0])[[1, 3, 4, 5]].tolist()


def test_upper_bounds_stay_where_duality_proves_nothing() -> None:
    for item in (layer(W, LINEAR), layer(W, prelu(0.3)), layer(W, bias=np.ones(8)), layer(0 * W)):
        found = improved_upper(SIGMA, item, range(6), 20)  # type: ignore[arg-type]
        assert np.array_equal(found, SIGMA)


def test_no_steps_change_nothing() -> None:
    assert np.array_equal(improved_upper(SIGMA, layer(W), range(6), 0), SIGMA)


def test_with_a_bias_or_slopes_duality_would_be_wrong() -> None:
    # Both of these layers have a larger s_0 than the bound that they are spared.
    V = np.array([[1.0], [-1.0]])
    bound = improved_upper(np.array([np.sqrt(2)]), layer(V), [0], 20)[0]
    assert bound == pytest.approx(1, rel=0.03)
    x = np.array([[1.0]])
    for slopes, b in ((np.array([0.9]), np.zeros(2)), (np.zeros(1), np.ones(2))):
        activation = prelu(*slopes)
        moved = phi(V @ x + b[:, None], activation) - phi(b[:, None], activation)
        assert np.linalg.norm(moved) > bound + 0.2


@given(integer_weights)
def test_nonnegative_inputs_meet_the_positive_part_only(V: Floats) -> None:
    sigma = np.linalg.svd(V, compute_uv=False)
    found = improved_upper(sigma, layer(V, nonnegative=True), [0], 0)
    positive = np.maximum(V, 0)
    assert found[0] <= min(sigma[0], np.linalg.norm(positive, 2)) * (1 + 1e-8) + 1e-12
    # The top singular vector of a non-negative matrix can be taken non-negative, too.
    right = np.abs(np.linalg.svd(positive)[2][[0]].T)
    x = np.hstack([right, np.abs(directions(V.shape[1], 200, 0))])
    met = np.linalg.norm(np.maximum(V @ x, 0), axis=0).max()
    assert met <= found[0] + 1e-9


def test_a_layer_of_negative_weights_is_0_for_nonnegative_inputs() -> None:
    found = improved_upper(np.ones(3), layer(-np.eye(3), nonnegative=True), [0, 1, 2], 20)
    assert found == pytest.approx(np.zeros(3), abs=1e-15)
