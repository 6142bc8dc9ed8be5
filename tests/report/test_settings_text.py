"""Settings as TOML that says what they are."""

import tomllib
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from onnx_relusv import Budgets, MeasureOptions, PlanOptions
from onnx_relusv.core.results import settings_of
from onnx_relusv.report import words

# Anything but halves of characters, which TOML cannot hold.
TEXTS = st.text(st.characters(exclude_categories=["Cs"]))
VALUES = st.one_of(
    TEXTS,
    st.lists(TEXTS, min_size=1),
    st.booleans(),
    st.integers(-(2**63), 2**63 - 1),
    st.floats(allow_nan=False, allow_infinity=False),
)


@given(st.dictionaries(st.from_regex(r"[a-z]+(-[a-z]+)*", fullmatch=True), VALUES))
def test_toml_gives_the_settings_back(settings: dict[str, str | int | float | bool]) -> None:
    found = tomllib.loads(words.settings(settings))
    assert found == settings
    assert [type(each) for each in found.values()] == [type(each) for each in settings.values()]


def test_only_what_is_set_is_a_setting() -> None:
    assert settings_of(PlanOptions()) == {
        "method": "auto",
        "allocation": "auto",
        "divergence": "auto",
        "batch": 1,
        "round-to": "auto",
        "pack": "auto",
        "keep-at-least": 1,
        "precision": "keep",
        "int8-format": "u8s8",
    }
    planning = PlanOptions(budgets=Budgets(max_drop=1.0, size=0.5), exclude=("a*",))
    assert settings_of(planning) == {
        "size": 0.5,
        "max-drop": 1.0,
        "method": "auto",
        "allocation": "auto",
        "divergence": "auto",
        "batch": 1,
        "exclude": ["a*"],
        "round-to": "auto",
        "pack": "auto",
        "keep-at-least": 1,
        "precision": "keep",
        "int8-format": "u8s8",
    }


def test_where_results_are_kept_is_no_setting() -> None:
    plain, cached = MeasureOptions(), MeasureOptions(cache=Path("kept"))
    assert (
        settings_of(cached)
        == settings_of(plain)
        == {
            "provider": "auto",
            "seed": 0,
            "memory": 2048,
            "effort": "normal",
        }
    )
