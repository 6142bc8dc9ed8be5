"""Imports go one way: the table of who may import whom, held against the source itself."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import onnx_relusv

PACKAGE = "onnx_relusv"
ROOT = Path(onnx_relusv.__file__).parent

# A part is a module of the package, or a folder with all that is in it. Ground first.
ALLOWED: dict[str, set[str]] = {
    "coverage_records": set(),
    "errors": {"coverage_records"},
    "cache": {"errors", "temporary_files"},
    "interrupts": set(),
    "finite": set(),
    "progress": set(),
    "json_text": set(),
    "records": set(),
    "covariance": {"positive_definite", "records"},
    "measures": {"records"},
    "arguments": {"errors"},
    "decisions": {"arguments", "records"},
    "outcomes": set(),
    "output_change": set(),
    "output_values": {"output_change"},
    "output_variation": {"output_values"},
    "output_differences": {"output_change", "output_values", "output_variation", "records"},
    "results": {
        "coverage_records",
        "decisions",
        "measures",
        "metric_results",
        "outcomes",
        "output_change",
        "records",
        "settings",
    },
    "comparison_limits": {"errors", "results"},
    "entries": {"decisions", "measures", "records"},
    "metric": {"arguments", "errors"},
    "metric_file": {"arguments", "errors", "input_files", "metric"},
    "metric_results": set(),
    "traces": {"records", "results"},
    "sweeps": {"results"},
    "auroc": {"records", "traces"},
    "logistic": {"records", "traces"},
    "crossfit": {"logistic", "records", "traces"},
    "separation": {"auroc", "crossfit", "errors", "records", "traces"},
    "input_shapes": {"errors", "records"},
    "options": {"arguments", "decisions", "errors", "input_shapes", "metric", "selection"},
    "selection": {"errors"},
    "settings": set(),
    "forms": {"decisions", "records"},
    "encoded": set(),
    "cost": {"decisions", "encoded", "forms", "records"},
    "patches": {"records"},
    "feeds": {"records"},
    "dead_leaves": {"records"},
    "synthetic": {"dead_leaves", "graph", "records"},
    "output_errors": {"output_differences"},
    "varied_feeds": {"feeds", "graph", "records", "synthetic"},
    "outputs": {"errors"},
    "temporary_files": {"errors", "interrupts"},
    "mapped_arrays": {"errors", "temporary_files"},
    "publishing": {"errors", "interrupts", "outputs", "temporary_files"},
    "parallel": set(),
    "workload": {"forms", "parallel", "records"},
    "input_files": {"errors"},
    "sample_files": {"errors", "input_files", "records"},
    "samples": {"errors", "records", "sample_files"},
    "sample_facts": {"records", "samples"},
    "split": {"errors", "samples"},
    "plan_marks": set(),
    "plan_file": {"decisions", "errors", "input_files", "json_text", "plan_marks", "records"},
    "limits": {"cost", "decisions", "records"},
    "allocation": {"decisions", "errors", "limits", "records"},
    "knapsack": {"records"},
    "multiplier": {"allocation", "decisions", "errors", "knapsack", "limits", "records"},
    # These two do not know each other.
    "graph": {
        "coverage_records",
        "decisions",
        "errors",
        "finite",
        "forms",
        "input_files",
        "interrupts",
        "mapped_arrays",
        "publishing",
        "records",
        "results",
        "selection",
        "temporary_files",
    },
    "runtime": {"errors", "mapped_arrays", "records"},
    "spectra": {
        "cache",
        "covariance",
        "entries",
        "errors",
        "finite",
        "measures",
        "options",
        "parallel",
        "patches",
        "records",
        "runtime",
        "samples",
        "traces",
        "temporary_files",
    },
    "balance": {"forms", "records"},
    "tucker": {"forms", "records", "spectra"},
    "reduction": {"covariance", "decisions", "records"},
    "blas": set(),
    "positive_definite": {"records"},
    "target_patches": {"decisions", "records", "reduction", "runtime", "spectra"},
    "factors": {
        "balance",
        "covariance",
        "decisions",
        "forms",
        "positive_definite",
        "records",
        "reduction",
        "spectra",
        "tucker",
    },
    "fitted": {"decisions", "records", "reduction"},
    "regression": {"factors", "fitted", "positive_definite", "records", "spectra"},
    "common_shift": {"decisions", "positive_definite", "spectra"},
    "objectives": {"decisions", "forms", "records", "runtime", "spectra"},
    "own_answers": {"common_shift", "decisions", "objectives", "records", "runtime", "spectra"},
    "reproduction": {"decisions", "objectives", "records", "regression", "runtime", "spectra"},
    "refinement": {
        "balance",
        "decisions",
        "forms",
        "objectives",
        "progress",
        "records",
        "spectra",
    },
    "importance": {"records"},
    "dominance": {"decisions"},
    "pricing": {"decisions"},
    "candidates": {"cost", "decisions", "factors", "forms", "records", "spectra"},
    "certify": set(),
    "jackknife": {"records"},
    "loss": set(),
    "collected": {"errors", "runtime", "samples", "temporary_files"},
    "class_scores": {"errors", "output_values", "samples"},
    "confidence": {"records"},
    "divergence": {"class_scores", "errors", "graph", "output_differences", "records"},
    "evaluate": {
        "class_scores",
        "collected",
        "errors",
        "metric",
        "metric_results",
        "outcomes",
        "output_differences",
        "output_values",
        "results",
        "runtime",
        "samples",
    },
    "report": {
        "coverage_records",
        "decisions",
        "errors",
        "json_text",
        "measures",
        "metric_results",
        "outcomes",
        "outputs",
        "publishing",
        "output_change",
        "records",
        "results",
        "settings",
        "sweeps",
        "traces",
    },
}
GROUND = {
    "input_files",
    "arguments",
    "coverage_records",
    "records",
    "measures",
    "decisions",
    "outcomes",
    "output_change",
    "results",
    "traces",
    "sweeps",
    "errors",
    "metric",
    "metric_results",
    "input_shapes",
    "options",
    "selection",
    "settings",
    "forms",
    "cost",
    "encoded",
    "patches",
    "progress",
    "parallel",
    "workload",
    "feeds",
    "outputs",
    "interrupts",
    "publishing",
    "temporary_files",
    "samples",
    "sample_files",
}
# Stages that bring graphs and runs together: they may use all but what is above them.
STAGES = {
    "assess",
    "blind",
    "claim",
    "composed_maps",
    "block_fit",
    "carrying_out",
    "certification",
    "corrective",
    "damage",
    "damage_measure",
    "deciding",
    "drop_limit",
    "fit",
    "group_rows",
    "held_out",
    "kept_fits",
    "held_out_metric",
    "judging",
    "latency",
    "opened",
    "origins",
    "model_coverage",
    "planned_size",
    "planning",
    "probing",
    "provenance_entry",
    "pruning",
    "ready",
    "refits",
    "repeatability",
    "rewriting",
    "rows",
    "sample_warnings",
    "scores",
    "search",
    "segment_sessions",
    "sweeping",
    "synthetic_assessment",
    "synthetic_samples",
    "synthetic_scale",
    "tracing",
    "trials",
    "validate",
    "validation_runs",
    "whole_runs",
}
# What is above them, and its only users.
ABOVE = {"pipeline": {"__init__", "cli"}, "cli": {"__main__"}, "__main__": set()}
# Libraries that one part alone knows.
KEPT_TO = {
    "onnx_graphsurgeon": {"graph"},
    "onnxruntime": {"runtime"},
    "click": {"cli"},
    "matplotlib": {"report"},
    "jinja2": {"report"},
}


def part_of(path: Path) -> str:
    first = path.relative_to(ROOT).parts[0]
    return first.removesuffix(".py")


def modules() -> Iterator[tuple[str, Path, ast.Module]]:
    for path in sorted(ROOT.rglob("*.py")):
        yield part_of(path), path, ast.parse(path.read_text(encoding="utf-8"))


def imported(tree: ast.Module) -> Iterator[str]:
    """Full names of what a module imports, wherever in it; `from a import b` gives `a.b`."""
    for item in ast.walk(tree):
        if isinstance(item, ast.Import):
            yield from (alias.name for alias in item.names)
        elif isinstance(item, ast.ImportFrom):
            dots = "." * item.level
            yield from (f"{dots}{item.module or ''}.{alias.name}" for alias in item.names)


def own_parts(tree: ast.Module) -> set[str]:
    """The parts of this package that a module imports."""
    return {
        name.split(".")[1]
        for name in imported(tree)
        if name.split(".")[0] == PACKAGE and "." in name
    }


def problems(part: str, tree: ast.Module) -> list[str]:
    """What a module of a part does that it may not."""
    found = []
    wanted = own_parts(tree) - {part}
    if part in ALLOWED:
        found += [f"{part} imports {other}" for other in sorted(wanted - ALLOWED[part])]
    for other, users in ABOVE.items():
        if other in wanted and part not in users:
            found.append(f"{part} imports {other}")
    for name in imported(tree):
        if name.startswith("."):
            found.append(f"{part} imports {name} relatively")
        library = name.split(".")[0]
        if part not in KEPT_TO.get(library, {part}):
            found.append(f"{part} imports {library}")
    if part != "cli":
        # What a user's own metric prints is led away from the report that standard output may be;
        # and the command itself says that it was interrupted before the rest was loaded.
        silent = part not in ("metric", "__main__")
        found += [f"{part} prints" for item in ast.walk(tree) if silent and prints(item)]
        found += [f"{part} exits" for item in ast.walk(tree) if exits(item) and part != "__main__"]
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
        f"{path.relative_to(ROOT)}: {problem}"
        for part, path, tree in modules()
        for problem in problems(part, tree)
    ]
    assert found == []


def test_every_part_has_its_place() -> None:
    # A new part goes into the table, or among the stages.
    assert set(ALLOWED) | STAGES | set(ABOVE) | {"__init__"} == {part for part, _, _ in modules()}


def test_the_table_has_no_way_back() -> None:
    # Ground rests on ground, and no part reaches itself through others.
    for part in GROUND:
        assert ALLOWED[part] <= GROUND
    reached = dict(ALLOWED)
    for _ in ALLOWED:
        reached = {
            part: others.union(*(reached.get(other, set()) for other in others))
            for part, others in reached.items()
        }
    assert [part for part, others in reached.items() if part in others] == []
    assert "graph" not in reached["runtime"]
    assert "runtime" not in reached["graph"]


def test_modules_import_without_a_circle() -> None:
    """Not even within a folder, where the table says nothing."""
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
        # A folder's __init__ re-exports; importing the package itself is no import of a module.
        graph[names[path]] = (wanted & known) - {PACKAGE, names[path]}
    while graph:
        ready = {name for name, wanted in graph.items() if not wanted & set(graph)}
        assert ready, f"a circle among {sorted(graph)}"
        graph = {name: wanted for name, wanted in graph.items() if name not in ready}


@pytest.mark.parametrize(
    ("part", "source", "problem"),
    [
        ("graph", "from onnx_relusv.runtime.session import Session", "graph imports runtime"),
        ("runtime", "from onnx_relusv.graph import blocks", "runtime imports graph"),
        ("runtime", "import onnx_relusv.graph.blocks", "runtime imports graph"),
        ("records", "from onnx_relusv import forms", "records imports forms"),
        ("forms", "def late():\n    from onnx_relusv.cost import block_cost", "forms imports cost"),
        ("parallel", "from onnx_relusv.records import Block", "parallel imports records"),
        ("workload", "from onnx_relusv.factors import levels", "workload imports factors"),
        ("report", "from onnx_relusv.rows import measure_blocks", "report imports rows"),
        ("report", "from onnx_relusv.pipeline import compress", "report imports pipeline"),
        ("rewriting", "from onnx_relusv.pipeline import compress", "rewriting imports pipeline"),
        ("rows", "from onnx_relusv import cli", "rows imports cli"),
        ("rows", "from onnx_relusv.cli import main", "rows imports cli"),
        ("validate", "import onnxruntime as ort", "validate imports onnxruntime"),
        ("spectra", "from onnxruntime import InferenceSession", "spectra imports onnxruntime"),
        ("opened", "import onnx_graphsurgeon as gs", "opened imports onnx_graphsurgeon"),
        ("pipeline", "import click", "pipeline imports click"),
        ("cost", "from click.testing import CliRunner", "cost imports click"),
        ("cost", "from . import forms", "cost imports ..forms relatively"),
        (
            "spectra",
            "from ..runtime import kernels",
            "spectra imports ..runtime.kernels relatively",
        ),
        ("evaluate", "print('so far')", "evaluate prints"),
        ("evaluate", "import sys\nsys.stderr.write('so far')", "evaluate prints"),
        ("evaluate", "import sys\nsys.exit(1)", "evaluate exits"),
        ("evaluate", "raise SystemExit(1)", "evaluate exits"),
    ],
)
def test_a_forbidden_import_is_caught(part: str, source: str, problem: str) -> None:
    assert problem in problems(part, ast.parse(source))


@pytest.mark.parametrize(
    ("part", "source"),
    [
        ("graph", "import onnx_graphsurgeon as gs\nfrom onnx_relusv.graph.model import Model"),
        ("runtime", "import onnxruntime\nfrom onnx_relusv.records import Runnable"),
        ("cost", "from onnx_relusv import forms\nfrom onnx_relusv.records import Block"),
        ("cli", "import click\nfrom onnx_relusv.pipeline import compress\nprint('done')"),
        ("__init__", "from onnx_relusv.pipeline import compress"),
        ("pipeline", "from onnx_relusv.validate import validate\nimport numpy"),
    ],
)
def test_an_allowed_import_is_not(part: str, source: str) -> None:
    assert problems(part, ast.parse(source)) == []
