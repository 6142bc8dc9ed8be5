"""Metrics from files: what is read and run, and how every failure is told."""

import os
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
from classified import FILE, metric_file

from onnx_relusv.core.errors import InputError, UsageError
from onnx_relusv.core.metric import Metric
from onnx_relusv.work.python_files import load_metric

OUTPUTS = [np.eye(3, dtype=np.float32)]
LABELS = np.array([0, 1, 0])


def refused(text: str, match: str, error: type[Exception] = InputError) -> None:
    with pytest.raises(error, match=match):
        load_metric(text)


def told(folder: Path, function: str) -> str:
    """What is said of a function that fails."""
    metric = load_metric(f"{metric_file(folder)}:{function}")
    with pytest.raises(InputError) as caught:
        metric.value(OUTPUTS, LABELS)
    return str(caught.value)


def test_a_function_of_a_file(tmp_path: Path) -> None:
    path = metric_file(tmp_path)
    found = load_metric(f"{path}:accuracy")
    assert (found.name, found.path) == ("own_metric.py:accuracy", path)
    assert found.value(OUTPUTS, LABELS) == pytest.approx(2 / 3)


def test_nothing_is_left_behind(tmp_path: Path) -> None:
    before = set(sys.modules)
    load_metric(f"{metric_file(tmp_path)}:accuracy")
    assert not {"own_metric", "_onnx_relusv_user_file"} & set(sys.modules)
    # Nor is a module of that name hidden that was there before.
    assert before <= set(sys.modules)
    assert [path.name for path in tmp_path.iterdir()] == ["own_metric.py"]


def test_an_edit_counts_at_once(tmp_path: Path) -> None:
    """Two texts of one length within a second, which stored bytecode would not tell apart."""
    for digit in (3, 4):
        path = metric_file(tmp_path, f"def f(outputs, labels):\n    return {digit}\n")
        assert load_metric(f"{path}:f").value(OUTPUTS, None) == digit


def test_a_module_knows_where_it_lies(tmp_path: Path) -> None:
    """Weights or lists of classes of the user's often lie beside it."""
    (tmp_path / "value.txt").write_text("0.75", encoding="utf-8")
    text = (
        "from pathlib import Path\nHERE = Path(__file__).parent\n"
        "VALUE = float((HERE / 'value.txt').read_text())\n"
        "def f(outputs, labels):\n    return VALUE\n"
    )
    assert load_metric(f"{metric_file(tmp_path, text)}:f").value(OUTPUTS, None) == 0.75


def test_a_module_may_hold_what_looks_itself_up(tmp_path: Path) -> None:
    text = (
        "from __future__ import annotations\nfrom dataclasses import dataclass, KW_ONLY\n"
        "@dataclass\nclass Weight:\n    _: KW_ONLY\n    value: float = 2.0\n"
        "    def __call__(self, outputs, labels):\n        return self.value\n"
        "weighted = Weight()\n"
    )
    assert load_metric(f"{metric_file(tmp_path, text)}:weighted").value(OUTPUTS, None) == 2


@pytest.mark.parametrize("text", ["", "metric.py", ":f", "metric.py:", "metric.py:f()", "a.py:a.b"])
def test_another_form_is_a_usage_error(text: str) -> None:
    refused(text, r"write FILE\.py:function", UsageError)


def test_what_is_not_there(tmp_path: Path) -> None:
    refused(f"{tmp_path / 'none.py'}:f", "none.py: there is no such file")
    refused(f"{tmp_path}:f", "this is a folder")
    path = metric_file(tmp_path)
    refused(f"{path}:precision", "own_metric.py has no precision")
    refused(f"{path}:number", "number in .* is int, not a function")


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("x = 1\ny = 1 / 0\n", r"line 2 of .*own_metric\.py: ZeroDivisionError: division by zero"),
        ("x = 1\ndef f(:\n", r"line 2 of .*own_metric\.py: SyntaxError: invalid syntax"),
        ("import no_such_package\n", "line 1 of .*No module named 'no_such_package'"),
        ("import sys\nsys.exit(3)\n", "line 2 of .*SystemExit: 3"),
        ("\0", "SyntaxError"),
    ],
)
def test_a_file_that_fails(text: str, match: str, tmp_path: Path) -> None:
    refused(f"{metric_file(tmp_path, text)}:f", match)
    assert "_onnx_relusv_user_file" not in sys.modules


