import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from onnx_relusv.core.codec import json_text

PLAIN = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text()
VALUES = st.recursive(
    PLAIN.filter(lambda value: value not in (math.inf, -math.inf)),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@given(VALUES)
def test_nothing_is_lost(value: object) -> None:
    assert json.loads(json_text(value)) == value


def test_fields_have_lines_and_plain_lists_have_one() -> None:
    value = {"a": [1, 2.5, None], "b": [{"c": "\u5377"}, {}], "d": {}, "e": [], "f": [[1], [2]]}
    assert json_text(value) == (
        "{\n"
        '  "a": [1, 2.5, null],\n'
        '  "b": [\n'
        "    {\n"
        '      "c": "\u5377"\n'
        "    },\n"
        "    {}\n"
        "  ],\n"
        '  "d": {},\n'
        '  "e": [],\n'
        '  "f": [\n'
        "    [1],\n"
        "    [2]\n"
        "  ]\n"
        "}"
    )


def test_what_json_does_not_have_is_refused() -> None:
    for value in (math.nan, [math.inf], {"a": [{"b": -math.inf}]}):
        with pytest.raises(ValueError, match="not JSON compliant"):
            json_text(value)
