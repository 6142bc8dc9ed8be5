"""Rows and moments for a fit against numpy: with shortcuts, and of what is left of a block."""

from collections.abc import Iterator, Sequence

import numpy as np
import pytest
from examples import block, conv, gemm, linear_map, matmul
from graphs import evaluated

from onnx_relusv.core.blocks import Block, Floats, LinearMap
from onnx_relusv.core.plans import ChannelMask
from onnx_relusv.core.reduction import kept_columns, kept_rows
from onnx_relusv.fitting.block_fit import TargetPatches
from onnx_relusv.runtime.session import CPU
from onnx_relusv.spectra.product_sums import (
    CollectedRows,
    ProductSums,
    Rows,
    Seen,
    TargetMoments,
    target_moments,
)

BLOCKS = {
    "gemm": block(gemm(6, 4)),
    "matmul": block(matmul(6, 4), (3,)),
    "conv": block(conv(3, 4, (3, 2), strides=(2, 1), pads=(1, 0, 1, 1)), (5, 4)),
    "conv, groups": block(conv(4, 6, (2, 2), groups=2), (4, 4)),
    "conv, 1-D": block(conv(3, 4, (3,)), (7,)),
}
# Two whole batches, and one that is padded.
COUNTS = ((4, 4), (4, 4), (2, 4))
SAMPLES = 10


def batches(item: Block, *, shortcut: bool, dtype: type = np.float32) -> list[Seen]:
    rng = np.random.default_rng(0)

    def tensor(shape: tuple[int, ...], size: int) -> np.ndarray:
        return rng.standard_normal((size, *shape[1:])).astype(dtype)

    return [
        Seen(
            original=tensor(item.source_shape, size),
            delivered=tensor(item.source_shape, size),
            real=real,
            size=size,
            shortcut=(
                (tensor(item.output_shape, size), tensor(item.output_shape, size))
                if shortcut
                else None
            ),
        )
        for real, size in COUNTS
    ]


def case(
    name: str, *, shortcut: bool, dtype: type = np.float32
) -> tuple[Block, LinearMap, list[Seen]]:
    """A block, its linear map, and what it sees."""
    item = BLOCKS[name]
    linear = linear_map(item.geometry, np.random.default_rng(1))
    return item, linear, batches(item, shortcut=shortcut, dtype=dtype)


def flat(item: Block, values: Floats) -> Floats:
    """(groups, patches, rows) of a tensor of the shape of the block's answers."""
    geometry = item.geometry
    if geometry.kind != "conv":
        return values.reshape(1, -1, geometry.rows)
    split = values.reshape(len(values), geometry.groups, geometry.rows, -1)
    return split.transpose(1, 0, 3, 2).reshape(geometry.groups, -1, geometry.rows)


def expected(item: Block, linear: LinearMap, seen: Sequence[Seen]) -> dict[str, Floats]:
    """Patches of z, answers, and what shortcuts add, of all real samples; in float64."""
    geometry = item.geometry
    columns = []
    for group in range(geometry.groups):
        # A unit vector for every column picks that column's value of every patch.
        own = []
        for column in range(geometry.columns):
            weight = np.zeros((geometry.groups, geometry.rows, geometry.columns))
            weight[group, 0, column] = 1
            unit = LinearMap(weight, np.zeros(geometry.out_channels))
            own.append(
                np.concatenate(
                    [flat(item, evaluated(item, unit, s.delivered[: s.real])) for s in seen], axis=1
                )[group, :, 0]
            )
        columns.append(np.stack(own, axis=1))
    found = {
        "z": np.stack(columns),
        "target": np.concatenate(
            [flat(item, evaluated(item, linear, s.original[: s.real])) for s in seen], axis=1
        ),
    }
    for index, name in enumerate(("exact", "delivered")):
        if seen[0].shortcut is not None:
            parts = [flat(item, s.shortcut[index][: s.real].astype(float)) for s in seen]  # type: ignore[index]
            found[name] = np.concatenate(parts, axis=1)
    return found


def taken(
    item: Block,
    linear: LinearMap,
    seen: Sequence[Seen],
    most: int | None = None,
    kept: ChannelMask | None = None,
) -> Iterator[Rows]:
    """Rows, batch by batch."""
    patches, rng = TargetPatches(item, linear, kept, SAMPLES, CPU, most), np.random.default_rng(3)
    for each in seen:
        yield patches.of(each, rng)


def collected(
    item: Block,
    linear: LinearMap,
    seen: Sequence[Seen],
    most: int | None = None,
    kept: ChannelMask | None = None,
) -> Rows:
    found = CollectedRows()
    for rows in taken(item, linear, seen, most, kept):
        found.add(rows, rows.count, np.random.default_rng(0))
    return found.rows()


