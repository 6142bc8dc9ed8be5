"""Times that can be compared: interleaved in one run, warmed up, medians."""

from collections.abc import Callable, Mapping
from statistics import median
from time import perf_counter, sleep

# The thread pools of BLAS, torch and onnxruntime keep turning for a while after their work, on
# the processors that the next one wants: without a rest every one of them slows its successor.
_REST = 0.3


def medians(ways: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """The median seconds of several ways to do a thing.

    Args:
        ways: By name; each is called once a round, one behind the other.
        rounds: How many are counted; one more comes first and warms everything up.
    """
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds + 1):
        for name, way in ways.items():
            sleep(_REST)
            start = perf_counter()
            way()
            seconds[name].append(perf_counter() - start)
    return {name: median(found[1:]) for name, found in seconds.items()}


def readable(seconds: float) -> str:
    """A time with three digits and its unit."""
    if seconds < 1e-3:
        return f"{seconds * 1e6:.3g} us"
    return f"{seconds * 1e3:.3g} ms" if seconds < 1 else f"{seconds:.3g} s"
