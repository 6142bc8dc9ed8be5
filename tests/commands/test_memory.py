"""The memory for measuring changes how the work is done, not what comes out."""

import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path

import numpy as np
import onnx
import pytest
from click.testing import CliRunner
from graphs import model_proto, normal
from opened import open_model

from onnx_relusv import MeasureOptions, inspect
from onnx_relusv.cli.commands import cli
from onnx_relusv.core.errors import UsageError
from onnx_relusv.core.measures import Spectrum
from onnx_relusv.core.options import DEFAULT_MEMORY, LEAST_MEMORY
from onnx_relusv.core.results import Inspection
from onnx_relusv.measuring.case import block_moments
from onnx_relusv.work.executors import Advance, Silent

# Four branches that read tensors of their own: with the least memory the second moments of two of
# them, 1,500 numbers squared, fill it.
WIDE = 1500
BRANCHES = ("Relu", "Tanh", "Sigmoid", "Softplus")
COUNT = 90


def branches(width: int) -> str:
    lines = [
        f"h{i} = {op}(x) p{i} = MatMul(h{i}, w{i}) y{i} = Relu(p{i})"
        for i, op in enumerate(BRANCHES)
    ]
    joined = ", ".join(f"y{i}" for i in range(len(BRANCHES)))
    return f"""(float[N, {width}] x) => (float[N, z] z) {{
        {" ".join(lines)} z = Concat<axis=1>({joined})
    }}"""


def saved(folder: Path, width: int) -> tuple[Path, Path]:
    """A model and its samples."""
    arrays = {f"w{i}": normal(width, 6, seed=i) for i in range(len(BRANCHES))}
    model, samples = folder / "model.onnx", folder / "samples.npz"
    onnx.save(model_proto(branches(width), arrays), model)
    np.savez(samples, x=normal(COUNT, width, seed=9))
    return model, samples


@pytest.fixture(scope="module")
def wide(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return saved(tmp_path_factory.mktemp("wide"), WIDE)


class Counting:
    """Counts the steps of every stage."""

    def __init__(self) -> None:
        self.totals: dict[str, int] = {}
        self.done: dict[str, int] = {}

    @contextmanager
    def stage(self, name: str, total: int) -> Iterator[Advance]:
        self.totals[name], self.done[name] = total, 0

        def advance(steps: int) -> None:
            self.done[name] += steps

        yield advance


def inspected(model: Path, samples: Path, memory: int) -> tuple[Inspection, int]:
    """The inspection, and how many passes over the samples it took."""
    progress = Counting()
    found = inspect(
        model,
        samples=samples,
        measuring=MeasureOptions(provider="cpu", memory=memory),
        progress=progress,
    )
    assert progress.done == progress.totals
    return found, progress.totals["Moments of the blocks' inputs"] // COUNT


def assert_equal(one: Spectrum, other: Spectrum) -> None:
    for field in fields(Spectrum):
        first, second = getattr(one, field.name), getattr(other, field.name)
        if isinstance(first, np.ndarray | float):
            # Float64 sums of batches, and of threads, of other lengths; the ascents amplify them.
            by_ascent = field.name in ("estimate", "relu_mean_width", "relu_mean_width_error")
            assert np.allclose(
                first, second, rtol=1e-4 if by_ascent else 1e-9, atol=0, equal_nan=True
            )
        else:
            assert first == second


def test_the_least_memory_gives_the_same_numbers(wide: tuple[Path, Path]) -> None:
    (one, passes), (other, more_passes) = (
        inspected(*wide, memory) for memory in (DEFAULT_MEMORY, LEAST_MEMORY)
    )
    assert passes == 1 < more_passes
    assert len(one.rows) == len(BRANCHES)
    assert [row.block.key for row in one.rows] == [row.block.key for row in other.rows]
    for first, second in zip(one.rows, other.rows, strict=True):
        assert first.spectrum.in_data_metric
        assert_equal(first.spectrum, second.spectrum)
        assert first.savings[0].rank == second.savings[0].rank


def test_the_number_of_cores_gives_the_same_numbers(
    wide: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    found = []
    for cores in (1, 3):
        monkeypatch.setattr("onnx_relusv.work.executors.available_cores", lambda cores=cores: cores)
        found.append(inspected(*wide, DEFAULT_MEMORY)[0])
    for first, second in zip(found[0].rows, found[1].rows, strict=True):
        assert_equal(first.spectrum, second.spectrum)


def test_a_block_that_takes_more_is_measured_by_a_factored_covariance(tmp_path: Path) -> None:
    # The second moments of 2,900 numbers, and the products added to them, exceed the least memory.
    model, samples = saved(tmp_path, 2900)
    (factored, passes), (dense, one) = (
        inspected(model, samples, memory) for memory in (LEAST_MEMORY, DEFAULT_MEMORY)
    )
    assert passes >= 1 == one
    for first, second in zip(factored.rows, dense.rows, strict=True):
        assert first.spectrum.in_data_metric
        # So few samples are held whole; the sums are float64, and sigma a root of an eigenvalue.
        assert np.allclose(first.spectrum.sigma, second.spectrum.sigma, rtol=1e-6)
    plain = inspect(model, measuring=MeasureOptions(provider="cpu"))
    for first, second in zip(factored.rows, plain.rows, strict=True):
        assert not np.allclose(first.spectrum.sigma, second.spectrum.sigma, rtol=1e-2)


def test_the_command_has_it_too(wide: tuple[Path, Path], tmp_path: Path) -> None:
    model, samples = wide
    written = []
    for memory in (DEFAULT_MEMORY, LEAST_MEMORY):
        path = tmp_path / f"{memory}.json"
        arguments = ["inspect", model, "--samples", samples, "--provider", "cpu", "--json", path]
        result = CliRunner().invoke(cli, [*map(str, arguments), "--memory", str(memory)])
        assert result.exit_code == 0, result.output
        written.append(json.loads(path.read_text(encoding="utf-8")))
    first, second = ([block["spectrum"]["sigma"] for block in data["blocks"]] for data in written)
    assert np.allclose(first, second, rtol=1e-6)


def test_too_little_is_refused() -> None:
    with pytest.raises(
        UsageError, match=f"--memory {LEAST_MEMORY - 1}: use a number from {LEAST_MEMORY}"
    ):
        MeasureOptions(memory=LEAST_MEMORY - 1)
    result = CliRunner().invoke(cli, ["inspect", "model.onnx", "--memory", str(LEAST_MEMORY - 1)])
    assert result.exit_code == 2
    assert str(LEAST_MEMORY) in result.output


def test_temporary_files_are_gone_even_after_an_error(
    wide: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    opened = open_model(*wide, MeasureOptions(provider="cpu", memory=LEAST_MEMORY))

    def fail() -> None:
        with block_moments(*opened, Silent()) as moments:
            assert all(moments[key] is not None for key in moments)
            raise RuntimeError("on the way")

    with pytest.raises(RuntimeError, match="on the way"):
        fail()
    assert list(tmp_path.iterdir()) == []
    with block_moments(*opened, Silent()) as moments:
        assert len(moments) == len(BRANCHES)
    assert list(tmp_path.iterdir()) == []
