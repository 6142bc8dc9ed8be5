"""ReLU singular values with a bias, on other domains, and of input that is refused."""

import math

import numpy as np
import pytest
from examples import RELU, clip, prelu
from hypothesis import given
from hypothesis import strategies as st
from relu_maps import circle, exact_s0, gaps

from onnx_relusv.core.blocks import Activation, Floats
from onnx_relusv.core.errors import UsageError
from onnx_relusv.core.measures import ReluSingularValues
from onnx_relusv.spectra.relu_values import relu_singular_values

RADII = np.linspace(0, 1, 101)
DISC = np.hstack([circle(), *(radius * circle(1001) for radius in RADII)])
NUMBERS = ("sigma", "lower", "estimate", "upper")


def measured(weight: Floats, bias: Floats | None = None, **changes: object) -> ReluSingularValues:
    return relu_singular_values(weight, bias, **{"provider": "cpu"} | changes)  # type: ignore[arg-type]


def gaussian(seed: int, *shape: int) -> Floats:
    return np.random.default_rng(seed).standard_normal(shape)


def test_a_bias_that_is_kept() -> None:
    for activation in (RELU, prelu(0.3), prelu(-0.7), clip(0.6)):
        for seed in range(5):
            W, b = gaussian(seed, 5, 2), gaussian(seed + 100, 5)
            found = measured(W, b, activation=activation)
            s0 = gaps(W, 0 * W, DISC, activation, b).max()
            # What the ascent meets is a proof at k = 0; the grid is a hundredth off inside.
            assert 0.99 * s0 <= found.lower[0] <= s0 + 3e-3 * np.linalg.norm(W)
            assert found.lower[0] == pytest.approx(found.estimate[0], rel=2e-12)
            assert found.upper == pytest.approx(
                found.sigma * max(1, np.abs(activation.slopes).max())
            )


def test_a_bias_can_silence_a_layer() -> None:
    found = measured(np.ones((1, 1)), -np.ones(1))
    assert found.lower.tolist() == found.estimate.tolist() == [0]
    assert found.upper.tolist() == [1]


def test_the_bias_weighs_less_on_a_larger_ball() -> None:
    found = [measured(np.ones((1, 1)), -np.ones(1), radius=radius) for radius in (1, 2, 1000)]
    assert [item.estimate[0] for item in found] == pytest.approx([0, 1, 999], rel=1e-6)
    assert [item.sigma[0] for item in found] == [1, 2, 1000]


def test_a_free_bias() -> None:
    found = measured(np.ones((1, 1)), free_bias=True)
    assert found.lower[0] == 0.5
    assert found.lower[0] <= found.estimate[0] <= found.upper[0] == 1
    for seed in range(5):
        W, b = gaussian(seed, 5, 2), 0.3 * gaussian(seed + 100, 5)
        found = measured(W, b, free_bias=True)
        kept = measured(W, b)
        assert (found.lower <= kept.lower).all()
        for other in range(20):
            met = gaps(W, 0 * W, DISC, RELU, b, b + gaussian(other, 5))
            assert met.max() >= found.lower[0] * (1 - 1e-9)


def test_nonnegative_inputs() -> None:
    quarter = circle()[:, (circle() >= 0).all(axis=0)]
    lower_than_on_the_ball = 0
    for seed in range(8):
        W = gaussian(seed, 6, 2)
        found = measured(W, domain="nonnegative")
        s0 = gaps(W, 0 * W, quarter).max()
        assert s0 * (1 - 1e-5) <= found.lower[0] <= s0 * (1 + 1e-6)
        assert s0 <= found.upper[0] <= np.linalg.norm(np.maximum(W, 0), 2) * (1 + 1e-8)
        assert found.lower[1] == 0
        lower_than_on_the_ball += found.upper[0] < 0.99 * measured(W).lower[0]
    assert lower_than_on_the_ball > 3


def test_a_relu_may_silence_every_nonnegative_input() -> None:
    found = measured(-np.eye(3), domain="nonnegative")
    for name in NUMBERS[1:]:
        assert getattr(found, name) == pytest.approx(np.zeros(3), abs=1e-15), name
    assert found.sigma == pytest.approx(np.ones(3))


@pytest.mark.parametrize("bias", [None, gaussian(9, 7)])
@pytest.mark.parametrize("columns", [4, 9])
def test_a_metric_is_a_weight_times_its_root(columns: int, bias: Floats | None) -> None:
    W = gaussian(0, 7, columns)
    A = gaussian(1, columns, columns)
    metric = A @ A.T + 0.1 * np.eye(columns)
    values, vectors = np.linalg.eigh(metric)
    root = (vectors * np.sqrt(values)) @ vectors.T
    one, other = measured(W, bias, metric=metric), measured(W @ root, bias)
    for name in NUMBERS:
        # Right singular vectors may differ in sign, hence starts, and so do some estimates.
        tolerance = 1e-5 if name in ("sigma", "upper") else 0.05
        assert getattr(one, name) == pytest.approx(getattr(other, name), rel=tolerance), name
    if bias is None:
        assert one.estimate[0] == pytest.approx(exact_s0(W @ root), rel=1e-6)
    assert np.array_equal(measured(W, bias, metric=np.eye(columns)).ranks, one.ranks)


