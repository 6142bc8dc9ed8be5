"""Long work as tasks: what is computed, what decides it, and what runs it.

`run` looks results up in the cache, has an executor compute the others, and stores each as soon as
it is there. An executor is anything that is called like `Executor`: `Threads` runs tasks each by
itself, as many at a time as there are cores for, and no more than there is memory for; a walk that
finds several results on one way through a model is another.

How long work shows its progress; silent by default.
"""

import os
import queue
import threading
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass, field
from functools import cache
from math import ceil
from pathlib import Path
from time import monotonic
from typing import Any, Generic, Protocol, TypeVar

from threadpoolctl import ThreadpoolController

from onnx_relusv.core.codec import from_arrays, to_arrays
from onnx_relusv.work.cache import Cache, Fields

Result = TypeVar("Result")
Key = TypeVar("Key", bound=Hashable)
Advance = Callable[[int], None]


def unseen(steps: int) -> None:
    """An `Advance` that shows nothing."""


def _on_a_walk(*arguments: Any) -> Any:
    raise TypeError("a task without a function is for an executor that walks through a model")


@dataclass(frozen=True)
class Load:
    """What a task takes, estimated: work in any unit, and bytes of memory at its peak."""

    work: float = 0.0
    memory: int = 0


@dataclass(frozen=True, eq=False, kw_only=True)
class Task(Generic[Result]):
    """A piece of long work.

    Attributes:
        kind: What is computed, in one word; entries of the cache are named by it.
        key: All that decides the result, ready for JSON.
        result: The type of the result: a record, or a tuple of records.
        lengths: Of axes of the result's arrays, by name, as far as they are known before.
        fits: Whether what the cache has can be a result of this task.
        function: Computes it, called with the arguments and the number of threads that it may
            use. It is a function of a module and its arguments can be pickled where another
            process is to run it. Left out where only a walk can find the result.
        arguments: All that the function reads.
        load: What it takes.
        steps: Of progress.
    """

    kind: str
    key: Fields
    result: type[Result]
    lengths: Mapping[str, int] = field(default_factory=dict)
    fits: Callable[[Result], bool] = lambda _: True
    function: Callable[..., Result] = _on_a_walk
    arguments: tuple[Any, ...] = ()
    load: Load = Load()
    steps: int = 1

    def known(self, cache: Cache) -> Result | None:
        """What the cache has; None where it has nothing that can be a result."""
        arrays = cache.get(self.kind, self.key)
        found = None if arrays is None else from_arrays(self.result, arrays, self.lengths)
        return found if found is not None and self.fits(found) else None

    def store(self, cache: Cache, found: Result) -> None:
        """Puts a result into the cache; UsageError where there is no room for it."""
        if cache.folder is not None:
            cache.put(self.kind, self.key, to_arrays(found))


Tasks = Mapping[Key, Task[Result]]
Known = Mapping[Key, Result]
Done = Callable[[Key, Result], None]


class Executor(Protocol[Key, Result]):
    """Finds results of tasks."""

    def __call__(
        self, tasks: Tasks[Key, Result], known: Known[Key, Result], done: Done[Key, Result]
    ) -> None:
        """Finds all results that are not known.

        Args:
            tasks: All of them.
            known: Results that there are already; one at least is missing.
            done: Called with every result as soon as it is there, in the caller's thread.
        """
        ...


def run(
    tasks: Tasks[Key, Result],
    executor: Executor[Key, Result],
    cache: Cache,
    advance: Advance = unseen,
    known: Known[Key, Result] | None = None,
) -> dict[Key, Result]:
    """Finds the results of tasks.

    Args:
        tasks: By what the caller knows them by.
        executor: Finds what is not known, and shows its progress by itself.
        cache: Where results are looked up, and stored.
        advance: Called at once with the steps of all tasks whose results are known.
        known: Results that need not be looked up.

    Returns:
        The results, in the order of the tasks.

    Raises:
        UsageError: There is no room for them in the cache.
    """
    results = dict(known or {})
    for key, task in tasks.items():
        found = None if key in results else task.known(cache)
        if found is not None:
            results[key] = found
    advance(sum(task.steps for key, task in tasks.items() if key in results))

    def done(key: Key, result: Result) -> None:
        tasks[key].store(cache, result)
        results[key] = result

    if any(key not in results for key in tasks):
        executor(tasks, dict(results), done)
    return {key: results[key] for key in tasks}


# Of the whole machine or container: microseconds in a period, or that there is no limit.
_QUOTAS = (
    ("/sys/fs/cgroup/cpu.max",),
    ("/sys/fs/cgroup/cpu/cpu.cfs_quota_us", "/sys/fs/cgroup/cpu/cpu.cfs_period_us"),
)
# Seconds after which an interrupt is heard at the latest.
_HEARING = 0.5


