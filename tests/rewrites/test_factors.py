"""Factors against explicit weighted decompositions, with a Cholesky root of the metric."""

from dataclasses import replace
from itertools import product

import numpy as np
import pytest
from examples import block, conv, conv_geometries, gemm, linear_map, matmul, moments
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto

from onnx_relusv.core.blocks import Floats, Geometry, LinearMap, Moments
from onnx_relusv.core.plans import Factors
from onnx_relusv.rewrites.low_rank.factors import as_stored, composed_level, decompose_block
from onnx_relusv.rewrites.low_rank.forms import FORMS, available_forms, double_layer

GEOMETRIES = {
    "wide": gemm(30, 12),
    "tall": gemm(12, 30),
    "matmul": matmul(20, 20),
    "conv": conv(4, 10, (3, 3)),
    "tall conv": conv(2, 40, (3, 3)),
    "grouped conv": conv(6, 8, (3, 2), groups=2),
    "depthwise": conv(3, 6, (3, 3), groups=3),
    "1-D conv": conv(5, 9, (4,)),
}
# A level is the root of what float64 leaves of a difference of squares.
ROOT_OF_ROUNDING = 1e-7


def cases() -> list[tuple[str, str]]:
    return [
        (name, form) for name, geometry in GEOMETRIES.items() for form in available_forms(geometry)
    ]


def made(name: str, *, with_moments: bool) -> tuple[Geometry, LinearMap, Moments | None]:
    rng = np.random.default_rng(0)
    geometry = GEOMETRIES[name]
    linear = linear_map(geometry, rng)
    return geometry, linear, moments(geometry, rng) if with_moments else None


def composed(geometry: Geometry, factors: Factors) -> Floats:
    return FORMS[factors.form].compose(geometry, *factors.matrices)


def roots(geometry: Geometry, seen: Moments | None) -> Floats:
    """C^(1/2) up to a rotation, (groups, columns, columns)."""
    if seen is None:
        return np.broadcast_to(np.eye(geometry.columns), (geometry.groups, *[geometry.columns] * 2))
    return np.linalg.cholesky(seen.covariance)


def direct_level(geometry: Geometry, linear: LinearMap, L: Floats, seen: Moments | None) -> float:
    """|(W - L) C^(1/2)| over |W C^(1/2)|, each the largest over the groups."""
    root = roots(geometry, seen)
    gaps = np.linalg.norm((linear.weight - L) @ root, 2, axis=(1, 2))
    return float(gaps.max() / np.linalg.norm(linear.weight @ root, 2, axis=(1, 2)).max())


def level_of(
    geometry: Geometry, linear: LinearMap, factors: Factors, seen: Moments | None
) -> float:
    return composed_level(linear, composed(geometry, factors), seen)


