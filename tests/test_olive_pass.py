"""The pass of Olive, most of it where Olive is installed; docs/recipes.md has its workflows."""

import json
import os
import subprocess
import sys
from dataclasses import fields
from importlib.util import find_spec
from pathlib import Path

import pytest

from onnx_relusv import Budgets, MeasureOptions, PlanOptions

ROOT = Path(__file__).parents[1]
needs_olive = pytest.mark.skipif(find_spec("olive") is None, reason="olive-ai is not installed")
# Not for callers of any kind, or a record of its own.
NO_OPTIONS = {"budgets", "selection"}


def ran(code: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Code in an interpreter of its own: Olive's imports warn, and settle what they find."""
    return subprocess.run(
        [sys.executable, "-c", code],
        cwd=folder,
        env={**os.environ, "OLIVE_DISABLE_TELEMETRY": "1"},
        capture_output=True,
        text=True,
        check=False,
    )


def test_without_olive_the_error_says_what_to_install(tmp_path: Path) -> None:
    without = "import sys; sys.modules['olive'] = None; import onnx_relusv; "
    assert ran(f"{without} onnx_relusv.compress", tmp_path).returncode == 0
    failed = ran(f"{without} import onnx_relusv.olive", tmp_path)
    assert failed.returncode == 1
    last = failed.stderr.strip().splitlines()[-1]
    assert last.startswith("ImportError: onnx_relusv.olive is a pass of Olive")
    assert last.endswith('pip install "onnx-relusv[olive]"')


@needs_olive
def test_the_package_configuration_is_olives_and_one_pass_more(tmp_path: Path) -> None:
    written = ran(
        "from onnx_relusv.olive import write_package_config\n"
        "from olive.package_config import OlivePackageConfig as Packages\n"
        "write_package_config('packages.json')\n"
        "print(Packages.get_default_config_path())\n"
        "found = Packages.parse_file_or_obj('packages.json')\n"
        "print(found.import_pass_module('OnnxReluSv').__name__)\n"
        "write_package_config('packages.json')\n",
        tmp_path,
    )
    before, imported = written.stdout.splitlines()[-2:]
    own, theirs = (
        json.loads(Path(path).read_text(encoding="utf-8"))
        for path in (tmp_path / "packages.json", before)
    )
    assert own["passes"].pop("OnnxReluSv")["module_path"] == "onnx_relusv.olive.OnnxReluSv"
    assert own == theirs
    assert imported == "OnnxReluSv"
    # The second time it is there already.
    assert written.returncode == 1
    assert "UsageError: packages.json" in written.stderr


@needs_olive
def test_the_parameters_are_the_options_of_compress(tmp_path: Path) -> None:
    listed = ran(
        "import json\n"
        "from olive.hardware import DEFAULT_CPU_ACCELERATOR as cpu\n"
        "from onnx_relusv.olive import OnnxReluSv\n"
        "_, fixed, searched = OnnxReluSv.get_config_params(cpu)\n"
        "support = {name: one.get_support() for name, one in searched.items()}\n"
        "print(json.dumps([fixed, support]))\n",
        tmp_path,
    )
    fixed, searched = json.loads(listed.stdout.splitlines()[-1])
    names = {each.name for one in (Budgets, PlanOptions, MeasureOptions) for each in fields(one)}
    assert set(fixed) | set(searched) == names - NO_OPTIONS | {"data_config", "samples", "report"}
    assert searched == {"size": [0.5, 0.25, 0.125], "precision": ["keep", "int8"]}
    assert (fixed["method"], fixed["seed"], fixed["include"]) == ("auto", 0, [])


@needs_olive
@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("size=2.0", "--size 2: use a"),
        ("method='smaller'", "--method 'smaller': use"),
        ("size=0.5, samples='a.npz'", "a.npz: there is no such file"),
        ("size=0.5, samples='a.npz', data_config={'name': 'b'}", "leave one of them out"),
    ],
)
def test_what_is_wrong_is_said_as_compress_says_it(setting: str, said: str, tmp_path: Path) -> None:
    failed = ran(
        "from olive.hardware import DEFAULT_CPU_ACCELERATOR as cpu\n"
        "from olive.model import ONNXModelHandler\n"
        "from olive.passes.olive_pass import create_pass_from_dict\n"
        "from onnx_relusv.olive import OnnxReluSv\n"
        f"made = create_pass_from_dict(OnnxReluSv, dict({setting}), True)\n"
        f"made.run(ONNXModelHandler({str(ROOT / 'models' / 'lenet_300_100.onnx')!r}), 'made')\n",
        tmp_path,
    )
    assert failed.returncode == 1
    assert said in failed.stderr.strip().splitlines()[-1]
    assert list(tmp_path.rglob("*.onnx")) == []
