"""Plans as files: the same plan comes back, and whatever is wrong in one is named."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from onnx_relusv.decisions import Budgets, Choice, DamageCurve, Plan
from onnx_relusv.errors import InputError
from onnx_relusv.plan_file import plan_text, read_plan

PLAN = Plan(
    model_sha256="ab" * 32,
    samples_sha256=None,
    budgets=Budgets(size=0.5, macs=None, tolerance=0.25),
    method="double-layer",
    seed=7,
    allocation="damage",
    level=0.125,
    size=0.4921875,
    macs=0.3,
    choices=(
        Choice(
            key="conv",
            action="double_layer",
            form="spatial",
            rank=5,
            level=0.1,
            damage=0.002,
            why="so",
        ),
        Choice(key="fc", why="no form makes it smaller"),
    ),
    damage=0.002,
    curves=(
        DamageCurve(key="conv", form="spatial", ranks=(2, 5), damages=(0.03, 0.002)),
        DamageCurve(key="conv", form="channel", ranks=(3,), damages=(0.01,)),
    ),
)


def written(folder: Path, data: object) -> Path:
    path = folder / "plan.json"
    path.write_text(data if isinstance(data, str) else json.dumps(data), encoding="utf-8")
    return path


@pytest.fixture
def fields() -> dict[str, Any]:
    return json.loads(plan_text(PLAN))


shares = st.one_of(st.none(), st.floats(0, 1, exclude_min=True, exclude_max=True))
damages = st.one_of(st.none(), st.floats(0, 1e30))
choices = st.one_of(
    st.builds(Choice, key=st.text(), level=st.floats(0, 1), why=st.text()),
    st.builds(
        Choice,
        key=st.text(),
        action=st.just("double_layer"),
        form=st.sampled_from(["pair", "channel", "spatial", "tucker"]),
        rank=st.integers(1, 10**6),
        level=st.floats(0, 1),
        damage=damages,
        why=st.text(),
    ),
)
curves = st.integers(0, 5).flatmap(
    lambda count: st.builds(
        DamageCurve,
        key=st.text(),
        form=st.sampled_from(["pair", "channel", "spatial", "tucker"]),
        ranks=st.tuples(*[st.integers(1, 10**6)] * count),
        damages=st.tuples(*[st.floats(0, 1e30)] * count),
    )
)
plans = st.builds(
    Plan,
    model_sha256=st.text("0123456789abcdef", min_size=64, max_size=64),
    samples_sha256=st.one_of(st.none(), st.text("0123456789abcdef", min_size=64, max_size=64)),
    budgets=st.builds(
        Budgets,
        size=shares,
        macs=shares,
        latency=shares,
        tolerance=shares,
        max_drop=st.one_of(st.none(), st.floats(0, 100, exclude_min=True, exclude_max=True)),
        confidence=st.one_of(st.none(), st.floats(0.5, 1, exclude_min=True, exclude_max=True)),
    ),
    method=st.just("double-layer"),
    seed=st.integers(0, 2**63),
    allocation=st.sampled_from(["level", "damage"]),
    level=st.floats(0, 1),
    size=st.floats(0, 2),
    macs=st.floats(0, 2),
    choices=st.lists(choices, unique_by=lambda choice: choice.key, max_size=4).map(tuple),
    damage=damages,
    curves=st.lists(curves, max_size=3).map(tuple),
    batch=st.integers(1, 10**6),
    latency=damages,
)


@given(plan=plans)
def test_round_trip(plan: Plan, tmp_path_factory: pytest.TempPathFactory) -> None:
    assert read_plan(written(tmp_path_factory.mktemp("plan"), plan_text(plan))) == plan


def test_a_file_from_before_latency_is_read(fields: dict[str, Any], tmp_path: Path) -> None:
    for name in ("batch", "latency"):
        del fields[name]
    del fields["budgets"]["latency"]
    assert read_plan(written(tmp_path, fields)) == PLAN
    assert (PLAN.batch, PLAN.latency) == (1, None)


def test_the_file_is_readable(fields: dict[str, Any]) -> None:
    assert list(fields)[:2] == ["schema", "schema_version"]
    assert fields["budgets"] == {
        "size": 0.5,
        "macs": None,
        "tolerance": 0.25,
        "max_drop": None,
        "confidence": None,
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


def refused(folder: Path, data: object, *parts: str) -> None:
    path = written(folder, data)
    with pytest.raises(InputError) as caught:
        read_plan(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    for part in parts:
        assert part in message


def test_what_is_no_plan(tmp_path: Path, fields: dict[str, Any]) -> None:
    refused(tmp_path, "{", "not JSON")
    refused(tmp_path, "[" * 100_000, "not JSON")
    for data in ([], "text", 3, None, {}, {"schema": "onnx-relusv/report"}):
        refused(tmp_path, json.dumps(data), "not a plan of onnx-relusv")
    (tmp_path / "plan.json").write_bytes(b"\xff\xfe\xfa")
    with pytest.raises(InputError, match="not JSON"):
        read_plan(tmp_path / "plan.json")
    with pytest.raises(InputError, match="cannot be read"):
        read_plan(tmp_path / "missing.json")
    with pytest.raises(InputError, match="cannot be read"):
        read_plan(tmp_path)


@pytest.mark.parametrize("version", [0, 1, 3, "2", None, True])
def test_another_version(version: object, fields: dict[str, Any], tmp_path: Path) -> None:
    fields["schema_version"] = version
    refused(tmp_path, fields, f"schema version {version}", "Make the plan again")


@pytest.mark.parametrize(
    "name",
    [
        "model_sha256",
        "samples_sha256",
        "budgets",
        "method",
        "seed",
        "allocation",
        "level",
        "size",
        "macs",
        "choices",
        "damage",
        "curves",
    ],
)
def test_a_missing_field(name: str, fields: dict[str, Any], tmp_path: Path) -> None:
    del fields[name]
    refused(tmp_path, fields, "missing", name)


def test_an_unknown_field(fields: dict[str, Any], tmp_path: Path) -> None:
    refused(tmp_path, {**fields, "colour": 1}, "unknown", "colour")
    refused(tmp_path, {**fields, "budgets": {"sise": 0.5}}, "unknown", "sise")
    choice = {"key": "conv", "ranks": 3}
    refused(tmp_path, {**fields, "choices": [choice]}, "unknown", "ranks")
    refused(tmp_path, {**fields, "choices": [{"action": "keep"}]}, "missing", "key")
    curve = {**fields["curves"][0], "levels": [0.1, 0.2]}
    refused(tmp_path, {**fields, "curves": [curve]}, "curves, block conv", "unknown", "levels")
    del curve["levels"], curve["form"]
    refused(tmp_path, {**fields, "curves": [curve]}, "curves, block conv", "missing", "form")


WRONG: dict[str, list[object]] = {
    "model_sha256": [None, 3, ["ab"]],
    "samples_sha256": [3, []],
    "budgets": [None, [], "0.5", 0.5],
    "method": ["harmonic", None, 1],
    "seed": [-1, 1.5, "7", None, True],
    "allocation": ["auto", None, 1, []],
    "level": ["0.1", None, -0.1, float("nan"), float("inf"), 10**400, True],
    "size": ["0.1", None, -0.1, float("nan")],
    "macs": ["0.1", None, -0.1, float("nan")],
    "choices": [None, {}, "conv", 3, ["conv"], [None], [[]]],
    "damage": ["0.1", -0.1, float("nan"), float("inf"), True, []],
    "curves": [None, {}, "conv", 3, ["conv"], [None], [[]]],
}


@pytest.mark.parametrize(
    ("name", "value"), [(name, value) for name, values in WRONG.items() for value in values]
)
def test_a_field_of_the_wrong_kind(
    name: str, value: object, fields: dict[str, Any], tmp_path: Path
) -> None:
    fields[name] = value
    refused(tmp_path, fields, name.removesuffix("s"))


@pytest.mark.parametrize("name", ["size", "macs", "tolerance"])
@pytest.mark.parametrize("value", ["0.5", 0, 1, 1.5, -1, True, [], float("nan")])
def test_a_budget_out_of_range(
    name: str, value: object, fields: dict[str, Any], tmp_path: Path
) -> None:
    fields["budgets"][name] = value
    refused(tmp_path, fields, "budgets", name)


@pytest.mark.parametrize(
    ("name", "value"),
    [("max_drop", value) for value in (0, 100, -1, "1", True, float("inf"))]
    + [("confidence", value) for value in (0.5, 1, 0.3, 95, "0.95", True)],
)
def test_a_drop_out_of_range(
    name: str, value: object, fields: dict[str, Any], tmp_path: Path
) -> None:
    fields["budgets"][name] = value
    refused(tmp_path, fields, "budgets", name)


WRONG_CHOICE: dict[str, list[object]] = {
    "key": [None, 3, ["conv"], {}],
    "action": ["prune", None, 1, []],
    "form": ["cp", None, 1, []],
    "rank": [0, -1, 1.5, "5", None, True, []],
    "level": ["0.1", None, -0.1, float("nan")],
    "damage": ["0.1", -0.1, float("nan"), True, []],
    "why": [None, 3],
}


@pytest.mark.parametrize(
    ("name", "value"), [(name, value) for name, values in WRONG_CHOICE.items() for value in values]
)
def test_a_choice_of_the_wrong_kind(
    name: str, value: object, fields: dict[str, Any], tmp_path: Path
) -> None:
    fields["choices"][0][name] = value
    refused(tmp_path, fields, name)
    if name != "key":
        refused(tmp_path, fields, "conv")


@pytest.mark.parametrize(("name", "value"), [("form", "cp"), ("rank", 0), ("rank", "5")])
def test_a_kept_block_is_checked_too(
    name: str, value: object, fields: dict[str, Any], tmp_path: Path
) -> None:
    fields["choices"][1][name] = value
    refused(tmp_path, fields, "fc", name)


WRONG_CURVE: dict[str, list[object]] = {
    "key": [None, 3, ["conv"], {}],
    "form": ["cp", None, 1, []],
    "ranks": [None, 3, {}, ["2", 5], [0, 5], [2.5, 5], [True, 5], [None, 5]],
    "damages": [None, 0.1, {}, ["0.1", 0.2], [-0.1, 0.2], [float("nan"), 0.1], [None, 0.1]],
}


@pytest.mark.parametrize(
    ("name", "value"), [(name, value) for name, values in WRONG_CURVE.items() for value in values]
)
def test_a_curve_of_the_wrong_kind(
    name: str, value: object, fields: dict[str, Any], tmp_path: Path
) -> None:
    fields["curves"][0][name] = value
    refused(tmp_path, fields, "curves", name)


def test_a_curve_has_a_damage_for_every_rank(fields: dict[str, Any], tmp_path: Path) -> None:
    fields["curves"][0]["ranks"] = [1, 2, 5]
    refused(tmp_path, fields, "curves, block conv", "3 ranks and 2 damages")


def test_a_block_listed_twice(fields: dict[str, Any], tmp_path: Path) -> None:
    fields["choices"].append(fields["choices"][0])
    refused(tmp_path, fields, "conv", "twice")
