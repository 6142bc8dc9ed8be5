"""Jobs in threads: order, limits that are really in force, memory, errors and interrupts."""

import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import scipy.linalg
import threadpoolctl
from hypothesis import given
from hypothesis import strategies as st

from onnx_relusv import parallel
from onnx_relusv.parallel import Load, available_cores, in_parallel


def loads(*pairs: tuple[float, int]) -> Callable[[int], Load]:
    """The loads of items that are their own places."""
    return lambda item: Load(*pairs[item])


def run(
    pairs: Sequence[tuple[float, int]],
    do: Callable[[int, int], object],
    *,
    memory: int = 100,
    workers: int = 4,
    cores: int = 4,
    seen: list[int] | None = None,
) -> list[object]:
    return in_parallel(
        range(len(pairs)),
        do,
        loads(*pairs),
        memory=memory,
        workers=workers,
        cores=cores,
        advance=(seen if seen is not None else []).append,
    )


def blas_threads() -> set[int]:
    """What BLAS may use; numpy and scipy each bring one."""
    assert scipy.linalg  # loaded
    found = threadpoolctl.threadpool_info()
    return {int(item["num_threads"]) for item in found if item["user_api"] == "blas"}


@given(
    pairs=st.lists(st.tuples(st.floats(0, 10), st.integers(0, 150)), max_size=12),
    workers=st.integers(1, 4),
)
def test_results_come_in_the_order_of_the_items(
    pairs: list[tuple[float, int]], workers: int
) -> None:
    seen: list[int] = []
    assert run(pairs, lambda item, threads: item**2, workers=workers, seen=seen) == [
        item**2 for item in range(len(pairs))
    ]
    assert seen == [1] * len(pairs)


def test_what_is_under_way_stays_within_memory_and_workers() -> None:
    lock, under_way, peaks = threading.Lock(), set[int](), []
    pairs = [(1.0, size) for size in (60, 30, 50, 20, 10, 40, 100, 140, 5, 5, 5, 5)]

    def do(item: int, threads: int) -> None:
        with lock:
            under_way.add(item)
            peaks.append((sum(pairs[other][1] for other in under_way), len(under_way)))
        time.sleep(0.01)
        with lock:
            under_way.remove(item)

    run(pairs, do, workers=3)
    # What is larger than the memory runs alone.
    assert {held for held, _ in peaks if held > 100} == {140}
    assert all(count == 1 for held, count in peaks if held > 100)
    assert max(count for _, count in peaks) == 3


def test_the_largest_begin_first() -> None:
    begun: list[int] = []
    works = [1.0, 9.0, 3.0, 9.5, 2.0, 8.0, 8.5, 7.0]

    def do(item: int, threads: int) -> None:
        begun.append(item)
        time.sleep(0.02)

    run([(work, 1) for work in works], do, workers=2, cores=2)
    by_work = sorted(range(len(works)), key=lambda item: -works[item])
    # Two begin at once, in any order.
    assert all(abs(by_work.index(item) - place) <= 1 for place, item in enumerate(begun))


@pytest.mark.parametrize(
    ("pairs", "cores", "wanted"),
    [
        ([(1, 1)] * 8, 4, (4, 1)),
        ([(1, 1)] * 3, 8, (3, 2)),
        # One job is most of the work, so it gets all threads.
        ([(10, 1), (1, 1), (1, 1)], 4, (1, 4)),
        ([(10, 1), (9, 1), (1, 1)], 4, (2, 2)),
        # There is room for two at a time.
        ([(1, 50)] * 8, 4, (2, 2)),
        # Larger than the memory: alone.
        ([(1, 500)] * 8, 4, (1, 4)),
        ([], 4, (0, 0)),
    ],
)
def test_few_large_jobs_get_more_threads_each(
    pairs: list[tuple[float, int]], cores: int, wanted: tuple[int, int]
) -> None:
    lock, under_way, most, given_threads = threading.Lock(), [0], [0], {0}

    def do(item: int, threads: int) -> None:
        with lock:
            under_way[0] += 1
            most[0] = max(most[0], under_way[0])
            given_threads.add(threads)
        time.sleep(0.01)
        with lock:
            under_way[0] -= 1

    run(pairs, do, workers=cores, cores=cores)
    assert (most[0], max(given_threads)) == wanted


