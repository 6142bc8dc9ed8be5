"""Makes a model smaller at many sizes by several methods, and judges every file.

What plans rest on is measured once. Each point is fitted, rewritten and validated as a file of
`compress` is; a size that cannot be reached is passed over, and a file that fails is reported. The
report has the command that makes each file again.
"""

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Executor
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, replace
from math import isfinite
from pathlib import Path

from onnx_relusv.commands.peers import check_peers, read_peers
from onnx_relusv.commands.sweep_folder import MODELS, check_sweep_folder, knee, publish, workplace
from onnx_relusv.commands.sweep_points import (
    Judging,
    Points,
    PointsHere,
    Starts,
    begin,
    out_of_reach,
    prepared_methods,
)
from onnx_relusv.commands.sweep_request import SweepRequest
from onnx_relusv.commands.sweep_workers import points_elsewhere
from onnx_relusv.core.arguments import StrPath, as_optional_path, as_record
from onnx_relusv.core.errors import BudgetError, InputError, UsageError, ValidationError
from onnx_relusv.core.options import MeasureOptions
from onnx_relusv.core.sweeps import (
    SWEEP_METHODS,
    MissedPoint,
    PeerPoint,
    Sweep,
    SweepOptions,
    SweepPoint,
)
from onnx_relusv.graph.model_files import ModelLike, as_model, model_file
from onnx_relusv.measuring.provenance import provenance
from onnx_relusv.planning.settling import saying_where_bytes_are
from onnx_relusv.samples.sources import SamplesLike, as_optional_source, as_source, path_of
from onnx_relusv.work.executors import Progress, Silent
from onnx_relusv.work.files import check_utf8
from onnx_relusv.work.temporary_files import folder_in


@dataclass(frozen=True, eq=False)
class Sweeping:
    """What a sweep goes through, and where its files go.

    Attributes:
        request: Which files are made, of what.
        judging: What judges the files.
        points: What makes them.
        out_of_reach: What is known to have no plan, by method and size.
        folder: Where files are made.
        kept: Where they are found afterwards; None where they are not kept.
        peers: Files of others.
        command: Goes into the provenance.
    """

    request: SweepRequest
    judging: Judging
    points: Points
    out_of_reach: Mapping[tuple[str, float], MissedPoint]
    folder: Path
    kept: Path | None
    peers: tuple[PeerPoint, ...]
    command: str

    def run(self, progress: Progress) -> Sweep:
        """Goes through all methods and sizes.

        Raises:
            BudgetError: No method reaches any of the sizes.
            ValidationError: None does, and a file failed its validation.
        """
        found: list[SweepPoint | MissedPoint] = []
        with progress.stage("Sweep", len(self.request.pairs)) as advance:
            for name, size in self.request.pairs:
                found.append(self._point(name, size, progress))
                advance(1)
        points = [one for one in found if isinstance(one, SweepPoint)]
        missed = [one for one in found if isinstance(one, MissedPoint)]
        _check_any(points, missed)
        judges, workspace = self.judging.judges, self.judging.workspace
        methods = self.request.sweeping.methods
        if not any(SWEEP_METHODS[name].on_samples for name in methods):
            judges = replace(judges, fit_samples=0, select_samples=0)
        return Sweep(
            model=self.judging.case.facts,
            judged_by=self.judging.judged_by,
            judges=judges,
            meanings={name: SWEEP_METHODS[name].meaning for name in methods},
            points=tuple(points),
            knees={name: _knee([p for p in points if p.method == name]) for name in methods},
            missed=tuple(missed),
            kept=self.kept is not None,
            peers=self.peers,
            provenance=provenance(
                workspace.provider,
                workspace.options,
                self.judging.inputs.samples,
                self.command,
                self.request.settings,
            ),
            warnings=self.request.notes,
        )

    def _point(self, method: str, size: float, progress: Progress) -> SweepPoint | MissedPoint:
        if (method, size) in self.out_of_reach:
            return self.out_of_reach[method, size]
        name = f"{self.request.name(method, size)}.onnx"
        with self._place() as place:
            made = self.points(method, size, place / name, progress)
        if isinstance(made, MissedPoint):
            return made
        return SweepPoint(
            method=method,
            size=size,
            before=self.judging.case.facts,
            after=replace(made.after, path=(self.kept or Path()) / name),
            level=made.level,
            damage=made.damage,
            evaluation=made.evaluation,
            drop=made.drop,
            command=self.request.command(method, size),
        )

    def _place(self) -> AbstractContextManager[Path]:
        """Where a file is made; it is gone at once unless files are kept."""
        if self.kept is None:
            return folder_in(self.folder)
        return nullcontext(self.folder)


def _knee(curve: Sequence[SweepPoint]) -> float | None:
    finite = [point for point in curve if isfinite(point.loss)]
    place = knee(
        [point.after.bytes / point.before.bytes for point in finite],
        [point.loss for point in finite],
    )
    return None if place is None else finite[place].size


