"""How sweeps of many models grow with the cores of a cluster: a simulation on measured times.

What is measured: a sweep of the three bundled models of Gemms by one worker of one thread, stage by
stage, point by point, with the bytes that go through the cache; and what dask takes to hand out a
task. What is simulated: sweeps of very many such models, where some processes ask and all other
cores are workers. A process measures its model, hands its points out, waits, times the files and
takes the next model; workers take points in the order in which they come. The shared folder is
taken to be as fast as it has to be, and the table says how fast that is.
"""

import heapq
import tempfile
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Executor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter

from cluster import POINTS, workers
from machine import machine_line

from onnx_relusv import MeasureOptions, SweepOptions, sweep
from onnx_relusv.work.executors import Advance
from onnx_relusv.work.pools import cluster

MODELS = ("lenet_300_100", "lenet_300_100_sgd", "fashion_mlp")
SAMPLES = Path("models/fashion_calibration.npz")
SIZES = (0.5, 0.25, 0.125)
TASKS = 2000
MODEL_COUNTS, CORES = (10, 100, 1000), (2, 8, 32, 128, 512, 2048)


@dataclass(frozen=True)
class Sweep:
    """What the sweep of one model takes.

    Attributes:
        before: Seconds in the process that asks, until it hands its points out.
        points: Seconds of a worker, by point.
        behind: Seconds in the process that asks, when all points are back.
        bytes: That are in the cache in the end.
    """

    before: float
    points: tuple[float, ...]
    behind: float
    bytes: int

    @property
    def work(self) -> float:
        """Seconds of all processes together."""
        return self.before + sum(self.points) + self.behind

    @property
    def longest(self) -> float:
        """Seconds that it takes with as many workers as it has points."""
        return self.before + max(self.points) + self.behind


@dataclass
class PointClock:
    """Progress that notes when the points begin, and when each of them is there."""

    moments: list[float] = field(default_factory=list)

    @contextmanager
    def stage(self, name: str, total: int) -> Iterator[Advance]:
        """A stage; of the points, every step is noted."""

        def note(steps: int) -> None:
            self.moments += [perf_counter()] * steps

        if name != POINTS:
            yield lambda steps: None
            return
        self.moments.append(perf_counter())
        yield note


def measured(model: str, executor: Executor, folder: Path) -> Sweep:
    """The sweep of a model by the one worker of a cluster."""
    clock, cache, begun = PointClock(), folder / model, perf_counter()
    sweep(
        Path(f"models/{model}.onnx"),
        samples=SAMPLES,
        sweeping=SweepOptions(sizes=SIZES, methods=("auto",)),
        measuring=MeasureOptions(cache=cache),
        progress=clock,
        executor=executor,
    )
    ended, (handed, *there) = perf_counter(), clock.moments
    points = tuple(after - before for before, after in zip([handed, *there], there, strict=False))
    kept = sum(path.stat().st_size for path in cache.rglob("*") if path.is_file())
    return Sweep(handed - begun, points, ended - there[-1], kept)


def handing_out(executor: Executor) -> float:
    """Seconds that a task takes which does nothing."""
    executor.submit(abs, 0).result()
    begun = perf_counter()
    for future in [executor.submit(abs, number) for number in range(TASKS)]:
        future.result()
    return (perf_counter() - begun) / TASKS


def makespan(sweeps: list[Sweep], asking: int, working: int, each: float) -> float:
    """Seconds until all sweeps are done.

    Args:
        sweeps: In the order in which they are begun.
        asking: Processes that ask, on a core each.
        working: Workers, on a core each.
        each: Seconds that the scheduler, which hands out one task after the other, takes for one.
    """
    waiting, queue = deque(sweeps), deque[tuple[int, float]]()
    # By time: a process has measured, a worker has made a point, a process has timed.
    events: list[tuple[float, int, str, int]] = []
    left: dict[int, int] = {}
    known: dict[int, Sweep] = {}
    idle, scheduler, count, now = working, 0.0, 0, 0.0

    def push(at: float, what: str, which: int) -> None:
        nonlocal count
        count += 1
        heapq.heappush(events, (at, count, what, which))

    def begin(at: float) -> None:
        if waiting:
            number = len(known)
            known[number] = waiting.popleft()
            push(at + known[number].before, "measured", number)

    for _ in range(asking):
        begin(0.0)
    while events:
        now, _, what, number = heapq.heappop(events)
        one = known[number]
        if what == "measured":
            left[number] = len(one.points)
            queue.extend((number, seconds) for seconds in sorted(one.points, reverse=True))
        elif what == "made":
            idle += 1
            left[number] -= 1
            if not left[number]:
                push(now + one.behind, "timed", number)
        else:
            begin(now)
        while idle and queue:
            owner, seconds = queue.popleft()
            scheduler = max(scheduler, now) + each
            push(scheduler + seconds, "made", owner)
            idle -= 1
    return now


def best_makespan(sweeps: list[Sweep], cores: int, each: float) -> tuple[float, int]:
    """The least seconds with so many cores, and how many of them ask."""
    shares = {max(1, min(cores - 1, round(cores * part / 20))) for part in range(1, 20)}
    return min((makespan(sweeps, asking, cores - asking, each), asking) for asking in shares)


def main() -> None:
    """Measures, then prints what one model takes and how many grow."""
    print(f"{machine_line()}\n")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with workers(1, folder) as address, cluster(address) as executor:
            each = handing_out(executor)
            found = {model: measured(model, executor, folder) for model in MODELS}
    print("| model | measured, s | points, s | timed, s | in the cache |")
    print("|---|---|---|---|---|")
    for model, one in found.items():
        points = ", ".join(f"{seconds:.1f}" for seconds in one.points)
        kept = f"{one.bytes / 1e6:.0f} MB"
        print(f"| {model} | {one.before:.1f} | {points} | {one.behind:.1f} | {kept} |")
    print(f"\nA task takes the scheduler {1e3 * each:.1f} ms.\n")
    print("| models | cores | of them ask | time | of one core's | cores at work | cache |")
    print("|---|---|---|---|---|---|---|")
    kinds = list(found.values())
    for models in MODEL_COUNTS:
        sweeps = [kinds[place % len(kinds)] for place in range(models)]
        # The longest first, or one process is left with it in the end.
        sweeps.sort(key=lambda one: -one.longest)
        work = sum(one.work for one in sweeps)
        for cores in CORES:
            seconds, asking = best_makespan(sweeps, cores, each)
            rate = sum(one.bytes for one in sweeps) / seconds
            faster = work / seconds
            print(
                f"| {models:,} | {cores:,} | {asking:,} | {seconds:,.0f} s | 1/{faster:.1f} "
                f"| {faster / cores:.0%} | {rate / 1e6:,.1f} MB/s |"
            )
