"""The plan as a JSON file: readable, editable, and bound to its model by a hash.

Which fields of a plan's file were edited though nothing looks at them again.

What a plan expects, and why, is in its file for the reader. A file that is written therefore says,
for every object in it, a checksum of such fields; where that no longer fits, someone has changed
them and may expect something of it.
"""

import copy
import json
import sys
import zlib
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, get_args

from onnx_relusv.core.blocks import StatisticsSource
from onnx_relusv.core.errors import InputError
from onnx_relusv.core.plans import (
    Action,
    Allocation,
    Budgets,
    Choice,
    DamageCurve,
    Form,
    GroupChoice,
    GroupCurve,
    Plan,
)
from onnx_relusv.core.serial import json_text
from onnx_relusv.work.files import check_readable

_PLAN = (
    "method",
    "allocation",
    "level",
    "size",
    "macs",
    "damage",
    "latency",
    "curves",
    "group_curves",
    "warnings",
)
_BUDGETS = ("macs", "tolerance", "confidence")
_CHOICE = ("level", "damage", "why", "statistics", "inputs", "outputs")
_GROUP = ("level", "damage", "why", "producers", "consumers")


def marks(data: Mapping[str, Any]) -> list[str]:
    """The checksums of a plan's fields that are for the reader.

    Args:
        data: The plan as its file has it.

    Returns:
        One text for each object, its place and eight digits.
    """
    return [f"{where}: {_checksum(data, fields)}" for where, fields, data in _objects(data)]


def edited(data: Mapping[str, Any], marked: list[str]) -> tuple[str, ...]:
    """What was edited without effect, a sentence for each object.

    Args:
        data: The plan as its file has it, its fields checked.
        marked: What `marks` said when it was written.
    """
    before = dict(text.rpartition(": ")[::2] for text in marked)
    found = [
        f"The plan's {where}: one of {', '.join(fields)} was edited. These are for the reader, "
        "and change nothing."
        for where, fields, fields_of in _objects(data)
        # Who writes an object anew, without such fields, expects nothing of them.
        if fields_of.keys() & set(fields)
        and before.get(where, "") not in ("", _checksum(fields_of, fields))
    ]
    for choice in data["choices"]:
        if choice.get("action", "keep") == "keep" and choice.get("rank") is not None:
            found.append(
                f"The plan's block {choice['key']} has the action keep, so that its rank "
                f"{choice['rank']} changes nothing."
            )
    return tuple(found)


def _objects(
    data: Mapping[str, Any],
) -> Iterator[tuple[str, tuple[str, ...], Mapping[str, Any]]]:
    """The objects of a plan: place, fields for the reader, and content."""
    yield "own fields", _PLAN, data
    yield "budgets", _BUDGETS, data["budgets"]
    for choice in data["choices"]:
        # What a block gets that has its own form follows from its shape.
        rank = ("rank",) if choice.get("form") == "dense" else ()
        yield f"block {choice['key']}", (*_CHOICE, *rank), choice
    for group in data.get("groups", ()):
        yield f"group {group['key']}", _GROUP, group


def _checksum(data: Mapping[str, Any], fields: tuple[str, ...]) -> str:
    values = json.dumps([data.get(name) for name in fields])
    return f"{zlib.crc32(values.encode()):08x}"


SCHEMA = "onnx-relusv/plan"
SCHEMA_VERSION = 3
# The second has no groups of units, and all else is the same.
_READABLE = (2, SCHEMA_VERSION)
_LARGEST_FILE = 256 << 20


def plan_text(plan: Plan) -> str:
    """The plan as JSON; `read_plan` gives the same plan back."""
    data = asdict(plan)
    del data["edited"]
    whole = {"schema": SCHEMA, "schema_version": SCHEMA_VERSION, **data, "marks": marks(data)}
    return json_text(whole) + "\n"