@pytest.mark.parametrize("workers", [1, 2])
def test_blas_is_limited_inside_and_free_again_afterwards(workers: int) -> None:
    with threadpoolctl.threadpool_limits(3, user_api="blas"):
        before = blas_threads()
        found = run(
            [(1.0, 1)] * 4,
            lambda item, threads: (threads, blas_threads(), np.ones((8, 8)) @ np.ones((8, 8))),
            workers=workers,
            cores=2,
        )
        assert before == {3}
        assert blas_threads() == before
    # As many threads in all as there are cores.
    assert [(threads, inside) for threads, inside, _ in found] == [
        (2 // workers, {2 // workers})
    ] * 4


def test_results_do_not_depend_on_the_number_of_workers() -> None:
    # Where every job has one thread: with more, BLAS itself sums in another order.
    matrices = [np.random.default_rng(item).standard_normal((90, 70)) for item in range(6)]

    def do(item: int, threads: int) -> np.ndarray:
        assert threads == 1
        return np.linalg.eigh(matrices[item].T @ matrices[item])[1]

    one = run([(1.0, 1)] * 6, do, workers=1, cores=1)
    three = run([(1.0, 1)] * 6, do, workers=3, cores=3)
    for first, second in zip(one, three, strict=True):
        assert np.array_equal(first, second)


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

    def full(steps: int) -> None:
        raise OSError("no more")

    with pytest.raises(OSError, match="no more"):
        in_parallel(
            range(40),
            lambda item, threads: begun.append(item),
            lambda item: Load(1.0, 1),
            memory=100,
            workers=2,
            cores=2,
            advance=full,
        )
    assert len(begun) < 10


def test_nobody_waits_long_for_what_does_not_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parallel, "_PATIENCE", 0.05)
    go = threading.Event()

    def do(item: int, threads: int) -> None:
        if item:
            go.wait(60)
        else:
            time.sleep(0.02)
            raise ValueError("at once")

    try:
        with pytest.raises(ValueError, match="at once"):
            run([(1.0, 1)] * 3, do, workers=3, cores=3)
        # Both others were still at work.
        assert not go.is_set()
    finally:
        go.set()


INTERRUPTED = """
import sys, time
from onnx_relusv.parallel import Load, in_parallel

def do(item, threads):
    print("begun", flush=True)
    time.sleep(600)

try:
    in_parallel(range(4), do, lambda item: Load(1.0, 1), memory=10, workers=2, cores=2,
                advance=lambda steps: None)
except KeyboardInterrupt:
    print("interrupted", flush=True)
    sys.exit(130)
"""


def test_control_c_is_heard_while_jobs_run() -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", INTERRUPTED], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert [process.stdout.readline() for _ in range(2)] == ["begun\n"] * 2
    process.send_signal(signal.SIGINT)
    # Jobs of ten minutes hold up neither the error nor the end of the program.
    output, _ = process.communicate(timeout=60)
    assert (output, process.returncode) == ("interrupted\n", 130)


def test_cores_follow_affinity_and_quota(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parallel, "_QUOTAS", ())
    assert available_cores() >= 1
    if hasattr(parallel.os, "sched_getaffinity"):
        monkeypatch.setattr(parallel.os, "sched_getaffinity", lambda _: set(range(6)))
    else:
        monkeypatch.setattr(parallel.os, "cpu_count", lambda: 6)
    assert available_cores() == 6
    first, quota, period = (tmp_path / name for name in ("max", "quota", "period"))
    monkeypatch.setattr(parallel, "_QUOTAS", ((str(first),), (str(quota), str(period))))
    for text, cores in (
        ("max 100000\n", 6),
        ("250000 100000\n", 2),
        ("50000 100000\n", 1),
        ("900000 100000\n", 6),
        ("", 6),
    ):
        first.write_text(text, encoding="ascii")
        assert available_cores() == cores
    first.unlink()
    quota.write_text("300000\n", encoding="ascii")
    period.write_text("100000\n", encoding="ascii")
    assert available_cores() == 3
    quota.write_text("-1\n", encoding="ascii")
    assert available_cores() == 6
