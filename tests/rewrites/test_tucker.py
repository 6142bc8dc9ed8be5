"""Tucker factors against explicit weighted decompositions, with a Cholesky root of the metric."""

import itertools
from dataclasses import replace
from math import prod

import numpy as np
import pytest
from examples import block, conv, linear_map, moments
from onnx import TensorProto

from onnx_relusv.core.blocks import Floats, Geometry, LinearMap, Moments
from onnx_relusv.core.plans import Factors
from onnx_relusv.rewrites.low_rank.factors import as_stored, decompose_block
from onnx_relusv.rewrites.low_rank.forms import FORMS, double_layer
from onnx_relusv.rewrites.low_rank.tucker import tucker_widths

GEOMETRIES = {
    "conv": conv(6, 10, (3, 3)),
    "tall": conv(4, 50, (3, 3)),
    "groups": conv(8, 8, (3, 2), groups=2),
    "1-D": conv(7, 9, (4,)),
    "3-D": conv(4, 8, (2, 2, 2)),
}


def made(name: str) -> tuple[Geometry, LinearMap, Moments]:
    rng = np.random.default_rng(0)
    geometry = GEOMETRIES[name]
    return geometry, linear_map(geometry, rng), moments(geometry, rng)


def plain(geometry: Geometry, scale: float = 1.0) -> Moments:
    identity = np.broadcast_to(
        scale * np.eye(geometry.columns), (geometry.groups, *[geometry.columns] * 2)
    )
    mean = np.zeros((geometry.groups, geometry.columns))
    return Moments(
        mean=mean, covariance=identity, rows=1, samples=1, shrinkage=np.zeros(geometry.groups)
    )


def composed(geometry: Geometry, factors: Factors) -> Floats:
    return FORMS["tucker"].compose(geometry, *factors.matrices)


def gap(linear: LinearMap, seen: Moments, L: Floats) -> float:
    """E |(W - L) x|^2 over the centred inputs, groups added."""
    rest = linear.weight - L
    return float(np.einsum("grc,gcd,grd->", rest, seen.covariance, rest, optimize=True))


def in_front(geometry: Geometry, first: Floats) -> Floats:
    """S = U_in' (x) I of one group, (p * values, columns)."""
    return np.kron(first, np.eye(prod(geometry.kernel)))


@pytest.mark.parametrize("name", GEOMETRIES)
def test_the_normal_equations_of_the_core_hold(name: str) -> None:
    for in_data_metric in (False, True):
        geometry, linear, seen = made(name)
        factors = double_layer("tucker", geometry, linear, seen if in_data_metric else None, 4)
        seen = seen if in_data_metric else plain(geometry)
        L = composed(geometry, factors)
        for g in range(geometry.groups):
            S = in_front(geometry, factors.matrices[0][g])
            left = factors.matrices[-1][g].T @ (linear.weight[g] - L[g]) @ seen.covariance[g] @ S.T
            size = np.abs(
                factors.matrices[-1][g].T @ linear.weight[g] @ seen.covariance[g] @ S.T
            ).max()
            # Float64 sums behind a covariance of condition 1000.
            assert np.abs(left).max() < 1e-11 * size


@pytest.mark.parametrize("name", GEOMETRIES)
def test_core_and_second_layer_are_the_best_for_the_first(name: str) -> None:
    for in_data_metric in (False, True):
        geometry, linear, seen = made(name)
        given = seen if in_data_metric else None
        seen = seen if in_data_metric else plain(geometry)
        for rank in (1, 3, 5):
            factors = double_layer("tucker", geometry, linear, given, rank)
            _, behind = tucker_widths(geometry, rank)
            L = composed(geometry, factors)
            for g in range(geometry.groups):
                root = np.linalg.cholesky(seen.covariance[g])
                # Of what the first layer leaves of the input, projected; then Eckart, Young,
                # Mirsky.
                within = np.linalg.qr((in_front(geometry, factors.matrices[0][g]) @ root).T)[0]
                u, sigma, vt = np.linalg.svd(linear.weight[g] @ root @ within @ within.T)
                best = (u[:, :behind] * sigma[:behind]) @ vt[:behind]
                assert np.allclose(L[g] @ root, best, rtol=0, atol=1e-9 * sigma[0])


