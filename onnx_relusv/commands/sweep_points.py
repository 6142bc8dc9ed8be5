"""The points of a sweep: what their methods are made ready on, and what their files lose.

What methods need is measured once for all sizes. Files are judged on samples that nothing was
fitted to and nothing was chosen on. A point is made by itself: in the process that measured, or in
another one (`sweep_workers`), by the same function.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from onnx_relusv.checking.evaluate import evaluate, measured_latencies
from onnx_relusv.commands.apply import write_fitted
from onnx_relusv.commands.stages import Prepared, measured, prepare, produce, settled
from onnx_relusv.commands.sweep_request import SweepRequest
from onnx_relusv.core.errors import BudgetError, InputError, UsageError, ValidationError
from onnx_relusv.core.measures import Latency
from onnx_relusv.core.options import PlanOptions
from onnx_relusv.core.plans import Budgets, Precision
from onnx_relusv.core.results import Evaluation, ModelFacts, Verdict
from onnx_relusv.core.sweeps import JudgedBy, Judges, MissedPoint, PairedDrop, SweepMethod
from onnx_relusv.graph.deciding import value_lengths
from onnx_relusv.graph.model import Model
from onnx_relusv.measuring.blocks import Ground
from onnx_relusv.measuring.case import (
    Case,
    Workspace,
    facts_of,
    open_model,
    selected,
    split_inputs,
)
from onnx_relusv.measuring.held_out import HeldOut, answers_output
from onnx_relusv.measuring.inputs import Inputs
from onnx_relusv.measuring.sample_warnings import check_rewritable
from onnx_relusv.planning.latency.pack import with_pack
from onnx_relusv.planning.latency.times_file import times_for
from onnx_relusv.rewrites.low_rank.candidates import LEAST_OPSET
from onnx_relusv.runtime.session import Session
from onnx_relusv.samples.samples import Samples, open_samples
from onnx_relusv.samples.sources import SampleSource
from onnx_relusv.samples.split import for_judging, nothing_aside
from onnx_relusv.work.executors import Progress
from onnx_relusv.work.files import Publication

# Of the interval of every single drop.
_ERROR = 0.05


@dataclass(frozen=True, eq=False)
class Judging:
    """A model whose files are judged.

    Attributes:
        case: The model.
        inputs: Its samples, split.
        workspace: Where it runs.
        samples: What files are judged on.
        judges: The same for the report.
        judged_by: What a file's loss is.
        held: Counts the answers that change; None without class scores.
    """

    case: Case
    inputs: Inputs
    workspace: Workspace
    samples: Samples
    judges: Judges
    judged_by: JudgedBy
    held: HeldOut | None

    def judge(
        self, file: Path, progress: Progress, *, timed: bool
    ) -> tuple[Evaluation, PairedDrop | None]:
        """Puts a file and the original side by side; progress is told of the samples."""
        model, samples = self.case.model, self.samples
        before, after = self._sessions(file)
        with progress.stage("Evaluation", samples.count) as advance:
            evaluation = evaluate(
                before,
                after,
                samples,
                model.output_names,
                advance=advance,
                lists=value_lengths(model),
                latency=timed,
            )
        return evaluation, None if self.held is None else _paired_drop(self.held, file)

    def latencies(self, file: Path) -> tuple[Latency, ...]:
        """Times of a run of a file and the original, in turns."""
        return measured_latencies(*self._sessions(file), self.samples)

    def _sessions(self, file: Path) -> tuple[Session, Session]:
        provider = self.workspace.provider
        return Session(self.case.model.path, provider), Session(file, provider)


def judging(case: Case, inputs: Inputs, workspace: Workspace, test: SampleSource | None) -> Judging:
    """Settles what files are judged on, and looks whether that can be done.

    Args:
        case: The model.
        inputs: Its samples, not split yet.
        workspace: Where it runs.
        test: Samples to judge on; None to set a part of the model's samples aside.

    Raises:
        InputError: The test samples cannot be read or do not fit, labels are no classes, or there
            are too few samples to set some aside.
        UsageError: The test samples are those that are fitted to.
    """
    whole = inputs.whole
    aside = nothing_aside if test else for_judging
    inputs = split_inputs(case, inputs, workspace.options, aside)
    parts = inputs.parts
    if test is None:
        samples = parts.certify
        if samples is None or parts.select is None:
            raise InputError(
                f"{whole.name}: {whole.count} samples are too few to set some aside for judging. "
                "Give more, or others with --test."
            )
    else:
        samples = case.knowing(open_samples(test, case.model.inputs))
        if samples.sha256 == whole.sha256:
            raise UsageError(
                f"{test.name}: these are the samples that are fitted to, and nothing is judged on "
                "them. Give others, or leave --test away to set a part of them aside."
            )
    found = answers_output(workspace.session(case.model), samples)
    # Labels that no answer could equal do not count.
    if found is not None and samples.labels is not None and not found.check_labels(samples):
        samples = replace(samples, labels=None)
    judges = Judges(
        path=samples.source.described,
        sha256=samples.sha256,
        count=samples.count,
        labelled=samples.labels is not None,
        set_aside=test is None,
        fit_samples=parts.fit.count,
        select_samples=0 if parts.select is None else parts.select.count,
    )
    if found is None:
        return Judging(case, inputs, workspace, samples, judges, "error", None)
    judged_by: JudgedBy = "agreement" if samples.labels is None else "accuracy"
    held = HeldOut(case, workspace, samples, found.name)
    return Judging(case, inputs, workspace, samples, judges, judged_by, held)


def _paired_drop(held: HeldOut, file: Path) -> PairedDrop:
    found = held.discordance(file)
    lower, upper = found.interval(_ERROR)
    return PairedDrop(
        lost=int(found.lost),
        gained=None if found.gained is None else int(found.gained),
        points=100 * found.drop,
        lower=100 * lower,
        upper=100 * upper,
    )


@dataclass(frozen=True, eq=False)
class Start:
    """What all methods of one precision begin with.

    Attributes:
        case: The model, with the blocks that this precision has.
        planning: Which of them may change.
    """

    case: Case
    planning: PlanOptions


Starts = Mapping[Precision, Start]


def begin(request: SweepRequest) -> tuple[SweepRequest, Judging, Starts]:
    """Opens all that a sweep works with: what judges its files, and what methods begin with.

    Returns:
        The sweep, its pack measured where plans are to go by it, and both.

    Raises:
        UsageError: A setting is out of range, or does not fit the model or the samples.
        InputError: Something cannot be read or does not fit.
    """
    model, samples, sweeping = request.model, request.samples, request.sweeping
    measuring = request.measuring
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
    request = replace(request, sweeping=replace(sweeping, pack=patterns.pack))
    start = Start(case, selected(case, patterns))
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
    return request, judging(case, inputs, workspace, request.test), starts


def out_of_reach(
    ways: Mapping[str, SweepMethod],
    sizes: Sequence[float],
    starts: Starts,
    inputs: Inputs,
    workspace: Workspace,
) -> dict[tuple[str, float], MissedPoint]:
    """Methods and sizes for which there is no plan, as shapes tell, with the reason.

    Args:
        ways: The methods, by name.
        sizes: Shares of the model's bytes.
        starts: What they begin with.
        inputs: The model's samples, split.
        workspace: Where it runs.
    """
    missed: dict[tuple[str, float], MissedPoint] = {}
    for name, way in ways.items():
        start = starts[way.precision]
        for size in sizes:
            try:
                point = way.planning(start.planning, size)
                settled(start.case, inputs, workspace, point)
            except BudgetError as error:
                missed[name, size] = MissedPoint(
                    method=name, size=size, failed=False, reason=str(error)
                )
    return missed


@contextmanager
def prepared_methods(
    ways: Mapping[str, SweepMethod],
    sizes: Sequence[float],
    starts: Starts,
    inputs: Inputs,
    workspace: Workspace,
    progress: Progress,
) -> Iterator[dict[str, Prepared]]:
    """Measures what methods need, once for all of them and for all sizes.

    Args:
        ways: The methods, by name; each reaches one of the sizes at least.
        sizes: Shares of the model's bytes.
        starts: What they begin with; methods without samples open the model without any.
        inputs: The model's samples, split.
        workspace: Where it runs, and what is kept.
        progress: Shows the stages.

    Raises:
        UsageError: There are too few samples to choose by.
    """
    with ExitStack() as stack:
        grounds: dict[tuple[bool, Start], Ground] = {}
        ready: dict[str, Prepared] = {}
        for name, way in ways.items():
            start = starts[way.precision]
            key = way.on_samples, start
            if key not in grounds:
                case, own = start.case, inputs
                if not way.on_samples:
                    case, own, _ = open_model(
                        case.model.path, None, workspace.options, name=case.model.name
                    )
                    own = split_inputs(case, own, workspace.options)
                grounds[key] = stack.enter_context(measured(case, own, workspace, progress))
            ground = grounds[key]
            # What is measured does not depend on the size; the largest is in reach if any is.
            wished = way.planning(start.planning, max(sizes))
            model, settled_planning = settled(ground.case, ground.inputs, workspace, wished)
            ready[name] = prepare(replace(ground, case=model), settled_planning, progress)
        yield ready


@dataclass(frozen=True, eq=False, kw_only=True)
class MadePoint:
    """A file of a sweep, written, validated and judged.

    Attributes:
        after: What it is, where it was made.
        level: As of `SweepPoint`.
        damage: As of `SweepPoint`.
        evaluation: The original and the file side by side; without times where these are to come.
        drop: As of `SweepPoint`.
    """

    after: ModelFacts
    level: float
    damage: float | None
    evaluation: Evaluation
    drop: PairedDrop | None


def make_point(
    method: str,
    size: float,
    ready: Prepared,
    judged: Judging,
    file: Path,
    progress: Progress,
    *,
    timed: bool = True,
) -> MadePoint | MissedPoint:
    """Makes the file of a point and judges it.

    Args:
        method: Name of the method.
        size: Share of the original's bytes.
        ready: The method.
        judged: What judges the file.
        file: Where it is written.
        progress: Shows the stages.
        timed: Whether its runs are timed.

    Returns:
        What was made; what was missed where the size cannot be reached, or the file fails.
    """
    case, ground = judged.case, ready.ground
    facts: list[ModelFacts] = []

    def before_publishing(written: Model, verdict: Verdict, with_it: Publication) -> None:
        facts.append(facts_of(written, ground.workspace.provider, case.example, case.example_batch))

    try:
        fitted = produce(ready, Budgets(size=size), progress).fitted
        write_fitted(
            ground.case, ground.inputs, ground.workspace, fitted, file, progress, before_publishing
        )
    except (BudgetError, ValidationError) as error:
        failed = isinstance(error, ValidationError)
        return MissedPoint(method=method, size=size, failed=failed, reason=str(error))
    evaluation, drop = judged.judge(file, progress, timed=timed)
    (after,) = facts
    return MadePoint(
        after=after,
        level=fitted.plan.level,
        damage=fitted.plan.damage,
        evaluation=evaluation,
        drop=drop,
    )


Points = Callable[[str, float, Path, Progress], MadePoint | MissedPoint]


@dataclass(frozen=True, eq=False)
class PointsHere:
    """Makes points in this process, as `Points`.

    Attributes:
        judged: What judges their files.
        ready: The methods, by name.
    """

    judged: Judging
    ready: Mapping[str, Prepared]

    def __call__(
        self, method: str, size: float, file: Path, progress: Progress
    ) -> MadePoint | MissedPoint:
        """The point of a method and a size."""
        return make_point(method, size, self.ready[method], self.judged, file, progress)
