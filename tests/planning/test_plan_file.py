"""Plans as files: the same plan comes back, and whatever is wrong in one is named."""

import json
import os
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from plan_files import PLAN, plans, refused, written

from onnx_relusv.core.errors import InputError
from onnx_relusv.core.plans import Budgets, Choice, Plan
from onnx_relusv.planning.plan_file import plan_text, read_plan


@pytest.fixture
def fields() -> dict[str, Any]:
    return json.loads(plan_text(PLAN))


@given(plan=plans)
def test_round_trip(plan: Plan, tmp_path_factory: pytest.TempPathFactory) -> None:
    assert read_plan(written(tmp_path_factory.mktemp("plan"), plan_text(plan))) == plan


def test_a_file_from_before_latency_is_read(fields: dict[str, Any], tmp_path: Path) -> None:
    for name in ("batch", "latency"):
        del fields[name]
    del fields["budgets"]["latency"]
    assert read_plan(written(tmp_path, fields)) == PLAN
    assert (PLAN.batch, PLAN.latency) == (1, None)


def test_a_file_of_the_version_before_groups_is_read(
    fields: dict[str, Any], tmp_path: Path
) -> None:
    assert fields["schema_version"] == 7
    fields["schema_version"] = 2
    for name in ("groups", "group_curves"):
        assert fields.pop(name) == []
    for choice in fields["choices"]:
        del choice["inputs"], choice["outputs"]
    assert read_plan(written(tmp_path, fields)) == PLAN


def test_a_file_of_the_version_before_integers_is_read(
    fields: dict[str, Any], tmp_path: Path
) -> None:
    fields["schema_version"] = 3
    assert fields.pop("int8_damages") == []
    assert fields.pop("int8_format") == "u8s8"
    assert fields.pop("int8_ranges") == "least_squared_error"
    for choice in fields["choices"]:
        assert choice.pop("precision") == "keep"
        assert choice.pop("rounding") is None
    # Its marks are those of other fields.
    fields["marks"] = [mark.replace("own fields: ", "own fields: 0") for mark in fields["marks"]]
    assert read_plan(written(tmp_path, fields)) == PLAN


def test_a_file_of_the_version_before_formats_is_read(
    fields: dict[str, Any], tmp_path: Path
) -> None:
    fields["schema_version"] = 4
    del fields["int8_format"], fields["int8_ranges"]
    for choice in fields["choices"]:
        del choice["rounding"]
    assert read_plan(written(tmp_path, fields)) == PLAN


def test_a_file_of_the_version_before_effort_is_read(
    fields: dict[str, Any], tmp_path: Path
) -> None:
    fields["schema_version"] = 6
    assert fields.pop("effort") == "normal"
    assert read_plan(written(tmp_path, fields)) == PLAN


def test_an_effort_is_one_of_two(fields: dict[str, Any], tmp_path: Path) -> None:
    fields["effort"] = "quick"
    assert read_plan(written(tmp_path, fields)) == replace(PLAN, effort="quick")
    fields["effort"] = "none"
    refused(tmp_path, fields, "effort", "quick")


def test_a_format_of_integers_is_one_of_two(fields: dict[str, Any], tmp_path: Path) -> None:
    fields["int8_format"] = "s8s8"
    assert read_plan(written(tmp_path, fields)) == replace(PLAN, int8_format="s8s8")
    fields["int8_format"] = "s8u8"
    refused(tmp_path, fields, "int8_format", "u8s8")


def test_how_numbers_are_rounded_is_said_of_integers_alone(
    fields: dict[str, Any], tmp_path: Path
) -> None:
    fields["choices"][0]["rounding"] = "nearest"
    refused(tmp_path, fields, "choices[0]", "use the precision int8, or null")
    fields["choices"][0] |= {"precision": "int8", "rounding": "upwards"}
    refused(tmp_path, fields, "choices[0].rounding", "error_feedback")
    fields["choices"][0]["rounding"] = None
    fields["int8_ranges"] = "percentile"
    refused(tmp_path, fields, "int8_ranges", "min_max")


def test_the_file_is_readable(fields: dict[str, Any]) -> None:
    assert list(fields)[:2] == ["schema", "schema_version"]
    assert fields["budgets"] == {
        "size": 0.5,
        "macs": None,
        "tolerance": 0.25,
        "max_drop": None,
        "confidence": None,
        "drop_by": None,
        "latency": None,
    }
    assert fields["choices"][0]["form"] == "spatial"
    assert plan_text(PLAN).endswith("}\n")


