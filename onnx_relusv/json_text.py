"""JSON that people can read though it holds long lists: these stay on one line each."""

import json
from typing import Any


def json_text(value: Any, indent: str = "") -> str:
    """Strict JSON, one field or object a line, and lists of plain values on one line.

    Args:
        value: JSON-ready data.
        indent: What its line begins with.

    Raises:
        ValueError: The data holds a number that JSON does not have.
    """
    deeper = indent + "  "
    if isinstance(value, dict) and value:
        fields = (
            f"{deeper}{_plain(name)}: {json_text(one, deeper)}" for name, one in value.items()
        )
        return "{\n" + ",\n".join(fields) + f"\n{indent}}}"
    if isinstance(value, list | tuple) and any(
        isinstance(one, dict | list | tuple) for one in value
    ):
        items = (deeper + json_text(one, deeper) for one in value)
        return "[\n" + ",\n".join(items) + f"\n{indent}]"
    return _plain(value)


def _plain(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, allow_nan=False)
