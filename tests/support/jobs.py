"""Tasks that run in parallel, as items that are their own places, and processes to interrupt."""

import signal
from collections.abc import Callable, Sequence
from typing import Any

from onnx_relusv.work.cache import NO_CACHE, Cache
from onnx_relusv.work.executors import Advance, Load, Task, Threads
from onnx_relusv.work.executors import run as run_tasks


def tasks(pairs: Sequence[tuple[float, int]], do: Callable[[int, int], Any]) -> dict[int, Task]:
    """A task for every pair of work and memory."""
    return {
        item: Task(
            kind="items",
            key={"item": item},
            result=int,
            function=do,
            arguments=(item,),
            load=Load(*pair),
        )
        for item, pair in enumerate(pairs)
    }


def run(
    pairs: Sequence[tuple[float, int]],
    do: Callable[[int, int], Any],
    *,
    memory: int = 100,
    workers: int = 4,
    cores: int = 4,
    seen: list[int] | None = None,
    cache: Cache = NO_CACHE,
    advance: Advance | None = None,
    patience: float = 3.0,
) -> list[Any]:
    shown = advance or (seen if seen is not None else []).append
    executor = Threads(memory, workers, cores, shown, patience)
    return list(run_tasks(tasks(pairs, do), executor, cache).values())


def hear_sigint() -> None:
    """Lets a new process hear SIGINT even if whoever started the tests ignores it, as shells do."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
