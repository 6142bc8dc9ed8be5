"""What BatchNormalization tells of tensors behind it, and where that ends."""

from pathlib import Path

import numpy as np
import pytest
from graphs import model_proto, normal, normalization, saved

from onnx_relusv.core.blocks import Activation
from onnx_relusv.graph.channels.operator import ChannelStatistics
from onnx_relusv.graph.channels.operators import channel_statistics
from onnx_relusv.graph.nodes import view
from onnx_relusv.spectra.mean_widths import activated_gaussian

VECTORS = normalization(3)
MEAN = VECTORS["beta"].astype(np.float64)
VARIANCE = VECTORS["gamma"].astype(np.float64) ** 2


def found(
    folder: Path, body: str, arrays: dict[str, np.ndarray] | None = None
) -> ChannelStatistics | None:
    """The statistics of `y`; `n` is a BatchNormalization of the input."""
    text = (
        "(float[N,3,4,4] x) => (float[N,?,?,?] y) {"
        f" n = BatchNormalization(x, gamma, beta, mean, variance) {body} }}"
    )
    model = saved(model_proto(text, VECTORS | (arrays or {})), folder)
    return channel_statistics(model, view(model), ["y"], activated_gaussian).get("y")


def check(statistics: ChannelStatistics | None, mean: np.ndarray, variance: np.ndarray) -> None:
    assert statistics is not None
    # The same numbers in the same type, but for the order of sums.
    np.testing.assert_allclose(statistics.mean, mean, rtol=1e-12)
    np.testing.assert_allclose(statistics.variance, variance, rtol=1e-12)


@pytest.mark.parametrize(
    "body",
    [
        "y = Identity(n)",
        "y = Dropout(n)",
        "y = GlobalAveragePool(n)",
        "y = AveragePool<kernel_shape=[2,2]>(n)",
        "y = Flatten(n)",
        "d = Identity(n) y = Flatten<axis=1>(d)",
    ],
)
def test_what_changes_nothing(tmp_path: Path, body: str) -> None:
    statistics = found(tmp_path, body)
    check(statistics, MEAN, VARIANCE)
    assert statistics is not None
    assert statistics.flattened == ("Flatten" in body)


def test_activations_are_in_closed_form_and_sums_are_of_independent_branches(
    tmp_path: Path,
) -> None:
    rectified = (np.random.default_rng(0).standard_normal((400_000, 3))) * VARIANCE**0.5 + MEAN
    rectified = np.maximum(rectified, 0)
    statistics = found(tmp_path, "y = Relu(n)")
    assert statistics is not None
    four_errors = 4 * rectified.std(axis=0) / 400_000**0.5
    assert (abs(statistics.mean - rectified.mean(axis=0)) < four_errors).all()
    np.testing.assert_allclose(statistics.variance, rectified.var(axis=0), rtol=0.02)
    total = found(tmp_path, "r = Relu(n) y = Add(n, r)")
    check(total, MEAN + statistics.mean, VARIANCE + statistics.variance)


@pytest.mark.parametrize(
    "body",
    [
        "y = MaxPool<kernel_shape=[2,2]>(n)",
        "y = Sigmoid(n)",
        "y = Flatten<axis=2>(n)",
        "y = Add(n, x)",
        "y = Mul(n, n)",
        "f = Flatten(n) g = GlobalAveragePool(n) y = Add(f, g)",
        "y = Clip(n, low, high)",
        "y = Dropout(n, low, on)",
    ],
)
def test_what_ends_the_walk(tmp_path: Path, body: str) -> None:
    arrays = {"low": np.float32(-1), "high": np.float32(1), "on": np.array(True)}
    used = {name: np.asarray(value) for name, value in arrays.items() if f"{name}" in body}
    assert found(tmp_path, body, used) is None


def test_statistics_that_are_not_there(tmp_path: Path) -> None:
    assert found(tmp_path, "y = Relu(x)") is None
    # Scales that are computed, and a normalisation that is still in training.
    text = (
        "(float[N,3,4,4] x, float[3] g) => (float[N,3,4,4] y) {"
        " y = BatchNormalization(x, g, beta, mean, variance) }"
    )
    arrays = {name: VECTORS[name] for name in ("beta", "mean", "variance")}
    model = saved(model_proto(text, arrays), tmp_path)
    assert channel_statistics(model, view(model), ["y"], activated_gaussian) == {}
    text = (
        "(float[N,3,4,4] x) => (float[N,3,4,4] y) { y, a, b = BatchNormalization"
        "<training_mode=1>(x, gamma, beta, mean, variance) }"
    )
    model = saved(model_proto(text, VECTORS), tmp_path)
    assert channel_statistics(model, view(model), ["y"], activated_gaussian) == {}


def test_a_prelu_with_a_slope_a_channel_is_followed(tmp_path: Path) -> None:
    slopes = abs(normal(3, 1, 1, seed=5))
    statistics = found(tmp_path, "y = PRelu(n, s)", {"s": slopes})
    exact = [
        activated_gaussian(
            MEAN[[channel]],
            VARIANCE[[channel]],
            _leaky(float(slopes[channel, 0, 0])),
        )
        for channel in range(3)
    ]
    check(statistics, *(np.concatenate(part) for part in zip(*exact, strict=True)))


def _leaky(slope: float) -> Activation:
    return Activation(kind="leaky_relu", slopes=np.array([slope]))