@pytest.mark.parametrize("name", BLOCKS)
def test_all_rows(name: str) -> None:
    for shortcut in (False, True):
        item, linear, seen = case(name, shortcut=shortcut)
        rows, exact = collected(item, linear, seen), expected(item, linear, seen)
        np.testing.assert_array_equal(rows.z, exact["z"].astype(np.float32))
        target = exact["target"] + exact.get("exact", 0)
        # Float32 sums of at most 24 products of numbers around 1.
        np.testing.assert_allclose(rows.target, target, rtol=0, atol=1e-5)
        assert rows.count == exact["z"].shape[1]
        if shortcut:
            np.testing.assert_array_equal(rows.shift, exact["delivered"].astype(np.float32))
            np.testing.assert_array_equal(rows.missing, rows.target - rows.shift)
        else:
            assert rows.shift is None
            assert rows.missing is rows.target


def test_some_rows_are_rows_of_all() -> None:
    for name in BLOCKS:
        item, linear, seen = case(name, shortcut=True)
        some, all_rows = (collected(item, linear, seen, most) for most in (10, None))
        assert some.count == min(10, all_rows.count), name
        same_rows(some, all_rows)


def same_rows(some: Rows, all_rows: Rows) -> None:
    """Whether they are different rows of all."""
    assert some.shift is not None
    assert all_rows.shift is not None
    places = [int(np.argmin(np.abs(all_rows.z[0] - row).sum(axis=1))) for row in some.z[0]]
    assert len(set(places)) == some.count
    np.testing.assert_array_equal(some.z, all_rows.z[:, places])
    np.testing.assert_array_equal(some.shift, all_rows.shift[:, places])
    np.testing.assert_allclose(some.target, all_rows.target[:, places], rtol=0, atol=1e-5)


def test_no_more_are_kept_of_a_batch_than_wanted() -> None:
    found, everything, rng = CollectedRows(), CollectedRows(), np.random.default_rng(4)
    for rows in taken(*case("conv", shortcut=True)):
        found.add(rows, 5, rng)
        everything.add(rows, rows.count, rng)
    some = found.rows()
    assert some.count == 15
    same_rows(some, everything.rows())


LEFT = {
    "gemm": ChannelMask(inputs=np.array([0, 2, 5]), outputs=np.array([1, 3])),
    "matmul": ChannelMask(inputs=np.array([1]), outputs=np.array([0, 1, 2])),
    "conv": ChannelMask(inputs=np.array([0, 2]), outputs=np.array([3])),
    "conv, groups": ChannelMask(inputs=np.array([1]), outputs=np.array([0, 2, 4, 5])),
    "conv, 1-D": ChannelMask(inputs=np.array([2]), outputs=np.array([0, 3])),
}


@pytest.mark.parametrize("name", BLOCKS)
def test_what_is_left_sees_and_answers_the_kept_channels_alone(name: str) -> None:
    for shortcut in (False, True):
        (item, linear, seen), left = case(name, shortcut=shortcut), LEFT[name]
        whole = collected(item, linear, seen)
        found = collected(item, linear, seen, kept=left)
        columns, rows = kept_columns(item.geometry, left), kept_rows(item.geometry, left)
        np.testing.assert_array_equal(found.z, whole.z[:, :, columns])
        for own, everything in ((found.target, whole.target), (found.shift, whole.shift)):
            if everything is None:
                assert own is None
                continue
            assert own is not None
            # The answers' products are summed up in another order.
            for group, places in enumerate(rows):
                wanted = everything[group][:, places]
                np.testing.assert_allclose(own[group], wanted, rtol=0, atol=1e-5)


def summed(item: Block, linear: LinearMap, seen: Sequence[Seen]) -> TargetMoments:
    geometry = item.geometry
    sums = ProductSums(geometry.groups, geometry.columns, geometry.rows, CPU)
    for rows in taken(item, linear, seen):
        sums.add(rows.z, rows.missing)
    return target_moments(sums)


@pytest.mark.parametrize("name", BLOCKS)
def test_moments(name: str) -> None:
    for shortcut in (False, True):
        item, linear, seen = case(name, shortcut=shortcut)
        found, exact = summed(item, linear, seen), expected(item, linear, seen)
        z, rows = exact["z"], exact["z"].shape[1]
        # Behind a shortcut, what the compressed network lacks is asked for too.
        target = exact["target"]
        if shortcut:
            target = target + exact["exact"] - exact["delivered"]
        assert found.rows == rows
        # Answers are rounded to float32, as the network itself rounds them; the rest is float64.
        for value, wanted, tolerance in (
            (found.second, z.transpose(0, 2, 1) @ z / rows, 1e-12),
            (found.mean, z.mean(axis=1), 1e-12),
            (found.cross, target.transpose(0, 2, 1) @ z / rows, 1e-5),
            (found.target, target.mean(axis=1), 1e-5),
        ):
            np.testing.assert_allclose(value, wanted, rtol=0, atol=tolerance)


def test_half_precision_is_measured_in_float32_and_float64() -> None:
    item, linear, seen = case("conv", shortcut=True, dtype=np.float16)
    rows, exact = collected(item, linear, seen), expected(item, linear, seen)
    np.testing.assert_array_equal(rows.z, exact["z"].astype(np.float32))
    np.testing.assert_allclose(rows.target, exact["target"] + exact["exact"], rtol=0, atol=1e-5)
    found = summed(item, linear, seen)
    np.testing.assert_allclose(found.mean, exact["z"].mean(axis=1), rtol=0, atol=1e-12)