def available_cores(quotas: Sequence[tuple[str, ...]] = _QUOTAS) -> int:
    """Cores that this process may use: its affinity, and the quota of its container.

    Args:
        quotas: Files that hold a quota and its period together.
    """
    if hasattr(os, "sched_getaffinity"):
        cores = len(os.sched_getaffinity(0))
    else:
        cores = os.cpu_count() or 1
    for files in quotas:
        with suppress(OSError, ValueError):  # not there, or the word max
            text = " ".join(Path(file).read_text(encoding="ascii") for file in files)
            quota, period = map(int, text.split())
            if quota > 0 < period:
                cores = min(cores, max(1, round(quota / period)))
    return cores


# Multiply-adds of a product from which on it gains by further threads.
_SEVERAL_THREADS = 1 << 27


@contextmanager
def threads_for(products: int) -> Iterator[None]:
    """Limits BLAS to one thread for products so small that further ones cost more than they save.

    Threads that have to be woken for a millisecond's work, and waited for, take several times that
    where other programs, or onnxruntime's own threads, have the cores.

    Args:
        products: Multiply-adds of one product.
    """
    if products >= _SEVERAL_THREADS:
        yield
        return
    with _pools().limit(limits=1, user_api="blas"):
        yield


@cache
def _pools() -> ThreadpoolController:
    return ThreadpoolController()


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
        patience: Seconds that tasks under way have to end after an error.
    """

    memory: int
    workers: int
    cores: int
    advance: Advance = unseen
    patience: float = 3.0

    def __call__(
        self, tasks: Tasks[Key, Result], known: Known[Key, Result], done: Done[Key, Result]
    ) -> None:
        """Runs what is not known; it gets as many threads as if all were run."""
        keys = sorted(tasks, key=lambda key: -tasks[key].load.work)
        alone = [key for key in keys if tasks[key].load.memory > self.memory]
        together = [key for key in keys if tasks[key].load.memory <= self.memory]
        for chosen, most in ((alone, 1), (together, min(self.workers, self.cores))):
            workers = _workers([tasks[key].load for key in chosen], self.memory, most)
            left = {key: tasks[key] for key in chosen if key not in known}
            if left:
                self._run(left, workers, done)

    def _run(self, tasks: Tasks[Key, Result], workers: int, done: Done[Key, Result]) -> None:
        """Runs tasks, as far as there is room in their order."""
        waiting, under_way = list(tasks), set[Key]()
        with self._crew(tasks, workers) as (begin, next_report):
            while waiting or under_way:
                for key in list(waiting):
                    held = sum(tasks[other].load.memory for other in under_way)
                    if len(under_way) == workers:
                        break
                    if not under_way or held + tasks[key].load.memory <= self.memory:
                        waiting.remove(key)
                        under_way.add(key)
                        begin(key)
                key, result = next_report()
                under_way.remove(key)
                done(key, result.result())
                self.advance(tasks[key].steps)

    @contextmanager
    def _crew(
        self, tasks: Tasks[Key, Result], workers: int
    ) -> Iterator[tuple[Callable[[Key], None], Callable[[], tuple[Key, Future[Result]]]]]:
        """Threads at work: what begins a task, and what waits for the next one to end."""
        threads = max(1, self.cores // workers)
        controller = ThreadpoolController()
        keys: queue.SimpleQueue[Key | None] = queue.SimpleQueue()
        reports: queue.SimpleQueue[tuple[Key, Future[Result]]] = queue.SimpleQueue()
        ended = threading.Event()

        def work() -> None:
            begun = False
            while (key := keys.get()) is not None and not ended.is_set():
                result: Future[Result] = Future()
                try:
                    if not begun:  # OpenMP's limits are a thread's
                        controller.limit(limits=threads, user_api="blas")
                        begun = True
                    result.set_result(tasks[key].function(*tasks[key].arguments, threads))
                except BaseException as error:
                    result.set_exception(error)
                reports.put((key, result))

        def next_report() -> tuple[Key, Future[Result]]:
            while True:
                # A signal that comes a moment before the wait does not end it.
                with suppress(queue.Empty):
                    return reports.get(timeout=_HEARING)

        # One task too has a thread of its own: signals are heard while it is in LAPACK. Daemons do
        # not keep the program from ending, however long their task takes.
        crew = [threading.Thread(target=work, daemon=True) for _ in range(workers)]
        with controller.limit(limits=threads, user_api="blas"):
            for thread in crew:
                thread.start()
            try:
                yield keys.put, next_report
            finally:
                ended.set()
                for _ in crew:
                    keys.put(None)
                deadline = monotonic() + self.patience
                for thread in crew:
                    thread.join(max(0.0, deadline - monotonic()))


def local(memory: int, advance: Advance, *, device: bool = False) -> Threads:
    """The executor of this machine; on a GPU (`device`) tasks are fed by one thread."""
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


class Progress(Protocol):
    """Shows the stages of a run."""

    def stage(self, name: str, total: int) -> AbstractContextManager[Advance]:
        """Begins a stage of `total` steps; what it yields is called with how many are done.

        What an earlier run has done already is reported at once, before anything else.
        """
        ...


class Silent:
    """Shows nothing."""

    @contextmanager
    def stage(self, name: str, total: int) -> Iterator[Advance]:
        """A stage that shows nothing."""
        yield unseen
