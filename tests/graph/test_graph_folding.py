"""The folded linear map, evaluated densely in float64, equals what onnxruntime computes."""

from pathlib import Path

import numpy as np
import pytest
from convolutions import Convolution, convolutions
from graphs import evaluated, gap, model_proto, normal, normalization, run, search
from hypothesis import HealthCheck, given, settings
from patterns import PATTERNS

# Float32 sums of at most 100 products, and a normalisation behind them; a map that was read
# wrongly is off by far more than a hundredth.
ROUNDING = 1e-6


@pytest.mark.parametrize("name", PATTERNS)
def test_a_folded_block_equals_its_nodes(name: str, tmp_path: Path) -> None:
    pattern = PATTERNS[name]
    searched = search(pattern.proto(), tmp_path, pattern.feeds())
    block, linear = searched.block, searched.linear()
    geometry = block.geometry
    assert linear.weight.shape == (geometry.groups, geometry.rows, geometry.columns)
    assert linear.bias.shape == (geometry.out_channels,)
    assert linear.weight.dtype == linear.bias.dtype == np.float64
    values = run(searched.model.path, pattern.feeds(), [block.pre_activation])
    expected = evaluated(block, linear, pattern.feeds()["x"])
    assert gap(values[block.pre_activation], expected) < ROUNDING


def test_a_block_without_bias_has_zeros(tmp_path: Path) -> None:
    pattern = PATTERNS["matmul"]
    searched = search(pattern.proto(), tmp_path, pattern.feeds())
    np.testing.assert_array_equal(searched.linear().bias, np.zeros(5))


def test_a_large_mean_is_folded_without_loss(tmp_path: Path) -> None:
    # The bias is the mean times the scale, so that float32 would drop the small remainder.
    vectors = normalization(5) | {"mean": np.full(5, 2.0**20, np.float32)}
    proto = model_proto(
        "(float[N,6] x) => (y) { h = Gemm(x, w, b)"
        " y = BatchNormalization(h, gamma, beta, mean, variance) }",
        {"w": normal(6, 5), "b": np.full(5, 2.0**20 + 0.125, np.float32), **vectors},
    )
    searched = search(proto, tmp_path, {"x": normal(3, 6)})
    scale = vectors["gamma"] / np.sqrt(vectors["variance"].astype(np.float64) + 1e-5)
    expected = scale * 0.125 + vectors["beta"]
    np.testing.assert_allclose(searched.linear().bias, expected, rtol=1e-6)


@settings(
    max_examples=200,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(convolutions())
def test_patches_are_those_of_onnxruntime(tmp_path: Path, convolution: Convolution) -> None:
    proto, feeds = convolution.proto(), convolution.feeds()
    searched = search(proto, tmp_path, feeds)
    result = run(proto, feeds)["y"]
    assert gap(result, evaluated(searched.block, searched.linear(), feeds["x"])) < ROUNDING
