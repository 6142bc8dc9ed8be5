"""What a plan file says of groups and of blocks with fewer channels, and what it may not."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from plan_files import GROUPED, refused, written

from onnx_relusv.planning.plan_file import plan_text, read_plan


@pytest.fixture
def grouped() -> dict[str, Any]:
    return json.loads(plan_text(GROUPED))


def test_a_group_s_units_stand_on_one_line() -> None:
    text = plan_text(GROUPED)
    assert '"kept": [0, 2, 5],\n' in text
    assert '"counts": [1, 3],\n' in text


@pytest.mark.parametrize(
    ("changes", "need"),
    [
        ({"action": "prune"}, "the form dense"),
        ({"action": "refit"}, "the form dense"),
        ({"action": "prune", "form": None}, "the form dense"),
        ({"action": "refit", "form": "dense", "rank": None}, "the form dense"),
        ({"form": "dense"}, "a form other than dense"),
    ],
)
def test_an_action_has_its_own_forms(
    changes: dict[str, object], need: str, grouped: dict[str, Any], tmp_path: Path
) -> None:
    grouped["choices"][0].update(changes)
    refused(tmp_path, grouped, "choices[0], of conv", f"needs {need} and a rank")


WRONG_GROUP: dict[str, list[object]] = {
    "key": [None, 3, ["conv"], {}],
    "units": [0, -1, 1.5, "6", None, True],
    "kept": [None, 3, {}, "012", ["0"], [0.5], [True], [None], [-1, 2]],
    "level": ["0.1", None, -0.1, float("nan")],
    "producers": [None, "conv_sum", [3], {}],
    "consumers": [None, "fc_sum", [3], {}],
    "why": [None, 3],
    "damage": ["0.1", -0.1, float("nan"), True, []],
}


@pytest.mark.parametrize("name", WRONG_GROUP)
def test_a_group_of_the_wrong_kind(name: str, grouped: dict[str, Any], tmp_path: Path) -> None:
    for value in WRONG_GROUP[name]:
        grouped["groups"][0][name] = value
        refused(tmp_path, grouped, f"groups[0].{name}")


@pytest.mark.parametrize(
    ("kept", "reason"),
    [
        ([], "kept is empty; one unit at least has to stay"),
        ([0, 6], "kept has 6, but its units are 0 to 5"),
        ([0, 3, 2], "2 stands behind 3; use increasing numbers"),
        ([1, 1], "1 stands behind 1; use increasing numbers"),
    ],
)
def test_units_that_cannot_be_kept(
    kept: list[int], reason: str, grouped: dict[str, Any], tmp_path: Path
) -> None:
    grouped["groups"][0]["kept"] = kept
    refused(tmp_path, grouped, "groups[0]", ", of conv_sum", reason)


@pytest.mark.parametrize("kept", [[0], [5], [0, 1, 2, 3, 4, 5]])
def test_units_may_be_chosen_by_hand(
    kept: list[int], grouped: dict[str, Any], tmp_path: Path
) -> None:
    grouped["groups"][0]["kept"] = kept
    (group,) = read_plan(written(tmp_path, grouped)).groups
    assert group == replace(GROUPED.groups[0], kept=tuple(kept))


@pytest.mark.parametrize("name", ["key", "units", "kept", "level", "producers", "consumers", "why"])
def test_a_group_without_a_field(name: str, grouped: dict[str, Any], tmp_path: Path) -> None:
    del grouped["groups"][0][name]
    refused(tmp_path, grouped, "groups[0]", "missing", name)


def test_a_group_listed_twice(grouped: dict[str, Any], tmp_path: Path) -> None:
    grouped["groups"].append(grouped["groups"][0])
    refused(tmp_path, grouped, "group conv_sum", "twice")


def test_an_unknown_field_of_a_group(grouped: dict[str, Any], tmp_path: Path) -> None:
    curve = {**grouped["group_curves"][0], "ranks": [1]}
    refused(tmp_path, {**grouped, "group_curves": [curve]}, "unknown", "ranks")
    grouped["groups"][0]["removed"] = [1]
    refused(tmp_path, grouped, "groups[0], of conv_sum", "unknown", "removed")


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"counts": [0, 3]}, "counts"),
        ({"damages": [0.1, -0.1]}, "damages"),
        ({"counts": [1, 2, 3]}, "3 counts and 2 damages"),
        ({"key": None}, "key"),
    ],
)
def test_a_group_s_curve_of_the_wrong_kind(
    changes: dict[str, object], reason: str, grouped: dict[str, Any], tmp_path: Path
) -> None:
    grouped["group_curves"][0].update(changes)
    refused(tmp_path, grouped, "group_curves[0]", reason)
