"""--config: what a file says, who wins, what is refused, and reports that repeat their run."""

import json
import re
import tomllib
from html import unescape
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from click.testing import CliRunner, Result
from graphs import model_proto, normal

from onnx_relusv import Budgets, MeasureOptions, PlanOptions, compress
from onnx_relusv.cli.commands import cli

TEXT = (
    "(float[N,30] x) => (float[N,10] y) {"
    " a = Gemm(x, w, b) c = Relu(a) d = Gemm(c, v, e) f = Relu(d) y = MatMul(f, u) }"
)
ARRAYS = {
    "w": normal(30, 64),
    "b": normal(64),
    "v": normal(64, 64, scale=0.2),
    "e": normal(64),
    "u": normal(64, 10),
}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A model and samples, in the folder that commands are run in."""
    monkeypatch.chdir(tmp_path)
    onnx.save(model_proto(TEXT, ARRAYS), "model.onnx")
    np.savez("samples.npz", x=normal(50, 30))
    return tmp_path


def run(text: str, *arguments: object, config: str = "relusv.toml") -> Result:
    """A command with a configuration."""
    Path(config).parent.mkdir(exist_ok=True)
    Path(config).write_text(text, encoding="utf-8")
    given = [*map(str, arguments), "--config", config]
    return CliRunner().invoke(cli, given)


def report(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(
        (folder / "report" / "report.json").read_text(encoding="utf-8")
    )
    return found


def settings(folder: Path) -> dict[str, object]:
    """The settings that a report states."""
    return tomllib.loads(str(report(folder)["provenance"]["settings"]))


FILE = """
seed = 5
samples = "samples.npz"
max-drop = 50  # a plan lacks it, and takes no notice

[compress]
method = "double-layer"
output = "small.onnx"
report = "report"
size = 0.6
include = ["c", "f"]
force = true

