"""What differs between two runs' models, plans and JSON, but for versions and times."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import onnx

# Names of JSON fields that are another time, or that name the code.
_TIMES = re.compile(r"seconds|latenc|time|machine")
_VERSIONS = re.compile(r"version")
# In sentences.
_TIMED_WORDS = re.compile(r"takes (?:as long|[\d.]+ (?:of the time|times as long))")
_TIMED_WARNING = "slower by themselves"
_MOST_SHOWN = 5


def differences(old: Path, new: Path) -> Iterator[str]:
    """Compares two folders, file by file.

    HTML is left out, which is made of the JSON, with times; so is what the terminal shows.
    """
    names = sorted({*_files(old), *_files(new)})
    for name in names:
        missing = [
            kind for kind, folder in (("old", old), ("new", new)) if name not in _files(folder)
        ]
        if missing:
            yield f"{name}: only in the {'new' if missing == ['old'] else 'old'} one"
            continue
        first, second = old / name, new / name
        if name.endswith(".json"):
            found = list(_json(json.loads(first.read_text()), json.loads(second.read_text()), ""))
        elif name.endswith(".onnx"):
            found = list(_models(first, second))
        else:
            found = [] if first.read_bytes() == second.read_bytes() else ["other bytes"]
        for line in found[:_MOST_SHOWN]:
            yield f"{name}: {line}"
        if len(found) > _MOST_SHOWN:
            yield f"{name}: and {len(found) - _MOST_SHOWN} more"


def _files(folder: Path) -> list[str]:
    paths = (path for path in folder.rglob("*") if path.is_file() and path.suffix != ".html")
    return sorted(str(path.relative_to(folder)) for path in paths)


def _json(old: Any, new: Any, place: str) -> Iterator[str]:
    """Where two JSON values differ, by path; numbers have to be the same to the last digit."""
    old, new = _untimed(old), _untimed(new)
    if isinstance(old, dict) and isinstance(new, dict):
        for key in {**old, **new}:
            if _TIMES.search(key) or _VERSIONS.search(key):
                continue
            inside = f"{place}.{key}" if place else key
            if key not in old or key not in new:
                yield f"{inside}: only in the {'old' if key in old else 'new'} one"
            else:
                yield from _json(old[key], new[key], inside)
    elif isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        for number, (first, second) in enumerate(zip(old, new, strict=True)):
            yield from _json(first, second, f"{place}[{number}]")
    elif type(old) is not type(new) or (old != new and not (old != old and new != new)):
        yield f"{place}: {_short(old)} != {_short(new)}"


def _untimed(value: Any) -> Any:
    """A sentence without the times in it, or sentences without those about times."""
    if isinstance(value, str):
        return _TIMED_WORDS.sub("takes some time", value)
    if isinstance(value, list):
        return [one for one in value if not (isinstance(one, str) and _TIMED_WARNING in one)]
    return value


def _models(old: Path, new: Path) -> Iterator[str]:
    """Whether two models have the same bytes, but for versions in their metadata."""
    first, second = onnx.load(old), onnx.load(new)
    for model in (first, second):
        model.producer_version = ""
        for entry in model.metadata_props:
            if _VERSIONS.search(entry.key):
                entry.value = ""
            elif entry.value.startswith("{"):
                entry.value = json.dumps(_unversioned(json.loads(entry.value)))
    if first.SerializeToString(deterministic=True) == second.SerializeToString(deterministic=True):
        return
    if [node.op_type for node in first.graph.node] != [node.op_type for node in second.graph.node]:
        yield "other operators"
    shapes = [{one.name: tuple(one.dims) for one in m.graph.initializer} for m in (first, second)]
    for name in {**shapes[0], **shapes[1]}:
        if shapes[0].get(name) != shapes[1].get(name):
            yield f"{name}: {shapes[0].get(name)} != {shapes[1].get(name)}"
    yield "other bytes"


def _unversioned(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _unversioned(one) for key, one in value.items() if not _VERSIONS.search(key)}
    return [_unversioned(one) for one in value] if isinstance(value, list) else value


def _short(value: object) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