def test_an_edited_plan(fields: dict[str, Any], tmp_path: Path) -> None:
    fields["choices"][0]["rank"] = 3
    fields["choices"][1] = {"key": "fc", "action": "double_layer", "form": "pair", "rank": 2}
    plan = read_plan(written(tmp_path, fields))
    assert plan == replace(
        PLAN,
        choices=(
            replace(PLAN.choices[0], rank=3),
            Choice(key="fc", action="double_layer", form="pair", rank=2),
        ),
    )
    fields["budgets"] = {}
    assert read_plan(written(tmp_path, fields)).budgets == Budgets()


def test_what_is_no_plan(tmp_path: Path, fields: dict[str, Any]) -> None:
    refused(tmp_path, "{", "not JSON")
    refused(tmp_path, "[" * 100_000, "not JSON")
    for data in ([], "text", 3, None, {}, {"schema": "onnx-relusv/report"}):
        refused(tmp_path, json.dumps(data), "not a plan of onnx-relusv")
    (tmp_path / "plan.json").write_bytes(b"\xff\xfe\xfa")
    with pytest.raises(InputError, match="not JSON"):
        read_plan(tmp_path / "plan.json")
    with pytest.raises(InputError, match="there is no such file"):
        read_plan(tmp_path / "missing.json")
    with pytest.raises(InputError, match="this is a folder"):
        read_plan(tmp_path)
    os.mkfifo(tmp_path / "pipe.json")
    with pytest.raises(InputError, match="this is a named pipe"):
        read_plan(tmp_path / "pipe.json")
    refused(
        tmp_path, '{"schema": "onnx-relusv/plan", "seed": 1, "seed": 2}', "has the field seed twice"
    )


@pytest.mark.parametrize(
    ("edit", "where"),
    [
        (lambda fields: fields.update(level=0.5), "own fields: one of method, allocation, level"),
        (lambda fields: fields.update(curves=[]), "own fields"),
        (lambda fields: fields["budgets"].update(tolerance=0.5), "budgets: one of macs"),
        (lambda fields: fields["choices"][0].update(level=0.9), "block .*: one of level, damage"),
        (
            lambda fields: fields["choices"][0].update(why="better so"),
            "block .*: one of level, damage",
        ),
        (lambda fields: fields["choices"][0].update(action="keep"), "has the action keep, so that"),
    ],
)
def test_what_is_edited_without_effect_is_said(
    edit: Callable[[dict[str, Any]], None], where: str, tmp_path: Path, fields: dict[str, Any]
) -> None:
    assert not read_plan(written(tmp_path, fields)).edited
    edit(fields)
    (sentence,) = read_plan(written(tmp_path, fields)).edited
    assert re.search(where, sentence)
    assert "change" in sentence
    # What has an effect may be edited besides, and blocks may be left out.
    fields["choices"] = fields["choices"][:1]
    fields["choices"][0]["rank"] = 3
    assert len(read_plan(written(tmp_path, fields)).edited) == 1


def test_another_version(fields: dict[str, Any], tmp_path: Path) -> None:
    for version in (0, 1, 8, "2", 2.5, None, True):
        fields["schema_version"] = version
        refused(tmp_path, fields, f"schema version {version}", "Make the plan again")


def test_a_missing_field(fields: dict[str, Any], tmp_path: Path) -> None:
    needed = ("model_sha256", "samples_sha256", "budgets", "method", "seed", "allocation", "level")
    for name in (*needed, "size", "macs", "choices", "damage", "curves"):
        others = {other: value for other, value in fields.items() if other != name}
        refused(tmp_path, others, "missing", name)


def test_an_unknown_field(fields: dict[str, Any], tmp_path: Path) -> None:
    refused(tmp_path, {**fields, "colour": 1}, "unknown", "colour")
    refused(tmp_path, {**fields, "budgets": {"sise": 0.5}}, "unknown", "sise")
    choice = {"key": "conv", "ranks": 3}
    refused(tmp_path, {**fields, "choices": [choice]}, "unknown", "ranks")
    refused(tmp_path, {**fields, "choices": [{"action": "keep"}]}, "missing", "key")
    curve = {**fields["curves"][0], "levels": [0.1, 0.2]}
    refused(tmp_path, {**fields, "curves": [curve]}, "curves[0], of conv", "unknown", "levels")
    del curve["levels"], curve["form"]
    refused(tmp_path, {**fields, "curves": [curve]}, "curves[0], of conv", "missing", "form")