def test_a_moved_core_is_worse() -> None:
    for name in GEOMETRIES:
        geometry, linear, seen = made(name)
        factors = double_layer("tucker", geometry, linear, seen, 4)
        assert len(factors.matrices) == 3, name
        least = gap(linear, seen, composed(geometry, factors))
        rng = np.random.default_rng(3)
        for size in (1e-3, 1e-2, 1e-1):
            step = rng.standard_normal(factors.matrices[1].shape)
            first, core, second = factors.matrices
            moved = composed(
                geometry, replace(factors, matrices=(first, core + size * step, second))
            )
            assert gap(linear, seen, moved) > least, name
        # The plain answer, best for C = I, is worse where C is not.
        other = double_layer("tucker", geometry, linear, None, 4)
        assert gap(linear, seen, composed(geometry, other)) > 1.05 * least, name


@pytest.mark.parametrize("name", GEOMETRIES)
def test_the_first_layer_is_the_best_in_the_mean_metric_of_a_kernel_value(name: str) -> None:
    for in_data_metric in (False, True):
        geometry, linear, seen = made(name)
        given = seen if in_data_metric else None
        seen = seen if in_data_metric else plain(geometry)
        values = prod(geometry.kernel)
        for rank in (1, 5):
            factors = double_layer("tucker", geometry, linear, given, rank)
            for g in range(geometry.groups):
                split = seen.covariance[g].reshape(*[geometry.columns // values, values] * 2)
                mean = sum(split[:, v, :, v] for v in range(values)) / values
                kernel = linear.weight[g].reshape(geometry.rows, -1, values)
                unfolded = np.vstack([kernel[:, :, v] for v in range(values)])
                root = np.linalg.cholesky(mean)
                vt = np.linalg.svd(unfolded @ root, full_matrices=False)[2][
                    : factors.matrices[0].shape[1]
                ]
                # The span of U_in' is that of what the truncation multiplies inputs with.
                expected = np.linalg.qr((vt @ np.linalg.inv(root)).T)[0]
                found = np.linalg.qr(factors.matrices[0][g].T)[0]
                # Float64 rounding over the gap between two singular values.
                assert np.allclose(found @ found.T, expected @ expected.T, rtol=0, atol=1e-9)


def test_in_a_multiple_of_the_identity_it_is_the_plain_answer() -> None:
    for name in GEOMETRIES:
        geometry, linear, _ = made(name)
        for rank in (1, 4):
            one = double_layer("tucker", geometry, linear, plain(geometry, 3.0), rank)
            other = double_layer("tucker", geometry, linear, None, rank)
            first, second = composed(geometry, one), composed(geometry, other)
            assert np.allclose(first, second, rtol=0, atol=1e-10), name


def test_a_larger_rank_leaves_less() -> None:
    for name in GEOMETRIES:
        geometry, linear, seen = made(name)
        ranks = range(1, FORMS["tucker"].largest_rank(geometry) + 1)
        every = list(FORMS["tucker"].factors(geometry, linear, seen, ranks))
        left = [gap(linear, seen, composed(geometry, factors)) for factors in every]
        whole = gap(linear, seen, np.zeros_like(linear.weight))
        assert left[0] < whole, name
        # Float64 sums of squares.
        assert all(after <= before + 1e-12 * whole for before, after in itertools.pairwise(left)), (
            name
        )
        assert left[-1] < 1e-12 * whole, name
        # Made one by one they are the same.
        for rank in (1, ranks[-1] // 2 + 1):
            alone = double_layer("tucker", geometry, linear, seen, rank)
            L = composed(geometry, every[rank - 1])
            assert np.allclose(composed(geometry, alone), L, rtol=0, atol=1e-10), name


def test_levels_of_some_ranks_are_those_of_all() -> None:
    geometry, linear, seen = made("groups")
    parts = decompose_block(linear, seen)
    ranks = range(1, FORMS["tucker"].largest_rank(geometry) + 1)
    every = FORMS["tucker"].levels(geometry, linear, seen, parts, ranks)
    some = FORMS["tucker"].levels(geometry, linear, seen, parts, ranks[::3])
    # The root of what float64 leaves of a difference of squares.
    assert np.allclose(some, every[::3], rtol=1e-6, atol=1e-7)


def test_each_of_the_three_is_rounded() -> None:
    for element_type, dtype in ((TensorProto.FLOAT16, np.float16), (TensorProto.FLOAT, np.float32)):
        geometry, linear, seen = made("groups")
        factors = double_layer("tucker", geometry, linear, seen, 3)
        stored = as_stored(block(geometry, (5, 5), element_type=element_type), factors)
        rounded = [matrix.astype(dtype).astype(np.float64) for matrix in factors.matrices]
        assert np.array_equal(stored.weight, FORMS["tucker"].compose(geometry, *rounded))
        error = np.abs(stored.weight - composed(geometry, factors)).max()
        # Sums of a few products of numbers around 1, each rounded three times; and rounded they
        # are.
        assert 0 < error < 40 * np.finfo(dtype).eps