def test_a_function_that_fails(tmp_path: Path) -> None:
    line = FILE.splitlines().index('    raise ValueError("no such thing")') + 1
    path = tmp_path / "own_metric.py"
    text = told(tmp_path, "fails")
    assert text == (
        f"--metric own_metric.py:fails: line {line} of {path}: ValueError: no such thing"
    )
    assert "it returned None; let it return a float" in told(tmp_path, "says_nothing")
    assert "it returned nan for 3 samples" in told(tmp_path, "not_a_number")


@pytest.mark.parametrize(
    "value",
    ["0.5", [0.5], np.array([0.5]), np.array(1j), 1j, 10**400, float("inf"), np.float32("nan")],
)
def test_what_is_no_finite_number(value: object) -> None:
    metric = Metric("own", lambda outputs, labels: value)  # type: ignore[arg-type, return-value]
    with pytest.raises(InputError, match="--metric own: it returned"):
        metric.value(OUTPUTS, LABELS)


@pytest.mark.parametrize(
    "value", [1, True, 0.25, np.float32(0.25), np.int64(2), np.array(-3), np.bool_(True)]
)
def test_what_is_a_number(value: float) -> None:
    found = Metric("own", lambda outputs, labels: value).value(OUTPUTS, None)
    assert (found, type(found)) == (value, float)


def test_arguments_that_do_not_fit() -> None:
    with pytest.raises(InputError, match=r"TypeError.*positional"):
        Metric("own", lambda outputs: 1.0).value(OUTPUTS, LABELS)  # type: ignore[arg-type, misc]


def test_labels_cannot_be_changed() -> None:
    def careless(outputs: list[np.ndarray], labels: np.ndarray | None) -> float:
        assert labels is not None
        labels += 1
        return 0.0

    labels = LABELS.copy()
    with pytest.raises(InputError, match="read-only"):
        Metric("careless", careless).value(OUTPUTS, labels)
    assert np.array_equal(labels, LABELS)
    assert labels.flags.writeable


def test_a_function_leaves_the_process_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Relative paths of outputs start from the working folder, and numpy's errors are ours."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    text = (
        "import os, warnings\nimport numpy as np\n"
        "def roam(*_):\n    os.chdir('..')\n    np.seterr(all='raise')\n"
        "    warnings.simplefilter('error')\n    print('on the way')\n    return 1.0\n"
        "def clear(outputs, labels):\n    outputs.clear()\n    return 1.0\n"
        "roam()\n"
    )
    before, filters = np.geterr(), list(warnings.filters)
    assert load_metric(f"{metric_file(tmp_path, text)}:roam").value(OUTPUTS, None) == 1
    assert Path.cwd() == tmp_path / "here"
    assert (np.geterr(), warnings.filters) == (before, filters)
    printed = capsys.readouterr()
    assert (printed.out, printed.err) == ("", "on the way\n" * 2)
    outputs = list(OUTPUTS)
    load_metric(f"{tmp_path / 'own_metric.py'}:clear").value(outputs, None)
    assert len(outputs) == 1


def test_a_working_folder_that_is_gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = metric_file(tmp_path)
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    assert load_metric(f"{path}:accuracy").value(OUTPUTS, LABELS) == pytest.approx(2 / 3)


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.py")
    refused(f"{tmp_path / 'pipe.py'}:f", "this is a named pipe, not a file")


def test_errors_of_several_lines_and_without_a_text(tmp_path: Path) -> None:
    text = (
        "class Mute(Exception):\n    def __str__(self):\n        raise ValueError\n"
        "def mute(*_):\n    raise Mute\n"
        "def deep(*_):\n    return deep()\n"
        "def loud(*_):\n    raise ValueError('one\\ntwo')\n"
    )
    path = metric_file(tmp_path, text)
    for function, words in {
        "mute": r"line 5 of .*: Mute$",
        "deep": r"line 7 of .*: RecursionError: ",
        "loud": r"line 9 of .*: ValueError: one two$",
    }.items():
        with pytest.raises(InputError, match=words):
            load_metric(f"{path}:{function}").value(OUTPUTS, None)


def test_what_is_no_metric() -> None:
    with pytest.raises(TypeError, match=r"^function is int"):
        Metric("own", 3)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"^name is None"):
        Metric(None, max)  # type: ignore[arg-type]