WRONG: dict[str, list[object]] = {
    "model_sha256": [None, 3, ["ab"]],
    "samples_sha256": [3, []],
    "budgets": [None, [], "0.5", 0.5],
    "method": ["svd", None, 1, []],
    "seed": [-1, 1.5, "7", None, True],
    "allocation": ["auto", None, 1, []],
    "level": ["0.1", None, -0.1, float("nan"), float("inf"), 10**400, True],
    "size": ["0.1", None, -0.1, float("nan")],
    "macs": ["0.1", None, -0.1, float("nan")],
    "choices": [None, {}, "conv", 3, ["conv"], [None], [[]]],
    "damage": ["0.1", -0.1, float("nan"), float("inf"), True, []],
    "curves": [None, {}, "conv", 3, ["conv"], [None], [[]]],
    "groups": [None, {}, "conv", 3, ["conv"], [None], [[]]],
    "group_curves": [None, {}, "conv", 3, ["conv"], [None], [[]]],
}


@pytest.mark.parametrize("name", WRONG)
def test_a_field_of_the_wrong_kind(name: str, fields: dict[str, Any], tmp_path: Path) -> None:
    for value in WRONG[name]:
        fields[name] = value
        refused(tmp_path, fields, name.removesuffix("s"))


@pytest.mark.parametrize("name", ["size", "macs", "tolerance"])
def test_a_budget_out_of_range(name: str, fields: dict[str, Any], tmp_path: Path) -> None:
    for value in ("0.5", 0, 1, 1.5, -1, True, [], float("nan")):
        fields["budgets"][name] = value
        refused(tmp_path, fields, f"budgets.{name}: {value!r}; use a number above 0 and below 1")


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("max_drop", (0, 100, -1, "1", True, float("inf"))),
        ("confidence", (0.5, 1, 0.3, 95, "0.95", True)),
    ],
)
def test_a_drop_out_of_range(
    name: str, values: tuple[object, ...], fields: dict[str, Any], tmp_path: Path
) -> None:
    for value in values:
        fields["budgets"][name] = value
        refused(tmp_path, fields, "budgets", name)


WRONG_CHOICE: dict[str, list[object]] = {
    "key": [None, 3, ["conv"], {}],
    "action": ["cut", None, 1, []],
    "form": ["cp", None, 1, []],
    "rank": [0, -1, 1.5, "5", None, True, []],
    "level": ["0.1", None, -0.1, float("nan")],
    "damage": ["0.1", -0.1, float("nan"), True, []],
    "why": [None, 3],
    "inputs": [0, -1, 1.5, "5", True, []],
    "outputs": [0, -1, 1.5, "5", True, []],
}


@pytest.mark.parametrize("name", WRONG_CHOICE)
def test_a_choice_of_the_wrong_kind(name: str, fields: dict[str, Any], tmp_path: Path) -> None:
    for value in WRONG_CHOICE[name]:
        fields["choices"][0][name] = value
        refused(tmp_path, fields, "choices[0]", name, ", of conv" * (name != "key"))


@pytest.mark.parametrize(("name", "value"), [("form", "cp"), ("rank", 0), ("rank", "5")])
def test_a_kept_block_is_checked_too(
    name: str, value: object, fields: dict[str, Any], tmp_path: Path
) -> None:
    fields["choices"][1][name] = value
    refused(tmp_path, fields, f"choices[1].{name}, of fc: {value!r}; use ")


WRONG_CURVE: dict[str, list[object]] = {
    "key": [None, 3, ["conv"], {}],
    "form": ["cp", None, 1, []],
    "ranks": [None, 3, {}, ["2", 5], [0, 5], [2.5, 5], [True, 5], [None, 5]],
    "damages": [None, 0.1, {}, ["0.1", 0.2], [-0.1, 0.2], [float("nan"), 0.1], [None, 0.1]],
}


@pytest.mark.parametrize("name", WRONG_CURVE)
def test_a_curve_of_the_wrong_kind(name: str, fields: dict[str, Any], tmp_path: Path) -> None:
    for value in WRONG_CURVE[name]:
        fields["curves"][0][name] = value
        refused(tmp_path, fields, f"curves[0].{name}")


def test_a_curve_has_a_damage_for_every_rank(fields: dict[str, Any], tmp_path: Path) -> None:
    fields["curves"][0]["ranks"] = [1, 2, 5]
    refused(tmp_path, fields, "curves[0], of conv", "3 ranks and 2 damages")


def test_a_block_listed_twice(fields: dict[str, Any], tmp_path: Path) -> None:
    fields["choices"].append(fields["choices"][0])
    refused(tmp_path, fields, "conv", "twice")
