"""Runs jobs in threads: as many as there are cores for, and no more than there is memory for.

How long work shows its progress; silent by default.
"""

import os
import queue
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from math import ceil
from pathlib import Path
from time import monotonic
from typing import Generic, NoReturn, Protocol, TypeVar

from threadpoolctl import ThreadpoolController

Item = TypeVar("Item")
Result = TypeVar("Result")

# Of the whole machine or container: microseconds in a period, or that there is no limit.
_QUOTAS = (
    ("/sys/fs/cgroup/cpu.max",),
    ("/sys/fs/cgroup/cpu/cpu.cfs_quota_us", "/sys/fs/cgroup/cpu/cpu.cfs_period_us"),
)
# Seconds that jobs under way have to end after an error; a user is not kept waiting longer.
_PATIENCE = 3.0
# Seconds after which an interrupt is heard at the latest.
_HEARING = 0.5


@dataclass(frozen=True)
class Load:
    """What a job takes, estimated.

    Attributes:
        work: In any unit; only ratios count.
        memory: Bytes at its peak.
    """

    work: float
    memory: int


def available_cores() -> int:
    """Cores that this process may use: its affinity, and the quota of its container."""
    if hasattr(os, "sched_getaffinity"):
        cores = len(os.sched_getaffinity(0))
    else:
        cores = os.cpu_count() or 1
    for files in _QUOTAS:
        quota = _quota(files)
        if quota is not None:
            cores = min(cores, max(1, round(quota)))
    return cores


def _quota(files: tuple[str, ...]) -> float | None:
    try:
        quota, period = " ".join(Path(file).read_text(encoding="ascii") for file in files).split()
        cores = int(quota) / int(period)
    except (OSError, ValueError):  # not there, or the word max
        return None
    return cores if cores > 0 else None


