"""Moments in several passes against those in one, and how blocks are divided over passes."""

from collections.abc import Sequence
from math import prod
from pathlib import Path

import numpy as np
import pytest
from examples import block, conv, gemm, matmul
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx_graphs import node, runnable

from onnx_relusv.core.blocks import Block, InputSpec, Moments
from onnx_relusv.runtime.session import CPU, Session
from onnx_relusv.samples.samples import Samples, open_samples
from onnx_relusv.spectra.moments import ENOUGH, Enough, MomentsKey, measure_moments, moments_key
from onnx_relusv.spectra.passes import LARGEST_BATCH, Passes, batch_length, plan_passes

SHAPE = (3, 6, 5)
PLENTY = 1 << 40
# A float64 second moment.
NUMBER = 8


def samples_of(folder: Path, count: int, *, fixed_batch: int | None = None) -> Samples:
    values = np.random.default_rng(0).standard_normal((count, *SHAPE)).astype(np.float32)
    np.savez(folder / "samples.npz", x=values)
    spec = InputSpec("x", np.dtype(np.float32), (fixed_batch, *SHAPE))
    return open_samples(folder / "samples.npz", [spec])


# Of four tensors; two blocks share their moments.
BLOCKS = [
    block(conv(3, 2, (3, 3), pads=(1, 1, 1, 1)), SHAPE[1:], key="a", source="x"),
    block(conv(3, 5, (3, 3), pads=(1, 1, 1, 1)), SHAPE[1:], key="b", source="x"),
    block(conv(3, 3, (1, 1)), SHAPE[1:], key="c", source="relu"),
    block(conv(3, 3, (2, 3), groups=3), SHAPE[1:], key="d", source="tanh"),
    block(matmul(5, 4), SHAPE[:2], key="e", source="tanh"),
    block(gemm(90, 4), key="f", source="flat"),
]
MODEL = runnable(
    [
        node("Relu", ["x"], "relu"),
        node("Tanh", ["x"], "tanh"),
        node("Flatten", ["x"], "flat"),
    ],
    {"x": ("batch", *SHAPE)},
    ["relu", "tanh", "flat", "x"],
)


def carried_out(
    passes: Passes, samples: Samples, *, length: int | None = None, enough: Enough = ENOUGH
) -> dict[MomentsKey, Moments]:
    session, found = Session(MODEL, CPU), dict[MomentsKey, Moments]()
    for group in passes.groups:
        found.update(
            measure_moments(
                session,
                samples,
                group,
                length=length or passes.length,
                seed=3,
                advance=lambda steps: None,
                enough=enough,
            )
        )
    return found


def square(item: Block) -> int:
    return NUMBER * item.geometry.groups * item.geometry.columns**2


@pytest.mark.parametrize("memory", [2 * square(BLOCKS[-1]), 150_000, 400_000, 3_000_000])
def test_the_budget_changes_no_moments(memory: int, tmp_path: Path) -> None:
    for count in (1, 7, 150):
        samples = samples_of(tmp_path, count)
        once = carried_out(plan_passes(BLOCKS, samples, PLENTY), samples)
        passes = plan_passes(BLOCKS, samples, memory)
        found = carried_out(passes, samples)
        assert set(found) == set(once) == {moments_key(item) for item in BLOCKS}
        for key, moments in found.items():
            assert (moments.rows, moments.samples) == (once[key].rows, once[key].samples)
            # Float64 sums of batches of other lengths.
            for name in ("mean", "covariance", "shrinkage"):
                assert np.allclose(
                    getattr(moments, name), getattr(once[key], name), rtol=0, atol=1e-13
                )


def test_these_budgets_do_lead_to_several_passes(tmp_path: Path) -> None:
    # So that the test above can fail.
    samples = samples_of(tmp_path, 150)
    counts = [
        len(plan_passes(BLOCKS, samples, memory).groups)
        for memory in (2 * square(BLOCKS[-1]), 150_000, PLENTY)
    ]
    assert counts[0] >= counts[1] > counts[2] == 1


