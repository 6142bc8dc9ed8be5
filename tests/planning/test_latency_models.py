"""What whole models are run on when they are timed."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from graphs import model_proto, normalization
from opened import Opened, open_model
from planned import plan
from probed import CLASSIFIER, COUNT, WEIGHTS, classifier

from onnx_relusv.checking.latency import check_planned_latency
from onnx_relusv.commands.compress import apply
from onnx_relusv.core.errors import BudgetError
from onnx_relusv.core.options import MeasureOptions
from onnx_relusv.core.plans import Budgets, Plan
from onnx_relusv.planning.latency import models as module
from onnx_relusv.planning.latency.models import Race, length
from onnx_relusv.runtime.session import Session
from onnx_relusv.work.executors import Advance, Silent, unseen


def thinner(opened: Opened) -> Plan:
    return plan(opened, **{opened.case.blocks[0].key: ("channel", 1)})


@pytest.fixture
def fed(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, np.ndarray]]:
    """What both models were fed; the second one seems to take half of the time."""
    found: list[dict[str, np.ndarray]] = []

    def clock(sessions: list[Session], feeds: dict[str, np.ndarray]) -> tuple[float, float]:
        shapes = [{k: v.shape for k, v in one.run(feeds).items()} for one in sessions]
        assert shapes[0] == shapes[1]
        found.append(feeds)
        return 2.0, 1.0

    monkeypatch.setattr(module, "undisturbed_latencies", clock)
    return found


def test_the_first_samples_run(tmp_path: Path, fed: list[dict[str, np.ndarray]]) -> None:
    opened = classifier(tmp_path)
    with np.load(tmp_path / "samples.npz") as archive:
        samples = archive["x"]
    race = Race(*opened, 8)
    first, last = opened.case.blocks[0].key, opened.case.blocks[-1].key
    changed = plan(opened, **{first: ("spatial", 2), last: ("pair", 1)})
    found = race.against_plan(changed)
    assert (found.batch, found.before, found.after) == (8, 2.0, 1.0)
    assert np.array_equal(fed[0]["x"], samples[:8])
    # Where there are fewer, they run again.
    found = Race(*opened, COUNT + 3).against_plan(changed)
    assert found.batch == COUNT + 3
    assert np.array_equal(fed[1]["x"], np.concatenate([samples, samples[:3]]))


def test_a_fixed_batch_goes_first(tmp_path: Path, fed: list[dict[str, np.ndarray]]) -> None:
    opened = classifier(tmp_path, batch=7)
    assert length(opened.case, 32) == 7
    found = Race(*opened, 32).against_plan(thinner(opened))
    assert found.batch == 7
    assert fed[0]["x"].shape == (7, 3, 6, 6)


def test_without_samples_inputs_are_made_up(
    tmp_path: Path, fed: list[dict[str, np.ndarray]]
) -> None:
    classifier(tmp_path)
    opened = open_model(tmp_path / "model.onnx", None, MeasureOptions(provider="cpu"))
    Race(*opened, 5).against_plan(thinner(opened))
    assert fed[0]["x"].shape == (5, 3, 6, 6)


def test_dynamic_lengths_are_found_by_trying(tmp_path: Path) -> None:
    text = CLASSIFIER.format(n="N").replace("[N,3,6,6]", "[N,3,H,W]")
    onnx.save(model_proto(text, WEIGHTS | normalization(8)), tmp_path / "any.onnx")
    opened = open_model(tmp_path / "any.onnx", None, MeasureOptions(provider="cpu"))
    assert all(time > 0 for time in Race(*opened, 2).undisturbed([thinner(opened)]))


def test_a_model_races_itself(tmp_path: Path, fed: list[dict[str, np.ndarray]]) -> None:
    opened = classifier(tmp_path)
    found = Race(*opened, 4).against(opened.case.model.path)
    assert found.after / found.before == 0.5
    assert len(fed) == 1


def test_a_plan_that_is_too_slow_here_is_refused_before_anything_is_fitted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = classifier(tmp_path)
    key = opened.case.blocks[0].key
    asked = replace(plan(opened, **{key: ("channel", 1)}), budgets=Budgets(latency=0.5))
    shares = iter([0.6, 0.54, 0.53])

    def clock(sessions: list[Session], feeds: dict[str, np.ndarray]) -> tuple[float, float]:
        return 2.0, 2.0 * next(shares)

    monkeypatch.setattr(module, "undisturbed_latencies", clock)
    stages: list[str] = []

    class Heard(Silent):
        @contextmanager
        def stage(self, name: str, total: int) -> Iterator[Advance]:
            stages.append(name)
            yield unseen

    output = tmp_path / "small.onnx"
    with pytest.raises(BudgetError, match=r"0\.53 of the time at batch 1, .* nothing was fitted"):
        apply(
            opened.case.model.path,
            asked,
            output,
            samples=tmp_path / "samples.npz",
            progress=Heard(),
        )
    assert not any("Fit" in name or "Moments" in name for name in stages)
    assert not output.exists()


def test_one_measurement_within_the_allowance_lets_a_plan_be_fitted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = classifier(tmp_path)
    asked = replace(
        plan(opened, **{opened.case.blocks[0].key: ("channel", 1)}), budgets=Budgets(latency=0.5)
    )
    shares = iter([0.6, 0.52])
    monkeypatch.setattr(module, "undisturbed_latencies", lambda *_: (1.0, next(shares)))
    check_planned_latency(*opened, asked)
    assert next(shares, None) is None
