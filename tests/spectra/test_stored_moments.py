"""Moments that come back from disk as they were, and files that are gone afterwards."""

import gc
import mmap
import os
import subprocess
import sys
import tempfile
import weakref
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from examples import block, conv, gemm, moments

from onnx_relusv.core.blocks import FactoredCovariance, Moments
from onnx_relusv.core.errors import UsageError
from onnx_relusv.spectra.moments import MomentsKey, StoredMoments, moments_key, moments_on_disk
from onnx_relusv.work.cache import Cache
from onnx_relusv.work.disk_arrays import ArrayFile

# A page is 4096 bytes at least: less than one, more than one, and several groups.
GEOMETRIES = [gemm(3, 2), gemm(70, 5), conv(4, 6, (3, 3), groups=2), gemm(1, 1), gemm(64, 8)]


def made() -> dict[MomentsKey, Moments]:
    rng = np.random.default_rng(0)
    return {
        moments_key(block(geometry, (9, 9), source=f"x{number}")): moments(geometry, rng)
        for number, geometry in enumerate(GEOMETRIES)
    }


def assert_equal(one: Moments, other: Moments) -> None:
    for name in ("mean", "covariance", "shrinkage"):
        first, second = getattr(one, name), getattr(other, name)
        assert first.dtype == second.dtype == np.float64
        assert np.array_equal(first, second)
        assert not first.flags.writeable
    assert (one.rows, one.samples) == (other.rows, other.samples)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where temporary files are made."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def test_they_come_back_equal_in_any_order(folder: Path) -> None:
    wanted = made()
    with moments_on_disk() as stored:
        for key, value in wanted.items():
            stored.put(key, value)
        assert list(stored) == list(wanted)
        assert len(stored) == len(wanted)
        for key in [*reversed(wanted), *wanted]:
            assert_equal(stored[key], wanted[key])
    assert list(folder.iterdir()) == []


def test_a_view_of_other_memory_is_stored_as_what_it_shows() -> None:
    geometry = gemm(40, 2)
    whole = moments(geometry, np.random.default_rng(0))
    spread = np.zeros((1, 80, 80))
    spread[:, ::2, ::2] = whole.covariance
    shown = Moments(
        mean=whole.mean,
        covariance=spread[:, ::2, ::2],
        rows=whole.rows,
        samples=whole.samples,
        shrinkage=whole.shrinkage,
    )
    key = moments_key(block(geometry))
    with moments_on_disk() as stored:
        stored.put(key, shown)
        assert_equal(stored[key], whole)


@pytest.mark.parametrize("piece", [1, 999, 4096])
def test_files_are_written_in_pieces(piece: int) -> None:
    file, values = ArrayFile(piece), np.arange(600.0).reshape(10, 60)
    places = [file.put(values), file.put(values.T)]
    np.testing.assert_array_equal(file.mapped(places[0]), values)
    np.testing.assert_array_equal(file.mapped(places[1]), values.T)


def test_what_was_never_stored_is_no_key() -> None:
    (first, value), (second, _), *_ = made().items()
    with moments_on_disk() as stored:
        stored.put(first, value)
        assert first in stored
        assert second not in stored
        assert stored.get(second) is None
        with pytest.raises(KeyError):
            stored[second]


def test_covariances_are_on_disk_and_not_in_memory() -> None:
    key, value = next(iter(made().items()))
    covariance = weakref.ref(value.covariance)
    with moments_on_disk() as stored:
        stored.put(key, value)
        del value
        gc.collect()
        assert covariance() is None
        found = stored[key].covariance
        while isinstance(found, np.ndarray):
            found = found.base
        assert isinstance(found, memoryview | mmap.mmap)


def test_what_was_looked_up_outlives_the_file() -> None:
    wanted = made()
    with moments_on_disk() as stored:
        for key, value in wanted.items():
            stored.put(key, value)
        found = dict(stored)
    for key, value in wanted.items():
        assert_equal(found[key], value)


