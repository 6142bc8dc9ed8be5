"""What whole models are run on when they are timed."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from graphs import model_proto, normalization
from probed import CLASSIFIER, COUNT, WEIGHTS, classifier

from onnx_relusv.fitted import Change
from onnx_relusv.latency import models as module
from onnx_relusv.latency.models import Race, length
from onnx_relusv.opened import open_model
from onnx_relusv.options import MeasureOptions
from onnx_relusv.runtime.session import Session


@pytest.fixture
def fed(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, np.ndarray]]:
    """What both models were fed; the second one seems to take half of the time."""
    found: list[dict[str, np.ndarray]] = []

    def clock(before: Session, after: Session, feeds: dict[str, np.ndarray]) -> tuple[float, float]:
        shapes = [{k: v.shape for k, v in one.run(feeds).items()} for one in (before, after)]
        assert shapes[0] == shapes[1]
        found.append(feeds)
        return 2.0, 1.0

    monkeypatch.setattr(module, "interleaved_latency", clock)
    return found


def test_the_first_samples_run(tmp_path: Path, fed: list[dict[str, np.ndarray]]) -> None:
    opened = classifier(tmp_path)
    with np.load(tmp_path / "samples.npz") as archive:
        samples = archive["x"]
    race = Race(opened, 8)
    changes = [Change(opened.blocks[0], "spatial", 2), Change(opened.blocks[-1], "pair", 1)]
    found = race.against_plan(changes)
    assert (found.batch, found.before, found.after) == (8, 2.0, 1.0)
    assert np.array_equal(fed[0]["x"], samples[:8])
    # Where there are fewer, they run again.
    found = Race(opened, COUNT + 3).against_plan(changes)
    assert found.batch == COUNT + 3
    assert np.array_equal(fed[1]["x"], np.concatenate([samples, samples[:3]]))


def test_a_fixed_batch_goes_first(tmp_path: Path, fed: list[dict[str, np.ndarray]]) -> None:
    opened = classifier(tmp_path, batch=7)
    assert length(opened, 32) == 7
    found = Race(opened, 32).against_plan([Change(opened.blocks[0], "channel", 1)])
    assert found.batch == 7
    assert fed[0]["x"].shape == (7, 3, 6, 6)


def test_without_samples_inputs_are_made_up(
    tmp_path: Path, fed: list[dict[str, np.ndarray]]
) -> None:
    classifier(tmp_path)
    opened = open_model(tmp_path / "model.onnx", None, MeasureOptions(provider="cpu"))
    Race(opened, 5).against_plan([Change(opened.blocks[0], "channel", 1)])
    assert fed[0]["x"].shape == (5, 3, 6, 6)


def test_dynamic_lengths_are_found_by_trying(tmp_path: Path) -> None:
    text = CLASSIFIER.format(n="N").replace("[N,3,6,6]", "[N,3,H,W]")
    onnx.save(model_proto(text, WEIGHTS | normalization(8)), tmp_path / "any.onnx")
    opened = open_model(tmp_path / "any.onnx", None, MeasureOptions(provider="cpu"))
    assert Race(opened, 2).original() > 0


def test_a_model_races_itself(tmp_path: Path, fed: list[dict[str, np.ndarray]]) -> None:
    opened = classifier(tmp_path)
    found = Race(opened, 4).against(opened.model.path)
    assert found.after / found.before == 0.5
    assert len(fed) == 1
