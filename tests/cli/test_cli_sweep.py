"""The command `sweep`: its files, its exit codes, and what it leaves behind."""

import json
from pathlib import Path

import classified
import command_line
import numpy as np
import pytest
from click.testing import CliRunner, Result

from onnx_relusv.cli.commands import cli


def run(*arguments: object) -> Result:
    return command_line.run("sweep", *arguments)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sweep")
    classified.samples(folder, classified.classifier(folder))
    return folder


@pytest.fixture
def given(place: Path, tmp_path: Path) -> tuple[object, ...]:
    return (
        place / "classifier.onnx",
        "--samples",
        place / "s.npz",
        "--report",
        tmp_path / "report",
    )


def test_the_report_and_the_models_are_written(given: tuple[object, ...], tmp_path: Path) -> None:
    peers = tmp_path / "peers.json"
    peers.write_text('[{"name": "theirs", "bytes": 0.5, "drop": 2}]', encoding="utf-8")
    which = ("--sizes", "0.4,0.6,0.001", "--methods", "blind,level")
    result = run(*given, *which, "--keep", "--peers", peers)
    assert result.exit_code == 0, result.output
    report = tmp_path / "report"
    data = json.loads((report / "report.json").read_text(encoding="utf-8"))
    assert data["schema"] == "onnx-relusv/sweep"
    assert [(one["method"], one["size"]) for one in data["points"]] == [
        ("blind", 0.6),
        ("blind", 0.4),
        ("level", 0.6),
        ("level", 0.4),
    ]
    assert len(data["missed"]) == 2
    assert [one["name"] for one in data["peers"]] == ["theirs"]
    assert f'peers = "{peers}"' in data["provenance"]["settings"]
    peers.unlink()
    assert all(Path(one["after"]["path"]).is_file() for one in data["points"])
    assert data["provenance"]["command"].startswith("onnx-relusv")
    assert "<html" in (report / "report.html").read_text(encoding="utf-8")
    assert [path.name for path in tmp_path.iterdir()] == ["report"]
    for words in ("blind 0.6", "accuracy lost", "not reached", "set aside"):
        assert words in " ".join(result.output.split())


@pytest.mark.parametrize(
    "option",
    [
        ("--sizes", "0"),
        ("--sizes", "1.5"),
        ("--sizes", "half"),
        ("--sizes", ""),
        ("--sizes", "0.5,"),
        ("--sizes", "nan"),
        ("--methods", "magic"),
        ("--methods", ""),
        ("--methods", "blind,"),
    ],
)
def test_settings_out_of_range_are_a_usage_error(
    option: tuple[str, str], given: tuple[object, ...], tmp_path: Path
) -> None:
    result = run(*given, *option)
    assert result.exit_code == 2
    assert option[0] in result.output
    assert not any(tmp_path.iterdir())


def test_sizes_that_nothing_reaches_are_a_budget_error(
    given: tuple[object, ...], tmp_path: Path
) -> None:
    result = run(*given, "--sizes", "0.001", "--methods", "blind")
    assert result.exit_code == 4
    assert "no point is left" in result.output
    assert not any(tmp_path.iterdir())


def test_an_existing_report_needs_force(given: tuple[object, ...], tmp_path: Path) -> None:
    report = tmp_path / "report"
    report.mkdir()
    (report / "report.html").write_text("precious", encoding="utf-8")
    options = ("--sizes", "0.6", "--methods", "blind")
    result = run(*given, *options)
    assert result.exit_code == 2
    assert "--force" in result.output
    assert (report / "report.html").read_text(encoding="utf-8") == "precious"
    assert run(*given, *options, "--force").exit_code == 0
    assert sorted(path.name for path in report.iterdir()) == ["report.html", "report.json"]


def test_labels_that_are_no_classes_are_an_input_error(
    given: tuple[object, ...], tmp_path: Path
) -> None:
    test = tmp_path / "test.npz"
    np.savez(test, x=classified.inputs(5), labels=np.array([0, 1, 2, 3, 4]))
    result = run(*given, "--test", test)
    assert result.exit_code == 3
    assert "labels go from 0 to 4" in " ".join(result.output.split())
    assert [path.name for path in tmp_path.iterdir()] == ["test.npz"]


def test_samples_and_report_are_needed(place: Path) -> None:
    model = place / "classifier.onnx"
    assert "--samples" in run(model, "--report", "r").output
    assert "--report" in run(model, "--samples", place / "s.npz").output
    assert run(model).exit_code == 2


def test_the_command_has_help() -> None:
    result = run("--help")
    assert result.exit_code == 0
    for option in ("--samples", "--test", "--report", "--sizes", "--methods", "--keep", "--seed"):
        assert option in result.output
    assert "sweep" in CliRunner().invoke(cli, ["--help"]).output