def in_parallel(
    items: Sequence[Item],
    do: Callable[[Item, int], Result],
    load: Callable[[Item], Load],
    *,
    memory: int,
    workers: int,
    cores: int,
    advance: Callable[[int], None],
    known: Mapping[int, Result] | None = None,
) -> list[Result]:
    """Does something with every item, several at a time, those with the most work first.

    BLAS is limited meanwhile, so that all threads together are as many as the cores. A result
    may depend on how many threads its job has, since BLAS then sums in another order, but not on
    what runs beside it. The first error or interrupt ends it: nothing more is begun, and what is
    under way is left to itself if it does not end within seconds.

    Args:
        items: The items.
        do: Told an item and the number of threads that it may use.
        load: What doing it takes.
        memory: Bytes for what is under way. An item that takes more is done while no other is.
        workers: How many items may be under way at a time.
        cores: How many threads they may have together.
        advance: Called after every item, in the caller's thread.
        known: Results that there are already, by the items' places; their items are not done, but
            the others get as many threads as if they were.

    Returns:
        The results in the order of the items.
    """
    loads = [load(item) for item in items]
    order = sorted(range(len(items)), key=lambda number: -loads[number].work)
    alone = [number for number in order if loads[number].memory > memory]
    together = [number for number in order if loads[number].memory <= memory]
    results: dict[int, Result] = dict(known or {})

    def done(number: int, result: Result) -> None:
        results[number] = result
        advance(1)

    def run(numbers: Sequence[int], most: int) -> None:
        chosen = _workers([loads[number] for number in numbers], memory, most)
        threads = max(1, cores // chosen)
        numbers = [number for number in numbers if number not in results]
        with _blas_limited(threads) as limit:
            # One job too has a thread of its own: signals are heard while it is in LAPACK.
            crew = _Crew(lambda number: do(items[number], threads), chosen, limit, done)
            crew.run({number: loads[number].memory for number in numbers}, memory)

    run(alone, 1)
    run(together, min(workers, cores))
    return [results[number] for number in range(len(items))]


def _workers(loads: Sequence[Load], memory: int, most: int) -> int:
    """How many jobs to run at a time.

    No more than find work while the largest job is done: several threads speed a job of small
    matrices up by much less than several jobs do. And no more than there is room for.
    """
    total = sum(load.work for load in loads)
    if not total:
        return max(1, min(most, len(loads)))
    largest = max(load.work for load in loads)
    # What a job holds, as one finds them at work at any time.
    typical = sum(load.work * load.memory for load in loads) / total
    return max(1, int(min(most, len(loads), ceil(total / largest), memory / max(typical, 1))))


@contextmanager
def _blas_limited(threads: int) -> Iterator[Callable[[], object]]:
    """Limits BLAS; yields what every new thread has to call, as OpenMP's limits are a thread's."""
    controller = ThreadpoolController()
    with controller.limit(limits=threads, user_api="blas"):
        yield lambda: controller.limit(limits=threads, user_api="blas")


class _Crew(Generic[Result]):
    """Threads that do jobs, which are known by their numbers.

    Args:
        job: Does one.
        workers: How many threads.
        begin: Called in every thread before its first job.
        done: Told a number and its result, in the thread that calls `run`.
    """

    def __init__(
        self,
        job: Callable[[int], Result],
        workers: int,
        begin: Callable[[], object],
        done: Callable[[int, Result], None],
    ) -> None:
        self._job = job
        self._workers = workers
        self._begin = begin
        self._done = done
        self._ended = False
        self._numbers: queue.SimpleQueue[int | None] = queue.SimpleQueue()
        # Called in the thread of `run`: reports a result or raises what the job has raised.
        self._reports: queue.SimpleQueue[tuple[int, Callable[[], Result]]] = queue.SimpleQueue()

    def run(self, sizes: Mapping[int, int], memory: int) -> None:
        """Runs jobs, as far as possible in the order of `sizes`, the bytes that each one holds."""
        # Daemons do not keep the program from ending, however long their job takes.
        threads = [threading.Thread(target=self._work, daemon=True) for _ in range(self._workers)]
        for thread in threads:
            thread.start()
        try:
            self._distribute(sizes, memory)
        finally:
            self._ended = True
            for _ in threads:
                self._numbers.put(None)
            deadline = monotonic() + _PATIENCE
            for thread in threads:
                thread.join(max(0.0, deadline - monotonic()))

    def _distribute(self, sizes: Mapping[int, int], memory: int) -> None:
        waiting, under_way = list(sizes), set[int]()
        while waiting or under_way:
            for number in list(waiting):
                held = sum(sizes[other] for other in under_way)
                if len(under_way) == self._workers:
                    break
                if not under_way or held + sizes[number] <= memory:
                    waiting.remove(number)
                    under_way.add(number)
                    self._numbers.put(number)
            number, result = self._next_report()
            under_way.remove(number)
            self._done(number, result())

    def _next_report(self) -> tuple[int, Callable[[], Result]]:
        while True:
            # A signal that comes a moment before the wait does not end it.
            with suppress(queue.Empty):
                return self._reports.get(timeout=_HEARING)

    def _work(self) -> None:
        begun = False
        while (number := self._numbers.get()) is not None and not self._ended:
            try:
                if not begun:
                    self._begin()
                    begun = True
                result = self._job(number)
            except BaseException as error:
                self._reports.put((number, partial(_raise, error)))
            else:
                self._reports.put((number, partial(_given, result)))


def _given(result: Result) -> Result:
    return result


def _raise(error: BaseException) -> NoReturn:
    raise error


Advance = Callable[[int], None]


class Progress(Protocol):
    """Shows the stages of a run."""

    def stage(self, name: str, total: int) -> AbstractContextManager[Advance]:
        """Begins a stage of `total` steps; what it yields is told how many are done.

        What an earlier run has done already is told at once, before anything else.
        """
        ...


def unseen(steps: int) -> None:
    """An `Advance` that shows nothing."""


class Silent:
    """Shows nothing."""

    @contextmanager
    def stage(self, name: str, total: int) -> Iterator[Advance]:
        """A stage that shows nothing."""
        yield unseen
