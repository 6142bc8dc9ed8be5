"""Points of a sweep that other processes make, each by itself.

What methods need is measured here first and reaches workers through the cache, a folder that all of
them see. A worker opens model and samples by their paths, looks whether they are the same there,
makes the file of one point, judges it, and leaves it in the cache. Times are not measured there:
the files of all points are timed in the end, one after the other, in the process that asked.
"""

import hashlib
import platform
from collections.abc import Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from onnx_relusv.commands.sweep_points import (
    Judging,
    MadePoint,
    Points,
    Starts,
    begin,
    make_point,
    prepared_methods,
)
from onnx_relusv.commands.sweep_request import SweepRequest
from onnx_relusv.core.codec import to_data
from onnx_relusv.core.errors import InputError
from onnx_relusv.core.sweeps import MissedPoint
from onnx_relusv.measuring.case import run_identity
from onnx_relusv.work.cache import Cache, Fields
from onnx_relusv.work.executors import Progress, Silent, Task, run
from onnx_relusv.work.pools import Pool
from onnx_relusv.work.temporary_files import temporary_folder

_FILE, _CONTENT = "file", "content"


@dataclass(frozen=True, kw_only=True)
class PointJob:
    """A point that a worker is to make; it can be pickled.

    Attributes:
        request: A sweep of this one point, by absolute paths.
        identity: What decides all results, as the process has it that asks.
        key: Of the point in the cache.
    """

    request: SweepRequest
    identity: Fields
    key: Fields


@dataclass(frozen=True, eq=False, kw_only=True)
class FoundPoint:
    """What became of a point.

    Attributes:
        made: The file, if there is one.
        missed: Why there is none.
        files: Names of the model and its external data, whose content lies in the cache.
    """

    made: MadePoint | None
    missed: MissedPoint | None
    files: tuple[str, ...]

    def problem(self) -> str | None:
        """What is wrong with it as a whole."""
        return (
            "made or missed: one of both" if (self.made is None) == (self.missed is None) else None
        )


def find_point(job: PointJob, threads: int) -> FoundPoint:
    """Makes a point in a process that sees the same files.

    Args:
        job: The point.
        threads: How many may be used; the libraries have settled that when they were loaded.

    Raises:
        InputError: The files, or what is installed, are not the same here.
    """
    ((method, size),) = job.request.pairs
    _, judged, starts = begin(job.request)
    _check_same(job.identity, _identity(judged))
    inputs, workspace, ways = judged.inputs, judged.workspace, job.request.sweeping.ways
    with (
        temporary_folder() as place,
        prepared_methods(ways, [size], starts, inputs, workspace, Silent()) as ready,
    ):
        file = place / f"{job.request.name(method, size)}.onnx"
        found = make_point(method, size, ready[method], judged, file, Silent(), timed=False)
        if isinstance(found, MissedPoint):
            return FoundPoint(made=None, missed=found, files=())
        names = tuple(
            sorted(path.name for path in place.iterdir() if path.name.startswith(file.name))
        )
        for name in names:
            content = np.memmap(place / name, np.uint8, "r")
            workspace.cache.put(_FILE, _file_key(job.key, name), {_CONTENT: content})
    return FoundPoint(made=found, missed=None, files=names)


@dataclass(frozen=True, eq=False)
class PointsElsewhere:
    """Points that workers have made, as `Points`; their files are timed here.

    Attributes:
        judged: What times them.
        found: The points, by method and size.
        keys: Of the same in the cache.
    """

    judged: Judging
    found: Mapping[tuple[str, float], FoundPoint]
    keys: Mapping[tuple[str, float], Fields]

    def __call__(
        self, method: str, size: float, file: Path, progress: Progress
    ) -> MadePoint | MissedPoint:
        """The point of a method and a size, whose file is put in its place."""
        found = self.found[method, size]
        if found.made is None:
            assert found.missed is not None  # as `problem` says
            return found.missed
        cache = self.judged.workspace.cache
        for name in found.files:
            content = cache.mapped(_FILE, _file_key(self.keys[method, size], name))
            if content is None:
                raise InputError(
                    f"--cache {cache.folder}: {name} was there and is gone. Run the same again."
                )
            content[_CONTENT].tofile(file.parent / name)
        evaluation = replace(found.made.evaluation, latencies=self.judged.latencies(file))
        return replace(found.made, evaluation=evaluation)


def points_elsewhere(
    request: SweepRequest,
    judged: Judging,
    starts: Starts,
    reached: Sequence[tuple[str, float]],
    executor: Executor,
    progress: Progress,
) -> Points:
    """Has workers make the points of a sweep.

    Args:
        request: The sweep.
        judged: What judges its files.
        starts: What methods begin with.
        reached: The points that shapes do not show to be out of reach.
        executor: What runs them.
        progress: Shows the stages.

    Raises:
        UsageError: The samples lie in this process alone, there is no cache, or no room in it.
        InputError: Files, or what is installed, are not the same for a worker.
        WorkersLostError: The workers are gone.
    """
    jobs = _jobs(request, judged, reached)
    ways = {name: request.sweeping.ways[name] for name, _ in reached}
    inputs, workspace = judged.inputs, judged.workspace
    with prepared_methods(ways, request.ladder, starts, inputs, workspace, progress):
        pass  # all that was measured lies in the cache
    cache = workspace.cache
    tasks = {
        pair: Task(
            kind="point",
            key=job.key,
            result=FoundPoint,
            fits=partial(_has_files, cache, job.key),
            function=find_point,
            arguments=(job,),
        )
        for pair, job in jobs.items()
    }
    with progress.stage("Points on workers", len(tasks)) as advance:
        found = run(tasks, Pool(executor, advance), cache, advance)
    return PointsElsewhere(judged, found, {pair: job.key for pair, job in jobs.items()})


def _jobs(
    request: SweepRequest, judged: Judging, reached: Sequence[tuple[str, float]]
) -> dict[tuple[str, float], PointJob]:
    times = request.sweeping.times
    identity = _identity(judged)
    jobs = {}
    for method, size in reached:
        job = request.for_worker(method, size)
        key = {
            **identity,
            "pack": request.sweeping.pack,
            "times": None if times is None else hashlib.sha256(times.read_bytes()).hexdigest(),
            "file": request.name(method, size),  # external data is called by it, in the file too
            "size": size,
            "way": to_data(request.sweeping.ways[method]),
            "include": list(request.sweeping.include),
            "exclude": list(request.sweeping.exclude),
        }
        jobs[method, size] = PointJob(request=job, identity=identity, key=key)
    return jobs


def _identity(judged: Judging) -> dict[str, Any]:
    found = run_identity(judged.case, judged.inputs, judged.workspace)
    return {**found, "judging samples": judged.judges.sha256, "judged": judged.judges.count}


def _check_same(asked: Fields, here: Fields) -> None:
    different = [name for name in asked if asked[name] != here.get(name)]
    if different:
        raise InputError(
            f"on the worker {platform.node()} other things are found than where the sweep began: "
            f"{', '.join(different)}. Let all workers see the same files under the same paths, "
            "and install the same versions everywhere."
        )


def _file_key(key: Fields, name: str) -> Fields:
    return {**key, "name": name}


def _has_files(cache: Cache, key: Fields, found: FoundPoint) -> bool:
    return all(cache.mapped(_FILE, _file_key(key, name)) is not None for name in found.files)
