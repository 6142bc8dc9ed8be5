"""Temporary folders that are gone afterwards, and what killed runs leave."""

import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

import onnx_relusv
from onnx_relusv.core.errors import UsageError
from onnx_relusv.work import temporary_files
from onnx_relusv.work.temporary_files import file_in, folder_in, remove_leftovers, temporary_folder

pytestmark = pytest.mark.skipif(os.name != "posix", reason="nothing is swept without flock")

# Makes folders and files, says so, and waits to be killed; the signals are its own to hear.
WAITING = """
import sys, threading, time, types
from pathlib import Path
# Without all that the package itself imports, which takes seconds.
package = sys.modules["onnx_relusv"] = types.ModuleType("onnx_relusv")
package.__path__ = [sys.argv[2]]
from onnx_relusv.work.interrupts import termination_raised
from onnx_relusv.work.temporary_files import file_in, folder_in, temporary_folder
here = Path(sys.argv[1])
with termination_raised(), temporary_folder() as one, folder_in(here, hidden=True) as two:
    (one / "deep").mkdir()
    (one / "deep" / "x").write_bytes(bytes(1000))
    (two / "small.onnx").touch()
    begun = threading.Event()
    def keep_writing():
        with file_in(here) as (file, _):
            while True:
                file.write(b"x")
                begun.set()
                time.sleep(0.01)
    threading.Thread(target=keep_writing, daemon=True).start()
    begun.wait()
    print("made", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of temporary files."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def ended(folder: Path, number: int) -> None:
    """Runs what waits, in a process of its own, until it has made its files, and ends it."""
    process = subprocess.Popen(
        [sys.executable, "-c", WAITING, str(folder), str(Path(onnx_relusv.__file__).parent)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "TMPDIR": str(folder)},
    )
    assert process.stdout is not None
    assert process.stdout.readline() == b"made\n"
    process.send_signal(number)
    process.wait(timeout=60)
    process.stdout.close()


def content(folder: Path) -> set[Path]:
    """What is in a folder, but for a file by which onnxruntime knows its session again."""
    return {path for path in folder.iterdir() if path.name != ".ses"}


def test_a_folder_is_gone_afterwards(here: Path) -> None:
    def fail() -> None:
        with temporary_folder() as folder:
            assert folder.parent == here
            (folder / "x").mkdir()
            (folder / "x" / "y").touch()
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert content(here) == set()


def test_a_signal_that_is_heard_leaves_nothing(here: Path) -> None:
    for number in (signal.SIGTERM, signal.SIGHUP):
        ended(here, number)
        assert content(here) == set()


def test_what_a_kill_leaves_is_swept_by_the_next_and_nothing_else(here: Path) -> None:
    ended(here, signal.SIGKILL)
    left = {path.name for path in content(here)}
    assert len(left) == 3
    foreign = [here / name for name in ("onnx-relusv-abcdefgh", ".onnx-relusv-12345678", "keep")]
    for folder in foreign:
        folder.mkdir()
        (folder / "precious").touch()
    # One has a file of the lock's name that is not ours, one a link to a dead one.
    (foreign[0] / ".onnx-relusv.lock").write_text("mine")
    dead = next(here / name for name in left if not name.startswith("."))
    (foreign[1] / ".onnx-relusv.lock").symlink_to(dead / ".onnx-relusv.lock")
    (here / "onnx-relusv-00000000").symlink_to("keep")
    with temporary_folder() as living:
        remove_leftovers()
        expected = {*foreign, here / "onnx-relusv-00000000", living}
        files = {path for path in content(here) if path.suffix == ".tmp"}
        assert content(here) - files == expected
        assert all((folder / "precious").exists() for folder in foreign)
        temporary_files.remove_left_files(here)
        assert content(here) == expected


def test_a_folder_that_is_in_use_by_this_process_is_none_s_to_sweep(here: Path) -> None:
    with folder_in(here) as one, file_in(here) as (_, two):
        remove_leftovers(here)
        temporary_files.remove_left_files(here)
        assert sorted(here.iterdir()) == sorted([one, two])


def test_without_a_folder_for_them_it_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "missing"))
    with pytest.raises(UsageError, match="Let TMPDIR name a folder"), temporary_folder():
        raise AssertionError("not reached")
    remove_leftovers(tmp_path / "missing")


@pytest.mark.parametrize("step", range(1, 12))
def test_an_interrupt_at_any_moment_leaves_nothing(step: int, here: Path) -> None:
    """A signal behind every call of the system that making and removing takes."""
    calls = 0

    def trace(frame: object, event: str, argument: object) -> None:
        nonlocal calls
        names = ("mkdtemp", "open", "flock", "write", "scandir", "unlink", "rmdir", "mkdir")
        if event == "c_return" and getattr(argument, "__name__", "") in (*names, "close"):
            calls += 1
            if calls == step:
                signal.raise_signal(signal.SIGINT)

    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    interrupted = False
    try:
        sys.setprofile(trace)
        with temporary_folder() as folder:
            (folder / "x").touch()
    except KeyboardInterrupt:
        interrupted = True
    finally:
        sys.setprofile(None)
        signal.signal(signal.SIGINT, before)
    assert interrupted == (calls >= step)
    assert content(here) == set()
