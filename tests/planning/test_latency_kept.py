"""Times that outlive a run: for one machine, and only where all that counts is equal."""

from dataclasses import replace
from pathlib import Path

import pytest
from opened import Opened
from probed import classifier

from onnx_relusv.core.blocks import Geometry
from onnx_relusv.measuring.case import Case, Workspace
from onnx_relusv.planning.latency import blocks as latency
from onnx_relusv.planning.latency import models as latency_models
from onnx_relusv.planning.latency.blocks import block_seconds
from onnx_relusv.planning.latency.models import Timing, TimingKey, timing_task
from onnx_relusv.rewrites.int8.isolated import OnIntegers
from onnx_relusv.work.cache import Cache

KEY = TimingKey(
    geometry=Geometry(kind="gemm", in_channels=3, out_channels=2),
    operators=("Gemm", "Relu"),
    activation="relu",
    element_type=1,
    source_shape=(4, 3),
    provider="CPUExecutionProvider",
)
SECONDS = Timing(0.1 / 3)


@pytest.fixture
def opened(tmp_path: Path) -> Opened:
    return classifier(tmp_path).with_workspace(cache=Cache(tmp_path / "cache"))


@pytest.mark.parametrize(
    "other",
    [
        replace(KEY, form="pair", rank=2),
        replace(KEY, integers=OnIntegers("u8s8", before=True, behind=False)),
        replace(KEY, source_shape=(1, 3)),
        replace(KEY, provider="CUDAExecutionProvider"),
        replace(KEY, geometry=replace(KEY.geometry, out_channels=4)),
    ],
)
def test_times_of_something_else_are_not_known(other: TimingKey, opened: Opened) -> None:
    timing_task(*opened, KEY).store(opened.workspace.cache, SECONDS)
    assert timing_task(*opened, replace(KEY)).known(opened.workspace.cache) == SECONDS
    assert timing_task(*opened, other).known(opened.workspace.cache) is None


def test_times_of_another_machine_are_not_known(
    opened: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    timing_task(*opened, KEY).store(opened.workspace.cache, SECONDS)
    monkeypatch.setattr(latency_models.platform, "node", lambda: "elsewhere")
    assert timing_task(*opened, KEY).known(opened.workspace.cache) is None


def test_times_are_found_by_the_next_run(opened: Opened, monkeypatch: pytest.MonkeyPatch) -> None:
    timed: list[int] = []

    def count(
        case: Case,
        workspace: Workspace,
        block: object,
        shape: object,
        layers: list[object],
        integers: object,
    ) -> list[float]:
        timed.append(len(layers))
        return [float(len(timed)), *(0.5 for _ in layers)]

    monkeypatch.setattr(latency, "_timed", count)
    (item, *_) = opened.case.blocks
    for batch, layers in ((4, [1, 2]), (4, [1, 2]), (4, [2]), (4, [2, 3])):
        found = block_seconds(
            *opened, item, batch, [("pair", rank) for rank in layers], {}, opened.workspace.cache
        )
    # With a layer that was not timed, the block is timed anew beside it.
    assert timed == [2, 2]
    assert found == (2.0, (0.5, 0.5))
    # Without a cache, times last as long as the run.
    block_seconds(*opened, item, 4, [("pair", 1)], {})
    assert timed == [2, 2, 1]
