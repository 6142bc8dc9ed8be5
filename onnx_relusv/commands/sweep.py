"""Makes a model smaller at many sizes by several methods, and judges every file.

What plans rest on is measured once. Each point is fitted, rewritten and validated as a file of
`compress` is; a size that cannot be reached is passed over, and a file that fails is reported. The
report has the command that makes each file again.
"""

import shlex
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from math import isfinite
from pathlib import Path

from onnx_relusv.commands.apply import write_fitted
from onnx_relusv.commands.peers import check_peers, read_peers
from onnx_relusv.commands.stages import Prepared, produce
from onnx_relusv.commands.sweep_folder import MODELS, check_sweep_folder, knee, publish, workplace
from onnx_relusv.commands.sweep_points import (
    Judging,
    Start,
    judging,
    out_of_reach,
    prepared_methods,
)
from onnx_relusv.core.arguments import StrPath, as_optional_path, as_record
from onnx_relusv.core.errors import BudgetError, InputError, UsageError, ValidationError
from onnx_relusv.core.options import (
    MeasureOptions,
    PlanOptions,
)
from onnx_relusv.core.plans import KEPT, Budgets, Precision
from onnx_relusv.core.results import ModelFacts, Settings, Verdict, command_options, settings_of
from onnx_relusv.core.sweeps import (
    SWEEP_METHODS,
    MissedPoint,
    PeerPoint,
    Sweep,
    SweepOptions,
    SweepPoint,
)
from onnx_relusv.graph.model import Model
from onnx_relusv.graph.model_files import ModelFile, ModelLike, as_model, model_file
from onnx_relusv.measuring.case import facts_of, open_model, selected
from onnx_relusv.measuring.provenance import provenance
from onnx_relusv.measuring.sample_warnings import check_rewritable
from onnx_relusv.planning.latency.pack import with_pack
from onnx_relusv.planning.latency.times_file import times_for
from onnx_relusv.planning.settling import saying_where_bytes_are
from onnx_relusv.rewrites.low_rank.candidates import LEAST_OPSET
from onnx_relusv.samples.sources import (
    SamplesLike,
    SampleSource,
    as_optional_source,
    as_source,
    path_of,
)
from onnx_relusv.work.executors import Progress, Silent
from onnx_relusv.work.files import Publication, check_utf8
from onnx_relusv.work.temporary_files import folder_in

_DEFAULTS = SweepOptions()


@dataclass(frozen=True, kw_only=True)
class SweepRequest:
    """A sweep of a model, and the command that makes each of its files again.

    Attributes:
        model: The original.
        samples: What is measured and fitted on.
        test: What files are judged on; None to set a part of the samples aside.
        sweeping: Which files are made.
        measuring: Provider, seed and memory.
        peers: A file with files of others, or None.
    """

    model: ModelFile
    samples: SampleSource
    test: SampleSource | None
    sweeping: SweepOptions
    measuring: MeasureOptions
    peers: Path | None = None

    @property
    def settings(self) -> Settings:
        """The settings that repeat the sweep, but for those of measuring."""
        found = settings_of(self.sweeping)
        if self.test is not None and self.test.setting is not None:
            found["test"] = self.test.setting
        if self.peers is not None:
            found["peers"] = str(self.peers.absolute())
        return found

    @property
    def notes(self) -> tuple[str, ...]:
        """What is to be said of the samples, once they were opened."""
        return (*self.samples.notes, *(() if self.test is None else self.test.notes))

    @property
    def ladder(self) -> list[float]:
        """The sizes, the largest first."""
        return sorted(self.sweeping.sizes, reverse=True)

    @property
    def pairs(self) -> list[tuple[str, float]]:
        """The methods and sizes of all points, in the order in which they are made."""
        return [(name, size) for name in self.sweeping.methods for size in self.ladder]

    def name(self, method: str, size: float) -> str:
        """What tells a point's file from the others, without an ending."""
        return f"{Path(self.model.name).stem}-{method}-{size!r}"

    def command(self, method: str, size: float) -> str:
        """The command line that makes a point's file again.

        That is `compress`; but where files are judged on a part of the samples, other parts are
        fitted to than there, and it takes a sweep of this one point. With external data the file
        has to have the same name to be the same. What came from Python is called by the argument's
        name there, and has to be saved first.
        """
        way, name = self.sweeping.ways[method], self.name(method, size)
        if self.test is None and way.on_samples:
            line = ["sweep", self.model.name, *self.samples.options]
            line += ["--report", name, "--sizes", repr(size), "--methods", method, "--keep"]
        else:
            line = ["compress", self.model.name, "--output", f"{name}.onnx"]
            line += ["--size", repr(size), "--method", way.method, "--allocation", way.allocation]
            if way.precision != KEPT:
                line += ["--precision", way.precision]
            line += self.samples.options if way.on_samples else []
        if way.int8_format != _DEFAULTS.int8_format:
            line += ["--int8-format", way.int8_format]
        stated = replace(
            _DEFAULTS,
            include=self.sweeping.include,
            exclude=self.sweeping.exclude,
            pack=self.sweeping.pack,
            times=self.sweeping.times,
        )
        # The seed is stated even where it is the default.
        seed = ["--seed", str(self.measuring.seed)]
        others = command_options(replace(self.measuring, seed=0))
        return shlex.join(["onnx-relusv", *line, *seed, *others, *command_options(stated)])


