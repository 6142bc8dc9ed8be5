"""Times fitted to variants of machines that tests make up: on others of them they have to hold."""

from pathlib import Path

import numpy as np
import pytest
from cut_graphs import GRAPHS
from cut_plans import opened_graph
from opened import Opened
from timed_runs import Seconds, timed_variants_of, times_of

from onnx_relusv.core.blocks import Block
from onnx_relusv.core.plans import Candidate
from onnx_relusv.core.reduction import block_of_size
from onnx_relusv.planning.latency import variants as designs
from onnx_relusv.planning.latency.fit import fitted
from onnx_relusv.planning.latency.kernels import PRICES, Kernels, ModelledTimes
from onnx_relusv.planning.latency.variants import TimedBlock, changed_blocks, variants

KERNELS = Kernels(1, 16)
# Another machine: bytes cost three times as much, numbers written half, and a start twice.
OTHER = Kernels(1, 16, tuple(np.multiply(PRICES, (1, 1, 3, 0.5, 2, 2, 2, 2)).tolist()))
# Of measured times, what their makers' noise is taken to be in the fit, about.
NOISE = 0.05


def elsewhere(key: str, block: Block, form: str | None, rank: int | None, integers: bool) -> float:
    return 3e-10 * OTHER.of_form(block, form, rank, integers=integers)


def share(times: ModelledTimes, changed: tuple[TimedBlock, ...]) -> float:
    total = times.total
    for one in changed:
        block = times.blocks[one.key]
        layer = Candidate(
            form=one.form, rank=one.rank, level=0, bytes=1, macs=1, precision=one.precision
        )
        left = block_of_size(block, one.inputs, one.outputs)
        total += times.of(left, layer) - times.of(block)
    return total / times.total


def drawn(
    model: Opened, count: int, monkeypatch: pytest.MonkeyPatch, *, integers: bool = False
) -> list[tuple[TimedBlock, ...]]:
    monkeypatch.setattr(designs, "_DRAWN", count)
    plans = variants(model.case, "u8s8" if integers else None)
    return [changed_blocks(model.case, model.inputs, plan) for plan in plans]


def errors(
    model: Opened, seconds: Seconds, monkeypatch: pytest.MonkeyPatch, *, fit: bool
) -> np.ndarray:
    """Of variants that the fit has not seen, relative."""
    blocks = {block.key: block for block in model.case.blocks}
    seen = drawn(model, 5, monkeypatch)
    times = ModelledTimes(KERNELS, blocks)
    if fit:
        times = fitted(KERNELS, blocks, timed_variants_of(blocks, seen, seconds))
    others = drawn(model, 20, monkeypatch)[len(seen) :]
    (before,) = times_of(blocks, [()], seconds)
    exact = np.array(times_of(blocks, others, seconds)) / before
    return np.array([share(times, one) for one in others]) / exact - 1


@pytest.mark.parametrize("name", ["chain", "residual"])
def test_times_of_another_machine_are_found(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = opened_graph(GRAPHS[name], tmp_path)
    found = errors(model, elsewhere, monkeypatch, fit=True)
    assert np.abs(found).max() < NOISE
    # The model of the kernels by itself knows neither these prices nor what comes besides.
    assert np.abs(errors(model, elsewhere, monkeypatch, fit=False)).max() > np.abs(found).max()


def test_the_total_is_what_was_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = opened_graph(GRAPHS["chain"], tmp_path)
    blocks = {block.key: block for block in model.case.blocks}
    (before,) = times_of(blocks, [()], elsewhere)
    times = fitted(
        KERNELS, blocks, timed_variants_of(blocks, drawn(model, 5, monkeypatch), elsewhere)
    )
    assert times.total == pytest.approx(before)
    assert times.rest > 0
    assert all(price > 0 for price in times.kernels.prices)


def test_a_block_that_takes_longer_than_its_like_is_told_apart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = opened_graph(GRAPHS["chain"], tmp_path)
    slow = model.case.blocks[1].key

    def seconds(
        key: str, block: Block, form: str | None, rank: int | None, integers: bool
    ) -> float:
        return elsewhere(key, block, form, rank, integers) * (3 if key == slow else 1)

    blocks = {block.key: block for block in model.case.blocks}
    variants_of = drawn(model, 12, monkeypatch)
    found = [
        fitted(KERNELS, blocks, timed_variants_of(blocks, variants_of, each))
        for each in (elsewhere, seconds)
    ]
    even, uneven = (
        {key: times.of(block) / times.total for key, block in blocks.items()} for times in found
    )
    assert max(uneven, key=lambda key: uneven[key] / even[key]) == slow


def test_integers_have_factors_of_their_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = opened_graph(GRAPHS["chain"], tmp_path)
    slow = model.case.blocks[0].key

    def seconds(
        key: str, block: Block, form: str | None, rank: int | None, integers: bool
    ) -> float:
        return elsewhere(key, block, form, rank, integers) * (4 if integers and key == slow else 1)

    blocks = {block.key: block for block in model.case.blocks}
    changed = drawn(model, 12, monkeypatch, integers=True)
    times = fitted(KERNELS, blocks, timed_variants_of(blocks, changed, seconds))
    of_integers = {key: times.factors[key, True] for key in blocks}
    assert max(of_integers, key=lambda key: of_integers[key]) == slow
    assert times.factors[slow, True] > times.factors[slow, False]
