"""A sweep whose points two workers make, beside the same with one worker.

Each worker is a process of one thread on a core of its own. What the workers do not do is the same
both times and told apart: the measuring before, and the timing of the files behind. Every sweep has
a cache of its own, and none is warm. Run it on a machine that does nothing else.
"""

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter

from machine import machine_line

from onnx_relusv import MeasureOptions, SweepOptions, sweep
from onnx_relusv.work.executors import Advance
from onnx_relusv.work.pools import cluster

MODEL, SAMPLES = Path("models/lenet_300_100.onnx"), Path("models/fashion_calibration.npz")
SIZES = (0.5, 0.37, 0.26, 0.18, 0.125, 0.09)
POINTS = "Points on workers"
# That two workers may take of the time of one.
WANTED = 0.65


@dataclass
class Clock:
    """Progress that keeps the seconds of every stage, and shows none."""

    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def stage(self, name: str, total: int) -> Iterator[Advance]:
        """A stage that is timed."""
        start = perf_counter()
        yield lambda steps: None
        self.seconds[name] = self.seconds.get(name, 0.0) + perf_counter() - start


@contextmanager
def process(arguments: list[str], cores: set[int] | None = None) -> Iterator[None]:
    """A process of dask's, on some cores alone, that ends with the context."""
    line = [sys.executable, "-m", *arguments]
    begun = subprocess.Popen(
        line, preexec_fn=None if cores is None else lambda: os.sched_setaffinity(0, cores)
    )
    try:
        yield
    finally:
        begun.terminate()
        begun.wait()


@contextmanager
def workers(count: int, folder: Path) -> Iterator[str]:
    """A cluster of so many workers, each on a core of its own; its scheduler's address."""
    address = folder / "scheduler.json"
    scheduler = ["distributed.cli.dask_scheduler", "--no-dashboard", "--port", "0"]
    worker = ["distributed.cli.dask_worker", "--nthreads", "1", "--no-dashboard"]
    place = ["--scheduler-file", str(address)]
    with ExitStack() as stack:
        stack.enter_context(process([*scheduler, *place]))
        for core in sorted(os.sched_getaffinity(0))[:count]:
            stack.enter_context(process([*worker, *place], {core}))
        yield _ready(address, count)


def _ready(address: Path, count: int) -> str:
    """The scheduler's address once all workers are there."""
    from distributed import Client

    with Client(scheduler_file=str(address), set_as_default=False) as client:
        client.wait_for_workers(count, timeout=120)
        return str(client.scheduler.address)


def seconds(count: int) -> tuple[float, float]:
    """Of the whole sweep, and of the points in it, by so many workers."""
    clock = Clock()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with workers(count, folder) as address, cluster(address) as executor:
            start = perf_counter()
            sweep(
                MODEL,
                samples=SAMPLES,
                sweeping=SweepOptions(sizes=SIZES, methods=("auto", "damage")),
                measuring=MeasureOptions(cache=folder / "cache"),
                progress=clock,
                executor=executor,
            )
            return perf_counter() - start, clock.seconds[POINTS]


def main() -> None:
    """Prints the table."""
    if len(os.sched_getaffinity(0)) < 2:
        sys.exit("two workers of one thread take two cores; there is one.")
    one, two = seconds(1), seconds(2)
    print(f"{machine_line()}\n")
    print("| | one worker, s | two workers, s | ratio |\n|---|---|---|---|")
    for name, first, second in zip(("the whole sweep", "its points"), one, two, strict=True):
        print(f"| {name} | {first:.1f} | {second:.1f} | {second / first:.2f} |")
    print(f"\nWanted: {WANTED} at most.")
