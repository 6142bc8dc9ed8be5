"""--effort: the same file from every command, less work, and the same judgement."""

import json
import shlex
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import classified
import numpy as np
import pytest
from click.testing import CliRunner

from onnx_relusv import (
    ApplyOptions,
    Budgets,
    MeasureOptions,
    PlanOptions,
    SweepOptions,
    apply,
    compress,
    plan,
    sweep,
)
from onnx_relusv.cli.commands import cli
from onnx_relusv.core.errors import UsageError
from onnx_relusv.core.results import Compression
from onnx_relusv.measuring import case
from onnx_relusv.planning.plan_file import plan_text, read_plan
from onnx_relusv.report.pages import page_of
from onnx_relusv.work.effort import SPENDING

NORMAL = MeasureOptions(provider="cpu")
QUICK = MeasureOptions(provider="cpu", effort="quick")
PLANNING = PlanOptions(budgets=Budgets(size=0.5))
# Of the 400 samples, 320 are fitted to and 80 chosen on.
MOST = 100


@pytest.fixture(scope="module", autouse=True)
def _few_samples() -> Iterator[None]:
    """A quick run takes fewer samples than there are here."""
    with pytest.MonkeyPatch.context() as patch:
        few = {**SPENDING, "quick": replace(SPENDING["quick"], most_samples=MOST)}
        patch.setattr(case, "SPENDING", few)
        yield


@pytest.fixture(scope="module")
def folder(_few_samples: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A classifier with its samples."""
    found = tmp_path_factory.mktemp("effort")
    classified.samples(found, classified.classifier(found))
    return found


@pytest.fixture(scope="module")
def done(folder: Path) -> dict[str, Compression]:
    """Files of both efforts, `quick.onnx` and `normal.onnx`, with their JSON."""
    return {
        one.effort: compress(
            folder / "classifier.onnx",
            folder / f"{one.effort}.onnx",
            samples=folder / "s.npz",
            planning=PLANNING,
            measuring=replace(one, cache=folder / "cache"),
            json=folder / f"{one.effort}.json",
        )
        for one in (QUICK, NORMAL)
    }


def test_every_command_makes_the_same_file(folder: Path, done: dict[str, Compression]) -> None:
    model, samples = folder / "classifier.onnx", folder / "s.npz"
    quick = done["quick"]
    assert (quick.plan.effort, quick.provenance.settings["effort"]) == ("quick", "quick")

    decided = plan(model, samples=samples, planning=PLANNING, measuring=QUICK)
    (folder / "plan.json").write_text(plan_text(decided), encoding="utf-8")
    assert read_plan(folder / "plan.json").effort == "quick"
    own = ApplyOptions(provider="cpu")
    again = apply(
        model, folder / "plan.json", folder / "applied.onnx", samples=samples, measuring=own
    )
    assert not any("--effort" in one for one in again.warnings)

    test = classified.samples(folder, model, count=500, name="test")
    sweeping = SweepOptions(sizes=(0.5,), methods=("auto",))
    swept = sweep(
        model,
        samples=samples,
        test=test,
        sweeping=sweeping,
        measuring=QUICK,
        report=folder / "curve",
        keep=True,
    )
    (point,) = swept.points
    words = shlex.split(point.command)
    assert words[words.index("--effort") + 1] == "quick"

    first = (folder / "quick.onnx").read_bytes()
    assert (folder / "applied.onnx").read_bytes() == first
    (kept,) = (folder / "curve" / "models").iterdir()
    assert kept.read_bytes() == first
    # The effort is no decoration.
    assert (folder / "normal.onnx").read_bytes() != first


def test_the_file_is_checked_and_judged_as_that_of_a_normal_run(
    done: dict[str, Compression],
) -> None:
    quick, normal = done["quick"], done["normal"]
    assert normal.samples is not None
    assert quick.samples is not None
    assert (normal.samples.fit, normal.samples.select) == (320, 80)
    assert (quick.samples.fit, quick.samples.select) == (80, 20)
    assert quick.evaluation.samples == normal.evaluation.samples == 80
    assert quick.assessment.part == "choosing"
    names = [[check.name for check in one.verdict.checks] for one in (quick, normal)]
    assert names[0] == names[1]
    assert quick.correction is None
    assert normal.correction is not None
    # It is a file that is about as good, and not one that only has the bytes.
    assert quick.evaluation.agreement is not None
    assert quick.evaluation.agreement > 0.8


def test_the_report_says_what_was_left_out(folder: Path, done: dict[str, Compression]) -> None:
    quick, normal = done["quick"], done["normal"]
    for effort in ("quick", "normal"):
        data = json.loads((folder / f"{effort}.json").read_text(encoding="utf-8"))
        assert data["effort"] == effort
    (fact,) = (fact for fact in page_of(quick).facts if fact.name == "effort")
    assert "not refined" in fact.note
    assert not any(fact.name == "effort" for fact in page_of(normal).facts)
    # Nothing beyond the largest was estimated, and what is certified stands.
    for one, most in ((quick, 1), (normal, 64)):
        for row in one.rows:
            known = np.count_nonzero(~np.isnan(row.spectrum.estimate))
            assert known == 1 if most == 1 else 1 < known <= most
            assert np.all(row.spectrum.lower <= row.spectrum.upper)


def test_what_one_effort_has_cached_is_not_taken_by_the_other(
    folder: Path, done: dict[str, Compression]
) -> None:
    """The normal run above had the cache of the quick one."""
    assert done["normal"].samples is not None
    compress(
        folder / "classifier.onnx",
        folder / "again.onnx",
        samples=folder / "s.npz",
        planning=PLANNING,
        measuring=NORMAL,
    )
    assert (folder / "again.onnx").read_bytes() == (folder / "normal.onnx").read_bytes()


def test_a_plan_that_is_fitted_with_another_effort_says_so(folder: Path) -> None:
    model, samples = folder / "classifier.onnx", folder / "s.npz"
    decided = plan(model, samples=samples, planning=PLANNING, measuring=QUICK)
    own = ApplyOptions(provider="cpu", effort="normal")
    made = apply(model, decided, folder / "a.onnx", samples=samples, measuring=own)
    (said,) = (one for one in made.warnings if "--effort" in one)
    assert "made with --effort quick and is fitted with --effort normal" in said
    assert made.samples is not None
    assert made.samples.fit == 320


def test_the_command_line_has_it_where_it_counts(folder: Path) -> None:
    model, samples = str(folder / "classifier.onnx"), str(folder / "s.npz")
    words = [model, "--samples", samples, "--effort"]
    refused = CliRunner().invoke(cli, ["compress", *words, "none", "--output", "x.onnx"])
    assert refused.exit_code == 2
    assert "'quick'" in refused.output
    assert CliRunner().invoke(cli, ["inspect", *words, "quick"]).exit_code == 2
    with pytest.raises(UsageError, match="--effort 'none': use quick or normal"):
        MeasureOptions(effort="none")  # type: ignore[arg-type]