@given(st.floats(0.01, 100), st.sampled_from([RELU, prelu(0.3)]), st.booleans())
def test_a_radius_is_a_factor_of_the_weight(
    radius: float, activation: Activation, with_bias: bool
) -> None:
    W, b = gaussian(0, 5, 4), gaussian(1, 5) if with_bias else None
    settings = {"activation": activation, "iterations": 5, "starts": 2}
    one, other = measured(W, b, radius=radius, **settings), measured(radius * W, b, **settings)
    for name in NUMBERS:
        assert np.array_equal(getattr(one, name), getattr(other, name)), name


@given(st.integers(-20, 20), st.sampled_from([RELU, prelu(0.3), clip(0.5)]))
def test_weight_bias_and_ceiling_scale_together(power: int, activation: Activation) -> None:
    W, b, t = gaussian(0, 5, 4), gaussian(1, 5), 2.0**power
    ceiling = None if activation.ceiling is None else t * activation.ceiling
    scaled = Activation(kind=activation.kind, slopes=activation.slopes, ceiling=ceiling)
    one = measured(W, b, activation=activation, iterations=5, starts=2)
    other = measured(t * W, t * b, activation=scaled, iterations=5, starts=2)
    for name in NUMBERS:
        # A power of two changes no digit.
        assert getattr(other, name) == pytest.approx(t * getattr(one, name), rel=1e-9), name


ONES = np.ones((3, 2))
REFUSED = {
    "NaN": ({"weight": ONES * math.nan}, "weight holds NaN or infinite"),
    "infinite": ({"weight": ONES * math.inf}, "weight holds NaN or infinite"),
    "one axis": ({"weight": np.ones(3)}, r"shape \(3,\); it has to be \(out, in\). A Conv's"),
    "four axes": ({"weight": np.ones((2, 2, 3, 3))}, "A Conv's kernel is one matrix a group"),
    "empty": ({"weight": np.ones((0, 2))}, r"shape \(0, 2\)"),
    "huge": ({"weight": 1e101 * ONES}, "largest entry, .* is 1e[+]101; scale it"),
    "tiny": ({"weight": 1e-101 * ONES}, "scale it to between 1e-100 and 1e[+]100"),
    "huge by radius": ({"weight": 1e99 * ONES, "radius": 1e9}, "with the radius"),
    "bias shape": ({"bias": np.ones(2)}, r"bias has shape \(2,\); for 3 rows .* \(3,\)"),
    "bias NaN": ({"bias": np.full(3, math.nan)}, "bias holds NaN"),
    "metric shape": ({"metric": np.eye(3)}, r"metric has shape \(3, 3\); for 2 inputs"),
    "metric NaN": ({"metric": np.full((2, 2), math.nan)}, "metric holds NaN"),
    "asymmetric": ({"metric": np.array([[1, 0.5], [0, 1]])}, "metric is not symmetric"),
    "indefinite": ({"metric": np.diag([1.0, -1])}, "metric is not positive definite"),
    "semidefinite": ({"metric": np.diag([1.0, 0])}, "metric is not positive definite"),
    "both": ({"metric": np.eye(2), "domain": "nonnegative"}, "metric exclude each other"),
    "domain": ({"domain": "cube"}, "domain 'cube': use ball or nonnegative"),
    "radius 0": ({"radius": 0.0}, "radius 0.0: use a positive number"),
    "radius NaN": ({"radius": math.nan}, "radius nan: use a positive number"),
    "radius inf": ({"radius": math.inf}, "radius inf: use a positive number"),
    "slopes": ({"activation": prelu(0.1, 0.2)}, "2 slopes for 3 rows: use 1 or 3"),
    "slopes NaN": ({"activation": prelu(math.nan)}, "slopes holds NaN"),
    "ceiling": ({"activation": clip(0.0)}, "ceiling 0.0: use a positive number, or None"),
    "no ranks": ({"ranks": []}, r"ranks \(\): use numbers from 0 to 1"),
    "rank 2": ({"ranks": [0, 2]}, r"ranks \(0, 2\): use numbers from 0 to 1"),
    "rank -1": ({"ranks": [-1]}, r"ranks \(-1,\): use numbers from 0 to 1"),
    "iterations": ({"iterations": 0}, "iterations 0: use 1 or more"),
    "starts": ({"starts": 0}, "starts 0: use 1 or more"),
    "certificates": ({"certificate_steps": -1}, "certificate_steps -1: use 0 or more"),
    "approximation": ({"approximation_steps": -1}, "approximation_steps -1: use 0 or more"),
    "seed": ({"seed": -1}, "seed -1: use 0 or more"),
}


def test_what_is_refused() -> None:
    for changes, text in REFUSED.values():
        with pytest.raises(UsageError, match=text):
            measured(**{"weight": ONES} | changes)  # type: ignore[arg-type]
