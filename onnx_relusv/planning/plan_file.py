"""The plan as a JSON file: readable, editable, and bound to its model by a hash.

Its fields and what they may hold are those of `Plan` and the records in it.

What a plan expects, and why, is in its file for the reader. A file that is written therefore says,
for every object in it, a checksum of such fields; where that no longer fits, someone has changed
them and may expect something of it.
"""

import json
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from onnx_relusv.core.arguments import parsed_shape
from onnx_relusv.core.codec import FieldError, from_data, json_text, to_data
from onnx_relusv.core.errors import InputError, UsageError
from onnx_relusv.core.measures import DamageCurve
from onnx_relusv.core.plans import Choice, Plan
from onnx_relusv.rewrites.low_rank.forms import DENSE, FORMS
from onnx_relusv.work.json_file import read_json

SCHEMA = "onnx-relusv/plan"
SCHEMA_VERSION = 7
# The sixth says nothing of effort, which is normal, the fifth nothing of times and of the pack of
# kernels, the fourth nothing of the format of 8-bit integers, which is u8s8, the third nothing of
# integers at all, the second has no groups of units either; all else is the same.
_READABLE = (2, 3, 4, 5, 6, SCHEMA_VERSION)
_LARGEST_FILE = 256 << 20

# Fields for the reader alone, by what has them. Their order decides the checksums.
_PLAN = (
    "method",
    "allocation",
    "level",
    "size",
    "macs",
    "damage",
    "pack",
    "latency",
    "curves",
    "group_curves",
    "int8_damages",
    "warnings",
)
_BUDGETS = ("macs", "tolerance", "confidence")
_CHOICE = ("level", "damage", "why", "statistics", "inputs", "outputs")
_GROUP = ("level", "damage", "why", "producers", "consumers")


def plan_text(plan: Plan) -> str:
    """The plan as JSON; `read_plan` gives the same plan back."""
    data = to_data(plan)
    if not plan.input_shape:
        del data["input_shape"]
    whole = {"schema": SCHEMA, "schema_version": SCHEMA_VERSION, **data, "marks": marks(data)}
    return json_text(whole) + "\n"


def read_plan(path: Path) -> Plan:
    """Reads a plan and checks every field.

    Raises:
        InputError: It cannot be read, is no plan, or a field is missing, unknown or out of range;
            the message has the field's path in the file.
    """
    data = read_json(path, "plan", _LARGEST_FILE)
    if not isinstance(data, dict) or data.pop("schema", None) != SCHEMA:
        raise InputError(f"{path}: not a plan of onnx-relusv (schema {SCHEMA}).")
    version = data.pop("schema_version", None)
    if type(version) is not int or version not in _READABLE:
        known = " and ".join(map(str, _READABLE))
        raise InputError(
            f"{path}: schema version {version}, but this version reads {known}. "
            "Make the plan again."
        )
    try:
        marked = from_data(tuple[str, ...], data.pop("marks", []), "marks")
        plan = from_data(Plan, data)
        _check_forms(plan)
        for text in plan.input_shape:
            parsed_shape(text)
    except FieldError as error:
        raise InputError(f"{path}: {error}") from error
    except UsageError as error:
        raise InputError(f"{path}: input_shape: {error}") from error
    # Other versions have other fields.
    return replace(plan, edited=edited(data, marked if version == SCHEMA_VERSION else ()))


def _check_forms(plan: Plan) -> None:
    """Looks the forms of a plan up, which may be edited.

    Raises:
        FieldError: A form is unknown, or not one that the block's action has.
    """
    named: list[tuple[str, Choice | DamageCurve]] = [
        (f"{name}[{place}]", one)
        for name in ("choices", "curves")
        for place, one in enumerate(getattr(plan, name))
    ]
    for where, one in named:
        if one.form is not None and one.form not in FORMS:
            known = f"one of {', '.join(FORMS)}"
            optional = ", or null" if isinstance(one, Choice) else ""
            raise FieldError(f"{where}.form", f"{one.form!r}; use {known}{optional}.", one.key)
        if isinstance(one, Choice) and not one.is_kept:
            is_layer = one.is_double_layer
            form = None if one.form is None else FORMS[one.form]
            if one.rank is None or form is None or form.one_layer == is_layer:
                needed = f"a form other than {DENSE.name}" if is_layer else f"the form {DENSE.name}"
                raise FieldError(where, f"a {one.action} needs {needed} and a rank.", one.key)


def marks(data: Mapping[str, Any]) -> list[str]:
    """The checksums of a plan's fields that are for the reader.

    Args:
        data: The plan as its file has it.

    Returns:
        One text for each object, its place and eight digits.
    """
    return [f"{where}: {_checksum(data, fields)}" for where, fields, data in _objects(data)]


def edited(data: Mapping[str, Any], marked: tuple[str, ...]) -> tuple[str, ...]:
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
        form = choice.get("form")
        rank = ("rank",) if form is not None and FORMS[form].one_layer else ()
        yield f"block {choice['key']}", (*_CHOICE, *rank), choice
    for group in data.get("groups", ()):
        yield f"group {group['key']}", _GROUP, group


def _checksum(data: Mapping[str, Any], fields: tuple[str, ...]) -> str:
    values = json.dumps([data.get(name) for name in fields])
    return f"{zlib.crc32(values.encode()):08x}"
