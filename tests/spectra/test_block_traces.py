"""Pre-activations that a recorder takes, and those that it refuses."""

import numpy as np
from examples import block, conv, gemm, linear_map, matmul

from onnx_relusv.core.blocks import Block
from onnx_relusv.runtime.session import CPU, as_value
from onnx_relusv.samples.samples import Batch
from onnx_relusv.spectra.activated import BlockRecorder


def recorder(item: Block, samples: int = 6) -> BlockRecorder:
    linear = linear_map(item.geometry, np.random.default_rng(0))
    return BlockRecorder(item, linear, samples, provider=CPU, seed=0, exact=False)


def add(one: BlockRecorder, shape: tuple[int, ...], size: int, start: int = 0) -> str | None:
    values = np.random.default_rng(1).standard_normal(shape).astype(np.float32)
    batch = Batch({"x": np.zeros((size, 1))}, count=size, start=start, size=size)
    return one.add(as_value(values), batch)


def test_the_positions_of_a_sample() -> None:
    for item, shape, positions in (
        (block(gemm(5, 4)), (3, 4), 1),
        (block(matmul(5, 4), (7,)), (3, 7, 4), 7),
        (block(matmul(5, 4), (3, 4)), (3, 3, 4, 4), 8),
        (block(conv(2, 4, (3, 3)), (5, 5)), (3, 4, 3, 3), 8),
        (block(conv(2, 4, (3,)), (6,)), (3, 4, 4), 4),
    ):
        one = recorder(item)
        assert add(one, shape, 3) is None
        assert add(one, shape, 3, start=3) is None
        traced = one.trace()
        assert (traced.key, traced.units, traced.positions) == ("y", 4, positions)
        assert traced.active.shape == (6,)
        # The same values twice, at the same positions.
        assert np.array_equal(traced.active[:3], traced.active[3:])
        assert np.array_equal(traced.margin[:3], traced.margin[3:])


def test_shapes_that_hold_no_samples() -> None:
    for item, shape, words in (
        (block(gemm(5, 4)), (6, 4), "which sample"),
        (block(gemm(5, 4)), (4,), "no outputs"),
        (block(conv(2, 4, (3, 3)), (5, 5)), (3, 4, 0, 3), "no outputs"),
        (block(conv(2, 4, (3, 3)), (5, 5)), (9, 4, 3, 3), "which sample"),
    ):
        reason = add(recorder(item), shape, 3)
        assert reason is not None
        assert words in reason
        assert str(shape) in reason


def test_a_shape_that_changes_on_the_way() -> None:
    one = recorder(block(conv(2, 4, (3, 3)), (5, 5)))
    assert add(one, (3, 4, 3, 3), 3) is None
    reason = add(one, (3, 4, 3, 4), 3, start=3)
    assert reason is not None
    assert "(4, 3, 4) after axis 0 in one batch, and (4, 3, 3) before" in reason
