"""Records that come back from arrays as they were, to the last bit."""

from collections.abc import Mapping
from dataclasses import fields

import numpy as np
import pytest
from examples import block, conv, gemm, linear_map, moments

from onnx_relusv.candidates import block_candidates
from onnx_relusv.decisions import Candidate, DamageCurve, Form
from onnx_relusv.entries.curves import curves_arrays, curves_of
from onnx_relusv.entries.factors import factors_arrays, factors_of
from onnx_relusv.entries.measures import measures_arrays, measures_of
from onnx_relusv.entries.moments import moments_arrays, moments_of
from onnx_relusv.factors import decompose_block, double_layer
from onnx_relusv.records import Geometry
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
