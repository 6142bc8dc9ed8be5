"""Jobs that run in parallel, as items that are their own places, and processes to interrupt."""

import signal
from collections.abc import Callable, Sequence

from onnx_relusv.work.executors import Load, in_parallel


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


def hear_sigint() -> None:
    """Lets a new process hear SIGINT even if whoever started the tests ignores it, as shells do."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
