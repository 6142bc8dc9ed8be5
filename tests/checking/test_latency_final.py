"""What a written file is held against, and which blocks are called slower."""

from pathlib import Path

import onnx
import pytest
from graphs import model_proto, normal
from probed import opened

from onnx_relusv.checking.latency import SLOWER, check_latency, slower_blocks, slower_file
from onnx_relusv.core.errors import BudgetError
from onnx_relusv.core.measures import Latency
from onnx_relusv.planning.latency.timed import MARGIN


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


def test_a_slower_file_is_timed_again_and_said_to_be_slower(tmp_path: Path) -> None:
    """Sixty products in place of one; what a short look shows alone is no reason to say so."""
    weights = {"w": normal(256, 256, scale=0.05)}
    header = "(float[n, 256] x) => (float[n, 256] y) {"
    model = opened(
        model_proto(header + " y = MatMul(x, w) }", weights), tmp_path, {"x": normal(8, 256)}
    )
    products = "".join(f" t{place + 1} = MatMul(t{place}, w)" for place in range(60))
    text = f"{header} t0 = Identity(x){products} y = Identity(t60) }}"
    slow = tmp_path / "slow.onnx"
    onnx.save(model_proto(text, weights), slow)
    late = Latency(batch=8, before=1e-3, after=2e-3)
    (warning,) = slower_file(*model, 8, slow, late)
    assert "slower than the original" in warning
    assert "at batch 8" in warning
    for seen in (
        Latency(batch=8, before=1e-3, after=1e-3 * (1 + SLOWER)),
        Latency(batch=8, before=1e-6, after=1e-3),
    ):
        assert slower_file(*model, 8, slow, seen) == ()