def read_plan(path: Path) -> Plan:
    """Reads a plan and checks every field.

    Raises:
        InputError: It cannot be read, is no plan, or a field is missing, unknown or out of range.
    """
    check_readable(path, folder="Give the plan's file in it.")
    if path.stat().st_size > _LARGEST_FILE:
        raise InputError(f"{path}: has {path.stat().st_size} bytes, which no plan has.")
    try:
        text = path.read_text(encoding="utf-8")
        data = json.loads(text, object_pairs_hook=_fields_once)
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}).") from error
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: not JSON ({error}).") from error
    if not isinstance(data, dict) or data.pop("schema", None) != SCHEMA:
        raise InputError(f"{path}: not a plan of onnx-relusv (schema {SCHEMA}).")
    version = data.pop("schema_version", None)
    if not _is_whole(version) or version not in _READABLE:
        known = " and ".join(map(str, _READABLE))
        raise InputError(
            f"{path}: schema version {version}, but this version reads {known}. "
            "Make the plan again."
        )
    _check(
        str(path),
        data,
        _PLAN_FIELDS,
        required=[name for name in _PLAN_FIELDS if name not in _ADDED_FIELDS],
    )
    marked = data.pop("marks", [])
    given = copy.deepcopy(data)
    budgets = data.pop("budgets")
    _check(f"{path}: budgets", budgets, _BUDGET_FIELDS)
    plan = Plan(
        budgets=Budgets(**budgets),
        choices=tuple(_choice(path, fields) for fields in data.pop("choices")),
        curves=tuple(_curve(path, fields) for fields in data.pop("curves")),
        groups=tuple(_group(path, fields) for fields in data.pop("groups", ())),
        group_curves=tuple(_group_curve(path, fields) for fields in data.pop("group_curves", ())),
        input_range=_range(data.pop("input_range", None)),
        warnings=tuple(data.pop("warnings", ())),
        **data,
    )
    _check_once(path, "block", [choice.key for choice in plan.choices])
    _check_once(path, "group", [group.key for group in plan.groups])
    # Other versions have other fields.
    return replace(plan, edited=edited(given, marked if version == SCHEMA_VERSION else []))


