"""Jobs in threads: their order, and limits of threads and memory that are really in force."""

import signal
import threading
from pathlib import Path

import numpy as np
import pytest
import scipy.linalg
import threadpoolctl
from hypothesis import given
from hypothesis import strategies as st
from jobs import run

from onnx_relusv.work import executors
from onnx_relusv.work.executors import available_cores

# Seconds after which something will never come.
PATIENCE = 20.0


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


def test_small_products_have_one_thread_and_large_ones_all() -> None:
    before = blas_threads()
    with executors.threads_for(10**6):
        assert blas_threads() == {1}
        with executors.threads_for(10**12):
            assert blas_threads() == {1}  # what is in force around it stays
    assert blas_threads() == before
    with executors.threads_for(10**12):
        assert blas_threads() == before


class UnderWay:
    """Counts jobs at work; each waits until so many have been, as they can be, at the same time."""

    def __init__(self, wanted: int) -> None:
        self._wanted = wanted
        self._lock = threading.Lock()
        self._reached = threading.Event()
        self._items: set[int] = set()
        self.peaks: list[frozenset[int]] = []

    def work(self, item: int) -> None:
        with self._lock:
            self._items.add(item)
            self.peaks.append(frozenset(self._items))
            if len(self._items) >= self._wanted:
                self._reached.set()
        # Not for a while, but until: on a busy machine threads are slow to begin.
        self._reached.wait(PATIENCE)
        with self._lock:
            self._items.remove(item)

    @property
    def most(self) -> int:
        return max(map(len, self.peaks), default=0)


def test_what_is_under_way_stays_within_memory_and_workers() -> None:
    sizes = (60, 30, 50, 20, 10, 40, 100, 140, 5, 5, 5, 5)
    alone, together = UnderWay(1), UnderWay(3)

    def do(item: int, threads: int) -> None:
        (alone if sizes[item] > 100 else together).work(item)

    run([(1.0, size) for size in sizes], do, workers=3)
    # What is larger than the memory runs before all others, by itself.
    assert alone.peaks == [frozenset({7})]
    assert together.most == 3
    assert all(sum(sizes[item] for item in peak) <= 100 for peak in together.peaks)


def test_the_largest_begin_first() -> None:
    works = [1.0, 9.0, 3.0, 9.5, 2.0, 8.0, 8.5, 7.0]
    by_work = sorted(range(len(works)), key=lambda item: -works[item])
    begun: list[int] = []
    news = threading.Condition()

    def do(item: int, threads: int) -> None:
        with news:
            begun.append(item)
            news.notify_all()
            # Two begin at once, in any order: the one before has to be there, too.
            before = by_work[: by_work.index(item)]
            news.wait_for(lambda: set(before) <= set(begun), PATIENCE)

    run([(work, 1) for work in works], do, workers=2, cores=2)
    assert all(abs(by_work.index(item) - place) <= 1 for place, item in enumerate(begun))


@pytest.mark.parametrize(
    ("pairs", "cores", "wanted"),
    [
        ([(1, 1)] * 8, 4, (4, 1)),
        ([(1, 1)] * 3, 8, (3, 2)),
        # One job is most of the work, and the others are done beside it.
        ([(10, 1), (1, 1), (1, 1)], 4, (2, 2)),
        ([(10, 1), (9, 1), (1, 1)], 6, (2, 3)),
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
    under_way, given_threads = UnderWay(wanted[0]), {0}

    def do(item: int, threads: int) -> None:
        given_threads.add(threads)
        under_way.work(item)

    run(pairs, do, workers=cores, cores=cores)
    assert (under_way.most, max(given_threads)) == wanted


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


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="a system without timers")
def test_a_signal_is_heard_while_a_single_job_is_in_lapack() -> None:
    matrix = np.random.default_rng(0).standard_normal((1500, 1500))
    ended, heard = threading.Event(), list[bool]()

    def interrupted(number: int, frame: object) -> None:
        heard.append(not ended.is_set())
        raise KeyboardInterrupt

    def do(item: int, threads: int) -> None:
        signal.setitimer(signal.ITIMER_REAL, 0.05)
        scipy.linalg.svdvals(matrix)  # a good part of a second, in which Python does nothing
        ended.set()

    before = signal.signal(signal.SIGALRM, interrupted)
    try:
        with pytest.raises(KeyboardInterrupt):
            run([(1.0, 1)], do, workers=1, cores=1)
    finally:
        signal.signal(signal.SIGALRM, before)
    assert heard == [True]
    # It was not the job that was interrupted.
    assert ended.wait(PATIENCE)


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


def test_cores_follow_affinity_and_quota(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert available_cores(()) >= 1
    if hasattr(executors.os, "sched_getaffinity"):
        monkeypatch.setattr(executors.os, "sched_getaffinity", lambda _: set(range(6)))
    else:
        monkeypatch.setattr(executors.os, "cpu_count", lambda: 6)
    assert available_cores(()) == 6
    first, quota, period = (tmp_path / name for name in ("max", "quota", "period"))
    quotas = ((str(first),), (str(quota), str(period)))
    for text, cores in (
        ("max 100000\n", 6),
        ("250000 100000\n", 2),
        ("50000 100000\n", 1),
        ("900000 100000\n", 6),
        ("", 6),
    ):
        first.write_text(text, encoding="ascii")
        assert available_cores(quotas) == cores
    first.unlink()
    quota.write_text("300000\n", encoding="ascii")
    period.write_text("100000\n", encoding="ascii")
    assert available_cores(quotas) == 3
    quota.write_text("-1\n", encoding="ascii")
    assert available_cores(quotas) == 6
