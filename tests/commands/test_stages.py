"""One order of stages: whichever command makes a file, it is the same file."""

import shlex
from functools import partial
from pathlib import Path

import classified
import numpy as np
import pytest
from click.testing import CliRunner

from onnx_relusv import (
    ApplyOptions,
    Budgets,
    PlanOptions,
    SweepOptions,
    apply,
    compress,
    plan,
    sweep,
)
from onnx_relusv.checking.corrective import CorrectionSettings, fitted_by_damage
from onnx_relusv.cli.commands import cli
from onnx_relusv.commands import stages
from onnx_relusv.core.options import MeasureOptions
from onnx_relusv.planning.plan_file import plan_text

MEASURING, SIZE = MeasureOptions(provider="cpu"), 0.5


@pytest.mark.parametrize(
    ("method", "decay", "furthest"), [("auto", 0.8, 3.0), ("double-layer", 0.8, 50.0)]
)
def test_every_command_makes_the_same_file_with_the_corrective_round_taken(
    method: str, decay: float, furthest: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Another plan is fitted whatever it promises, so that the round is taken where it helps at all.
    eager = CorrectionSettings(furthest, least_gain=-np.inf)
    monkeypatch.setattr(stages, "fitted_by_damage", partial(fitted_by_damage, settings=eager))
    model = classified.classifier(tmp_path, decay=decay)
    samples = classified.samples(tmp_path, model)
    test = classified.samples(tmp_path, model, count=500, name="test")
    planning = PlanOptions(method=method, budgets=Budgets(size=SIZE), allocation="damage")  # type: ignore[arg-type]

    done = compress(
        model, tmp_path / "compressed.onnx", samples=samples, planning=planning, measuring=MEASURING
    )
    assert done.correction is not None
    assert done.correction.taken
    made = [tmp_path / "compressed.onnx"]

    decided = plan(model, samples=samples, planning=planning, measuring=MEASURING)
    (tmp_path / "plan.json").write_text(plan_text(decided), encoding="utf-8")
    apply(
        model,
        tmp_path / "plan.json",
        tmp_path / "applied.onnx",
        samples=samples,
        measuring=ApplyOptions(provider="cpu"),
    )
    made.append(tmp_path / "applied.onnx")

    name = "damage" if method == "double-layer" else method
    swept = sweep(
        model,
        samples=samples,
        test=test,
        sweeping=SweepOptions(sizes=(0.8, SIZE), methods=(name,)),
        report=tmp_path / "report",
        keep=True,
        measuring=MEASURING,
    )
    point = next(one for one in swept.points if one.size == SIZE)
    made.append(point.after.path)

    (tmp_path / "again").mkdir()
    monkeypatch.chdir(tmp_path / "again")
    result = CliRunner().invoke(cli, shlex.split(point.command)[1:])
    assert result.exit_code == 0, result.output
    made += (tmp_path / "again").iterdir()

    assert len(made) == 4
    assert len({path.read_bytes() for path in made}) == 1
