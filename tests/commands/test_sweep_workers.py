"""Sweeps whose points other processes make: the same bytes, whatever becomes of the workers."""

import os
import pickle
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import classified
import numpy as np
import onnx
import pytest
from command_line import run, words
from distributed import Client, LocalCluster

from onnx_relusv.commands import sweep_workers
from onnx_relusv.commands.sweep import sweep
from onnx_relusv.core.codec import to_arrays
from onnx_relusv.core.errors import InputError, UsageError, WorkersLostError
from onnx_relusv.core.options import MeasureOptions
from onnx_relusv.core.sweeps import Sweep, SweepOptions
from onnx_relusv.work import pools
from onnx_relusv.work.executors import Advance

# dask says with warnings that ports are taken, or that a computer has little memory left.
pytestmark = pytest.mark.filterwarnings("default:::distributed", "default:::dask")

ASKED = SweepOptions(sizes=(0.5, 0.35), methods=("damage", "blind"))


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the classifier and its samples."""
    folder = tmp_path_factory.mktemp("workers")
    classified.samples(folder, classified.classifier(folder))
    return folder


@pytest.fixture(scope="module")
def workers() -> Iterator[LocalCluster]:
    with LocalCluster(
        processes=True, n_workers=2, threads_per_worker=1, dashboard_address=None
    ) as found:
        yield found


@pytest.fixture(autouse=True)
def untimed(monkeypatch: pytest.MonkeyPatch) -> None:
    """In this process runs take no time, so that all that is left of a sweep can be compared."""
    monkeypatch.setattr(
        "onnx_relusv.checking.evaluate.interleaved_latency", lambda *_, **__: (2.0, 1.0)
    )


def swept(place: Path, report: Path, executor: Executor | None = None, **others: Any) -> Sweep:
    given: dict[str, Any] = {
        "samples": place / "s.npz",
        "sweeping": ASKED,
        "measuring": MeasureOptions(cache=report.with_name("cache")),
    }
    return sweep(
        place / "classifier.onnx", report=report, keep=True, executor=executor, **(given | others)
    )


@pytest.fixture(scope="module")
def here(place: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report of the same sweep, made in this process."""
    report = tmp_path_factory.mktemp("here") / "report"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            "onnx_relusv.checking.evaluate.interleaved_latency", lambda *_, **__: (2.0, 1.0)
        )
        swept(place, report)
    return report


def models(report: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted((report / "models").iterdir())}


def figures(report: Path) -> str:
    """A report's JSON without the paths of its folder and what it says of its own run."""
    text = (report / "report.json").read_text().replace(str(report), "report")
    return re.sub(r'  "provenance": \{.*?\n  \}', "", text, flags=re.DOTALL)


class Watched:
    """Progress that calls something when workers have made so many points."""

    def __init__(self, then: Callable[[], None], points: int) -> None:
        self.then, self.points, self.stages = then, points, list[str]()

    @contextmanager
    def stage(self, name: str, total: int) -> Iterator[Advance]:
        self.stages.append(name)
        done = 0

        def advance(steps: int) -> None:
            nonlocal done
            done += steps
            if name == "Points on workers" and done == self.points:
                self.then()

        yield advance
        assert done == total


class Refusing(Executor):
    """Takes no task."""

    def submit(self, *_: object, **__: object) -> Future[Any]:  # type: ignore[override]
        raise AssertionError("all of it was known")


@pytest.fixture
def measured(place: Path, here: Path, tmp_path: Path) -> Path:
    """A cache that has what sweeps measure, and neither fits nor points."""
    cache = tmp_path / "cache"
    shutil.copytree(
        here.with_name("cache"), cache, ignore=shutil.ignore_patterns("factors-*", ".*")
    )
    return cache


def test_a_cluster_makes_the_same_bytes_and_the_cache_has_them_then(
    place: Path, here: Path, measured: Path, workers: LocalCluster, tmp_path: Path
) -> None:
    report = tmp_path / "report"
    with pools.cluster(workers.scheduler_address) as executor:
        swept(place, report, executor)
    assert len(models(here)) == 4
    assert models(report) == models(here)
    assert figures(report) == figures(here)
    # Nothing in the cache is a pickle, and nothing is made again.
    for path in (tmp_path / "cache").iterdir():
        with pytest.raises(pickle.UnpicklingError):
            pickle.loads(path.read_bytes())
    swept(place, tmp_path / "again", Refusing())
    assert models(tmp_path / "again") == models(here)


def test_a_worker_that_is_killed_in_the_middle_changes_nothing(
    place: Path, here: Path, measured: Path, workers: LocalCluster, tmp_path: Path
) -> None:
    killed = []

    def kill() -> None:
        with Client(workers.scheduler_address, set_as_default=False) as client:
            busy = sorted(client.processing().items(), key=lambda pair: -len(pair[1]))
            pids = client.run(os.getpid, workers=[busy[0][0]])
        for pid in pids.values():
            os.kill(pid, signal.SIGKILL)
            killed.append(pid)

    progress = Watched(kill, 1)
    with pools.cluster(workers.scheduler_address) as executor:
        swept(place, tmp_path / "report", executor, progress=progress)
    assert len(killed) == 1
    assert "Points on workers" in progress.stages
    assert models(tmp_path / "report") == models(here)
    assert figures(tmp_path / "report") == figures(here)


