"""Imports go one way: the table of who may import whom, held against the source itself."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import onnx_relusv

PACKAGE = "onnx_relusv"
ROOT = Path(onnx_relusv.__file__).parent
MOST_FILES, MOST_LINES = 14, 450

_GRAPH = {"graph", "graph/channels"}
_RUNTIME = {"runtime", "runtime/kernels"}
_REWRITES = {
    "rewrites",
    "rewrites/fp16",
    "rewrites/int8",
    "rewrites/low_rank",
    "rewrites/prune",
}
_BELOW_PLANS = {
    "core",
    "graph",
    "graph/channels",
    "measuring",
    "runtime",
    "samples",
    "spectra",
    "work",
    *_REWRITES,
}
# By package what it may import; ground first. A folder in a folder is a package of its own.
ALLOWED: dict[str, set[str]] = {
    "core": set(),
    "work": {"core"},
    "report": {"core", "work"},
    "graph": {"core", "work"},
    "graph/channels": {"core", "graph"},
    "samples": {"core", "graph/channels", "work"},
    "runtime": {"core", "samples", "work"},
    "runtime/kernels": {"core", "runtime"},
    "spectra": {"core", "samples", "work", *_RUNTIME},
    "rewrites/low_rank": {"core", "graph", "runtime", "spectra", "work"},
    "rewrites/int8": {"core", "graph"},
    "measuring": {"core", "rewrites/low_rank", "samples", "spectra", "work", *_GRAPH, *_RUNTIME},
    "rewrites/fp16": {"core", "graph", "measuring", "runtime", "work"},
    "rewrites/prune": {
        "core",
        "graph",
        "graph/channels",
        "measuring",
        "samples",
        "spectra",
        "work",
    },
    "rewrites": {
        "core",
        "graph",
        "graph/channels",
        "measuring",
        "rewrites/fp16",
        "rewrites/int8",
        "rewrites/low_rank",
        "rewrites/prune",
        "work",
    },
    "planning/latency": _BELOW_PLANS,
    "planning": {"planning/latency", *_BELOW_PLANS},
    "fitting": {
        "core",
        "graph",
        "measuring",
        "planning",
        "planning/latency",
        "samples",
        "spectra",
        "work",
        *_REWRITES,
        *_RUNTIME,
    },
    "checking": {
        "core",
        "fitting",
        "graph",
        "graph/channels",
        "measuring",
        "planning",
        "planning/latency",
        "report",
        "runtime",
        "samples",
        "work",
        *_REWRITES,
    },
    "commands": {
        "checking",
        "core",
        "fitting",
        "graph",
        "graph/channels",
        "measuring",
        "planning",
        "planning/latency",
        "report",
        "runtime",
        "samples",
        "spectra",
        "work",
        *_REWRITES,
    },
    "cli": {
        "checking",
        "commands",
        "core",
        "graph",
        "planning",
        "planning/latency",
        "report",
        "samples",
        "work",
    },
    "__init__": {"checking", "commands", "core", "samples", "work"},
    "__main__": {"cli", "work"},
    "olive": {"commands", "core", "samples", "work"},
}
# Libraries that some packages alone know.
KEPT_TO = {
    "onnx_graphsurgeon": {"graph", "graph/channels"},
    "onnxruntime": {"runtime"},
    "click": {"cli"},
    "matplotlib": {"report"},
    "jinja2": {"report"},
    "PIL": {"samples"},
    "distributed": {"work"},
    "olive": {"olive"},
}

# What may print or exit besides the command line: the command itself says that it was interrupted
# before the rest was loaded, and what a user's own metric prints is led away from a report.
ALSO = {
    "__main__.py": {"__main__ prints", "__main__ exits"},
    "core/metric.py": {"core prints"},
}


def package_of(path: Path) -> str:
    inside = path.relative_to(ROOT)
    return inside.parent.as_posix() if len(inside.parts) > 1 else inside.stem


def modules() -> Iterator[tuple[str, Path, ast.Module]]:
    for path in sorted(ROOT.rglob("*.py")):
        yield package_of(path), path, ast.parse(path.read_text(encoding="utf-8"))


def imported(tree: ast.Module) -> Iterator[str]:
    """Full names of what a module imports, wherever in it; `from a import b` gives `a.b`."""
    for item in ast.walk(tree):
        if isinstance(item, ast.Import):
            yield from (alias.name for alias in item.names)
        elif isinstance(item, ast.ImportFrom):
            dots = "." * item.level
            yield from (f"{dots}{item.module or ''}.{alias.name}" for alias in item.names)


def own_packages(tree: ast.Module) -> set[str]:
    """The packages of this one that a module imports."""
    found = set()
    for name in imported(tree):
        first, *inside = name.split(".")
        if first == PACKAGE and inside:
            deeper = "/".join(inside[:2])
            found.add(deeper if deeper in ALLOWED else inside[0])
    return found


def problems(package: str, tree: ast.Module) -> list[str]:
    """What a module of a package does that it may not."""
    wanted = own_packages(tree) - {package}
    found = [f"{package} imports {other}" for other in sorted(wanted - ALLOWED[package])]
    for name in imported(tree):
        if name.startswith("."):
            found.append(f"{package} imports {name} relatively")
        library = name.split(".")[0]
        if package not in KEPT_TO.get(library, {package}):
            found.append(f"{package} imports {library}")
    if package != "cli":
        found += [f"{package} prints" for item in ast.walk(tree) if prints(item)]
        found += [f"{package} exits" for item in ast.walk(tree) if exits(item)]
    return sorted(set(found))


def prints(item: ast.AST) -> bool:
    """print(...), and writes to the standard streams."""
    if isinstance(item, ast.Call) and isinstance(item.func, ast.Name):
        return item.func.id == "print"
    return isinstance(item, ast.Attribute) and item.attr in ("stdout", "stderr")


def exits(item: ast.AST) -> bool:
    if isinstance(item, ast.Name):
        return item.id == "SystemExit"
    return (
        isinstance(item, ast.Attribute)
        and item.attr in ("exit", "_exit")
        and isinstance(item.value, ast.Name)
        and item.value.id in ("sys", "os")
    )


def test_no_module_imports_what_it_may_not() -> None:
    found = [
        f"{name}: {problem}"
        for package, path, tree in modules()
        for name in [path.relative_to(ROOT).as_posix()]
        for problem in problems(package, tree)
        if problem not in ALSO.get(name, ())
    ]
    assert found == []


def test_every_package_has_its_place() -> None:
    assert set(ALLOWED) == {package for package, _, _ in modules()}


def test_the_table_has_no_way_back() -> None:
    reached = dict(ALLOWED)
    for _ in ALLOWED:
        reached = {
            package: others.union(*(reached[other] for other in others))
            for package, others in reached.items()
        }
    assert [package for package, others in reached.items() if package in others] == []
    # These two do not know each other.
    assert not reached["graph"] & _RUNTIME
    assert not ALLOWED["runtime"] & _GRAPH


def test_modules_import_without_a_circle() -> None:
    """Not even within a package, of which the table says nothing."""
    names = {
        path: ".".join((PACKAGE, *path.relative_to(ROOT).with_suffix("").parts)).removesuffix(
            ".__init__"
        )
        for _, path, _ in modules()
    }
    known = set(names.values())
    graph: dict[str, set[str]] = {}
    for _, path, tree in modules():
        wanted = set(imported(tree)) | {name.rpartition(".")[0] for name in imported(tree)}
        # Importing the whole package is no import of a module.
        graph[names[path]] = (wanted & known) - {PACKAGE, names[path]}
    while graph:
        ready = {name for name, wanted in graph.items() if not wanted & set(graph)}
        assert ready, f"a circle among {sorted(graph)}"
        graph = {name: wanted for name, wanted in graph.items() if name not in ready}


def test_files_and_packages_are_of_a_size_to_be_read() -> None:
    lines = {path: path.read_text(encoding="utf-8").count("\n") for _, path, _ in modules()}
    assert [path for path, count in lines.items() if count > MOST_LINES] == []
    files: dict[str, int] = {}
    for package, path, _ in modules():
        files[package] = files.get(package, 0) + (path.name != "__init__.py")
    assert [package for package, count in files.items() if count > MOST_FILES] == []


@pytest.mark.parametrize(
    ("package", "source", "problem"),
    [
        ("graph", "from onnx_relusv.runtime.session import Session", "graph imports runtime"),
        ("runtime", "from onnx_relusv.graph import blocks", "runtime imports graph"),
        ("runtime", "import onnx_relusv.graph.blocks", "runtime imports graph"),
        ("core", "from onnx_relusv import spectra", "core imports spectra"),
        (
            "planning",
            "def late():\n    from onnx_relusv.fitting.fit import fit",
            "planning imports fitting",
        ),
        (
            "rewrites/low_rank",
            "from onnx_relusv.rewrites.prune.units import Mask",
            "rewrites/low_rank imports rewrites/prune",
        ),
        (
            "report",
            "from onnx_relusv.measuring.blocks import measure_blocks",
            "report imports measuring",
        ),
        ("report", "from onnx_relusv.commands.compress import plan", "report imports commands"),
        ("measuring", "from onnx_relusv import cli", "measuring imports cli"),
        ("measuring", "from onnx_relusv.cli import main", "measuring imports cli"),
        ("checking", "import onnxruntime as ort", "checking imports onnxruntime"),
        ("runtime/kernels", "import onnxruntime", "runtime/kernels imports onnxruntime"),
        ("spectra", "from onnxruntime import InferenceSession", "spectra imports onnxruntime"),
        ("measuring", "import onnx_graphsurgeon as gs", "measuring imports onnx_graphsurgeon"),
        ("commands", "import click", "commands imports click"),
        ("core", "from click.testing import CliRunner", "core imports click"),
        ("core", "from . import blocks", "core imports ..blocks relatively"),
        (
            "spectra",
            "from ..runtime import kernels",
            "spectra imports ..runtime.kernels relatively",
        ),
        ("commands", "from olive.passes import Pass", "commands imports olive"),
        ("commands", "from onnx_relusv.olive import PASS", "commands imports olive"),
        ("checking", "print('so far')", "checking prints"),
        ("checking", "import sys\nsys.stderr.write('so far')", "checking prints"),
        ("checking", "import sys\nsys.exit(1)", "checking exits"),
        ("checking", "raise SystemExit(1)", "checking exits"),
    ],
)
def test_a_forbidden_import_is_caught(package: str, source: str, problem: str) -> None:
    assert problem in problems(package, ast.parse(source))


@pytest.mark.parametrize(
    ("package", "source"),
    [
        ("graph", "import onnx_graphsurgeon as gs\nfrom onnx_relusv.graph.model import Model"),
        ("runtime", "import onnxruntime\nfrom onnx_relusv.core.blocks import Runnable"),
        ("runtime/kernels", "from onnx_relusv.runtime.session import Session"),
        ("cli", "import click\nfrom onnx_relusv.commands.compress import plan\nprint('done')"),
        ("__init__", "from onnx_relusv.commands.compress import compress"),
        ("commands", "from onnx_relusv.checking.validate import validate\nimport numpy"),
    ],
)
def test_an_allowed_import_is_not(package: str, source: str) -> None:
    assert problems(package, ast.parse(source)) == []
