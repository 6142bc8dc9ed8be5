"""Balanced factors: the same product, equal norms, and the least sum of squares."""

from itertools import product

import numpy as np
from examples import conv, factor_shapes
from hypothesis import given
from hypothesis import strategies as st

from onnx_relusv.core.blocks import Floats
from onnx_relusv.rewrites.low_rank.forms import FORMS

GEOMETRY = conv(6, 8, (3, 2), groups=2)
NAMES = ["channel", "spatial", "tucker"]


def uneven(form: str, rank: int, seed: int) -> list[Floats]:
    """Factors whose inner channels differ by orders of magnitude."""
    rng = np.random.default_rng(seed)
    shapes = factor_shapes(form, GEOMETRY, rank)
    return [
        rng.standard_normal(shape) * 10 ** rng.uniform(-3, 3, (*shape[:2], 1)) for shape in shapes
    ]


def sum_of_squares(matrices: list[Floats] | tuple[Floats, ...]) -> float:
    return float(sum(np.sum(matrix**2) for matrix in matrices))


@given(st.sampled_from(NAMES), st.integers(1, 4), st.integers(0, 999))
def test_the_product_stays_and_the_norms_get_equal(form: str, rank: int, seed: int) -> None:
    matrices = uneven(form, rank, seed)
    found = FORMS[form].balanced(*matrices)
    before = FORMS[form].compose(GEOMETRY, *matrices)
    after = FORMS[form].compose(GEOMETRY, *found)
    # Scales are multiplied and divided by; sums of a few products.
    assert np.allclose(after, before, rtol=1e-9, atol=1e-12 * np.abs(before).max())
    if form == "tucker":
        first, core, second = found
        split = core.reshape(*core.shape[:2], first.shape[1], -1)
        assert np.allclose(np.sum(first**2, axis=2), np.sum(split**2, axis=(1, 3)), rtol=1e-10)
        found = (core, second)
    assert np.allclose(np.sum(found[0] ** 2, axis=2), np.sum(found[-1] ** 2, axis=1), rtol=1e-10)


def test_no_other_scales_have_a_smaller_sum_of_squares() -> None:
    for form in NAMES:
        rng = np.random.default_rng(0)
        matrices = uneven(form, 4, 1)
        found = FORMS[form].balanced(*matrices)
        least = sum_of_squares(found)
        assert least < sum_of_squares(matrices)
        for size in (1e-2, 1e-1, 1.0):
            other = [np.array(matrix) for matrix in found]
            scale = np.exp(size * rng.standard_normal(other[-1].shape[2]))
            other[-1] /= scale
            other[-2] *= scale[:, None]
            assert sum_of_squares(other) > least


def test_channels_that_are_zero_on_one_side_stay() -> None:
    for side, form in product(("first", "last"), NAMES):
        matrices = uneven(form, 4, 2)
        if side == "first":
            matrices[0][:, 0] = 0
        else:
            matrices[-1][:, :, 0] = 0
        found = FORMS[form].balanced(*matrices)
        assert all(np.isfinite(matrix).all() for matrix in found)
        before = FORMS[form].compose(GEOMETRY, *matrices)
        after = FORMS[form].compose(GEOMETRY, *found)
        assert np.allclose(after, before, rtol=1e-9, atol=1e-12 * np.abs(before).max())
