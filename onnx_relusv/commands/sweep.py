"""Makes a model smaller at many sizes by several methods, and judges every file.

What plans rest on is measured once. Each point is fitted, rewritten and validated as a file of
`compress` is; a size that cannot be reached is passed over, and a file that fails is reported.

What a sweep is of, and the command that repeats each point.
"""

import shlex
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from math import isfinite
from pathlib import Path

from onnx_relusv.commands.apply import write_fitted
from onnx_relusv.commands.stages import Prepared, produce
from onnx_relusv.commands.sweep_folder import MODELS, check_sweep_folder, knee, publish, workplace
from onnx_relusv.commands.sweep_points import (
    Judging,
    judging,
    out_of_reach,
    prepared_methods,
)
from onnx_relusv.core.arguments import StrPath, as_optional_path, as_path, as_record
from onnx_relusv.core.errors import BudgetError, InputError, UsageError, ValidationError
from onnx_relusv.core.options import (
    MeasureOptions,
    PlanOptions,
    Settings,
    command_options,
    settings_of,
)
from onnx_relusv.core.plans import Budgets
from onnx_relusv.core.results import ModelFacts, Verdict
from onnx_relusv.core.sweeps import SWEEP_METHODS, MissedPoint, Sweep, SweepOptions, SweepPoint
from onnx_relusv.graph.model import Model
from onnx_relusv.measuring.case import facts_of, open_model, provenance, selected
from onnx_relusv.measuring.sample_warnings import check_repeatable
from onnx_relusv.planning.settling import saying_where_bytes_are
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
    """

    model: Path
    samples: Path
    test: Path | None
    sweeping: SweepOptions
    measuring: MeasureOptions

    @property
    def settings(self) -> Settings:
        """The settings that repeat the sweep, but for those of measuring."""
        test = {} if self.test is None else {"test": str(self.test.absolute())}
        return {**settings_of(self.sweeping), **test}

    @property
    def ladder(self) -> list[float]:
        """The sizes, the largest first."""
        return sorted(self.sweeping.sizes, reverse=True)

    def name(self, method: str, size: float) -> str:
        """What tells a point's file from the others, without an ending."""
        return f"{self.model.stem}-{method}-{size!r}"

    def command(self, method: str, size: float) -> str:
        """The command line that makes a point's file again.

        That is `compress`; but where files are judged on a part of the samples, other parts are
        fitted to than there, and it takes a sweep of this one point. With external data the file
        has to have the same name to be the same.
        """
        way, name = SWEEP_METHODS[method], self.name(method, size)
        if self.test is None and way.on_samples:
            asked = ["sweep", str(self.model), "--samples", str(self.samples)]
            asked += ["--report", name, "--sizes", repr(size), "--methods", method, "--keep"]
        else:
            asked = ["compress", str(self.model), "--output", f"{name}.onnx"]
            asked += ["--size", repr(size), "--method", way.method, "--allocation", way.allocation]
            asked += ["--samples", str(self.samples)] if way.on_samples else []
        patterns = replace(self.sweeping, sizes=_DEFAULTS.sizes, methods=_DEFAULTS.methods)
        # The seed is stated even where it is the default.
        seed = ["--seed", str(self.measuring.seed)]
        others = command_options(replace(self.measuring, seed=0))
        return shlex.join(["onnx-relusv", *asked, *seed, *others, *command_options(patterns)])


@dataclass(frozen=True, eq=False)
class Sweeping:
    """What a sweep goes through, and where its files go.

    Attributes:
        asked: What it is asked for.
        judging: What judges the files.
        ready: The methods that reach any size, by name.
        out_of_reach: Methods and sizes that are known to have no plan, with the reason.
        folder: Where files are made.
        kept: Where they are found afterwards; None where they are not kept.
        command: Goes into the provenance.
    """

    asked: SweepRequest
    judging: Judging
    ready: Mapping[str, Prepared]
    out_of_reach: Mapping[tuple[str, float], BudgetError]
    folder: Path
    kept: Path | None
    command: str

    def run(self, progress: Progress) -> Sweep:
        """Goes through all methods and sizes.

        Raises:
            BudgetError: No method reaches any of the sizes.
            ValidationError: None does, and a file failed its validation.
        """
        points: list[SweepPoint] = []
        missed: list[MissedPoint] = []
        methods = self.asked.sweeping.methods
        pairs = [(name, size) for name in methods for size in self.asked.ladder]
        with progress.stage("Sweep", len(pairs)) as advance:
            for name, size in pairs:
                try:
                    if (name, size) in self.out_of_reach:
                        raise self.out_of_reach[name, size]
                    points.append(self._point(name, size, progress))
                except (BudgetError, ValidationError) as error:
                    failed = isinstance(error, ValidationError)
                    missed.append(
                        MissedPoint(method=name, size=size, failed=failed, reason=str(error))
                    )
                advance(1)
        _check_any(points, missed)
        judges, workspace = self.judging.judges, self.judging.workspace
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
            provenance=provenance(
                workspace.provider,
                workspace.options,
                self.judging.inputs.samples,
                self.command,
                self.asked.settings,
            ),
        )

    def _point(self, method: str, size: float, progress: Progress) -> SweepPoint:
        case, ready = self.judging.case, self.ready[method]
        ground = ready.ground
        name = f"{self.asked.name(method, size)}.onnx"
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
            command=self.asked.command(method, size),
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


