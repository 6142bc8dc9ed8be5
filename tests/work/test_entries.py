"""Records that come back from the cache as they were, to the last bit; damaged ones do not."""

from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from examples import block, conv, gemm, linear_map, moments

from onnx_relusv.core.blocks import Geometry
from onnx_relusv.core.codec import from_arrays, to_arrays
from onnx_relusv.core.measures import DamageCurve, GroupCurve
from onnx_relusv.core.plans import Factors
from onnx_relusv.measuring.blocks import BlockMeasures, measure_block
from onnx_relusv.rewrites.low_rank.forms import double_layer
from onnx_relusv.rewrites.prune.elimination import Elimination
from onnx_relusv.runtime.session import CPU
from onnx_relusv.work.cache import Cache
from onnx_relusv.work.effort import SPENDING


def assert_same(found: object, wanted: object, name: str = "") -> None:
    """Of the same type and, with NaN for NaN, of the same value, field by field."""
    assert type(found) is type(wanted), name
    if is_dataclass(wanted):
        for field in fields(wanted):
            assert_same(getattr(found, field.name), getattr(wanted, field.name), field.name)
    elif isinstance(wanted, tuple) and isinstance(found, tuple):
        for one, other in zip(found, wanted, strict=True):
            assert_same(one, other, name)
    else:
        if isinstance(wanted, np.ndarray) and isinstance(found, np.ndarray):
            assert (found.dtype, found.shape) == (wanted.dtype, wanted.shape), name
        np.testing.assert_array_equal(found, wanted, err_msg=name)  # type: ignore[arg-type]


def stored(record: object, folder: Path) -> Mapping[str, np.ndarray]:
    """As a cache gives its arrays back."""
    Cache(folder).put("things", {}, to_arrays(record))
    found = Cache(folder).get("things", {})
    assert found is not None
    return found


def spoilt(arrays: Mapping[str, np.ndarray]) -> Iterator[tuple[str, dict[str, np.ndarray]]]:
    """Arrays of which one is missing, too many, or of another shape or type."""
    for name, values in arrays.items():
        yield f"no {name}", {key: each for key, each in arrays.items() if key != name}
        if values.size:
            longer = np.concatenate([values, values]) if values.ndim else values[None]
            yield f"{name} longer", {**arrays, name: longer}
            yield f"{name} of another type", {**arrays, name: values.astype(str)}
    yield "one more", {**arrays, "more": np.zeros(3)}


def measured(geometry: Geometry, seed: int) -> BlockMeasures:
    rng = np.random.default_rng(0)
    linear, seen = linear_map(geometry, rng), moments(geometry, rng)
    item = block(geometry, (6, 6) if geometry.kind == "conv" else ())
    return measure_block(item, lambda _: linear, {item.key: seen}, seed, CPU, SPENDING["normal"], 1)


@pytest.mark.parametrize("geometry", [gemm(60, 50), conv(16, 24, (3, 3), groups=2)])
def test_measures(geometry: Geometry, tmp_path: Path) -> None:
    # No integer of numpy's is as large as this seed.
    wanted = measured(geometry, 2**70)
    assert wanted.candidates
    rank = geometry.largest_rank
    arrays = stored(wanted, tmp_path)
    assert_same(from_arrays(BlockMeasures, arrays, {"rank": rank}), wanted)
    assert from_arrays(BlockMeasures, arrays, {"rank": rank - 1}) is None
    for why, damaged in spoilt(arrays):
        assert from_arrays(BlockMeasures, damaged) is None, why
    for name in ("sigma", "lower", "upper", "untrained"):
        for worst in (np.nan, -1.0):
            values = arrays[f"spectrum.{name}"].copy()
            values[-1] = worst
            assert from_arrays(BlockMeasures, {**arrays, f"spectrum.{name}": values}) is None
    none = BlockMeasures(wanted.spectrum, ())
    assert_same(from_arrays(BlockMeasures, stored(none, tmp_path)), none)


@pytest.mark.parametrize("form", ["spatial", "tucker", "dense"])
def test_factors(form: str, tmp_path: Path) -> None:
    geometry = conv(4, 6, (3, 3), groups=2)
    linear = linear_map(geometry, np.random.default_rng(0))
    wanted = double_layer(form, geometry, linear, None, 2)
    assert len(wanted.matrices) == {"dense": 1, "spatial": 2, "tucker": 3}[form]
    arrays = stored(wanted, tmp_path)
    assert_same(from_arrays(Factors, arrays), wanted)
    for why, damaged in spoilt(arrays):
        found = from_arrays(Factors, damaged)
        # What its matrices' shapes have to be, the fit knows.
        assert (
            found is None
            or found.matrices[0].shape != wanted.matrices[0].shape
            or ("longer" in why)
        ), why
    for name in ("matrices[0]", "bias"):
        values = np.full_like(arrays[name], np.inf)
        assert from_arrays(Factors, {**arrays, name: values}) is None


def test_curves(tmp_path: Path) -> None:
    curves = (
        DamageCurve(key="c", form="spatial", ranks=(1, 2, 5), damages=(0.3, 0.1 / 3, 1e-17)),
        DamageCurve(key="c", form="channel", ranks=(4,), damages=(float("inf"),)),
    )
    assert from_arrays(tuple[DamageCurve, ...], stored(curves, tmp_path)) == curves
    curve = GroupCurve(key="c", counts=(1, 3), damages=(0.5, 0.0))
    assert from_arrays(GroupCurve, stored(curve, tmp_path)) == curve
    wrong: list[Any] = [
        DamageCurve(key="c", form="spatial", ranks=(1, 2), damages=(0.5,)),
        DamageCurve(key="c", form="spatial", ranks=(0,), damages=(0.5,)),
        GroupCurve(key="c", counts=(1,), damages=(float("nan"),)),
    ]
    for one in wrong:
        assert from_arrays(type(one), stored(one, tmp_path)) is None, one


def test_orders(tmp_path: Path) -> None:
    levels = np.array([0.0, 0.1, 0.2, 1.0])
    wanted = Elimination(np.array([2, 0, 1]), levels)
    arrays = stored(wanted, tmp_path)
    assert_same(from_arrays(Elimination, arrays, {"units": 3}), wanted)
    assert from_arrays(Elimination, arrays, {"units": 4}) is None
    for why, damaged in spoilt(arrays):
        assert from_arrays(Elimination, damaged, {"units": 3}) is None, why
    for order in ([2, 2, 1], [3, 1, 2], [-1, 0, 1]):
        assert from_arrays(Elimination, {**arrays, "order": np.array(order)}) is None
    for level in (np.nan, -0.5):
        changed = {**arrays, "levels": np.array([0.0, 0.1, 0.2, level])}
        assert from_arrays(Elimination, changed) is None
