"""Which fields of a plan's file were edited though nothing looks at them again.

What a plan expects, and why, is in its file for the reader. A file that is written therefore says,
for every object in it, a checksum of such fields; where that no longer fits, someone has changed
them and may expect something of it.
"""

import json
import zlib
from collections.abc import Iterator, Mapping
from typing import Any

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