@dataclass(frozen=True, eq=False)
class Sweeping:
    """What a sweep goes through, and where its files go.

    Attributes:
        request: Which files are made, of what.
        judging: What judges the files.
        ready: The methods that reach any size, by name.
        out_of_reach: What is known to have no plan, by method and size.
        folder: Where files are made.
        kept: Where they are found afterwards; None where they are not kept.
        peers: Files of others.
        command: Goes into the provenance.
    """

    request: SweepRequest
    judging: Judging
    ready: Mapping[str, Prepared]
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
        points: list[SweepPoint] = []
        missed: list[MissedPoint] = []
        with progress.stage("Sweep", len(self.request.pairs)) as advance:
            for name, size in self.request.pairs:
                try:
                    if (name, size) in self.out_of_reach:
                        missed.append(self.out_of_reach[name, size])
                    else:
                        points.append(self._point(name, size, progress))
                except (BudgetError, ValidationError) as error:
                    failed = isinstance(error, ValidationError)
                    missed.append(
                        MissedPoint(method=name, size=size, failed=failed, reason=str(error))
                    )
                advance(1)
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

    def _point(self, method: str, size: float, progress: Progress) -> SweepPoint:
        case, ready = self.judging.case, self.ready[method]
        ground = ready.ground
        name = f"{self.request.name(method, size)}.onnx"
        fitted = produce(ready, Budgets(size=size), progress).fitted
        facts: list[ModelFacts] = []

        def before_publishing(written: Model, verdict: Verdict, with_it: Publication) -> None:
            facts.append(
                facts_of(written, ground.workspace.provider, case.example, case.example_batch)
            )

        with self._place() as place:
            file = place / name
            write_fitted(
                ground.case,
                ground.inputs,
                ground.workspace,
                fitted,
                file,
                progress,
                before_publishing,
            )
            evaluation, drop = self.judging.judge(file, progress)
        (after,) = facts
        return SweepPoint(
            method=method,
            size=size,
            before=case.facts,
            after=replace(after, path=(self.kept or Path()) / name),
            level=fitted.plan.level,
            damage=fitted.plan.damage,
            evaluation=evaluation,
            drop=drop,
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

    Raises:
        UsageError: A setting is out of range, or an output exists or cannot be written.
        InputError: Something cannot be read or does not fit.
        BudgetError: No method reaches any of the sizes.
        ValidationError: None does, and a file failed its validation.
    """
    given, fitted_to = as_model("model", model), as_source("samples", samples, progress)
    judged_by = as_optional_source("test", test, progress)
    report = as_optional_path("report", report)
    measuring, progress = as_record("measuring", measuring, MeasureOptions), progress or Silent()
    sweeping = as_record("sweeping", sweeping, SweepOptions)
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
        return _swept(request, report, keep=keep, force=force, command=command, progress=progress)


def _swept(
    request: SweepRequest,
    report: Path | None,
    *,
    keep: bool,
    force: bool,
    command: str,
    progress: Progress,
) -> Sweep:
    """Makes and judges the files; arguments and errors as of `sweep`."""
    model, samples, sweeping = request.model, request.samples, request.sweeping
    measuring, peers = request.measuring, read_peers(request.peers)
    case, inputs, workspace = open_model(model.path, samples, measuring, name=model.name)
    check_rewritable(case, workspace)
    patterns = with_pack(
        workspace,
        PlanOptions(
            include=sweeping.include,
            exclude=sweeping.exclude,
            pack=sweeping.pack,
            times=sweeping.times,
        ),
    )
    times_for(case, replace(patterns, precision="int8") if sweeping.uses_int8 else patterns)
    sweeping = replace(sweeping, pack=patterns.pack)
    request = replace(request, sweeping=sweeping)
    planning = selected(case, patterns)
    start = Start(case, planning)
    starts: dict[Precision, Start] = {"keep": start, "fp16": start}
    if sweeping.uses_int8:
        whole, _, _ = open_model(model.path, samples, measuring, for_integers=True, name=model.name)
        if whole.model.opset < LEAST_OPSET:
            raise UsageError(
                f"--methods int8 takes operator set {LEAST_OPSET}, {model.name} has "
                f"{whole.model.opset}, and onnx does not convert it: weights lie outside of the "
                "file, or its answers would change. Leave int8 out, or export the model again."
            )
        starts["int8"] = Start(whole, selected(whole, patterns))
    judged = judging(case, inputs, workspace, request.test)
    check_peers(request.peers, peers, judged.judged_by)
    inputs = judged.inputs
    missed = out_of_reach(sweeping.ways, request.ladder, starts, inputs, workspace)
    reached = [pair for pair in request.pairs if pair not in missed]
    with saying_where_bytes_are(case, planning):
        _check_any(reached, list(missed.values()))
    with (
        saying_where_bytes_are(case, planning),
        workplace(report) as place,
        prepared_methods(
            {name: sweeping.ways[name] for name, _ in reached},
            request.ladder,
            starts,
            inputs,
            workspace,
            progress,
        ) as ready,
    ):
        models = place / MODELS
        models.mkdir()
        kept = report / MODELS if report is not None and keep else None
        found = Sweeping(request, judged, ready, missed, models, kept, peers, command).run(progress)
        if report is not None:
            publish(found, report, models, place, force=force)
    return found
