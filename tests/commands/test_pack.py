"""A plan made for one processor is carried out, and made again, on another."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from cut_graphs import GRAPHS
from cut_plans import opened_graph

from onnx_relusv import Budgets, MeasureOptions, PlanOptions, apply, compress, plan
from onnx_relusv.planning.latency import pack as module
from onnx_relusv.planning.plan_file import read_plan

MEASURING = MeasureOptions(provider="cpu")
HALF = PlanOptions(budgets=Budgets(size=0.5))


@pytest.fixture
def model(tmp_path: Path) -> Path:
    opened_graph(GRAPHS["chain"], tmp_path)
    return tmp_path / "model.onnx"


def on_processor(monkeypatch: pytest.MonkeyPatch, pack: int | None) -> None:
    monkeypatch.setattr(module, "measured_pack", lambda provider: pack)


def test_a_plan_is_applied_as_it_stands_whatever_the_processor(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen, file = tmp_path / "samples.npz", tmp_path / "plan.json"
    on_processor(monkeypatch, 16)
    made = plan(model, samples=seen, planning=HALF, measuring=MEASURING, output=file)
    assert made.pack == 16
    assert read_plan(file) == made
    written = []
    for pack in (16, 8, None):
        on_processor(monkeypatch, pack)
        done = apply(model, file, tmp_path / f"{pack}.onnx", samples=seen)
        assert done.plan == made
        written.append((tmp_path / f"{pack}.onnx").read_bytes())
    assert written[0] == written[1] == written[2]


def test_a_named_pack_repeats_a_run_elsewhere(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = tmp_path / "samples.npz"
    on_processor(monkeypatch, 16)
    first = compress(model, tmp_path / "a.onnx", samples=seen, planning=HALF, measuring=MEASURING)
    assert first.provenance.settings["pack"] == first.plan.pack == 16
    on_processor(monkeypatch, 8)
    there = replace(HALF, pack=16)
    compress(model, tmp_path / "b.onnx", samples=seen, planning=there, measuring=MEASURING)
    assert (tmp_path / "a.onnx").read_bytes() == (tmp_path / "b.onnx").read_bytes()
    own = plan(model, samples=seen, planning=HALF, measuring=MEASURING)
    assert own.pack == 8
    assert own.latency != first.plan.latency


def test_without_a_pack_plans_do_not_look_at_time(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    on_processor(monkeypatch, None)
    for planning in (HALF, replace(HALF, pack=1), replace(HALF, pack=16, round_to=1)):
        made = plan(
            model,
            samples=tmp_path / "samples.npz",
            planning=planning,
            measuring=MEASURING,
        )
        assert (made.pack, made.latency) == (None, None)
    assert np.isfinite(made.size)
