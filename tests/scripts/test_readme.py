"""The README's commands are those of docs/usage.md, which run there; what it leads to exists."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
USAGE = (ROOT / "docs" / "usage.md").read_text(encoding="utf-8")
# A screen of a code host, without what it folds.
MOST_LINES = 60


def test_it_has_every_command_as_it_runs_in_the_docs() -> None:
    lines = re.findall(r"^onnx-relusv .*$", README, re.MULTILINE)
    assert {line.split()[1] for line in lines} == {
        "inspect",
        "measure-latency",
        "plan",
        "apply",
        "compress",
        "compare",
        "trace",
        "sweep",
    }
    assert [line for line in lines if f"\n{line}\n" not in USAGE] == []


def test_it_says_how_long_every_command_takes() -> None:
    commands = re.findall(r"((?:^#.*\n)?)^onnx-relusv (\S+)", README, re.MULTILINE)
    timed = re.compile(r"\d+ (s|min)\b")
    # The comment over plan tells of apply, too.
    assert [name for over, name in commands if not timed.search(over)] == ["apply"]


def test_it_is_one_screen() -> None:
    assert README.count("\n") <= MOST_LINES


def test_every_linked_page_and_script_exists() -> None:
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)", README):
        assert (ROOT / target).exists(), target
    for script in re.findall(r"bash (scripts/\w+)", README):
        assert (ROOT / script).exists(), script
