"""Options are declared by the records' fields alone, and reading them loads no stage."""

import json
import subprocess
import sys

import click
import pytest
from command_line import run, words

import onnx_relusv
from onnx_relusv.cli.commands import cli
from onnx_relusv.core.arguments import options_of
from onnx_relusv.core.metric import ComparisonLimits
from onnx_relusv.core.options import ApplyOptions, MeasureOptions, PlanOptions
from onnx_relusv.core.plans import Budgets
from onnx_relusv.core.sweeps import SweepOptions

RECORDS = (ApplyOptions, MeasureOptions, PlanOptions, Budgets, SweepOptions, ComparisonLimits)
# Files and flags, which belong to no record.
OUTPUTS = {"force", "json", "keep", "output", "report"}
SHOWN = {"quiet", "verbose", "keys", "dry-run"}
OTHERS = {"cluster", "config", "exact", "peers", "preprocess", "samples", "test", *SHOWN, *OUTPUTS}
LIBRARIES = {"jinja2", "matplotlib", "onnx", "onnx_graphsurgeon", "onnxruntime", "scipy"}
# What options are made of, and what errors are printed with.
LIGHT = {"cli", "core", "work", "report", "__main__"}
LOADED = """
import contextlib, io, json, sys
from onnx_relusv import __main__
for arguments in json.loads(sys.argv[1]):
    sys.argv = ["onnx-relusv", *arguments]
    with contextlib.redirect_stdout(io.StringIO()) as shown, contextlib.suppress(SystemExit):
        __main__.main()
    assert shown.getvalue()
print(json.dumps(sorted(sys.modules)))
"""


def loaded(*lines: list[str]) -> set[str]:
    """The modules that are there after some command lines have run in one process."""
    done = subprocess.run(
        [sys.executable, "-c", LOADED, json.dumps(lines)],
        capture_output=True,
        text=True,
        check=True,
    )
    return set(json.loads(done.stdout))


def test_help_and_version_load_no_stage() -> None:
    modules = loaded(["--version"], ["--help"], *([name, "--help"] for name in cli.commands))
    assert {name.partition(".")[0] for name in modules} & LIBRARIES == set()
    own = {name.split(".")[1] for name in modules if name.startswith("onnx_relusv.")}
    assert own <= LIGHT
    assert "rich" not in modules


def test_commands_load_what_draws_pictures_when_they_draw_some() -> None:
    code = "import sys, onnx_relusv.cli.running; print('scipy' in sys.modules, 'matplotlib' in "
    done = subprocess.run(
        [sys.executable, "-c", f"{code}sys.modules)"], capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["True", "False"]


def test_all_options_are_those_of_records() -> None:
    declared = {option.name for record in RECORDS for option in options_of(record).values()}
    offered = {
        name.removeprefix("--")
        for command in cli.commands.values()
        for option in command.params
        if isinstance(option, click.Option)
        for name in option.opts
    }
    assert offered == declared | OTHERS


@pytest.mark.parametrize("name", ["inspect", "plan", "apply", "compress", "compare", "sweep"])
def test_a_command_is_the_function_of_its_name(name: str) -> None:
    command = cli.commands[name]
    assert callable(getattr(onnx_relusv, name))
    files = ["missing.onnx" for param in command.params if isinstance(param, click.Argument)]
    required = {"output": ["--output", "out"], "report": ["--report", "out"]}
    options = [
        word
        for option in command.params
        if isinstance(option, click.Option) and option.required
        for word in required.get(str(option.name), ["--samples", "missing.npz"])
    ]
    result = run(name, *files, *options)
    assert (result.exit_code, "no such file" in words(result)) == (3, True), result.output


def test_all_names_of_the_package_are_listed() -> None:
    assert set(onnx_relusv.__all__) <= set(dir(onnx_relusv))
    for name in onnx_relusv.__all__:
        assert getattr(onnx_relusv, name).__name__ == name
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        onnx_relusv.nothing  # noqa: B018
