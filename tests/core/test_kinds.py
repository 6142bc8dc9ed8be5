"""Kinds, forms, methods and actions are told apart in their own classes, and nowhere else."""

import ast
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import get_args

import pytest

import onnx_relusv
from onnx_relusv.core.kinds import KINDS, LINEAR_OPERATORS
from onnx_relusv.core.plans import Action, Method
from onnx_relusv.rewrites.low_rank.forms import FORMS

ROOT = Path(onnx_relusv.__file__).parent
# Where a kind or a form has its name.
OWN = {
    "core/kinds.py",
    *(f"rewrites/low_rank/{name}.py" for name in ("forms", "spatial", "tucker")),
}
# They look at the nodes of any graph, in blocks or not, and at operators that are no kind of block.
OF_NODES = {
    "graph/channels/weights.py",
    "graph/checks.py",
    "rewrites/int8/activations.py",
    "rewrites/prune/cost.py",
}
NAMES = {*KINDS, *FORMS}
# Records say of themselves which method or action they have; one reads files that are no records
# yet.
OF_CHOICES = {"core/plans.py", "core/options.py", "planning/plan_file.py"}
CHOICES = {*get_args(Method), *get_args(Action)} - {"auto"}


def strings(item: ast.AST) -> Iterator[str]:
    for each in ast.walk(item):
        if isinstance(each, ast.Constant) and isinstance(each.value, str):
            yield each.value


def named(tree: ast.Module) -> list[str]:
    """Names of kinds and forms that a module compares with, looks up, or gives to a record."""
    found: list[str] = []
    for item in ast.walk(tree):
        if isinstance(item, ast.Compare | ast.Dict | ast.Set | ast.Subscript | ast.match_case):
            found += [value for value in strings(item) if value in NAMES]
        elif isinstance(item, ast.keyword) and item.arg in ("kind", "form", "name"):
            found += [value for value in strings(item.value) if value in NAMES]
    return found


def compared(tree: ast.Module, names: Collection[str]) -> list[str]:
    """Those of some names that a module compares something with."""
    return [
        value
        for item in ast.walk(tree)
        if isinstance(item, ast.Compare)
        for value in strings(item)
        if value in names
    ]


def modules() -> Iterator[tuple[str, ast.Module]]:
    for path in sorted(ROOT.rglob("*.py")):
        yield path.relative_to(ROOT).as_posix(), ast.parse(path.read_text(encoding="utf-8"))


def test_no_kind_and_no_form_is_called_by_its_name() -> None:
    found = {name: named(tree) for name, tree in modules() if name not in OWN}
    assert {name: values for name, values in found.items() if values} == {}


def test_no_operator_of_a_kind_is_compared_with() -> None:
    found = {
        name for name, tree in modules() if name not in OWN and compared(tree, LINEAR_OPERATORS)
    }
    assert found == OF_NODES


def test_no_method_and_no_action_is_compared_with() -> None:
    found = {name for name, tree in modules() if compared(tree, CHOICES)}
    assert found == OF_CHOICES
    assert compared(ast.parse('if choice.action == "double_layer": pass'), CHOICES) == [
        "double_layer"
    ]


@pytest.mark.parametrize(
    "source",
    [
        'if block.geometry.kind == "conv": pass',
        'if change.form in ("spatial", "dense"): pass',
        'match form:\n    case "tucker": pass',
        'Choice(form="dense")',
        'words = {"spatial": 1}',
        'layer = LAYERS["channel"]',
    ],
)
def test_a_name_is_found(source: str) -> None:
    assert named(ast.parse(source))


def test_a_comparison_with_an_operator_is_found() -> None:
    assert compared(ast.parse('if node.op_type != "MatMul": pass'), LINEAR_OPERATORS) == ["MatMul"]
