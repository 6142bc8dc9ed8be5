"""Moments of block inputs against numpy on every patch of every sample."""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from examples import block, conv, gemm, linear_map, matmul
from numpy.lib.stride_tricks import sliding_window_view
from onnx_graphs import node, runnable

from onnx_relusv.core.blocks import Block, Floats, Geometry, InputSpec, Moments
from onnx_relusv.rewrites.low_rank.factors import composed_level
from onnx_relusv.rewrites.low_rank.forms import FORMS, available_forms, double_layer
from onnx_relusv.runtime.session import CPU, Session
from onnx_relusv.samples.samples import open_samples
from onnx_relusv.spectra import moments
from onnx_relusv.spectra.moments import (
    ENOUGH,
    Enough,
    measure_moments,
    moments_key,
    oracle_shrinkage,
)

# Float64 sums of some hundreds of products of numbers around 1.
ROUNDING = 1e-12


@dataclass(frozen=True)
class Case:
    """A block, and what its patches are cut from: pads as begins and ends, worked out by hand."""

    geometry: Geometry
    lengths: tuple[int, ...]
    pads: tuple[tuple[int, int], ...] = ()


CASES = {
    "conv": Case(conv(3, 2, (3, 2)), (7, 6), ((0, 0), (0, 0))),
    "conv, pads": Case(conv(3, 2, (3, 2), pads=(2, 1, 0, 1)), (7, 6), ((2, 0), (1, 1))),
    "conv, strides": Case(
        conv(3, 2, (3, 3), strides=(2, 3), pads=(1, 1, 1, 1)), (7, 6), ((1, 1), (1, 1))
    ),
    "conv, dilations": Case(conv(2, 2, (2, 3), dilations=(3, 2)), (7, 6), ((0, 0), (0, 0))),
    "conv, groups": Case(conv(4, 6, (3, 2), groups=2, pads=(1, 0, 1, 0)), (5, 6), ((1, 1), (0, 0))),
    "conv, depthwise": Case(conv(3, 3, (3, 3), groups=3), (5, 5), ((0, 0), (0, 0))),
    "conv, SAME_UPPER": Case(
        conv(2, 2, (4, 3), strides=(1, 2), auto_pad="SAME_UPPER"), (5, 6), ((1, 2), (0, 1))
    ),
    "conv, SAME_LOWER": Case(
        conv(2, 2, (4, 3), strides=(1, 2), auto_pad="SAME_LOWER"), (5, 6), ((2, 1), (1, 0))
    ),
    "conv, VALID": Case(conv(2, 2, (4, 3), auto_pad="VALID"), (5, 6), ((0, 0), (0, 0))),
    "conv, 1x1": Case(conv(5, 2, (1, 1)), (4, 3), ((0, 0), (0, 0))),
    "conv, 1-D": Case(conv(3, 2, (3,), strides=(2,), dilations=(2,), pads=(1, 3)), (9,), ((1, 3),)),
    "gemm": Case(gemm(6, 3), ()),
    "matmul": Case(matmul(6, 3), (5,)),
}


def direct_rows(case: Case, values: Floats) -> Floats:
    """(groups, columns, rows): all that the weight of each group is multiplied with."""
    geometry = case.geometry
    if geometry.kind != "conv":
        return values.reshape(-1, geometry.in_channels).T[None]
    padded = np.pad(values, ((0, 0), (0, 0), *case.pads))
    reach = tuple((k - 1) * d + 1 for k, d in zip(geometry.kernel, geometry.dilations, strict=True))
    axes = tuple(range(2, 2 + len(reach)))
    windows = sliding_window_view(padded, reach, axis=axes)
    everything = (slice(None), slice(None))
    windows = windows[
        (
            *everything,
            *(slice(None, None, stride) for stride in geometry.strides),
            *(slice(None, None, dilation) for dilation in geometry.dilations),
        )
    ]
    samples, channels = values.shape[:2]
    flat = windows.reshape(samples, channels, -1, int(np.prod(geometry.kernel)))
    # (samples, channels, positions, taps) -> (channels, taps, samples, positions)
    ordered = flat.transpose(1, 3, 0, 2)
    return ordered.reshape(geometry.groups, geometry.columns, -1)


