import os
import subprocess
import sys
import time
from pathlib import Path
from threading import Event, Thread

import onnxruntime
import pytest

from onnx_relusv.runtime.session import Session, default_threads

AFFINITY = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set[int]()


def test_threads_are_counted_as_onnxruntime_starts_them(monkeypatch: pytest.MonkeyPatch) -> None:
    if not Path("/proc/self/task").is_dir():
        pytest.skip("this operating system does not list threads")
    original = Session.__init__

    def with_three(self: Session, *arguments: object) -> None:
        original(self, *arguments, threads=3)  # type: ignore[arg-type]

    default_threads.cache_clear()
    with monkeypatch.context() as patched:
        patched.setattr(Session, "__init__", with_three)
        assert default_threads() == 3
    default_threads.cache_clear()
    counted = default_threads()
    assert counted is not None
    assert 1 <= counted <= 1024
    assert onnxruntime.SessionOptions().intra_op_num_threads == 0


def test_a_thread_that_ends_meanwhile_is_not_missed(monkeypatch: pytest.MonkeyPatch) -> None:
    if not Path("/proc/self/task").is_dir():
        pytest.skip("this operating system does not list threads")
    original, ending = Session.__init__, Event()
    other = Thread(target=ending.wait)
    tasks = len(list(Path("/proc/self/task").iterdir()))
    other.start()

    def with_three(self: Session, *arguments: object) -> None:
        ending.set()
        other.join()
        for _ in range(2000):  # it is listed a little longer than it can be joined
            if len(list(Path("/proc/self/task").iterdir())) <= tasks:
                break
            time.sleep(0.001)
        original(self, *arguments, threads=3)  # type: ignore[arg-type]

    default_threads.cache_clear()
    with monkeypatch.context() as patched:
        patched.setattr(Session, "__init__", with_three)
        assert default_threads() == 3
    default_threads.cache_clear()


def test_where_they_are_not_listed_there_is_no_number(tmp_path: Path) -> None:
    assert default_threads(tmp_path / "missing") is None


@pytest.mark.skipif(
    not AFFINITY or (os.cpu_count() or 1) < 2, reason="there is one core, or none can be chosen"
)
def test_a_process_that_is_held_to_one_core_has_one_thread() -> None:
    code = (
        f"import os; os.sched_setaffinity(0, {{{min(AFFINITY)}}}); "
        "from onnx_relusv.runtime.session import default_threads; print(default_threads())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "1"
