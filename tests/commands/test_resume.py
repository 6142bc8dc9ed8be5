"""Runs with a cache: the same files as without, whatever was interrupted, known or damaged."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from click.testing import CliRunner
from graphs import model_proto, normal, normalization
from opened import divided, open_model
from resumed import ARRAYS, KINDS, SIZE, TEXT, compressed, entries, saved

from onnx_relusv import ApplyOptions, MeasureOptions, PlanOptions, apply, inspect, plan
from onnx_relusv.cli.commands import cli
from onnx_relusv.core.errors import UsageError
from onnx_relusv.core.plans import Budgets
from onnx_relusv.measuring.case import run_identity
from onnx_relusv.work.cache import Arrays, Cache, Fields
from onnx_relusv.work.executors import Advance

STAGES = {
    "Moments of the blocks' inputs",
    "Spectra of the blocks",
    "Damage of the groups' cuts",
    "Damage of the blocks' forms",
}


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return saved(tmp_path_factory.mktemp("case"))


@pytest.fixture(scope="module")
def plainly(case: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The file that is written without a cache."""
    output = tmp_path_factory.mktemp("plainly") / "small.onnx"
    compressed(case, output, None)
    return output.read_bytes()


@pytest.fixture
def filled(whole: Path, tmp_path: Path) -> Path:
    """A cache of a run that came to its end, to do with what one likes."""
    return shutil.copytree(whole, tmp_path / "cache")