def expected_moments(rows: Floats, samples: int) -> tuple[Floats, Floats]:
    """Mean and shrunk covariance from the centred rows, in two passes."""
    mean = rows.mean(axis=2)
    centred = rows - mean[:, :, None]
    covariance = centred @ centred.transpose(0, 2, 1) / rows.shape[2]
    for group in covariance:
        # The floor of 1e-9 of the mean square plays no part here.
        share = oracle_shrinkage(group, samples)
        group[:] = (1 - share) * group + share * np.trace(group) / len(group) * np.eye(len(group))
    return mean, covariance


def measured(
    item: Block,
    values: np.ndarray,
    folder: Path,
    *,
    fixed_batch: int | None = None,
    seed: int = 0,
    seen: list[int] | None = None,
    enough: Enough = ENOUGH,
    alike: bool = False,
    **beside: np.ndarray,
) -> Moments:
    """Through a model whose source is a hidden tensor, the Relu of its input."""
    np.savez(folder / "samples.npz", x=values, **beside)
    axes = values.shape[1:]
    model = runnable([node("Relu", ["x"], "h")], {"x": (fixed_batch or "batch", *axes)}, ["h"])
    spec = InputSpec("x", np.dtype(np.float32), (fixed_batch, *axes))
    found = measure_moments(
        Session(model, CPU),
        replace(open_samples(folder / "samples.npz", [spec]), alike=alike),
        [item],
        length=64,
        seed=seed,
        advance=(seen if seen is not None else []).append,
        enough=enough,
    )
    return dict(found)[moments_key(item)]


def made(name: str, count: int) -> tuple[Case, Block, np.ndarray]:
    case = CASES[name]
    item = block(case.geometry, case.lengths, source="h")
    shape = (count, *item.source_shape[1:])
    values = np.random.default_rng(0).standard_normal(shape).astype(np.float32) + np.float32(0.5)
    return case, item, values


@pytest.mark.parametrize("name", CASES)
def test_all_positions_of_all_samples(name: str, tmp_path: Path) -> None:
    for fixed_batch in (None, 5):
        case, item, values = made(name, 12)
        seen: list[int] = []
        found = measured(item, values, tmp_path, fixed_batch=fixed_batch, seen=seen)
        # Sums in float64 of what the model computes in float32.
        rows = direct_rows(case, np.maximum(values, 0).astype(np.float64))
        mean, covariance = expected_moments(rows, 12)
        assert (found.rows, found.samples) == (rows.shape[2], 12)
        assert np.allclose(found.mean, mean, rtol=0, atol=ROUNDING)
        assert np.allclose(found.covariance, covariance, rtol=0, atol=ROUNDING)
        assert found.shrinkage.shape == (case.geometry.groups,)
        assert sum(seen) == 12
        assert max(seen) == (fixed_batch or 12)
        np.linalg.cholesky(found.covariance)


@pytest.mark.parametrize("name", CASES)
def test_one_sample_at_a_time_is_measured_as_many_are(name: str, tmp_path: Path) -> None:
    # Fewer positions than there are, so that which are drawn tells.
    few = Enough(fewest=24, per_column=0)
    _, item, values = made(name, 12)
    seen: list[int] = []
    found = measured(item, values, tmp_path, fixed_batch=1, alike=True, enough=few, seen=seen)
    expected = measured(item, values, tmp_path, enough=few)
    assert seen == [12]
    assert found.rows == expected.rows
    # A Relu rounds nothing, so patches are the same, and so are their sums.
    np.testing.assert_array_equal(found.covariance, expected.covariance)
    alone = measured(item, values, tmp_path, fixed_batch=1, enough=few, seen=seen)
    assert seen[1:] == [1] * 12
    if item.geometry.kind == "conv":
        assert not np.array_equal(alone.covariance, expected.covariance)


def test_samples_of_a_group_count_as_one(tmp_path: Path) -> None:
    case, item, values = made("gemm", 12)
    groups = np.array([7, 7, 7, 0, 0, 0, 3, 3, 3, 3, 3, 3])
    found = measured(item, values, tmp_path, groups=groups)
    rows = direct_rows(case, np.maximum(values, 0).astype(np.float64))
    mean, covariance = expected_moments(rows, 3)
    assert (found.rows, found.samples) == (12, 3)
    assert np.allclose(found.mean, mean, rtol=0, atol=ROUNDING)
    assert np.allclose(found.covariance, covariance, rtol=0, atol=ROUNDING)
    assert found.shrinkage[0] > measured(item, values, tmp_path).shrinkage[0]