[inspect]
json = "figures.json"
"""


def test_a_file_stands_in_for_options(folder: Path) -> None:
    result = run(FILE.replace("max-drop", "# max-drop"), "compress", "model.onnx")
    assert result.exit_code == 0, result.output
    assert (folder / "small.onnx").exists()
    data = report(folder)
    assert data["provenance"]["seed"] == 5
    assert data["budgets"]["size"] == 0.6
    decided = {block["key"]: block["choice"] for block in data["blocks"]}
    assert decided["y"]["action"] == "keep"
    assert {each["action"] for each in decided.values()} == {"keep", "double_layer"}
    # Twice: the file says --force.
    assert run(FILE.replace("max-drop", "# max-drop"), "compress", "model.onnx").exit_code == 0


def test_every_command_takes_what_it_has(folder: Path) -> None:
    result = run(FILE, "inspect", "model.onnx")
    assert result.exit_code == 0, result.output
    data = json.loads((folder / "figures.json").read_text(encoding="utf-8"))
    assert (data["provenance"]["seed"], data["provenance"]["sample_count"]) == (5, 50)
    plan = "[plan]\noutput = 'plan.json'\nsize = 0.6"
    assert run(FILE + plan, "plan", "model.onnx").exit_code == 0
    applied = run("output = 'half.onnx'\nseed = 1", "apply", "model.onnx", "plan.json")
    assert applied.exit_code == 0, applied.output
    assert run("samples = 'samples.npz'", "compare", "model.onnx", "half.onnx").exit_code == 0
    assert run("samples = 'samples.npz'\nexact = true", "trace", "model.onnx").exit_code == 0


def test_the_command_line_wins(folder: Path) -> None:
    result = run(
        FILE.replace("max-drop", "# max-drop"),
        "compress",
        "model.onnx",
        "--seed",
        7,
        "--include",
        "f",
        "--output",
        "other.onnx",
    )
    assert result.exit_code == 0, result.output
    assert not (folder / "small.onnx").exists()
    stated = settings(folder)
    assert (stated["seed"], stated["include"], stated["size"]) == (7, ["f"], 0.6)


def test_a_command_s_own_table_wins_over_the_top_level(folder: Path) -> None:
    assert run("seed = 1\n[inspect]\nseed = 2\njson = 'a'", "inspect", "model.onnx").exit_code == 0
    assert json.loads(Path("a").read_text(encoding="utf-8"))["provenance"]["seed"] == 2


def test_paths_start_at_the_file_s_folder(folder: Path) -> None:
    (folder / "samples.npz").rename(folder / "sub.npz")
    text = "samples = '../sub.npz'\njson = 'figures.json'"
    result = run(text, "inspect", "model.onnx", config="sub/relusv.toml")
    assert result.exit_code == 0, result.output
    assert (folder / "sub" / "figures.json").exists()
    absolute = f"samples = '{folder / 'sub.npz'}'\njson = '{folder / 'b.json'}'"
    assert run(absolute, "inspect", "model.onnx", config="sub/relusv.toml").exit_code == 0
    assert (folder / "b.json").exists()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("sizing = 0.5", "relusv.toml: sizing: no command has such an option; use allocation, "),
        ("json_path = 'x'", "json_path: no command has such an option"),
        ("config = 'x'", "config: no command has such an option"),
        ("[compres]\nsize = 0.5", "relusv.toml: [compres] is no command; use apply, compare, "),
        ("[inspect]\nsize = 0.5", "[inspect] size: inspect has no such option; use cache, force"),
        # Hidden there, since plan refuses it.
        ("[plan]\nmax-drop = 1", "[plan] max-drop: plan has no such option"),
        ("[compress.size]\nx = 1", "[compress] size = {'x': 1}: use a number."),
        ("size = '0.5'", "relusv.toml: size = '0.5': use a number."),
        ("size = true", "size = True: use a number."),
        ("seed = 1.5", "seed = 1.5: use a whole number."),
        ("seed = false", "seed = False: use a whole number."),
        ("seed = -1", "seed = -1: -1 is not in the range x>=0."),
        ("memory = 1", "memory = 1: 1 is not in the range x>=256."),
        ("force = 1", "force = 1: use true or false."),
        ("method = 'x'", "method = 'x': 'x' is not one of 'auto', 'double-layer', 'harmonic'."),
        ("provider = 1", "provider = 1: use a text in quotes."),
        ("method = 1", "method = 1: use one of auto, double-layer, harmonic, in quotes."),
        ("round-to = 0", "round-to = 0: 0 is not in the range x>=1. Or use auto."),
        ('round-to = "even"', "round-to = 'even': use a whole number, or \"auto\"."),
        ("keep-at-least = 1.5", "keep-at-least = 1.5: use a whole number."),
        ("round-to = 8", "--round-to is for units that are removed: use --method harmonic."),
        ("include = 'c'", "include = 'c': use a list of texts"),
        ("exclude = [1]", "exclude = [1]: use a list of texts"),
        ("samples = 1", "samples = 1: use a path in quotes."),
        ("samples = 1979-05-27", "use a path in quotes."),
        (
            "[sweep]\nsizes = '0.5,x'",
            "[sweep] sizes = '0.5,x': '0.5,x': use numbers between commas.",
        ),
        ("[sweep]\nsizes = 0.5", "[sweep] sizes = 0.5: use a text in quotes."),
        ("size = 1.5", "--size 1.5: use a number above 0 and below 1."),
        ("size = nan", "--size nan: use a number above 0 and below 1."),
    ],
)
def test_what_a_file_may_not_say(text: str, message: str, folder: Path) -> None:
    result = run(text, "compress", "model.onnx", "--output", "out.onnx")
    assert result.exit_code == 2, result.output
    assert message in result.output
    assert not (folder / "out.onnx").exists()


@pytest.mark.parametrize("text", ["size = ", "size 0.5", "[", "size = 1\nsize = 2"])
def test_what_is_no_toml(text: str, folder: Path) -> None:
    result = run(text, "inspect", "model.onnx")
    assert result.exit_code == 3
    assert "relusv.toml: not TOML" in result.output


def test_what_cannot_be_read(folder: Path) -> None:
    (folder / "bytes.toml").write_bytes(b"seed = \xff")
    for name, message in (("missing.toml", "No such file"), (".", ""), ("bytes.toml", "not TOML")):
        result = CliRunner().invoke(cli, ["inspect", "model.onnx", "--config", name])
        assert result.exit_code == 3, result.output
        assert f"--config {name}" in result.output
        assert message in result.output


def test_a_required_option_is_still_required(folder: Path) -> None:
    assert run("size = 0.5", "compress", "model.onnx").exit_code == 2


def test_a_report_s_settings_repeat_the_run(folder: Path) -> None:
    line = (
        "compress model.onnx --output one.onnx --samples samples.npz --size 0.6 --tolerance 0.9 "
        "--seed 3 --exclude y --exclude [y] --provider cpu --memory 300 --cache kept "
        "--report report"
    )
    first = CliRunner().invoke(cli, line.split())
    assert first.exit_code == 0, first.output
    found = settings(folder)
    # What this processor's kernels have, where it was found.
    assert found.pop("pack", 8) in (8, 16)
    assert found == {
        "samples": str(folder / "samples.npz"),
        "size": 0.6,
        "tolerance": 0.9,
        "method": "auto",
        "allocation": "auto",
        "divergence": "auto",
        "batch": 1,
        "round-to": "auto",
        "keep-at-least": 1,
        "precision": "keep",
        "int8-format": "u8s8",
        "exclude": ["y", "[y]"],
        "provider": "cpu",
        "seed": 3,
        "effort": "normal",
        "memory": 300,
    }
    page = (folder / "report" / "report.html").read_text(encoding="utf-8")
    (shown,) = re.findall(r"<pre>(.*?)</pre>", page, re.DOTALL)
    assert tomllib.loads(unescape(shown)) == settings(folder)
    again = run(
        unescape(shown), "compress", "model.onnx", "--output", "two.onnx", config="d/r.toml"
    )
    assert again.exit_code == 0, again.output
    assert (folder / "two.onnx").read_bytes() == (folder / "one.onnx").read_bytes()


def test_a_run_that_removed_units_is_repeated_too(folder: Path) -> None:
    line = (
        "compress model.onnx --output one.onnx --samples samples.npz --size 0.6 --method harmonic "
        "--round-to 4 --keep-at-least 12 --provider cpu --report report"
    )
    first = CliRunner().invoke(cli, line.split())
    assert first.exit_code == 0, first.output
    stated = settings(folder)
    names = ("method", "round-to", "keep-at-least")
    assert [stated[name] for name in names] == ["harmonic", 4, 12]
    text = str(report(folder)["provenance"]["settings"])
    assert run(text, "compress", "model.onnx", "--output", "two.onnx").exit_code == 0
    assert (folder / "two.onnx").read_bytes() == (folder / "one.onnx").read_bytes()


def test_a_call_of_the_api_can_be_repeated_too(folder: Path) -> None:
    compress(
        Path("model.onnx"),
        Path("one.onnx"),
        samples=Path("samples.npz"),
        planning=PlanOptions(budgets=Budgets(macs=0.6), include=('["c]*', "c", "f")),
        measuring=MeasureOptions(provider="cpu", seed=2),
        report=Path("report"),
    )
    text = str(report(folder)["provenance"]["settings"])
    assert run(text, "compress", "model.onnx", "--output", "two.onnx").exit_code == 0
    assert (folder / "two.onnx").read_bytes() == (folder / "one.onnx").read_bytes()


@pytest.mark.parametrize("command", ["inspect", "apply", "trace", "compare"])
def test_the_settings_of_every_report_are_options(command: str, folder: Path) -> None:
    sizes = "--size 0.6 --output"
    CliRunner().invoke(cli, f"plan model.onnx {sizes} plan.json".split())
    CliRunner().invoke(cli, f"compress model.onnx {sizes} small.onnx".split())
    arguments = {
        "inspect": "model.onnx",
        "apply": "model.onnx plan.json --output again.onnx --seed 4 --force",
        "trace": "model.onnx --exact --seed 4",
        "compare": "model.onnx small.onnx",
    }[command]
    line = f"{command} {arguments} --samples samples.npz --report report --provider cpu".split()
    assert CliRunner().invoke(cli, line).exit_code == 0
    text = str(report(folder)["provenance"]["settings"])
    positions = [each for each in line if each.endswith((".onnx", ".json"))]
    positions = [each for each in positions if each != "again.onnx"]
    outputs = ["--output", "again.onnx"] if command == "apply" else []
    again = run(text, *[command, *positions], *outputs, "--report", "report", "--force")
    assert again.exit_code == 0, again.output
    assert report(folder)["provenance"]["settings"] == text
    assert "samples = " in text
    assert ("exact = true" in text) == (command == "trace")
