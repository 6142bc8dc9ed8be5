"""Better maps of rank k than the truncated SVD, judged on a fine circle."""

import numpy as np
import pytest
from examples import LINEAR, RELU, clip, prelu
from relu_maps import circle, gaps, truncated

from onnx_relusv.core.blocks import Activation, Floats
from onnx_relusv.core.errors import UsageError
from onnx_relusv.core.measures import Approximation
from onnx_relusv.runtime.session import CPU
from onnx_relusv.spectra.relu_values import best_approximation, relu_singular_values

AVERAGING = np.full((2, 2), 0.5)


def approximated(weight: Floats, rank: int, **changes: object) -> Approximation:
    return best_approximation(weight, rank, **{"provider": "cpu"} | changes)  # type: ignore[arg-type]


def gaussian(seed: int, *shape: int) -> Floats:
    return np.random.default_rng(seed).standard_normal(shape)


def test_averaging_beats_the_truncated_svd_on_nearly_equal_rows() -> None:
    for d in (0.01, 0.05, 0.2):
        W = np.diag([1 + d, 1.0])
        by_hand = gaps(W, AVERAGING, circle()).max()
        assert by_hand <= np.sqrt(0.5) + d
        assert gaps(W, truncated(W, 1), circle()).max() == pytest.approx(1, rel=1e-6)
        # Noise decides on which side it leaves the truncated SVD, and one side leads nowhere.
        found = min(
            (approximated(W, 1, seed=seed) for seed in range(4)), key=lambda item: item.value
        )
        met = gaps(W, found.left @ found.right, circle()).max()
        assert met < 0.87
        assert found.value == pytest.approx(met, rel=1e-3)
        assert found.truncated == pytest.approx(1, rel=1e-5)


@pytest.mark.parametrize("activation", [RELU, prelu(0.2), prelu(-0.5, 0.1, 0.9, 0, 0.4)])
@pytest.mark.parametrize("with_bias", [False, True])
def test_it_is_never_worse_than_the_truncated_svd(activation: Activation, with_bias: bool) -> None:
    for seed in range(4):
        W = gaussian(seed, 5, 2)
        b = 0.2 * gaussian(seed + 50, 5) if with_bias else None
        found = approximated(W, 1, bias=b, activation=activation, steps=8)
        L = found.left @ found.right
        assert found.value <= found.truncated
        # What ascents miss of a maximum may make up for half a percent.
        first = gaps(W, truncated(W, 1), circle(), activation, b).max()
        own = gaps(W, L, circle(), activation, b).max()
        assert own <= first * (1 + 5e-3)
        assert found.value <= max(own, first) * (1 + 1e-3)
        if not with_bias:
            bounds = relu_singular_values(W, activation=activation, provider="cpu")
            assert bounds.lower[1] <= own * (1 + 1e-9)


def test_it_often_is_better() -> None:
    shares = []
    for seed in range(6):
        found = approximated(gaussian(seed, 6, 5), 2)
        shares.append(found.value / found.truncated)
    assert min(shares) < 0.95
    assert max(shares) <= 1


def test_its_factors_have_the_rank() -> None:
    for rank in (1, 3, 5):
        W = gaussian(0, 8, 5)
        found = approximated(W, rank, steps=3)
        assert found.left.shape == (8, rank)
        assert found.right.shape == (rank, 5)
        assert found.right @ found.right.T == pytest.approx(np.eye(rank), abs=1e-12)
        assert np.linalg.matrix_rank(found.left @ found.right) == rank
        if rank == 5:
            assert found.value == pytest.approx(0, abs=1e-6)
            assert found.left @ found.right == pytest.approx(W, abs=1e-6)


def test_no_steps_give_the_truncated_svd() -> None:
    W = gaussian(1, 6, 4)
    found = approximated(W, 2, steps=0)
    assert found.left @ found.right == pytest.approx(truncated(W, 2), abs=1e-12)
    assert found.value == found.truncated


def test_other_activations_stay_below_sigma() -> None:
    for activation in (LINEAR, clip(0.5)):
        W = gaussian(2, 6, 4)
        found = approximated(W, 2, activation=activation, steps=5)
        sigma = np.linalg.svd(W, compute_uv=False)
        assert 0 < found.value <= sigma[2] * (1 + 1e-9)
        if activation is LINEAR:
            # Nothing beats the truncated SVD without an activation.
            assert found.value == pytest.approx(sigma[2], rel=1e-4)


def test_a_seed_repeats_it() -> None:
    W = gaussian(3, 7, 5)
    one, again, other = (approximated(W, 2, steps=4, seed=seed) for seed in (0, 0, 1))
    assert np.array_equal(one.left, again.left)
    assert np.array_equal(one.right, again.right)
    assert (one.value, one.truncated) == (again.value, again.truncated)
    assert not np.array_equal(one.left, other.left)
    assert (one.steps, one.iterations, one.seed, one.provider) == (4, 50, 0, CPU)
    assert not one.left.flags.writeable


def test_what_is_refused() -> None:
    for changes, text in (
        ({"rank": 0}, r"rank 0: use 1 to 2 for a weight of shape \(3, 2\)"),
        ({"rank": 3}, r"rank 3: use 1 to 2"),
        ({"weight": np.ones(3)}, r"it has to be \(out, in\)"),
        ({"bias": np.ones(2)}, "bias has shape"),
        ({"activation": prelu(0.1, 0.2)}, "2 slopes for 3 rows"),
        ({"steps": -1}, "steps -1: use 0 or more"),
        ({"iterations": 0}, "iterations 0"),
        ({"starts": 0}, "starts 0"),
        ({"seed": -1}, "seed -1"),
    ):
        with pytest.raises(UsageError, match=text):
            approximated(**{"weight": np.ones((3, 2)), "rank": 1} | changes)  # type: ignore[arg-type]
