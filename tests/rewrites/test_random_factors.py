import numpy as np
import pytest
from examples import conv, gemm, linear_map
from hypothesis import given
from hypothesis import strategies as st

from onnx_relusv.core.blocks import Geometry, LinearMap
from onnx_relusv.rewrites.low_rank.forms import FORMS, available_forms
from onnx_relusv.rewrites.low_rank.surgery import random_factors


@pytest.mark.parametrize(
    "geometry", [gemm(60, 40), conv(16, 24, (3, 3)), conv(16, 24, (3, 3), groups=2)]
)
@given(rank=st.integers(1, 8), scale=st.sampled_from([1e-3, 1.0, 1e3]), seed=st.integers(0, 99))
def test_they_have_the_shapes_and_about_the_size_of_the_block(
    geometry: Geometry, rank: int, scale: float, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    drawn = linear_map(geometry, rng)
    linear = LinearMap(scale * drawn.weight, np.zeros(geometry.out_channels))
    for form in available_forms(geometry):
        found = random_factors(form, geometry, linear, rank, rng)
        assert found.matrices[0].shape == (geometry.groups, *FORMS[form].shapes(geometry, rank)[0])
        assert found.matrices[-1].shape == (
            geometry.groups,
            *FORMS[form].shapes(geometry, rank)[-1],
        )
        norm = np.linalg.norm(FORMS[form].compose(geometry, *found.matrices))
        # Products of Gaussians: equal in the mean; of rank 1 they vary most, three more than two.
        assert 0.1 < norm / np.linalg.norm(linear.weight) < 5
        assert np.all(found.bias != 0)


def test_a_bias_stays() -> None:
    linear = linear_map(gemm(6, 4), np.random.default_rng(0))
    found = random_factors("pair", gemm(6, 4), linear, 2, np.random.default_rng(1))
    assert np.array_equal(found.bias, linear.bias)
