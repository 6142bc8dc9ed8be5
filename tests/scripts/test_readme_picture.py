"""The picture of README.md is made of the figures of a table, all of them and no others."""

import importlib.util
import re
from pathlib import Path
from types import ModuleType
from xml.dom import minidom

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "benchmarks.md").read_text(encoding="utf-8")
PICTURE = ROOT / "docs" / "images" / "size_accuracy.svg"


@pytest.fixture(scope="module")
def script() -> ModuleType:
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)
        path = ROOT / "scripts" / "readme_picture" / "__main__.py"
        spec = importlib.util.spec_from_file_location("readme_picture", path)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        patch.syspath_prepend(str(ROOT / "scripts" / "theory_plots"))
        spec.loader.exec_module(module)
        return module


def test_every_row_of_the_first_table_is_read(script: ModuleType) -> None:
    found = script.recorded(PAGE)
    section = PAGE.partition("## Accuracy")[2].partition("Without any samples")[0]
    rows = re.findall(r"^\| (\w+) \| [\d.]+ \|", section, re.MULTILINE)
    assert [model for model, points in found.items() for _ in points] == rows
    assert script.recorded("| a | 0.5 | 0.4 | 0.3 | 90% -> 89% | 1.0 | 1.5 | 2 |") == {
        "a": [(0.4, 1.0, 1.5)]
    }
    assert script.recorded("no table") == {}


def test_the_picture_is_that_of_the_table(
    script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(script, "PICTURE", tmp_path / "drawn.svg")
    script.main()
    drawn, kept = (
        [
            (element.tagName, element.getAttribute("d"))
            for element in minidom.parseString(path.read_text("utf-8")).getElementsByTagName("path")
        ]
        for path in (tmp_path / "drawn.svg", PICTURE)
    )
    assert drawn == kept
