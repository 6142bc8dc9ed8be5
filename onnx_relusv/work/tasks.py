"""Long work as tasks: what is found, what decides it, and what finds it.

`run` looks results up in the cache, has an executor find the others, and stores each as soon as it
is there. An executor is anything that is called like `Executor`: `work/executors` has the one that
runs tasks in threads, each by itself; a walk that finds several results on one way through a model
is another.
"""

from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, Protocol, TypeVar

from onnx_relusv.core.codec import from_arrays, to_arrays
from onnx_relusv.work.cache import Cache, Fields

Result = TypeVar("Result")
Key = TypeVar("Key", bound=Hashable)


@dataclass(frozen=True)
class Load:
    """What a task takes, estimated.

    Attributes:
        work: In any unit; only ratios count.
        memory: Bytes at its peak.
    """

    work: float = 0.0
    memory: int = 0


@dataclass(frozen=True, eq=False, kw_only=True)
class Task(Generic[Result]):
    """A piece of long work.

    Attributes:
        kind: What is found, in one word; entries of the cache are named by it.
        key: All that decides the result, ready for JSON.
        result: The type of the result: a record, or a tuple of records.
        lengths: Of axes of the result's arrays, by name, as far as they are known before.
        fits: Whether what the cache has can be a result of this task.
        function: What finds it, called with the arguments and the number of threads that it may
            use. It is a function of a module and its arguments can be pickled where another
            process is to run it. None where only a walk can find it.
        arguments: All that the function reads.
        load: What it takes.
        steps: Of progress.
    """

    kind: str
    key: Fields
    result: type[Result]
    lengths: Mapping[str, int] = field(default_factory=dict)
    fits: Callable[[Result], bool] = lambda _: True
    function: Callable[..., Result] | None = None
    arguments: tuple[Any, ...] = ()
    load: Load = Load()
    steps: int = 1

    def known(self, cache: Cache) -> Result | None:
        """What the cache has; None where it has nothing that can be a result."""
        arrays = cache.get(self.kind, self.key)
        found = None if arrays is None else from_arrays(self.result, arrays, self.lengths)
        return found if found is not None and self.fits(found) else None

    def store(self, cache: Cache, found: Result) -> None:
        """Puts a result into the cache.

        Raises:
            UsageError: There is no room for it.
        """
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
    advance: Callable[[int], None] = lambda steps: None,
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