def _fields_once(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found: dict[str, object] = {}
    for name, value in pairs:
        if name in found:
            raise ValueError(f"an object has the field {name} twice")
        found[name] = value
    return found


def _check_once(path: Path, what: str, keys: list[str]) -> None:
    twice = sorted({key for key in keys if keys.count(key) > 1})
    if twice:
        raise InputError(f"{path}: {what} {twice[0]} is listed twice.")


def _range(ends: list[float] | None) -> tuple[float, float] | None:
    return None if ends is None else (ends[0], ends[1])


def _choice(path: Path, fields: object) -> Choice:
    key = fields.get("key") if isinstance(fields, dict) else fields
    where = f"{path}: choices, block {key}"
    _check(where, fields, _CHOICE_FIELDS, required=("key",))
    choice = Choice(**fields)  # type: ignore[arg-type]  # checked
    if choice.action == "keep":
        return choice
    is_layer = choice.action == "double_layer"
    if choice.rank is None or choice.form is None or (choice.form == "dense") == is_layer:
        form = "a form other than dense" if is_layer else "the form dense"
        raise InputError(f"{where}: a {choice.action} needs {form} and a rank.")
    return choice


def _group(path: Path, fields: object) -> GroupChoice:
    key = fields.get("key") if isinstance(fields, dict) else fields
    where = f"{path}: groups, group {key}"
    _check(where, fields, _GROUP_FIELDS, required=_GROUP_FIELDS.keys() - {"damage"})
    assert isinstance(fields, dict)  # checked
    fields |= {name: tuple(fields[name]) for name in ("kept", "producers", "consumers")}
    group = GroupChoice(**fields)
    if not group.kept:
        raise InputError(f"{where}: kept is empty; one unit at least has to stay.")
    for one, following in zip(group.kept, group.kept[1:], strict=False):
        if one >= following:
            raise InputError(f"{where}: kept has {following} behind {one}; let them increase.")
    if group.kept[-1] >= group.units:
        raise InputError(
            f"{where}: kept has {group.kept[-1]}, but its units are 0 to {group.units - 1}."
        )
    return group


def _curve(path: Path, fields: object) -> DamageCurve:
    key = fields.get("key") if isinstance(fields, dict) else fields
    where = f"{path}: curves, block {key}"
    _check(where, fields, _CURVE_FIELDS, required=_CURVE_FIELDS)
    assert isinstance(fields, dict)  # checked
    ranks, damages = tuple(fields.pop("ranks")), tuple(fields.pop("damages"))
    if len(ranks) != len(damages):
        raise InputError(f"{where}: {len(ranks)} ranks and {len(damages)} damages.")
    return DamageCurve(ranks=ranks, damages=damages, **fields)


def _group_curve(path: Path, fields: object) -> GroupCurve:
    key = fields.get("key") if isinstance(fields, dict) else fields
    where = f"{path}: group_curves, group {key}"
    _check(where, fields, _GROUP_CURVE_FIELDS, required=_GROUP_CURVE_FIELDS)
    assert isinstance(fields, dict)  # checked
    counts, damages = tuple(fields.pop("counts")), tuple(fields.pop("damages"))
    if len(counts) != len(damages):
        raise InputError(f"{where}: {len(counts)} counts and {len(damages)} damages.")
    return GroupCurve(counts=counts, damages=damages, **fields)


def _is_text(value: object) -> bool:
    return isinstance(value, str)


def _is_whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_share(value: object) -> bool:
    """Whether it is a finite number from 0 on."""
    return _is_finite(value) and value >= 0  # type: ignore[operator]


def _is_range(value: object) -> bool:
    if not isinstance(value, list) or len(value) != 2 or not all(map(_is_finite, value)):
        return False
    return bool(value[0] < value[1])


def _is_finite(value: object) -> bool:
    """Whether it is a finite number; JSON's whole numbers may exceed every float."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return abs(value) <= sys.float_info.max


def _is_rank(value: object) -> bool:
    return _is_whole(value) and value >= 1  # type: ignore[operator]


def _is_form(value: object) -> bool:
    return value in get_args(Form)


def _is_place(value: object) -> bool:
    return _is_whole(value) and value >= 0  # type: ignore[operator]


def _are(fits: Callable[[Any], bool]) -> Callable[[Any], bool]:
    """Whether a value is a list of what fits."""
    return lambda value: isinstance(value, list) and all(map(fits, value))


_METHODS = ("double-layer", "harmonic", "auto")
_FORMS = f"one of {', '.join(get_args(Form))}"


@dataclass(frozen=True)
class _Field:
    """What a field may hold, and how that is said."""

    fits: Callable[[Any], bool]
    expected: str
    optional: bool = False


_SHARE = _Field(_is_share, "a number from 0 on")
_BUDGET = _Field(
    lambda value: _is_share(value) and 0 < value < 1, "a number above 0 and below 1", True
)
_DAMAGE = _Field(_is_share, "a number from 0 on", optional=True)
_CHANNELS = _Field(_is_rank, "a whole number from 1 on", optional=True)
_TEXTS = _Field(_are(_is_text), "a list of texts")
_DAMAGES = _Field(_are(_is_share), "a list of numbers from 0 on")
_PLAN_FIELDS = {
    "model_sha256": _Field(_is_text, "text"),
    "samples_sha256": _Field(_is_text, "text", optional=True),
    "budgets": _Field(lambda value: isinstance(value, dict), "an object"),
    "method": _Field(lambda value: value in _METHODS, " or ".join(_METHODS)),
    "seed": _Field(_is_place, "a whole number from 0 on"),
    "allocation": _Field(
        lambda value: value in get_args(Allocation), " or ".join(get_args(Allocation))
    ),
    "level": _SHARE,
    "size": _SHARE,
    "macs": _SHARE,
    "choices": _Field(lambda value: isinstance(value, list), "a list"),
    "damage": _DAMAGE,
    "curves": _Field(lambda value: isinstance(value, list), "a list"),
    "damage_measure": _Field(_is_text, "text", optional=True),
    "batch": _Field(_is_rank, "a whole number from 1 on"),
    "latency": _Field(_is_share, "a number from 0 on", optional=True),
    "groups": _Field(lambda value: isinstance(value, list), "a list"),
    "group_curves": _Field(lambda value: isinstance(value, list), "a list"),
    "input_range": _Field(_is_range, "a list of two numbers, the lower one first", optional=True),
    "max_samples": _Field(_is_rank, "a whole number from 1 on", optional=True),
    "warnings": _TEXTS,
    "marks": _TEXTS,
}
# What is for the reader alone may be missing, and what earlier files do not have.
_ADDED_FIELDS = {
    "damage_measure",
    "batch",
    "latency",
    "groups",
    "group_curves",
    "input_range",
    "max_samples",
    "warnings",
    "marks",
}
_BUDGET_FIELDS = {
    "size": _BUDGET,
    "macs": _BUDGET,
    "latency": _BUDGET,
    "tolerance": _BUDGET,
    "max_drop": _Field(
        lambda value: _is_share(value) and 0 < value < 100, "a number above 0 and below 100", True
    ),
    "confidence": _Field(
        lambda value: _is_share(value) and 0.5 < value < 1, "a number above 0.5 and below 1", True
    ),
}
_CHOICE_FIELDS = {
    "key": _Field(_is_text, "text"),
    "action": _Field(lambda value: value in get_args(Action), " or ".join(get_args(Action))),
    "form": _Field(_is_form, _FORMS, optional=True),
    "rank": _Field(_is_rank, "a whole number from 1 on", optional=True),
    "level": _SHARE,
    "damage": _DAMAGE,
    "why": _Field(_is_text, "text"),
    "statistics": _Field(
        lambda value: value in get_args(StatisticsSource),
        " or ".join(get_args(StatisticsSource)),
        optional=True,
    ),
    "inputs": _CHANNELS,
    "outputs": _CHANNELS,
}
_CURVE_FIELDS = {
    "key": _Field(_is_text, "text"),
    "form": _Field(_is_form, _FORMS),
    "ranks": _Field(_are(_is_rank), "a list of ranks"),
    "damages": _DAMAGES,
}
_GROUP_FIELDS = {
    "key": _Field(_is_text, "text"),
    "units": _Field(_is_rank, "a whole number from 1 on"),
    "kept": _Field(_are(_is_place), "a list of whole numbers from 0 on"),
    "level": _SHARE,
    "producers": _TEXTS,
    "consumers": _TEXTS,
    "why": _Field(_is_text, "text"),
    "damage": _DAMAGE,
}
_GROUP_CURVE_FIELDS = {
    "key": _Field(_is_text, "text"),
    "counts": _Field(_are(_is_rank), "a list of whole numbers from 1 on"),
    "damages": _DAMAGES,
}


def _check(
    where: str, data: object, known: Mapping[str, _Field], required: Collection[str] = ()
) -> None:
    """Checks an object's fields.

    Raises:
        InputError: The first that is missing, unknown or out of range.
    """
    if not isinstance(data, dict):
        raise InputError(f"{where}: {data!r} is no object with fields.")
    for name in required:
        if name not in data:
            raise InputError(f"{where}: the field {name} is missing.")
    for name, value in data.items():
        field = known.get(name)
        if field is None:
            raise InputError(f"{where}: the field {name} is unknown; use {', '.join(known)}.")
        if not (field.optional and value is None) and not field.fits(value):
            null = ", or null" if field.optional else ""
            raise InputError(f"{where}: {name} {value!r}; use {field.expected}{null}.")
