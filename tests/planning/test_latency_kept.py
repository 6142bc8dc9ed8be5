"""Times that outlive a run: for one machine, and only where all that counts is equal."""

from dataclasses import replace
from pathlib import Path

import pytest
from probed import classifier

from onnx_relusv.core.blocks import Geometry
from onnx_relusv.measuring.case import Opened
from onnx_relusv.planning import latency_models as module
from onnx_relusv.planning.latency_models import KeptTimings, TimingKey
from onnx_relusv.work.cache import Cache

KEY = TimingKey(
    geometry=Geometry(kind="gemm", in_channels=3, out_channels=2),
    operators=("Gemm", "Relu"),
    activation="relu",
    element_type=1,
    source_shape=(4, 3),
    provider="CPUExecutionProvider",
)


@pytest.fixture
def opened(tmp_path: Path) -> Opened:
    return replace(classifier(tmp_path), cache=Cache(tmp_path / "cache"))


def test_times_are_found_by_the_next_run(opened: Opened) -> None:
    first = KeptTimings(opened)
    assert first.get(KEY) is None
    first.update([(KEY, 0.1 / 3), (replace(KEY, form="pair", rank=1), 1e-5)])
    assert first[KEY] == 0.1 / 3
    again = KeptTimings(opened)
    assert again.get(KEY) == 0.1 / 3
    assert again[replace(KEY, form="pair", rank=1)] == 1e-5


@pytest.mark.parametrize(
    "other",
    [
        replace(KEY, form="pair", rank=2),
        replace(KEY, source_shape=(1, 3)),
        replace(KEY, provider="CUDAExecutionProvider"),
        replace(KEY, geometry=replace(KEY.geometry, out_channels=4)),
    ],
)
def test_times_of_something_else_are_not(other: TimingKey, opened: Opened) -> None:
    KeptTimings(opened)[KEY] = 1.0
    again = KeptTimings(opened)
    assert other not in again
    with pytest.raises(KeyError):
        again[other]


def test_times_of_another_machine_are_not(opened: Opened, monkeypatch: pytest.MonkeyPatch) -> None:
    KeptTimings(opened)[KEY] = 1.0
    monkeypatch.setattr(module.platform, "node", lambda: "elsewhere")
    assert KeptTimings(opened).get(KEY) is None


def test_without_a_cache_times_last_as_long_as_the_run(tmp_path: Path) -> None:
    opened = classifier(tmp_path)
    timings = KeptTimings(opened)
    timings[KEY] = 2.0
    assert timings.get(KEY) == 2.0
    assert KeptTimings(opened).get(KEY) is None
