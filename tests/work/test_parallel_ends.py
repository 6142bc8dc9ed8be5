"""How jobs in threads end early: errors of jobs and of the caller, and interrupts."""

import signal
import subprocess
import sys
import threading
import time

import pytest
from jobs import hear_sigint, run


@pytest.mark.parametrize("workers", [1, 3])
@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
def test_the_first_error_is_raised_and_nothing_more_begins(
    error: type[BaseException], workers: int
) -> None:
    begun: list[int] = []
    before = threading.active_count()

    def do(item: int, threads: int) -> None:
        begun.append(item)
        if item == 2:
            raise error("of item 2")
        time.sleep(0.01)

    with pytest.raises(error, match="of item 2"):
        run([(1.0, 1)] * 40, do, workers=workers, cores=workers)
    assert len(begun) < 10
    # Threads have ended, and BLAS is free again.
    assert threading.active_count() == before


def test_an_error_of_the_caller_ends_it_too() -> None:
    begun: list[int] = []

    def do(item: int, threads: int) -> int:
        begun.append(item)
        return item

    def full(steps: int) -> None:
        raise OSError("no more")

    with pytest.raises(OSError, match="no more"):
        run([(1.0, 1)] * 40, do, workers=2, cores=2, advance=full)
    assert len(begun) < 10


def test_what_does_not_end_is_not_waited_for() -> None:
    go = threading.Event()

    def do(item: int, threads: int) -> None:
        if item:
            go.wait(60)
        else:
            time.sleep(0.02)
            raise ValueError("at once")

    try:
        with pytest.raises(ValueError, match="at once"):
            run([(1.0, 1)] * 3, do, workers=3, cores=3, patience=0.05)
        # Both others were still at work.
        assert not go.is_set()
    finally:
        go.set()


INTERRUPTED = """
import os, sys, time
from onnx_relusv.work.cache import NO_CACHE
from onnx_relusv.work.executors import Threads
from onnx_relusv.work.executors import Task, run

def do(threads):
    os.write(1, b"begun\\n")
    time.sleep(600)

try:
    tasks = {item: Task(kind="items", key={}, result=int, function=do) for item in range(4)}
    run(tasks, Threads(memory=10, workers=2, cores=2, patience=0.1), NO_CACHE)
except KeyboardInterrupt:
    print("interrupted", flush=True)
    sys.exit(130)
"""


def test_control_c_is_heard_while_jobs_run() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", INTERRUPTED],
        stdout=subprocess.PIPE,
        text=True,
        preexec_fn=hear_sigint,
    ) as process:
        try:
            assert process.stdout is not None
            assert [process.stdout.readline() for _ in range(2)] == ["begun\n"] * 2
            process.send_signal(signal.SIGINT)
            # Jobs of ten minutes hold up neither the error nor the end of the program.
            output, _ = process.communicate(timeout=60)
        finally:
            process.kill()
    assert (output, process.returncode) == ("interrupted\n", 130)