def ranks_of(form: str, geometry: Geometry) -> list[int]:
    largest = FORMS[form].largest_rank(geometry)
    return sorted({1, 2, largest // 2, largest - 1, largest} & set(range(1, largest + 1)))


@pytest.mark.parametrize(
    ("name", "form"), [case for case in cases() if case[1] in ("pair", "channel")]
)
def test_pair_and_channel_are_the_best_of_their_rank(name: str, form: str) -> None:
    for with_moments in (False, True):
        geometry, linear, seen = made(name, with_moments=with_moments)
        root = roots(geometry, seen)
        for rank in ranks_of(form, geometry):
            L = composed(geometry, double_layer(form, geometry, linear, seen, rank))
            for group in range(geometry.groups):
                # Eckart, Young, Mirsky: no matrix of this rank is nearer in either norm.
                u, sigma, vt = np.linalg.svd(
                    linear.weight[group] @ root[group], full_matrices=False
                )
                rest = (linear.weight[group] - L[group]) @ root[group]
                scale = sigma[0]
                assert np.linalg.matrix_rank(L[group]) <= rank
                assert np.linalg.norm(rest, 2) == pytest.approx(
                    np.append(sigma, 0)[rank], rel=1e-9, abs=1e-12 * scale
                )
                assert np.linalg.norm(rest) == pytest.approx(
                    np.linalg.norm(sigma[rank:]), rel=1e-9, abs=1e-12 * scale
                )
                best = (u[:, :rank] * sigma[:rank]) @ vt[:rank]
                # The spectra have gaps of at least a per cent or so at these ranks.
                assert np.allclose(L[group] @ root[group], best, rtol=0, atol=1e-9 * scale)


@pytest.mark.parametrize(("name", "form"), cases())
def test_the_stated_level_is_the_composed_kernel_s(name: str, form: str) -> None:
    for with_moments in (False, True):
        geometry, linear, seen = made(name, with_moments=with_moments)
        ranks = ranks_of(form, geometry)
        parts = decompose_block(linear, seen)
        stated = FORMS[form].levels(geometry, linear, seen, parts, ranks)
        for rank, level in zip(ranks, stated, strict=True):
            factors = double_layer(form, geometry, linear, seen, rank)
            L = composed(geometry, factors)
            direct = direct_level(geometry, linear, L, seen)
            assert level == pytest.approx(direct, rel=1e-6, abs=ROOT_OF_ROUNDING)
            assert composed_level(linear, L, seen) == pytest.approx(direct, rel=1e-9, abs=1e-12)
            if form in ("pair", "channel"):
                sigma = np.max([np.append(part.sigma, 0) for part in parts], axis=0)
                assert level == sigma[rank] / sigma[0]


@pytest.mark.parametrize("name", ["conv", "tall conv", "grouped conv"])
def test_plain_spatial_is_the_truncated_svd_of_the_unfolded_kernel(name: str) -> None:
    geometry, linear, _ = made(name, with_moments=False)
    height, width = geometry.kernel
    kernels = linear.weight.reshape(geometry.groups, geometry.rows, -1, height, width)
    for rank in ranks_of("spatial", geometry):
        L = composed(geometry, double_layer("spatial", geometry, linear, None, rank))
        for kernel, got in zip(kernels, L, strict=True):
            unfolded = kernel.transpose(0, 3, 1, 2).reshape(geometry.rows * width, -1)
            u, sigma, vt = np.linalg.svd(unfolded, full_matrices=False)
            best = ((u[:, :rank] * sigma[:rank]) @ vt[:rank]).reshape(
                geometry.rows, width, -1, height
            )
            expected = best.transpose(0, 2, 3, 1).reshape(geometry.rows, -1)
            assert np.allclose(got, expected, rtol=0, atol=1e-10)


def spatial_gap(geometry: Geometry, linear: LinearMap, seen: Moments, L: Floats) -> float:
    """E |(W - L) x|^2 over the centred inputs."""
    return float(
        sum(
            np.linalg.norm((weight - other) @ root) ** 2
            for weight, other, root in zip(linear.weight, L, roots(geometry, seen), strict=True)
        )
    )


def test_spatial_in_a_metric_is_least_squares_for_its_second_layer() -> None:
    for name in ("conv", "grouped conv"):
        geometry, linear, seen = made(name, with_moments=True)
        assert seen is not None, name
        factors = double_layer("spatial", geometry, linear, seen, 2)
        least = spatial_gap(geometry, linear, seen, composed(geometry, factors))
        rng = np.random.default_rng(3)
        for size in (1e-3, 1e-2, 1e-1):
            moved = factors.matrices[-1] + size * rng.standard_normal(factors.matrices[-1].shape)
            other = FORMS["spatial"].compose(geometry, factors.matrices[0], moved)
            assert spatial_gap(geometry, linear, seen, other) > least, name
        # The plain answer, best for C = I, is worse where C is not.
        plain = double_layer("spatial", geometry, linear, None, 2)
        assert spatial_gap(geometry, linear, seen, composed(geometry, plain)) > 1.05 * least, name


@pytest.mark.parametrize("name", ["conv", "tall conv", "grouped conv"])
def test_spatial_s_first_layer_is_the_best_in_the_mean_column_s_metric(name: str) -> None:
    geometry, linear, seen = made(name, with_moments=True)
    assert seen is not None
    height, width = geometry.kernel
    for rank in (1, 3):
        factors = double_layer("spatial", geometry, linear, seen, rank)
        for group in range(geometry.groups):
            blocks = seen.covariance[group].reshape(*[geometry.columns // width, width] * 2)
            column = sum(blocks[:, x, :, x] for x in range(width)) / width
            kernel = linear.weight[group].reshape(geometry.rows, -1, height, width)
            unfolded = kernel.transpose(0, 3, 1, 2).reshape(geometry.rows * width, -1)
            root = np.linalg.cholesky(column)
            left = np.linalg.svd(unfolded @ root, full_matrices=False)[0][:, :rank]
            expected = np.linalg.qr((left.T @ unfolded).T)[0]
            found = np.linalg.qr(factors.matrices[0][group].T)[0]
            # Projections on two spaces of the same dimension: equal but for float64 rounding over
            # the gap between two singular values.
            assert np.allclose(found @ found.T, expected @ expected.T, rtol=0, atol=1e-9)


def test_spatial_in_a_multiple_of_the_identity_is_the_plain_answer() -> None:
    geometry, linear, seen = made("conv", with_moments=True)
    assert seen is not None
    isotropic = replace(seen, covariance=3 * np.eye(geometry.columns)[None])
    for rank in (1, 4):
        one = composed(geometry, double_layer("spatial", geometry, linear, isotropic, rank))
        other = composed(geometry, double_layer("spatial", geometry, linear, None, rank))
        assert np.allclose(one, other, rtol=0, atol=1e-10)


@pytest.mark.parametrize(("name", "form"), cases())
def test_the_full_rank_reproduces_the_map(name: str, form: str) -> None:
    for with_moments in (False, True):
        geometry, linear, seen = made(name, with_moments=with_moments)
        largest = FORMS[form].largest_rank(geometry)
        factors = double_layer(form, geometry, linear, seen, largest)
        # The metric's condition of 1000 stands between the rounding and W.
        assert np.allclose(composed(geometry, factors), linear.weight, rtol=0, atol=1e-10)
        assert np.allclose(factors.bias, linear.bias, rtol=0, atol=1e-10)
        assert level_of(geometry, linear, factors, seen) < 1e-10
        stated = FORMS[form].levels(
            geometry, linear, seen, decompose_block(linear, seen), [largest]
        )
        assert stated[0] < ROOT_OF_ROUNDING


def test_the_bias_absorbs_the_mean() -> None:
    for name, form in cases():
        geometry, linear, seen = made(name, with_moments=True)
        assert seen is not None, name
        factors = double_layer(form, geometry, linear, seen, 1)
        L = composed(geometry, factors)
        for group in range(geometry.groups):
            of_group = slice(group * geometry.rows, (group + 1) * geometry.rows)
            before = linear.weight[group] @ seen.mean[group] + linear.bias[of_group]
            after = L[group] @ seen.mean[group] + factors.bias[of_group]
            assert np.allclose(before, after, rtol=0, atol=1e-12), name
        assert np.abs(factors.bias - linear.bias).max() > 1e-3, name
        plain = double_layer(form, geometry, linear, None, 1)
        assert np.array_equal(plain.bias, linear.bias), name


def test_both_sides_of_an_inner_channel_are_equally_long() -> None:
    for name, form in cases():
        geometry, linear, seen = made(name, with_moments=True)
        factors = double_layer(form, geometry, linear, seen, 2)
        before, after = factors.matrices[0], factors.matrices[-1]
        if len(factors.matrices) == 3:
            # Each of its inner channels is before one end of the core, or behind the other.
            in_front = before.shape[1]
            by_channel = factors.matrices[1].reshape(*factors.matrices[1].shape[:2], in_front, -1)
            inputs = np.linalg.norm(by_channel, axis=(1, 3))
            assert np.allclose(np.linalg.norm(before, axis=2), inputs, rtol=1e-12), name
            before = factors.matrices[1]
        assert np.allclose(
            np.linalg.norm(before, axis=2), np.linalg.norm(after, axis=1), rtol=1e-12
        ), name
        assert (factors.form, factors.rank) == (form, 2), name
        shapes = tuple((geometry.groups, *shape) for shape in FORMS[form].shapes(geometry, 2))
        assert tuple(matrix.shape for matrix in factors.matrices) == shapes, name


def test_what_is_stored_is_composed_from_rounded_factors() -> None:
    for element_type, dtype in ((TensorProto.FLOAT16, np.float16), (TensorProto.FLOAT, np.float32)):
        geometry, linear, seen = made("grouped conv", with_moments=True)
        factors = double_layer("spatial", geometry, linear, seen, 2)
        stored = as_stored(block(geometry, (5, 5), element_type=element_type), factors)
        first, second = factors.matrices[0].astype(dtype), factors.matrices[-1].astype(dtype)
        expected = FORMS["spatial"].compose(
            geometry, first.astype(np.float64), second.astype(np.float64)
        )
        assert np.array_equal(stored.weight, expected)
        assert np.array_equal(stored.bias, factors.bias.astype(dtype).astype(np.float64))
        # Sums of two products of numbers around 1, each rounded twice; and rounded they are.
        error = np.abs(stored.weight - composed(geometry, factors)).max()
        assert 0 < error < 20 * np.finfo(dtype).eps


@pytest.mark.parametrize(("name", "form"), cases())
def test_another_metric_gives_a_worse_level(name: str, form: str) -> None:
    # Shows that the metric matters, and that the tests above can fail.
    geometry, linear, seen = made(name, with_moments=True)
    assert seen is not None
    rank = max(1, FORMS[form].largest_rank(geometry) // 3)
    inverse = replace(seen, covariance=np.linalg.inv(seen.covariance))
    right = double_layer(form, geometry, linear, seen, rank)
    wrong = double_layer(form, geometry, linear, inverse, rank)
    best = level_of(geometry, linear, right, seen)
    assert best < 0.98 * level_of(geometry, linear, wrong, seen)


def test_a_group_s_rank_is_cut_in_every_group() -> None:
    # The largest gap and the largest norm decide, whichever groups they are in.
    geometry, linear, _ = made("grouped conv", with_moments=False)
    weight = linear.weight * np.array([1.0, 10.0])[:, None, None]
    scaled = LinearMap(weight, linear.bias)
    sigma = [np.linalg.svd(W, compute_uv=False) for W in weight]
    found = FORMS["channel"].levels(geometry, scaled, None, decompose_block(scaled, None), [1, 2])
    for rank, level in zip((1, 2), found, strict=True):
        assert level == pytest.approx(max(s[rank] for s in sigma) / sigma[1][0], rel=1e-9)


@pytest.mark.parametrize("form", ["channel", "spatial", "tucker"])
@pytest.mark.parametrize("name", ["conv", "tall conv"])
def test_dead_channels(name: str, form: str) -> None:
    for dead, with_moments in product(
        ("output", "input", "all but one", "everything"), (False, True)
    ):
        geometry, linear, seen = made(name, with_moments=with_moments)
        kernel = linear.weight.reshape(1, geometry.rows, -1, *geometry.kernel).copy()
        if dead == "output":
            kernel[:, 0] = 0
        elif dead == "input":
            kernel[:, :, 0] = 0
        elif dead == "all but one":
            kernel[:, 1:] = 0
        else:
            kernel[:] = 0
        linear = LinearMap(kernel.reshape(linear.weight.shape), linear.bias)
        ranks = list(range(1, FORMS[form].largest_rank(geometry) + 1))
        stated = FORMS[form].levels(geometry, linear, seen, decompose_block(linear, seen), ranks)
        for rank in ranks:
            factors = double_layer(form, geometry, linear, seen, rank)
            assert all(np.isfinite(matrix).all() for matrix in factors.matrices)
            level = level_of(geometry, linear, factors, seen)
            assert level == pytest.approx(stated[rank - 1], rel=1e-6, abs=ROOT_OF_ROUNDING)
            # Stored factors stay in the range of the weights, which low precision needs.
            largest = max(np.abs(matrix).max() for matrix in factors.matrices)
            assert largest <= max(1, 10 * np.abs(linear.weight).max())
        assert stated[-1] < ROOT_OF_ROUNDING
        if form == "tucker":
            continue
        # The rank that the kernel has is enough for either of the other forms.
        needed = np.linalg.matrix_rank(FORMS[form].unfold(geometry, linear.weight)[0])
        assert stated[max(needed, 1) - 1] < ROOT_OF_ROUNDING


@settings(max_examples=30)
@given(
    conv_geometries(smallest_kernel=2),
    st.sampled_from(["channel", "spatial", "tucker"]),
    st.integers(0, 10**6),
    st.booleans(),
)
def test_levels_fall_with_the_rank_and_are_reached(
    geometry: Geometry, form: str, seed: int, with_moments: bool
) -> None:
    rng = np.random.default_rng(seed)
    linear = linear_map(geometry, rng)
    seen = moments(geometry, rng) if with_moments else None
    ranks = list(range(1, FORMS[form].largest_rank(geometry) + 1))
    stated = FORMS[form].levels(geometry, linear, seen, decompose_block(linear, seen), ranks)
    for rank, level in zip(ranks, stated, strict=True):
        factors = double_layer(form, geometry, linear, seen, rank)
        reached = level_of(geometry, linear, factors, seen)
        assert reached == pytest.approx(level, rel=1e-6, abs=ROOT_OF_ROUNDING)
    assert stated[-1] < ROOT_OF_ROUNDING
    if form == "channel":
        assert np.all(np.diff(stated) <= 0)
        assert stated[0] <= 1