def test_same_lower_and_same_upper_differ(tmp_path: Path) -> None:
    # Shows that the test above can fail: same shapes, other numbers.
    _, lower, values = made("conv, SAME_LOWER", 12)
    _, upper, _ = made("conv, SAME_UPPER", 12)
    first, second = (measured(item, values, tmp_path) for item in (lower, upper))
    assert np.abs(first.covariance - second.covariance).max() > 1e-3


def test_the_model_s_input_can_be_the_source(tmp_path: Path) -> None:
    item = block(gemm(6, 3))
    values = np.random.default_rng(0).standard_normal((9, 6)).astype(np.float32)
    np.savez(tmp_path / "samples.npz", x=values)
    model = runnable([node("Relu", ["x"], "h")], {"x": ("batch", 6)}, ["h", "x"])
    samples = open_samples(
        tmp_path / "samples.npz", [InputSpec("x", np.dtype(np.float32), (None, 6))]
    )
    ((_, found),) = measure_moments(
        Session(model, CPU), samples, [item], length=4, seed=0, advance=lambda steps: None
    )
    assert np.allclose(found.mean[0], values.astype(np.float64).mean(axis=0), atol=ROUNDING)


def test_blocks_with_the_same_patches_share_their_moments(tmp_path: Path) -> None:
    geometry = conv(2, 3, (3, 3), pads=(1, 1, 1, 1))
    first = block(geometry, (5, 5), key="a", source="h")
    second = block(conv(2, 7, (3, 3), pads=(1, 1, 1, 1)), (5, 5), key="b", source="h")
    shifted = block(conv(2, 3, (3, 3)), (5, 5), key="c", source="h")
    elsewhere = block(geometry, (5, 5), key="d")
    assert moments_key(first) == moments_key(second)
    assert len({moments_key(item) for item in (first, second, shifted, elsewhere)}) == 3
    np.savez(tmp_path / "s.npz", x=np.ones((3, 2, 5, 5), np.float32))
    model = runnable([node("Relu", ["x"], "h")], {"x": ("batch", 2, 5, 5)}, ["h", "x"])
    samples = open_samples(
        tmp_path / "s.npz", [InputSpec("x", np.dtype(np.float32), (None, 2, 5, 5))]
    )
    found = measure_moments(
        Session(model, CPU),
        samples,
        [first, second, shifted, elsewhere],
        length=64,
        seed=0,
        advance=lambda steps: None,
    )
    assert {key for key, _ in found} == {moments_key(item) for item in (first, shifted, elsewhere)}