@contextmanager
def lonely_scheduler(folder: Path) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """A scheduler without workers, in a process of its own, and its address."""
    line = [
        sys.executable,
        "-m",
        "distributed.cli.dask_scheduler",
        "--no-dashboard",
        "--no-jupyter",
    ]
    line += ["--host", "127.0.0.1", "--port", "0", "--scheduler-file", str(folder / "file.json")]
    process = subprocess.Popen(line, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    try:
        for said in process.stderr:
            if found := re.search(r"Scheduler at:\s+(tcp://\S+)", said):
                yield found[1], process
                break
        else:
            raise AssertionError("no scheduler has begun")
    finally:
        process.kill()
        process.wait()
        process.stderr.close()


def test_a_scheduler_that_is_gone_ends_the_sweep_and_the_cache_keeps_what_was_done(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    report = tmp_path / "report"
    with lonely_scheduler(tmp_path) as (address, process):

        class Waiting(pools.Pool):
            def __call__(self, *arguments: Any) -> None:
                process.kill()
                super().__call__(*arguments)

        monkeypatch.setattr(sweep_workers, "Pool", Waiting)
        result = run(
            "sweep", place / "classifier.onnx", "--samples", place / "s.npz", "--report", report,
            "--sizes", "0.5", "--methods", "blind", "--cache", tmp_path / "cache",
            "--cluster", address,
        )  # fmt: skip
    assert result.exit_code == 1
    assert "workers are gone" in words(result)
    assert "kept in --cache" in words(result)
    assert not report.exists()
    assert any(path.name.startswith("measures-") for path in (tmp_path / "cache").iterdir())


def test_processes_of_the_standard_library_do_it_too_and_a_dead_one_is_an_error(
    place: Path, here: Path, measured: Path, tmp_path: Path
) -> None:
    one, other = (replace(ASKED, sizes=(size,), methods=("blind",)) for size in (0.5, 0.35))
    with ProcessPoolExecutor(1, get_context("spawn")) as executor:
        swept(place, tmp_path / "report", executor, sweeping=one)
        (name,) = models(tmp_path / "report")
        assert models(tmp_path / "report")[name] == models(here)[name]

        def die() -> None:
            executor.submit(os._exit, 1)

        with pytest.raises(WorkersLostError, match="goes on") as caught:
            swept(place, tmp_path / "other", executor, sweeping=other, progress=Watched(die, 0))
    assert caught.value.exit_code == 1
    assert not (tmp_path / "other").exists()


def test_a_worker_that_finds_other_files_refuses(place: Path, tmp_path: Path) -> None:
    model = tmp_path / "classifier.onnx"
    model.write_bytes((place / "classifier.onnx").read_bytes())

    class Meddling(ThreadPoolExecutor):
        def submit(self, *arguments: Any, **options: Any) -> Future[Any]:
            classified.classifier(tmp_path, decay=0.7)
            return super().submit(*arguments, **options)

    with Meddling(1) as executor, pytest.raises(InputError, match=r"other things.*: model\."):
        sweep(
            model,
            samples=place / "s.npz",
            sweeping=replace(ASKED, sizes=(0.5,), methods=("blind",)),
            measuring=MeasureOptions(cache=tmp_path / "cache"),
            executor=executor,
        )


def test_what_workers_cannot_open_is_refused_before_anything(place: Path, tmp_path: Path) -> None:
    with np.load(place / "s.npz") as arrays:
        in_memory = dict(arrays)
    with ThreadPoolExecutor(1) as executor:
        with pytest.raises(UsageError, match="needs --cache"):
            swept(place, tmp_path / "report", executor, measuring=MeasureOptions())
        with pytest.raises(UsageError, match=r"samples: arrays in memory .* save them"):
            swept(place, tmp_path / "report", executor, samples=in_memory)
        with pytest.raises(UsageError, match="model: workers open it by its path"):
            sweep(
                onnx.load(place / "classifier.onnx"),
                samples=place / "s.npz",
                measuring=MeasureOptions(cache=tmp_path / "cache"),
                executor=executor,
            )
    assert not any(tmp_path.iterdir())


def test_an_address_where_no_scheduler_is_is_a_usage_error(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pools, "_ANSWER", 0.5)
    for address in ("tcp://127.0.0.1:9", "nowhere"):
        result = run(
            "sweep", place / "classifier.onnx", "--samples", place / "s.npz",
            "--report", tmp_path / "report", "--cache", tmp_path / "cache", "--cluster", address,
        )  # fmt: skip
        assert result.exit_code == 2, result.output
        assert f"--cluster {address}: no scheduler of dask answers there" in words(result)
    assert not any(tmp_path.iterdir())


def test_workers_plan_with_the_pack_of_the_process_that_asks(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = list[object]()

    class Listening(ThreadPoolExecutor):
        def submit(self, *arguments: Any, **options: Any) -> Future[Any]:
            asked.append(arguments[2][0].request.sweeping.pack)
            return super().submit(*arguments, **options)

    monkeypatch.setattr("onnx_relusv.planning.latency.pack.measured_pack", lambda _: 4)
    one = replace(ASKED, sizes=(0.5,), methods=("blind",))
    with Listening(1) as executor:
        swept(place, tmp_path / "report", executor, sweeping=one)
    assert asked == [4]


def test_a_found_point_is_either_made_or_missed() -> None:
    neither = sweep_workers.FoundPoint(made=None, missed=None, files=())
    assert neither.problem() is not None
    assert to_arrays(neither)
