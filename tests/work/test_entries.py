"""Records that come back from arrays as they were, to the last bit."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import fields

import numpy as np
import pytest
from examples import block, conv, gemm, linear_map, moments

from onnx_relusv.core.blocks import Geometry
from onnx_relusv.core.plans import Candidate, DamageCurve, Form
from onnx_relusv.core.serial import (
    are_sound,
    curves_arrays,
    curves_of,
    factors_arrays,
    factors_of,
    group_curve_of,
    is_order,
    measures_arrays,
    measures_of,
    moments_arrays,
    moments_of,
    seconds_of,
)
from onnx_relusv.rewrites.low_rank.candidates import block_candidates
from onnx_relusv.rewrites.low_rank.factors import decompose_block, double_layer
from onnx_relusv.runtime.session import CPU
from onnx_relusv.spectra.measure import measure


def assert_same(found: object, wanted: object) -> None:
    """Every field: of the same type and, with NaN for NaN, of the same value."""
    assert type(found) is type(wanted)
    for field in fields(wanted):  # type: ignore[arg-type]
        one, other = getattr(found, field.name), getattr(wanted, field.name)
        assert type(one) is type(other), field.name
        if isinstance(other, tuple) and all(isinstance(each, np.ndarray) for each in other):
            for first, second in zip(one, other, strict=True):
                assert (first.dtype, first.shape) == (second.dtype, second.shape), field.name
                np.testing.assert_array_equal(first, second, err_msg=field.name)
            continue
        if isinstance(one, np.ndarray):
            assert (one.dtype, one.shape) == (other.dtype, other.shape), field.name
        np.testing.assert_array_equal(one, other, err_msg=field.name)


def stored(arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """As a cache gives them back: of types that a file can hold."""
    assert not any(each.dtype.hasobject for each in arrays.values())
    return {name: np.array(each) for name, each in arrays.items()}


@pytest.mark.parametrize("geometry", [gemm(60, 50), conv(16, 24, (3, 3), groups=2)])
def test_measures(geometry: Geometry) -> None:
    rng = np.random.default_rng(0)
    linear, seen = linear_map(geometry, rng), moments(geometry, rng)
    item = block(geometry, (6, 6) if geometry.kind == "conv" else ())
    parts = decompose_block(linear, seen)
    # No integer of numpy's is as large as this seed.
    seed = 2**70
    spectrum = measure(item, linear, seen, parts, seed=seed, provider=CPU)
    candidates = block_candidates(item, linear, seen, parts)
    arrays = stored(measures_arrays(spectrum, candidates))
    rank = geometry.largest_rank
    read = measures_of(arrays, rank=rank, seed=seed, provider=CPU)
    assert read is not None
    found, listed = read
    assert_same(found, spectrum)
    assert candidates
    assert len(listed) == len(candidates)
    for one, other in zip(listed, candidates, strict=True):
        assert_same(one, other)
    none: tuple[Candidate, ...] = ()
    empty = stored(measures_arrays(spectrum, none))
    read = measures_of(empty, rank=rank, seed=seed, provider=CPU)
    assert read is not None
    assert read[1] == none


def test_moments() -> None:
    wanted = moments(conv(4, 6, (3, 3), groups=2), np.random.default_rng(0))
    assert_same(moments_of(stored(moments_arrays(wanted)), *wanted.mean.shape), wanted)


@pytest.mark.parametrize("form", ["spatial", "tucker", "dense"])
def test_factors(form: Form) -> None:
    geometry = conv(4, 6, (3, 3), groups=2)
    linear = linear_map(geometry, np.random.default_rng(0))
    wanted = double_layer(form, geometry, linear, None, 2)
    assert len(wanted.matrices) == {"dense": 1, "spatial": 2, "tucker": 3}[form]
    shapes = [each.shape for each in wanted.matrices]
    assert_same(factors_of(stored(factors_arrays(wanted)), form, 2, shapes, 6), wanted)


def test_curves() -> None:
    wanted = (
        DamageCurve(key="c", form="spatial", ranks=(1, 2, 5), damages=(0.3, 0.1 / 3, 1e-17)),
        DamageCurve(key="c", form="channel", ranks=(4,), damages=(float("inf"),)),
    )
    ranks = {curve.form: curve.ranks for curve in wanted}
    assert curves_of(stored(curves_arrays(wanted)), "c", ranks) == wanted


def spoilt(arrays: Mapping[str, np.ndarray]) -> Iterator[tuple[str, dict[str, np.ndarray]]]:
    """Arrays of which one is missing, too many, or of another shape or type."""
    for name, values in arrays.items():
        yield f"no {name}", {key: each for key, each in arrays.items() if key != name}
        longer = np.concatenate([values, values]) if values.ndim else values[None]
        other = np.zeros(values.shape) if values.dtype.kind == "U" else values.astype(str)
        if values.size:
            yield f"{name} longer", {**arrays, name: longer}
            yield f"{name} of another type", {**arrays, name: other}
    yield "one more", {**arrays, "more": np.zeros(3)}


def without_sense(
    arrays: Mapping[str, np.ndarray], *, but: Iterable[str] = ()
) -> Iterator[tuple[str, dict[str, np.ndarray]]]:
    """Arrays with a NaN, or a number that is out of range, in one of them."""
    for name, values in arrays.items():
        if name in but or not values.size or values.dtype.kind not in "fi":
            continue
        worst = np.nan if values.dtype.kind == "f" else -7
        changed = values.copy()
        changed.reshape(-1)[-1] = worst
        yield f"{worst} in {name}", {**arrays, name: changed}


def test_damaged_measures_are_none() -> None:
    geometry, rng = gemm(60, 50), np.random.default_rng(0)
    linear, seen = linear_map(geometry, rng), moments(geometry, rng)
    item, parts = block(geometry, ()), decompose_block(linear, seen)
    spectrum = measure(item, linear, seen, parts, seed=0, provider=CPU)
    arrays = stored(measures_arrays(spectrum, block_candidates(item, linear, seen, parts)))

    def read(given: Mapping[str, np.ndarray], rank: int = 50) -> object:
        return measures_of(given, rank=rank, seed=0, provider=CPU)

    assert read(arrays) is not None
    assert read(arrays, rank=49) is None
    # An estimate may be none, and so may the norm of what is no Conv; the rest is not looked at.
    free = ("estimate", "operator_norm", "iterations", "starts")
    for why, damaged in (*spoilt(arrays), *without_sense(arrays, but=free)):
        assert read(damaged) is None, why
    unknown = {**arrays, "candidate_form": np.full_like(arrays["candidate_form"], "x")}
    assert read(unknown) is None


def test_damaged_moments_are_none() -> None:
    wanted = moments(conv(4, 6, (3, 3), groups=2), np.random.default_rng(0))
    arrays = stored(moments_arrays(wanted))

    def is_read(given: Mapping[str, np.ndarray]) -> bool:
        found = moments_of(given, *wanted.mean.shape)
        return found is not None and are_sound(found)

    assert is_read(arrays)
    assert moments_of(arrays, 2, 17) is None
    for why, damaged in (*spoilt(arrays), *without_sense(arrays)):
        assert not is_read(damaged), why
    assert not is_read({**arrays, "covariance": -arrays["covariance"]})
    assert not is_read({**arrays, "shrinkage": arrays["shrinkage"] + 2})


def test_damaged_factors_are_none() -> None:
    geometry = conv(4, 6, (3, 3), groups=2)
    wanted = double_layer(
        "tucker", geometry, linear_map(geometry, np.random.default_rng(0)), None, 2
    )
    arrays, shapes = stored(factors_arrays(wanted)), [each.shape for each in wanted.matrices]
    assert factors_of(arrays, "tucker", 2, shapes, 6) is not None
    assert factors_of(arrays, "tucker", 2, shapes, 5) is None
    assert factors_of(arrays, "tucker", 2, shapes[:2], 6) is None
    for why, damaged in (*spoilt(arrays), *without_sense(arrays)):
        assert factors_of(damaged, "tucker", 2, shapes, 6) is None, why


def test_damaged_curves_orders_and_times_are_none() -> None:
    damages = {"damages": np.array([0.1, 0.0, np.inf])}
    order = {"order": np.array([2, 0, 1]), "levels": np.array([0.0, 0.1, 0.2, 1.0])}
    seconds = {"seconds": np.asarray(0.5)}
    assert curves_of(damages, "c", {"spatial": (1, 2), "channel": (4,)}) is not None
    assert group_curve_of(damages, "c", (1, 2, 3)) is not None
    assert is_order(order, 3)
    assert seconds_of(seconds) == 0.5
    assert curves_of({"damages": np.zeros(0)}, "c", {}) == ()
    for _, damaged in (*spoilt(damages), *without_sense(damages)):
        assert curves_of(damaged, "c", {"spatial": (1, 2), "channel": (4,)}) is None
        assert group_curve_of(damaged, "c", (1, 2, 3)) is None
    for why, damaged in (*spoilt(order), *without_sense(order)):
        assert not is_order(damaged, 3), why
    assert not is_order({**order, "order": np.array([2, 2, 1])}, 3)
    assert not is_order({**order, "order": np.array([3, 1, 2])}, 3)
    for value in (0.0, -1.0, np.inf, np.nan):
        assert seconds_of({"seconds": np.asarray(value)}) is None
    for _, damaged in spoilt(seconds):
        assert seconds_of(damaged) is None