def test_nothing_is_left_after_an_error(folder: Path) -> None:
    key, value = next(iter(made().items()))

    def fail() -> None:
        with moments_on_disk() as stored:
            stored.put(key, value)
            raise RuntimeError("on the way")

    with pytest.raises(RuntimeError, match="on the way"):
        fail()
    assert list(folder.iterdir()) == []


CRASHING = """
import os
from onnx_relusv.spectra.moments import moments_on_disk

with moments_on_disk():
    os._exit(3)
"""


def test_nothing_is_left_after_a_crash(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", CRASHING], env={**os.environ, "TMPDIR": str(tmp_path)}, check=False
    )
    assert done.returncode == 3
    # Whatever else libraries leave there.
    assert list(tmp_path.glob("onnx-relusv*")) == []


def test_no_folder_for_temporary_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "missing"))
    with (
        pytest.raises(UsageError, match=r"No such file or directory.*Let TMPDIR name a folder"),
        moments_on_disk(),
    ):
        pass


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a Linux device that is always full")
def test_no_room_on_the_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    key, value = next(iter(made().items()))
    full = partial(open, "/dev/full", "r+b", buffering=0)
    monkeypatch.setattr("onnx_relusv.work.disk_arrays.nameless_file", full)
    with moments_on_disk() as stored:
        with pytest.raises(UsageError, match=r"No space left.*Make room there, or let TMPDIR"):
            stored.put(key, value)
        # Nothing half-written is found.
        assert len(stored) == 0


def factored(columns: int) -> Moments:
    rng = np.random.default_rng(0)
    return Moments(
        mean=rng.standard_normal((2, columns)),
        covariance=tuple(
            FactoredCovariance(rng.standard_normal((terms, columns)), np.ones(columns))
            for terms in (0, 3)
        ),
        rows=20,
        samples=10,
        shrinkage=np.array([0.0, 1.0]),
        source="synthetic",
    )


def test_factored_covariances_and_sources_come_back(tmp_path: Path) -> None:
    key = moments_key(block(conv(8, 6, (3, 3), groups=2), (9, 9)))
    wanted = factored(36)
    stores = [StoredMoments(Cache(tmp_path), {"seed": 3})]
    with moments_on_disk() as stored:
        for store in (stored, *stores):
            store.put(key, wanted)
            found = store[key]
            assert found.source == "synthetic"
            assert isinstance(found.covariance, tuple)
            assert isinstance(wanted.covariance, tuple)
            for one, other in zip(found.covariance, wanted.covariance, strict=True):
                assert np.array_equal(one.factor, other.factor)
                assert np.array_equal(one.diagonal, other.diagonal)
    assert list(StoredMoments(Cache(tmp_path), {"seed": 3}, [key])) == [key]
    assert list(StoredMoments(Cache(tmp_path), {"seed": 4}, [key])) == []


@pytest.mark.parametrize(
    "changes",
    [
        {"mean": np.full((2, 36), np.nan)},
        {"mean": np.zeros((2, 35))},
        {"covariance": -np.stack([np.eye(36)] * 2)},
        {"covariance": np.eye(36)[None]},
        {"covariance": (FactoredCovariance(np.zeros((0, 36)), np.ones(36)),)},
        {"covariance": (FactoredCovariance(np.zeros((0, 36)), -np.ones(36)),) * 2},
        {"covariance": (FactoredCovariance(np.zeros((0, 35)), np.ones(35)),) * 2},
        {"rows": 0},
        {"samples": 0},
        {"shrinkage": np.array([0.5, 2.0])},
        {"shrinkage": np.array([0.5])},
    ],
)
def test_what_no_moments_can_be_is_not_known(changes: dict[str, Any], tmp_path: Path) -> None:
    key = moments_key(block(conv(8, 6, (3, 3), groups=2), (9, 9)))
    StoredMoments(Cache(tmp_path), {}).put(key, replace(factored(36), **changes))
    assert list(StoredMoments(Cache(tmp_path), {}, [key])) == []
