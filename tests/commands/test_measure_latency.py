"""Times measured on one machine, and plans made by them on another."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from command_line import run, words
from integer_networks import network, samples
from timed_runs import of_kernels, on_machine, timed_runs

from onnx_relusv import Budgets, MeasureOptions, PlanOptions, apply, compress, measure_latency, plan
from onnx_relusv.core.errors import InputError, UsageError
from onnx_relusv.planning.latency import pack as pack_module
from onnx_relusv.planning.latency import timed as timed_module
from onnx_relusv.planning.latency.models import Race
from onnx_relusv.planning.latency.times_file import read_times
from onnx_relusv.planning.plan_file import read_plan

MEASURING = MeasureOptions(provider="cpu")
BATCH = 50


@pytest.fixture
def model(tmp_path: Path) -> Path:
    found = network(tmp_path)
    samples(tmp_path, found, count=60)
    return found


@pytest.fixture
def times(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Of a machine called elsewhere, whose kernels take packs of 16."""
    with monkeypatch.context() as there:
        on_machine(there, of_kernels)
        there.setattr(timed_module, "measured_pack", lambda provider: 16)
        there.setattr(timed_module.platform, "node", lambda: "elsewhere")
        made = measure_latency(
            model,
            planning=PlanOptions(batch=BATCH),
            measuring=MEASURING,
            output=tmp_path / "times.json",
        )
    assert made.timed_on.machine == "elsewhere"
    assert not made.timed_on.from_file
    return tmp_path / "times.json"


def by_times(times: Path, **others: Any) -> PlanOptions:
    return PlanOptions(times=times, batch=BATCH, **others)


def unable(*arguments: object) -> Any:
    raise AssertionError("nothing is to be timed")


def test_plans_go_by_the_file_and_say_so(
    model: Path, times: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen, file = tmp_path / "s.npz", tmp_path / "plan.json"
    monkeypatch.setattr(Race, "undisturbed", unable)
    monkeypatch.setattr(pack_module, "measured_pack", unable)
    made = plan(
        model,
        samples=seen,
        planning=by_times(times, budgets=Budgets(latency=0.7)),
        measuring=MEASURING,
        output=file,
    )
    assert (made.pack, made.batch) == (16, BATCH)
    assert made.timed_on is not None
    assert (made.timed_on.machine, made.timed_on.from_file) == ("elsewhere", True)
    assert made.latency is not None
    assert made.latency <= 0.7
    assert read_plan(file) == made
    # Here the file is slower than the original, which is no reason to refuse it.
    timed_runs(monkeypatch, [2.0])
    done = apply(model, file, tmp_path / "small.onnx", samples=seen)
    assert done.latency is not None
    assert (done.latency.planned, done.latency.share) == (made.latency, 2.0)
    assert done.plan.timed_on == made.timed_on


def test_without_a_budget_on_time_the_quickest_plan_is_found_by_them(
    model: Path, times: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Race, "undisturbed", unable)
    done = compress(
        model,
        tmp_path / "small.onnx",
        samples=tmp_path / "s.npz",
        planning=by_times(times, budgets=Budgets(size=0.5)),
        measuring=MEASURING,
    )
    assert done.latency is None
    assert done.plan.latency is not None
    assert done.plan.timed_on is not None
    assert done.provenance.settings["times"] == str(times.absolute())
    assert done.provenance.settings["pack"] == 16


def _deleted(data: dict[str, Any]) -> None:
    del data["variants"]


def _of_another_model(data: dict[str, Any]) -> None:
    data["model_sha256"] = "0" * 64


def _of_more_channels(data: dict[str, Any]) -> None:
    data["variants"][0]["blocks"][0]["outputs"] = 4000


def _of_another_block(data: dict[str, Any]) -> None:
    data["variants"][0]["blocks"][0]["key"] = "nothing"


def _of_another_form(data: dict[str, Any]) -> None:
    data["variants"][0]["blocks"][0]["form"] = "pair"


def _in_no_time(data: dict[str, Any]) -> None:
    data["variants"][0]["after"] = 0.0


def _of_a_later_version(data: dict[str, Any]) -> None:
    data["schema_version"] = 2


def _of_nothing(data: dict[str, Any]) -> None:
    data["variants"] = []


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (_deleted, "the field variants is missing. Measure again"),
        (_of_another_model, "the times are of another model"),
        (_of_more_channels, "cannot be as the times say. Measure again"),
        (_of_another_block, "block nothing cannot be as the times say"),
        (_of_another_form, "cannot be as the times say"),
        (_in_no_time, "variants[0].after: 0.0; use a number above 0"),
        (_of_a_later_version, "schema version 2, but this version reads 1. Measure again"),
        (_of_nothing, "no variant was timed; measure again"),
    ],
)
def test_times_that_do_not_fit_are_refused(
    change: Callable[[dict[str, Any]], None], reason: str, model: Path, times: Path, tmp_path: Path
) -> None:
    data = json.loads(times.read_text(encoding="utf-8"))
    change(data)
    times.write_text(json.dumps(data), encoding="utf-8")
    options = ("--times", times, "--batch", BATCH, "--size", 0.5, "--samples", tmp_path / "s.npz")
    result = run("compress", model, "--output", tmp_path / "small.onnx", *options)
    assert result.exit_code == 3, result.output
    assert reason in words(result)
    assert not (tmp_path / "small.onnx").exists()


def test_other_options_than_the_times_are_for_are_refused(
    model: Path, times: Path, tmp_path: Path
) -> None:
    output = tmp_path / "small.onnx"
    for planning, reason in (
        (PlanOptions(times=times, budgets=Budgets(size=0.5)), "Say --batch 50"),
        (by_times(times, precision="int8"), "no integers. Measure again with --precision int8"),
    ):
        with pytest.raises(InputError, match=reason):
            compress(model, output, samples=tmp_path / "s.npz", planning=planning)
    with pytest.raises(UsageError, match="--times does not go with --precision fp16"):
        compress(model, output, planning=by_times(times, precision="fp16"))
    with pytest.raises(UsageError, match="times floats"):
        measure_latency(model, planning=by_times(times))
    times.write_text("{", encoding="utf-8")
    with pytest.raises(InputError, match="not JSON"):
        read_times(times)
    assert not output.exists()


def test_the_command_measures_and_writes(model: Path, tmp_path: Path) -> None:
    output = tmp_path / "times.json"
    options = ("--precision", "int8", "--provider", "cpu")
    result = run("measure-latency", model, "--output", output, *options)
    assert result.exit_code == 0, result.output
    assert "variants timed at batch 1 on" in words(result)
    found = read_times(output)
    assert found.int8_format == "u8s8"
    assert {one.precision for each in found.variants for one in each.blocks} == {"keep", "int8"}
    assert run("measure-latency", model, "--output", output, *options).exit_code == 2