def _check_any(points: Sequence[object], missed: Sequence[MissedPoint]) -> None:
    """Checks that some points are left; all else was missed.

    Raises:
        BudgetError: No method reaches any of the sizes.
        ValidationError: None does, and a file failed its validation.
    """
    if points:
        return
    failures = [point for point in missed if point.failed]
    worst = (failures or missed)[0]
    message = (
        f"no point is left. The first reason, {worst.method} at {worst.size:g}: {worst.reason}"
    )
    raise ValidationError(message) if failures else BudgetError(message)


def sweep(
    model: ModelLike,
    *,
    samples: SamplesLike,
    test: SamplesLike | None = None,
    sweeping: SweepOptions | None = None,
    measuring: MeasureOptions | None = None,
    report: StrPath | None = None,
    keep: bool = False,
    peers: StrPath | None = None,
    force: bool = False,
    command: str = "onnx_relusv.sweep",
    progress: Progress | None = None,
    executor: Executor | None = None,
) -> Sweep:
    """Makes a model smaller at many sizes by several methods and judges every file.

    What plans rest on is measured once, for all of them.

    Args:
        model: The path of an ONNX file or of its folder, or a ModelProto.
        samples: What is measured and fitted on, as of `inspect`.
        test: What files are judged on; if None, a part of the samples that is set aside for it.
        sweeping: Sizes, methods, and which blocks may change.
        measuring: Provider, seed and memory.
        report: Folder for report.json and report.html.
        keep: Whether the files stay, in the report's folder `models`.
        peers: A JSON file with files of others, drawn and listed beside these.
        force: Overwrite existing outputs.
        command: Goes into the provenance.
        progress: Shown the stages.
        executor: Any of `concurrent.futures` whose processes see the same files under the same
            paths; they make the points. It takes a cache and samples that are files. None to make
            all here.

    Raises:
        UsageError: A setting is out of range, or an output exists or cannot be written.
        InputError: Something cannot be read or does not fit.
        BudgetError: No method reaches any of the sizes.
        ValidationError: None does, and a file failed its validation.
        WorkersLostError: The executor's processes are gone.
    """
    given, fitted_to = as_model("model", model), as_source("samples", samples, progress)
    judged_by = as_optional_source("test", test, progress)
    report = as_optional_path("report", report)
    measuring, progress = as_record("measuring", measuring, MeasureOptions), progress or Silent()
    sweeping = as_record("sweeping", sweeping, SweepOptions)
    if executor is not None and not isinstance(given, Path):
        raise UsageError("model: workers open it by its path. Save it, and give that.")
    with model_file("model", given) as file:
        request = SweepRequest(
            model=file,
            samples=fitted_to,
            test=judged_by,
            sweeping=sweeping,
            measuring=measuring,
            peers=as_optional_path("peers", peers),
        )
        check_utf8(file.path, InputError)
        check_utf8(report or file.path, UsageError)
        check_sweep_folder(
            report,
            keep=keep,
            force=force,
            model=file.path,
            read=[fitted_to.path, path_of(judged_by), request.peers, sweeping.times],
            cache=measuring.cache,
        )
        if executor is not None:
            request.for_worker(*request.pairs[0])
        return _swept(
            request,
            report,
            keep=keep,
            force=force,
            command=command,
            progress=progress,
            executor=executor,
        )


def _swept(
    request: SweepRequest,
    report: Path | None,
    *,
    keep: bool,
    force: bool,
    command: str,
    progress: Progress,
    executor: Executor | None,
) -> Sweep:
    """Makes and judges the files; arguments and errors as of `sweep`."""
    peers = read_peers(request.peers)
    request, judged, starts = begin(request)
    sweeping = request.sweeping
    planning = starts["keep"].planning
    check_peers(request.peers, peers, judged.judged_by)
    case, inputs, workspace = judged.case, judged.inputs, judged.workspace
    missed = out_of_reach(sweeping.ways, request.ladder, starts, inputs, workspace)
    reached = [pair for pair in request.pairs if pair not in missed]
    with saying_where_bytes_are(case, planning):
        _check_any(reached, list(missed.values()))
    with (
        saying_where_bytes_are(case, planning),
        workplace(report) as place,
        _points(request, judged, starts, reached, executor, progress) as points,
    ):
        models = place / MODELS
        models.mkdir()
        kept = report / MODELS if report is not None and keep else None
        found = Sweeping(request, judged, points, missed, models, kept, peers, command)
        done = found.run(progress)
        if report is not None:
            publish(done, report, models, place, force=force)
    return done


@contextmanager
def _points(
    request: SweepRequest,
    judged: Judging,
    starts: Starts,
    reached: Sequence[tuple[str, float]],
    executor: Executor | None,
    progress: Progress,
) -> Iterator[Points]:
    """What makes the points that are in reach: this process, or workers."""
    if executor is not None:
        yield points_elsewhere(request, judged, starts, reached, executor, progress)
        return
    ways = {name: request.sweeping.ways[name] for name, _ in reached}
    inputs, workspace = judged.inputs, judged.workspace
    with prepared_methods(ways, request.ladder, starts, inputs, workspace, progress) as ready:
        yield PointsHere(judged, ready)
