"""The mean width behind an activation against closed forms and its bounds."""

import math

import numpy as np
import pytest
from enumeration import phi
from examples import RELU, prelu

from onnx_relusv.records import Activation, Floats
from onnx_relusv.runtime.session import CPU
from onnx_relusv.spectra.mean_width import mean_width
from onnx_relusv.spectra.relu_values import WidthEstimate, activated_width
from onnx_relusv.spectra.singular import decompose


def width(
    W: Floats, activation: Activation, *, draws: int = 2000, iterations: int = 30, seed: int = 0
) -> WidthEstimate:
    return activated_width(
        decompose(W).reduced,
        activation,
        draws=draws,
        iterations=iterations,
        seed=seed,
        provider=CPU,
    )


def mean_length(size: int) -> float:
    """Of a standard normal vector."""
    return math.sqrt(2) * math.gamma((size + 1) / 2) / math.gamma(size / 2)


CLOSED_FORMS = {
    # max(g, 0)
    "one row": (np.array([[1.0]]), RELU, 1 / math.sqrt(2 * math.pi)),
    # max(g1, g2, 0): half the mean range of three numbers, which is half the sum of their gaps.
    "two rows": (
        np.array([[1.0], [-1.0]]),
        RELU,
        math.sqrt(2 / math.pi) * (2 + math.sqrt(2)) / 4,
    ),
    # |max(g, 0)|: a vector of as many normal numbers as are positive.
    "identity": (
        np.eye(5),
        RELU,
        sum(math.comb(5, k) / 32 * mean_length(k) for k in range(1, 6)),
    ),
    # Linear.
    "slope one": (np.diag([2.0, 1.0]), prelu(1.0), mean_width(np.array([2.0, 1.0]))),
}


@pytest.mark.parametrize("name", CLOSED_FORMS)
def test_the_activated_width_against_closed_forms(name: str) -> None:
    W, activation, exact = CLOSED_FORMS[name]
    found = width(W, activation)
    # Four standard errors of sampling, and 1 % for ascents that stop early.
    assert found.value <= exact + 4 * found.standard_error
    assert found.value >= 0.99 * exact - 4 * found.standard_error
    assert 0 < found.standard_error < 0.04 * exact


@pytest.mark.parametrize("slope", [0.0, 0.1, 0.7, 1.0])
def test_the_activated_width_lies_between_its_bounds(slope: float) -> None:
    for seed in range(4):
        rng = np.random.default_rng(seed)
        W = rng.standard_normal((15, 8)) @ rng.standard_normal((8, 12))
        linear = mean_width(decompose(W).sigma)
        found = width(W, prelu(slope), draws=300)
        # w (1 + a) / 2 <= w_phi <= w; found from below, so the left side shows it comes close.
        assert (1 + slope) / 2 * linear <= found.value + 4 * found.standard_error
        assert found.value <= linear + 4 * found.standard_error


def test_each_supremum_is_met_from_below() -> None:
    # On a circle, by a fine grid; the same draws of g as inside.
    W = np.random.default_rng(0).standard_normal((6, 2))
    reduced = decompose(W).reduced
    angle = np.linspace(0, 2 * np.pi, 5001)
    images = phi(reduced @ np.stack([np.cos(angle), np.sin(angle)]), RELU)
    g = np.random.default_rng(3).standard_normal((6, 50), dtype=np.float32)
    # The unit ball's supremum is never negative: x = 0 is in it.
    suprema = np.maximum((g.T.astype(float) @ images).max(axis=1), 0)
    found = width(W, RELU, draws=50, seed=3)
    # The grid is off by less than 1e-5 of the supremum's scale.
    assert found.value <= suprema.mean() * (1 + 1e-4)
    assert found.value >= 0.97 * suprema.mean()


def test_a_seed_repeats_the_width() -> None:
    W = np.random.default_rng(0).standard_normal((9, 7))
    assert width(W, RELU, draws=20) == width(W, RELU, draws=20)
    assert width(W, RELU, draws=20) != width(W, RELU, draws=20, seed=1)


@pytest.mark.parametrize("scale", [1e-30, 1e-15, 1e-3, 1e3, 1e15, 1e30])
def test_the_width_scales_with_the_map(scale: float) -> None:
    W = np.random.default_rng(0).standard_normal((6, 5))
    once, scaled = (width(factor * W, RELU, draws=8, iterations=5) for factor in (1, scale))
    # The scaled weights round differently to float32, and five steps amplify that.
    assert scaled.value == pytest.approx(scale * once.value, rel=1e-4)
    assert scaled.standard_error == pytest.approx(scale * once.standard_error, rel=1e-3)


def test_the_zero_map() -> None:
    assert width(np.zeros((3, 2)), RELU) == WidthEstimate(0.0, 0.0)
