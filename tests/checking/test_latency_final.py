"""What a written file is held against, and which blocks are called slower."""

import pytest

from onnx_relusv.checking.latency import SLOWER, check_latency, slower_blocks
from onnx_relusv.core.errors import BudgetError
from onnx_relusv.core.measures import Latency
from onnx_relusv.planning.latency.blocks import MARGIN


def test_within_the_margin_a_file_may_be_written() -> None:
    for share in (0.1, 0.6, 0.6 * (1 + MARGIN) - 1e-9):
        check_latency(0.6, Latency(batch=4, before=2.0, after=2.0 * share))


def test_beyond_the_margin_it_may_not() -> None:
    late = Latency(batch=4, before=2.0, after=2.0 * (0.6 * (1 + MARGIN) + 1e-9))
    with pytest.raises(BudgetError, match=r"takes 0\.63 of the time at batch 4, .* budget of 0\.6"):
        check_latency(0.6, late)


def test_slower_blocks_are_named_with_their_times() -> None:
    limit = 0.001 * (1 + SLOWER)
    times = {"a": (0.001, limit - 1e-9), "b": (0.001, 0.002), "c": (0.5, 0.1), "d": (0.002, 0.008)}
    (warning,) = slower_blocks(times, 32)
    assert "at batch 32: b (1 ms -> 2 ms), d (2 ms -> 8 ms). --exclude" in warning
    assert slower_blocks({"a": times["a"]}, 1) == ()
    assert slower_blocks({}, 1) == ()
