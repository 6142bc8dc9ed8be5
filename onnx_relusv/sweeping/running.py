"""Makes a model smaller at many sizes by several methods, and judges every file.

What plans rest on is measured once. Each point is fitted, rewritten and validated as a file of
`compress` is; a size that cannot be reached is passed over, and a file that fails is reported.
"""

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from math import isfinite
from pathlib import Path

from onnx_relusv.errors import BudgetError, ValidationError
from onnx_relusv.graph.model import Model
from onnx_relusv.opened import facts_of, provenance
from onnx_relusv.progress import Progress
from onnx_relusv.publishing import Publication
from onnx_relusv.results import ModelFacts, Verdict
from onnx_relusv.rewriting import write_fitted
from onnx_relusv.sweeping.judging import Judging
from onnx_relusv.sweeping.knee import knee
from onnx_relusv.sweeping.methods import METHODS, Way
from onnx_relusv.sweeping.options import SweepOptions
from onnx_relusv.sweeps import MissedPoint, Sweep, SweepPoint
from onnx_relusv.temporary_files import folder_in


@dataclass(frozen=True, eq=False)
class Sweeping:
    """What a sweep goes through, and where its files go.

    Attributes:
        asked: What it is asked for.
        judging: What judges the files.
        ways: The methods that reach any size, ready, by name.
        out_of_reach: Methods and sizes that are known to have no plan, with the reason.
        folder: Where files are made.
        kept: Where they are found afterwards; None where they are not kept.
        command: Goes into the provenance.
    """

    asked: SweepOptions
    judging: Judging
    ways: Mapping[str, Way]
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
        methods = self.asked.methods
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
        opened, judges = self.judging.opened, self.judging.judges
        if not any(METHODS[name].on_samples for name in methods):
            judges = replace(judges, fit_samples=0, select_samples=0)
        return Sweep(
            model=opened.facts,
            judged_by=self.judging.judged_by,
            judges=judges,
            meanings={name: METHODS[name].meaning for name in methods},
            points=tuple(points),
            knees={name: _knee([p for p in points if p.method == name]) for name in methods},
            missed=tuple(missed),
            kept=self.kept is not None,
            provenance=provenance(
                opened.provider, opened.options, opened.samples, self.command, self.asked.settings
            ),
        )

    def _point(self, method: str, size: float, progress: Progress) -> SweepPoint:
        opened, way = self.judging.opened, self.ways[method]
        name = f"{self.asked.name(method, size)}.onnx"
        fitted = way.fitted(size, progress)
        facts: list[ModelFacts] = []

        def before_publishing(written: Model, verdict: Verdict, with_it: Publication) -> None:
            facts.append(facts_of(written, opened.provider, opened.example, opened.example_batch))

        with self._place() as place:
            file = place / name
            write_fitted(way.ground.opened, fitted, file, progress, before_publishing)
            evaluation, drop = self.judging.judge(file, progress)
        before, (after,) = opened.facts, facts
        return SweepPoint(
            method=method,
            size=size,
            after=replace(after, path=(self.kept or Path()) / name),
            bytes_share=after.bytes / before.bytes,
            macs_share=after.macs / before.macs if before.macs else 1.0,
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
    place = knee([point.bytes_share for point in finite], [point.loss for point in finite])
    return None if place is None else finite[place].size


def check_any_reached(asked: SweepOptions, missed: Mapping[tuple[str, float], Exception]) -> None:
    """Checks before any work that there is something to do.

    Raises:
        BudgetError: No method reaches any of the sizes.
    """
    pairs = [(name, size) for name in asked.methods for size in asked.ladder]
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