@pytest.mark.parametrize("name", ["conv, groups", "conv, SAME_LOWER", "matmul"])
def test_drawn_positions_are_unbiased_and_repeatable(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, item, values = made(name, 16)
    monkeypatch.setattr(moments, "oracle_shrinkage", lambda covariance, samples: 0.0)
    everywhere = measured(item, values, tmp_path)
    few = Enough(fewest=30, per_column=1)
    draws = [measured(item, values, tmp_path, seed=seed, enough=few) for seed in range(150)]
    # Two positions of each of 16 samples.
    assert draws[0].rows == 32 < everywhere.rows
    again = measured(item, values, tmp_path, seed=0, enough=few)
    assert np.array_equal(again.covariance, draws[0].covariance)
    assert not np.array_equal(draws[1].covariance, draws[0].covariance)

    def second(found: Moments) -> Floats:
        return found.covariance + found.mean[:, :, None] * found.mean[:, None, :]

    for of in (lambda found: found.mean, second):
        each = np.array([of(found) for found in draws])
        error = each.std(axis=0, ddof=1) / np.sqrt(len(draws))
        # Five standard errors: some hundred entries are compared at once. 1e-9 is the least
        # variance, which is on every diagonal.
        assert np.all(np.abs(each.mean(axis=0) - of(everywhere)) <= 5 * error + 1e-8)
        assert error.max() > 0


def test_fewer_rows_of_a_gemm_than_samples(tmp_path: Path) -> None:
    # At least one row a sample, however few are wanted.
    _, item, values = made("matmul", 12)
    few = Enough(fewest=2, per_column=0)
    assert measured(item, values, tmp_path, enough=few).rows == 12


DEGENERATE = {
    "zeros": np.zeros((40, 3, 6, 6), np.float32),
    "one value": np.full((40, 3, 6, 6), 0.1, np.float32),
    "equal samples": np.repeat(
        np.random.default_rng(0).random((1, 3, 6, 6), dtype=np.float32), 40, axis=0
    ),
    "one sample": np.random.default_rng(0).random((1, 3, 6, 6), dtype=np.float32),
    "a dead channel": np.random.default_rng(0).random((40, 3, 6, 6), dtype=np.float32)
    * np.array([1, 0, 1], np.float32)[:, None, None],
    "large and constant": np.full((40, 3, 6, 6), 1e6, np.float32),
    "tiny": np.random.default_rng(0).random((40, 3, 6, 6), dtype=np.float32) * np.float32(1e-18),
}


@pytest.mark.parametrize("name", DEGENERATE)
def test_any_input_gives_a_metric_that_can_be_used(name: str, tmp_path: Path) -> None:
    for kind in ("conv", "gemm"):
        values = DEGENERATE[name]
        if kind == "conv":
            item = block(conv(3, 5, (3, 3)), (6, 6), source="h")
        else:
            values = values.reshape(len(values), -1)
            item = block(gemm(values.shape[1], 5), source="h")
        found = measured(item, values, tmp_path)
        # The roots that the factors need exist.
        np.linalg.cholesky(found.covariance)
        linear = linear_map(item.geometry, np.random.default_rng(1))
        for form in available_forms(item.geometry):
            factors = double_layer(form, item.geometry, linear, found, 3)
            assert np.isfinite(factors.matrices[0]).all()
            assert np.isfinite(factors.matrices[-1]).all()
            dense = FORMS[form].compose(item.geometry, *factors.matrices)
            assert 0 <= composed_level(linear, dense, found) <= 1 + 1e-9


def by_iteration(covariance: Floats, samples: int) -> float:
    """The paper's iteration, whose fixed point the formula is: each oracle from the last answer."""
    n = len(covariance)
    squares, trace_square = np.sum(covariance**2), np.trace(covariance) ** 2
    share = 0.5
    for _ in range(20_000):
        # Traces of the product of the estimate and the sample covariance, and of the estimate.
        square = (1 - share) * squares + share * trace_square / n
        share = ((1 - 2 / n) * square + trace_square) / (
            (samples + 1 - 2 / n) * square + (1 - samples / n) * trace_square
        )
    return float(share)


def as_in_scikit_learn(covariance: Floats, samples: int) -> float:
    """Its OAS drops the terms of 2/n; written after its documentation."""
    n = len(covariance)
    mean_square = np.mean(covariance**2)
    mean = np.trace(covariance) / n
    return float(min(1, (mean_square + mean**2) / ((samples + 1) * (mean_square - mean**2 / n))))


def test_the_shrinkage_of_chen_wiesel_eldar_and_hero() -> None:
    for size in (4, 20, 90):
        for samples in (5, 30, 400):
            rng = np.random.default_rng(size)
            rows = rng.standard_normal((samples, size)) * np.geomspace(1, 0.1, size)
            covariance = np.cov(rows.T, bias=True)
            share = oracle_shrinkage(covariance, samples)
            assert 0 < share <= 1
            # It converges linearly, to more than nine digits here; 1 is a fixed point too.
            assert share == pytest.approx(min(1, by_iteration(covariance, samples)), rel=1e-9)
            if size >= 20:
                # The dropped terms are up to 2/n of their neighbours, above and below the line.
                assert share == pytest.approx(
                    as_in_scikit_learn(covariance, samples), rel=2.2 / size
                )


def test_the_shrinkage_s_limits() -> None:
    assert oracle_shrinkage(np.eye(5), 100) == 1
    assert oracle_shrinkage(np.zeros((5, 5)), 100) == 1
    assert oracle_shrinkage(np.ones((1, 1)), 100) == 1
    spread = np.diag([1.0, 0, 0, 0])
    assert oracle_shrinkage(spread, 10**15) == 1e-9
    few, many = (oracle_shrinkage(np.diag([4.0, 2, 1, 0.5]), samples) for samples in (50, 5000))
    assert many < few / 50