def check_any_reached(asked: SweepRequest, missed: Mapping[tuple[str, float], Exception]) -> None:
    """Checks before any work that there is something to do.

    Raises:
        BudgetError: No method reaches any of the sizes.
    """
    pairs = [(name, size) for name in asked.sweeping.methods for size in asked.ladder]
    _check_any(
        [pair for pair in pairs if pair not in missed],
        [
            MissedPoint(method=name, size=size, failed=False, reason=str(missed[name, size]))
            for name, size in pairs
            if (name, size) in missed
        ],
    )


def _check_any(points: Sequence[object], missed: Sequence[MissedPoint]) -> None:
    if points:
        return
    failures = [one for one in missed if one.failed]
    worst = (failures or list(missed))[0]
    message = (
        f"no point is left. The first reason, {worst.method} at {worst.size:g}: {worst.reason}"
    )
    raise ValidationError(message) if failures else BudgetError(message)


def sweep(
    model: StrPath,
    *,
    samples: StrPath,
    test: StrPath | None = None,
    sweeping: SweepOptions | None = None,
    measuring: MeasureOptions | None = None,
    report: StrPath | None = None,
    keep: bool = False,
    force: bool = False,
    command: str = "onnx_relusv.sweep",
    progress: Progress | None = None,
) -> Sweep:
    """Makes a model smaller at many sizes by several methods and judges every file.

    What plans rest on is measured once, for all of them.

    Args:
        model: An ONNX file.
        samples: What is measured and fitted on.
        test: What files are judged on; if None, a part of the samples that is set aside for it.
        sweeping: Sizes, methods, and which blocks may change.
        measuring: Provider, seed and memory.
        report: Folder for report.json and report.html.
        keep: Whether the files stay, in the report's folder `models`.
        force: Overwrite existing outputs.
        command: Goes into the provenance.
        progress: Shown the stages.

    Raises:
        UsageError: A setting is out of range, or an output exists or cannot be written.
        InputError: Something cannot be read or does not fit.
        BudgetError: No method reaches any of the sizes.
        ValidationError: None does, and a file failed its validation.
    """
    model, samples = as_path("model", model), as_path("samples", samples)
    test, report = as_optional_path("test", test), as_optional_path("report", report)
    measuring, progress = as_record("measuring", measuring, MeasureOptions), progress or Silent()
    sweeping = as_record("sweeping", sweeping, SweepOptions)
    asked = SweepRequest(
        model=model, samples=samples, test=test, sweeping=sweeping, measuring=measuring
    )
    check_utf8(model, InputError)
    check_utf8(report or model, UsageError)
    check_sweep_folder(
        report,
        keep=keep,
        force=force,
        model=model,
        read=[samples, test],
        cache=measuring.cache,
    )
    case, inputs, workspace = open_model(model, samples, measuring)
    check_repeatable(case, workspace)
    planning = selected(case, PlanOptions(include=sweeping.include, exclude=sweeping.exclude))
    judged = judging(case, inputs, workspace, test)
    inputs = judged.inputs
    sizes, methods = sweeping.sizes, sweeping.methods
    missed = out_of_reach(methods, asked.ladder, case, inputs, workspace, planning)
    with saying_where_bytes_are(case, planning):
        check_any_reached(asked, missed)
    reaching = [name for name in methods if any((name, size) not in missed for size in sizes)]
    with (
        saying_where_bytes_are(case, planning),
        workplace(report) as place,
        prepared_methods(
            reaching, asked.ladder, case, inputs, workspace, planning, progress
        ) as ready,
    ):
        models = place / MODELS
        models.mkdir()
        kept = report / MODELS if report is not None and keep else None
        found = Sweeping(asked, judged, ready, missed, models, kept, command).run(progress)
        if report is not None:
            publish(found, report, models, place, force=force)
    return found
