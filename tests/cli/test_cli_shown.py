"""What is printed: keys alone, plans alone, warnings alone, and everything."""

from pathlib import Path

import command_line
import pytest
from click.testing import CliRunner

from onnx_relusv.cli.commands import cli

LENET = Path(__file__).parents[2] / "models" / "lenet_300_100.onnx"


def test_keys_are_printed_one_a_line() -> None:
    result = command_line.run("inspect", LENET, "--keys")
    assert (result.exit_code, result.output.splitlines()) == (0, ["fc1_relu", "fc2_relu", "logits"])


def test_keys_go_with_no_report(tmp_path: Path) -> None:
    result = command_line.run("inspect", LENET, "--keys", "--report", tmp_path / "report")
    assert result.exit_code == 2
    assert "leave --report out, or --keys" in result.output


def test_a_dry_run_prints_the_plan_and_writes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = command_line.run("compress", LENET, "--size", 0.5, "--dry-run")
    assert result.exit_code == 0, result.output
    named = command_line.run("compress", LENET, "--size", 0.5, "--dry-run", "--output", "s.onnx")
    assert named.output == result.output
    assert list(tmp_path.iterdir()) == []
    text = " ".join(result.output.split())
    assert "fc1_relu double layer: pair, rank" in text
    assert "% of the bytes" in text
    assert text.endswith("Nothing was written: that was a plan.")


def test_a_dry_run_cannot_try_files() -> None:
    result = command_line.run("compress", LENET, "--max-drop", 1, "--dry-run")
    assert result.exit_code == 2
    assert "Use --size, or leave --dry-run out" in " ".join(result.output.split())


def test_without_a_dry_run_an_output_has_to_be_given() -> None:
    result = command_line.run("compress", LENET, "--size", 0.5)
    assert result.exit_code == 2
    assert "Missing option '--output'" in result.output


def test_quiet_and_verbose(tmp_path: Path) -> None:
    command = ("compress", LENET, "--size", "0.5", "--force", "--output", tmp_path / "small.onnx")
    quiet = CliRunner().invoke(cli, [*map(str, command), "--quiet"])
    assert (quiet.exit_code, quiet.stdout) == (0, "")
    assert quiet.stderr.startswith("warning: No samples:")
    assert "Spectra" not in quiet.stderr
    verbose = CliRunner().invoke(cli, [*map(str, command), "--verbose"])
    assert verbose.exit_code == 0
    assert {"checks passed", "onnx.checker"} <= {
        line[:13].strip() for line in verbose.stdout.splitlines()
    }
    # How long it took, in seconds.
    assert "Spectra of the blocks: " in verbose.stderr
    both = CliRunner().invoke(cli, [*map(str, command), "--verbose", "--quiet"])
    assert both.exit_code == 2
    assert "opposites" in both.stderr


@pytest.mark.parametrize("name", sorted(cli.commands))
def test_every_command_can_be_quiet(name: str) -> None:
    assert {"quiet", "verbose"} <= {param.name for param in cli.commands[name].params}