@pytest.fixture(scope="module")
def whole(case: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("whole")
    compressed(case, folder / "small.onnx", folder / "cache")
    return folder / "cache"


class Steps:
    """What every stage was told: at once, and in all."""

    def __init__(self) -> None:
        self.totals: dict[str, int] = {}
        self.told: dict[str, list[int]] = {}

    @contextmanager
    def stage(self, name: str, total: int) -> Iterator[Advance]:
        self.totals[name], self.told[name] = total, []
        yield self.told[name].append
        assert sum(self.told[name]) == total


def test_a_cache_changes_nothing(case: tuple[Path, Path], plainly: bytes, tmp_path: Path) -> None:
    output, cache = tmp_path / "small.onnx", tmp_path / "cache"
    first, second = Steps(), Steps()
    compressed(case, output, cache, progress=first)
    assert output.read_bytes() == plainly
    assert {path.name.split("-")[0] for path in cache.iterdir()} == KINDS
    written = {path: path.stat().st_mtime_ns for path in cache.iterdir()}
    compressed(case, output, cache, progress=second)
    assert output.read_bytes() == plainly
    assert {path: path.stat().st_mtime_ns for path in cache.iterdir()} == written
    # Nothing was done again, and all of it counts at once.
    assert all(second.told[name] == [second.totals[name]] for name in STAGES)
    assert all(first.told[name][0] == 0 for name in STAGES)
    assert "Fit" not in second.totals


def test_a_run_that_is_interrupted_after_every_entry(
    case: tuple[Path, Path], plainly: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output, cache = tmp_path / "small.onnx", tmp_path / "cache"
    put = Cache.put
    # One thread, so that no other block is finished meanwhile.
    monkeypatch.setattr("onnx_relusv.work.executors.available_cores", lambda: 1)

    def put_and_interrupt(self: Cache, kind: str, fields: Fields, arrays: Arrays) -> None:
        put(self, kind, fields, arrays)
        raise KeyboardInterrupt

    monkeypatch.setattr(Cache, "put", put_and_interrupt)
    known, interrupts = 0, 0
    while True:
        try:
            compressed(case, output, cache)
        except KeyboardInterrupt:
            interrupts += 1
            # Every run adds one entry, and begins none anew.
            assert len(entries(cache)) == known + 1
            assert not output.exists()
            known += 1
        else:
            break
    assert interrupts == len(entries(cache)) > 10
    assert output.read_bytes() == plainly


@pytest.mark.skipif(os.name != "posix", reason="kills another process")
def test_a_process_that_is_killed(case: tuple[Path, Path], plainly: bytes, tmp_path: Path) -> None:
    output, cache = tmp_path / "small.onnx", tmp_path / "cache"
    model, samples = case
    command = ["compress", model, "--samples", samples, "--output", output, "--size", SIZE]
    command += ["--provider", "cpu", "--memory", 512, "--cache", cache]
    arguments = [sys.executable, "-m", "onnx_relusv", *map(str, command)]
    temporary = {**os.environ, "TMPDIR": str(tmp_path)}
    process = subprocess.Popen(arguments, env=temporary)
    while process.poll() is None and not entries(cache, "damage"):
        time.sleep(0.001)
    process.kill()
    assert process.wait() == -signal.SIGKILL
    assert not output.exists()
    kept = {path: path.stat().st_mtime_ns for path in entries(cache)}
    subprocess.run(arguments, env=temporary, check=True, capture_output=True)
    assert output.read_bytes() == plainly
    assert {path: path.stat().st_mtime_ns for path in kept} == kept


def forge(path: Path, change: Callable[[np.ndarray], np.ndarray]) -> None:
    """Changes the arrays of an entry, under a header and a checksum that are right for them."""
    header = json.loads(path.read_bytes().split(b"\n")[0])
    del header["arrays"]
    arrays = Cache(path.parent).get(header["kind"], header["key"])
    assert arrays is not None
    changed = {name: change(values) for name, values in arrays.items()}
    assert any(values.tobytes() != arrays[name].tobytes() for name, values in changed.items())
    Cache(path.parent).put(header["kind"], header["key"], changed)


def spoilt(values: np.ndarray) -> np.ndarray:
    """With a NaN in it, where it can have one, and otherwise negative, or other text."""
    if values.dtype.kind in "iu":
        return np.invert(values)
    return np.full_like(values, np.nan) if values.dtype.kind == "f" else values


def shorter(values: np.ndarray) -> np.ndarray:
    """With an entry less along its last axis, where it has one."""
    return values[..., :-1] if values.ndim else values[None]


@pytest.mark.parametrize("damage", ["half of it", "a flipped byte", "forged", "too short"])
def test_damaged_entries_are_made_again(
    damage: str, case: tuple[Path, Path], plainly: bytes, filled: Path, tmp_path: Path
) -> None:
    output = tmp_path / "small.onnx"
    whole = {path: path.read_bytes() for kind in KINDS for path in entries(filled, kind)[:1]}
    for path, content in whole.items():
        if damage in ("forged", "too short"):
            forge(path, spoilt if damage == "forged" else shorter)
            continue
        flipped = content[:-40] + bytes([content[-40] ^ 1]) + content[-39:]
        path.write_bytes(flipped if damage == "a flipped byte" else content[: len(content) // 2])
    compressed(case, output, filled)
    assert output.read_bytes() == plainly
    assert {path: path.read_bytes() for path in whole} == whole


def test_what_decides_a_result_decides_under_what_it_is_kept(
    case: tuple[Path, Path], tmp_path: Path
) -> None:
    model, samples = case
    another, others = tmp_path / "another.onnx", tmp_path / "others.npz"
    onnx.save(model_proto(TEXT, ARRAYS | normalization(24) | {"u": normal(48, 10)}), another)
    np.savez(others, x=normal(60, 3, 8, 8, seed=1))

    def identity(
        model: Path = model, samples: Path | None = samples, **settings: Any
    ) -> dict[str, object]:
        options = MeasureOptions(provider="cpu", **settings)
        return dict(run_identity(*open_model(model, samples, options)))

    opened = open_model(model, samples, MeasureOptions(provider="cpu"))
    different = [
        identity(),
        identity(seed=1),
        identity(memory=513),
        identity(another),
        identity(samples=others),
        identity(samples=None),
        dict(run_identity(*divided(opened))),
        dict(run_identity(*divided(opened, certifying=True))),
    ]
    assert all(one != other for one, other in combinations(different, 2))
    # Where entries lie, and a copy of the same model, are no differences.
    copy = tmp_path / "copy.onnx"
    copy.write_bytes(model.read_bytes())
    assert identity(copy, cache=tmp_path / "cache") == different[0]


def test_another_seed_finds_nothing(case: tuple[Path, Path], filled: Path, tmp_path: Path) -> None:
    before, seen = set(entries(filled)), Steps()
    compressed(case, tmp_path / "small.onnx", filled, seed=1, progress=seen)
    assert all(seen.told[name][0] == 0 for name in STAGES)
    assert {path.name.split("-")[0] for path in set(entries(filled)) - before} == KINDS


def test_another_budget_fits_anew_and_measures_nothing(
    case: tuple[Path, Path], filled: Path, tmp_path: Path
) -> None:
    seen = Steps()
    compressed(case, tmp_path / "small.onnx", filled, size=0.4, progress=seen)
    assert all(seen.told[name] == [seen.totals[name]] for name in STAGES)
    assert seen.totals["Fit"] > seen.told["Fit"][0] == 0


def test_plan_apply_and_compress_share_a_cache(
    case: tuple[Path, Path], plainly: bytes, tmp_path: Path
) -> None:
    model, samples = case
    cache, output = tmp_path / "cache", tmp_path / "small.onnx"
    measuring = MeasureOptions(provider="cpu", memory=512, cache=cache)
    planning = PlanOptions(budgets=Budgets(size=SIZE))
    decided = plan(model, samples=samples, planning=planning, measuring=measuring)
    seen = Steps()
    apply(
        model,
        decided,
        output,
        samples=samples,
        measuring=ApplyOptions(provider="cpu", memory=512, cache=cache),
        progress=seen,
    )
    assert seen.told["Spectra of the blocks"] == [seen.totals["Spectra of the blocks"]]
    assert output.read_bytes() == plainly
    # Nothing is split off for an inspection, which measures on all samples.
    before = len(entries(cache, "moments"))
    found = inspect(model, samples=samples, measuring=measuring)
    assert len(entries(cache, "moments")) == 2 * before
    again = inspect(model, samples=samples, measuring=measuring)
    for one, other in zip(found.rows, again.rows, strict=True):
        assert one.savings[0].rank == other.savings[0].rank
        assert one.parameters == other.parameters
        np.testing.assert_array_equal(one.spectrum.estimate, other.spectrum.estimate)


def test_without_samples(case: tuple[Path, Path], tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    measuring = MeasureOptions(provider="cpu", cache=cache)
    one, two = (inspect(case[0], measuring=measuring) for _ in range(2))
    assert {path.name.split("-")[0] for path in cache.iterdir()} == {"measures"}
    for first, second in zip(one.rows, two.rows, strict=True):
        np.testing.assert_array_equal(first.spectrum.sigma, second.spectrum.sigma)


def test_moments_that_vanish_while_they_are_in_use(
    case: tuple[Path, Path], filled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for kind in KINDS - {"moments"}:
        for path in entries(filled, kind):
            path.unlink()
    get = Cache.get

    def removing(self: Cache, kind: str, fields: Fields) -> Arrays | None:
        for path in entries(filled, "moments"):
            path.unlink()
        return get(self, kind, fields)

    monkeypatch.setattr(Cache, "get", removing)
    with pytest.raises(UsageError, match=r"removed or damaged while.*Run the command again"):
        compressed(case, tmp_path / "small.onnx", filled)


@pytest.mark.parametrize("command", ["inspect", "plan", "compress"])
def test_a_cache_that_cannot_be_made_is_refused_before_any_work(
    command: str, case: tuple[Path, Path], tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    arguments = [command, case[0], "--cache", tmp_path / "file"]
    if command != "inspect":
        arguments += ["--output", tmp_path / "out", "--size", 0.5]
    result = CliRunner().invoke(cli, [str(argument) for argument in arguments])
    assert result.exit_code == 2
    assert "--cache" in result.output
    assert not (tmp_path / "out").exists()