def test_positions_are_drawn_alike_in_every_pass(tmp_path: Path) -> None:
    few = Enough(fewest=600, per_column=1)
    samples = samples_of(tmp_path, 150)
    whole = plan_passes(BLOCKS, samples, PLENTY)
    alone = Passes(whole.length, tuple((item,) for item in whole.groups[0]))
    once, apart = (carried_out(passes, samples, enough=few) for passes in (whole, alone))
    for key, moments in apart.items():
        assert np.array_equal(moments.covariance, once[key].covariance)
    # Four of 30 positions were drawn: other batches draw others.
    drawn = moments_key(BLOCKS[0])
    assert once[drawn].rows == 600
    other = carried_out(alone, samples, length=10, enough=few)
    assert not np.allclose(other[drawn].covariance, once[drawn].covariance, rtol=0, atol=1e-6)


columns = st.lists(st.integers(1, 40), min_size=1, max_size=12)


@given(columns, st.integers(1, 200_000), st.integers(1, 300), st.sampled_from([None, 1, 5]))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_every_block_has_one_pass_that_has_room(
    tmp_path: Path, sizes: Sequence[int], memory: int, count: int, fixed_batch: int | None
) -> None:
    samples = samples_of(tmp_path, count, fixed_batch=fixed_batch)
    items = [
        block(gemm(size, 2), key=f"y{place}", source=f"x{place}")
        for place, size in enumerate(sizes)
    ]
    # One more for every block, which shares its moments.
    items += [block(gemm(size, 3), key=f"z{i}", source=f"x{i}") for i, size in enumerate(sizes)]
    passes = plan_passes(items, samples, memory)
    keys = [moments_key(item) for group in passes.groups for item in group]
    assert len(set(keys)) == len(keys)
    assert set(keys) == {moments_key(item) for item in items}
    # What is too wide for square arrays is sketched.
    assert set(passes.terms) == {moments_key(item) for item in items if 2 * square(item) > memory}
    for group in passes.groups:
        # The sums under way, the products of one of them, and one batch of its values.
        held = sum(square(item) for item in group) + max(square(item) for item in group)
        held += passes.length * 4 * sum(prod(item.source_shape) for item in group)
        assert len(group) == 1 or held <= memory
    assert passes.length == (fixed_batch or passes.length)
    assert 1 <= passes.length <= max(fixed_batch or 0, min(LARGEST_BATCH, count))


def test_plenty_of_room_is_one_pass_of_long_batches(tmp_path: Path) -> None:
    passes = plan_passes(BLOCKS, samples_of(tmp_path, 500), PLENTY)
    assert passes.length == LARGEST_BATCH
    (group,) = passes.groups
    # The largest first, and one block for those that share their moments.
    assert [item.key for item in group] == ["f", "a", "d", "e", "c"]


def test_large_values_make_shorter_batches(tmp_path: Path) -> None:
    samples = samples_of(tmp_path, 500)
    # Of every float32 that is read, another is held: 80 MB, 8 MB and so on for a sample.
    for numbers, expected in ((10_000_000, 8), (1_000_000, 8), (100_000, 83), (1_000, 128)):
        items = [block(gemm(numbers, 1), key="y", source="x")]
        assert batch_length(items, 64 << 30) == expected
        assert plan_passes(items, samples, 64 << 30).length == expected
    # A budget that leaves no room for as many is kept.
    assert batch_length([block(gemm(1_000_000, 1), key="y", source="x")], 3 * 8_000_000) == 1


def test_no_blocks_are_no_passes(tmp_path: Path) -> None:
    assert plan_passes([], samples_of(tmp_path, 5), PLENTY).groups == ()


def test_a_block_whose_sums_do_not_fit_is_sketched(tmp_path: Path) -> None:
    memory = 2 * square(BLOCKS[-1]) - 1
    passes = plan_passes(BLOCKS, samples_of(tmp_path, 5), memory)
    assert {item.key for group in passes.groups for item in group} == {"a", "c", "d", "e", "f"}
    assert set(passes.terms) == {moments_key(BLOCKS[-1])}


def test_batches_take_their_share() -> None:
    few, many = block(gemm(10, 2)), block(gemm(10_000, 2))
    assert batch_length([few], PLENTY) == LARGEST_BATCH
    assert batch_length([few], 0) == batch_length([many], 0) == 1
    # Three shares of a value and of about as much that leads to it, in float32.
    assert batch_length([many], 3 * 8 * 10_000 * 20) == 20
    assert batch_length([many, many], 3 * 8 * 10_000 * 20) == 20
    assert batch_length([many, block(gemm(10_000, 2), source="z")], 3 * 8 * 10_000 * 20) == 10
