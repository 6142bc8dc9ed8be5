"""What measuring a block takes, as estimated, against what numpy allocates when it is measured."""

import tracemalloc
from dataclasses import replace

import numpy as np
from examples import block, conv, gemm, linear_map, moments
from hypothesis import given
from hypothesis import strategies as st
from threadpoolctl import threadpool_limits

from onnx_relusv.core.blocks import Block, Geometry
from onnx_relusv.measuring.blocks import MOST_ROWS, measuring_load, rows_within
from onnx_relusv.rewrites.low_rank.candidates import block_candidates
from onnx_relusv.rewrites.low_rank.factors import decompose_block
from onnx_relusv.runtime.session import CPU
from onnx_relusv.spectra.bounds import CHUNK_VALUES
from onnx_relusv.spectra.measure import measure
from onnx_relusv.work.executors import Load

TINY = block(gemm(1, 1))


def allocated(item: Block, *, in_data_metric: bool, chunk_values: int = CHUNK_VALUES) -> int:
    """The peak of numpy's arrays, bytes; onnxruntime's are not seen."""
    rng = np.random.default_rng(0)
    tracemalloc.start()
    # One thread, as beside other blocks.
    with threadpool_limits(1, user_api="blas"):
        linear = linear_map(item.geometry, rng)
        seen = moments(item.geometry, rng) if in_data_metric else None
        tracemalloc.reset_peak()
        parts = decompose_block(linear, seen)
        measure(item, linear, seen, parts, seed=0, provider=CPU, chunk_values=chunk_values)
        block_candidates(item, linear, seen, parts)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak


BLOCKS = {
    "gemm, wide": block(gemm(500, 150)),
    "gemm, tall": block(gemm(150, 700)),
    # Its certificates look at millions of values.
    "gemm, branch and bound": block(gemm(300, 200)),
    "conv": block(conv(24, 48, (3, 3), pads=(1, 1, 1, 1)), (14, 14)),
    "conv, groups": block(conv(64, 64, (3, 3), groups=4, pads=(1, 1, 1, 1)), (14, 14)),
}


def test_no_more_is_allocated_than_estimated() -> None:
    for name in BLOCKS:
        for in_data_metric in (False, True):
            item = BLOCKS[name]
            load = measuring_load(item, in_data_metric=in_data_metric)
            assert allocated(item, in_data_metric=in_data_metric) <= load.memory, name


def test_millions_of_values_at_a_time_would_be_more() -> None:
    # Shows that the test above can fail.
    item = BLOCKS["gemm, branch and bound"]
    load = measuring_load(item, in_data_metric=True)
    assert allocated(item, in_data_metric=True, chunk_values=1 << 40) > load.memory


def test_what_grows_with_the_shape_is_neither_forgotten_nor_exaggerated() -> None:
    # Without the constant part, which is the same for both.
    item = block(gemm(900, 500))
    estimated, constant = (measuring_load(one, in_data_metric=False) for one in (item, TINY))
    grown = estimated.memory - constant.memory
    assert allocated(item, in_data_metric=False) <= grown
    assert grown <= 10 * allocated(item, in_data_metric=False)


@given(st.integers(1, 300), st.integers(1, 300), st.integers(1, 50), st.booleans())
def test_more_rows_or_columns_are_more_work(
    rows: int, columns: int, more: int, in_data_metric: bool
) -> None:
    def load(columns: int, rows: int) -> Load:
        return measuring_load(block(gemm(columns, rows)), in_data_metric=in_data_metric)

    once = load(columns, rows)
    for larger in (load(columns + more, rows), load(columns, rows + more)):
        assert larger.work > once.work
        assert larger.memory > once.memory


def test_a_metric_adds_to_both() -> None:
    for geometry in (gemm(40, 30), conv(6, 8, (3, 3)), conv(6, 8, (1, 1))):
        item = block(geometry, (9, 9) if geometry.kind == "conv" else ())
        plain, seen = (measuring_load(item, in_data_metric=metric) for metric in (False, True))
        # The covariance itself, in float64, and its product with the weight.
        assert seen.memory - plain.memory >= 8 * geometry.columns**2
        assert seen.work - plain.work >= geometry.rows * geometry.columns**2


def test_groups_are_as_many_blocks_one_after_the_other() -> None:
    for in_data_metric in (False, True):
        one = measuring_load(block(conv(6, 8, (3, 3)), (9, 9)), in_data_metric=in_data_metric)
        four = measuring_load(
            block(conv(24, 32, (3, 3), groups=4), (9, 9)), in_data_metric=in_data_metric
        )
        # All weights are there, but only one group's decomposition is under way.
        assert four.work == 4 * one.work
        assert one.memory < four.memory < 4 * one.memory


def test_neither_the_feature_map_nor_the_activation_counts() -> None:
    small, large = (block(conv(6, 8, (3, 3)), (length, length)) for length in (5, 500))
    named = replace(small, key="other", consumers=("Add",), element_type=10)
    loads = {measuring_load(item, in_data_metric=True) for item in (small, large, named)}
    assert len(loads) == 1


@given(
    st.sampled_from(
        [gemm(40, 30), gemm(2000, 500), conv(64, 64, (3, 3)), conv(64, 64, (3, 3), groups=4)]
    ),
    st.integers(1, 1 << 32),
)
def test_rows_for_a_fit_take_their_share_of_the_memory(geometry: Geometry, memory: int) -> None:
    item = block(geometry, (9, 9) if geometry.kind == "conv" else ())
    rows = rows_within(item, memory)
    # Patches, targets and what a shortcut adds, in float32.
    numbers = geometry.groups * geometry.columns + 2 * geometry.out_channels
    assert 1 <= rows <= MOST_ROWS
    assert rows == 1 or 4 * rows * numbers <= memory / 4
    assert rows == MOST_ROWS or 4 * (rows + 1) * numbers > memory / 4
