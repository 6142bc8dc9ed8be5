"""JSON files that people write or edit, read with care."""

import json
from pathlib import Path
from typing import Any

from onnx_relusv.core.errors import InputError
from onnx_relusv.work.files import check_readable


def read_json(path: Path, what: str, most: int) -> Any:
    """What a JSON file holds.

    Args:
        path: The file.
        what: What it is to be, in a word.
        most: Bytes that it has at most.

    Raises:
        InputError: It cannot be read, is larger, or is no JSON; an object has a field twice.
    """
    check_readable(path, folder=f"Give the {what}'s file in it.")
    size = path.stat().st_size
    if size > most:
        raise InputError(f"{path}: has {size} bytes, which no {what} has.")
    try:
        return json.loads(path.read_text(encoding="utf-8"), object_pairs_hook=_fields_once)
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}).") from error
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: not JSON ({error}).") from error


def _fields_once(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found: dict[str, object] = {}
    for name, value in pairs:
        if name in found:
            raise ValueError(f"an object has the field {name} twice")
        found[name] = value
    return found
