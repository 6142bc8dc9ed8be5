"""What runs tasks: threads, as many as there are cores for, and no more than there is memory for.

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
from typing import Generic, NoReturn, Protocol

from threadpoolctl import ThreadpoolController

from onnx_relusv.work.tasks import Done, Key, Known, Load, Result, Tasks

Advance = Callable[[int], None]


def unseen(steps: int) -> None:
    """An `Advance` that shows nothing."""


# Of the whole machine or container: microseconds in a period, or that there is no limit.
_QUOTAS = (
    ("/sys/fs/cgroup/cpu.max",),
    ("/sys/fs/cgroup/cpu/cpu.cfs_quota_us", "/sys/fs/cgroup/cpu/cpu.cfs_period_us"),
)
# Seconds that jobs under way have to end after an error; a user is not kept waiting longer.
_PATIENCE = 3.0
# Seconds after which an interrupt is heard at the latest.
_HEARING = 0.5


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


@dataclass(frozen=True)
class Threads:
    """An executor that runs tasks in threads, several at a time, those with the most work first.

    BLAS is limited meanwhile, so that all threads together are as many as the cores. A result
    may depend on how many threads its task has, since BLAS then sums in another order, but not on
    what runs beside it. The first error or interrupt ends it: nothing more is begun, and what is
    under way is left to itself if it does not end within seconds.

    Attributes:
        memory: Bytes for what is under way. A task that takes more runs while no other does.
        workers: How many tasks may be under way at a time.
        cores: How many threads they may have together.
        advance: Called after every task, in the caller's thread.
    """

    memory: int
    workers: int
    cores: int
    advance: Advance = unseen

    def __call__(
        self, tasks: Tasks[Key, Result], known: Known[Key, Result], done: Done[Key, Result]
    ) -> None:
        """Runs what is not known; it gets as many threads as if all were run."""
        keys = sorted(tasks, key=lambda key: -tasks[key].load.work)
        alone = [key for key in keys if tasks[key].load.memory > self.memory]
        together = [key for key in keys if tasks[key].load.memory <= self.memory]
        self._run(tasks, alone, 1, known, done)
        self._run(tasks, together, min(self.workers, self.cores), known, done)

    def _run(
        self,
        tasks: Tasks[Key, Result],
        keys: Sequence[Key],
        most: int,
        known: Known[Key, Result],
        done: Done[Key, Result],
    ) -> None:
        chosen = _workers([tasks[key].load for key in keys], self.memory, most)
        threads = max(1, self.cores // chosen)

        def found(key: Key) -> Result:
            task = tasks[key]
            assert task.function is not None  # it is no walk
            return task.function(*task.arguments, threads)

        def report(key: Key, result: Result) -> None:
            done(key, result)
            self.advance(tasks[key].steps)

        left = {key: tasks[key].load.memory for key in keys if key not in known}
        with _blas_limited(threads) as limit:
            # One task too has a thread of its own: signals are heard while it is in LAPACK.
            _Crew(found, chosen, limit, report).run(left, self.memory)


def local(memory: int, advance: Advance, *, device: bool = False) -> Threads:
    """The executor of this machine.

    Args:
        memory: Bytes for what is under way.
        advance: Called after every task.
        device: Whether tasks run on a GPU, which is fed by one thread.
    """
    cores = available_cores()
    return Threads(memory, 1 if device else cores, cores, advance)


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


class _Crew(Generic[Key, Result]):
    """Threads that do jobs, which are known by their keys.

    Args:
        job: Does one.
        workers: How many threads.
        begin: Called in every thread before its first job.
        done: Called with a key and its result, in the thread that calls `run`.
    """

    def __init__(
        self,
        job: Callable[[Key], Result],
        workers: int,
        begin: Callable[[], object],
        done: Done[Key, Result],
    ) -> None:
        self._job = job
        self._workers = workers
        self._begin = begin
        self._done = done
        self._ended = False
        self._keys: queue.SimpleQueue[Key | None] = queue.SimpleQueue()
        # Called in the thread of `run`: reports a result or raises what the job has raised.
        self._reports: queue.SimpleQueue[tuple[Key, Callable[[], Result]]] = queue.SimpleQueue()

    def run(self, sizes: Mapping[Key, int], memory: int) -> None:
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
                self._keys.put(None)
            deadline = monotonic() + _PATIENCE
            for thread in threads:
                thread.join(max(0.0, deadline - monotonic()))

    def _distribute(self, sizes: Mapping[Key, int], memory: int) -> None:
        waiting, under_way = list(sizes), set[Key]()
        while waiting or under_way:
            for key in list(waiting):
                held = sum(sizes[other] for other in under_way)
                if len(under_way) == self._workers:
                    break
                if not under_way or held + sizes[key] <= memory:
                    waiting.remove(key)
                    under_way.add(key)
                    self._keys.put(key)
            key, result = self._next_report()
            under_way.remove(key)
            self._done(key, result())

    def _next_report(self) -> tuple[Key, Callable[[], Result]]:
        while True:
            # A signal that comes a moment before the wait does not end it.
            with suppress(queue.Empty):
                return self._reports.get(timeout=_HEARING)

    def _work(self) -> None:
        begun = False
        while (key := self._keys.get()) is not None and not self._ended:
            try:
                if not begun:
                    self._begin()
                    begun = True
                result = self._job(key)
            except BaseException as error:
                self._reports.put((key, partial(_raise, error)))
            else:
                self._reports.put((key, partial(_given, result)))


def _given(result: Result) -> Result:
    return result


def _raise(error: BaseException) -> NoReturn:
    raise error


class Progress(Protocol):
    """Shows the stages of a run."""

    def stage(self, name: str, total: int) -> AbstractContextManager[Advance]:
        """Begins a stage of `total` steps; what it yields is told how many are done.

        What an earlier run has done already is told at once, before anything else.
        """
        ...


class Silent:
    """Shows nothing."""

    @contextmanager
    def stage(self, name: str, total: int) -> Iterator[Advance]:
        """A stage that shows nothing."""
        yield unseen
