"""The points of a sweep: what their methods are made ready on, and what their files lose.

What methods need is measured once for all sizes. Files are judged on samples that nothing was
fitted to and nothing was chosen on.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from onnx_relusv.checking.evaluate import evaluate
from onnx_relusv.commands.stages import Prepared, measured, prepare, settled
from onnx_relusv.core.errors import BudgetError, InputError, UsageError
from onnx_relusv.core.options import PlanOptions
from onnx_relusv.core.plans import Precision
from onnx_relusv.core.results import Evaluation
from onnx_relusv.core.sweeps import JudgedBy, Judges, MissedPoint, PairedDrop, SweepMethod
from onnx_relusv.graph.deciding import value_lengths
from onnx_relusv.measuring.blocks import Ground
from onnx_relusv.measuring.case import Case, Workspace, open_model, split_inputs
from onnx_relusv.measuring.held_out import HeldOut, answers_output
from onnx_relusv.measuring.inputs import Inputs
from onnx_relusv.runtime.session import Session
from onnx_relusv.samples.samples import Samples, open_samples
from onnx_relusv.samples.sources import SampleSource
from onnx_relusv.samples.split import for_judging, nothing_aside
from onnx_relusv.work.executors import Progress

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

    def judge(self, file: Path, progress: Progress) -> tuple[Evaluation, PairedDrop | None]:
        """Puts a file and the original side by side; progress is told of the samples."""
        model, samples = self.case.model, self.samples
        before, after = (Session(path, self.workspace.provider) for path in (model.path, file))
        with progress.stage("Evaluation", samples.count) as advance:
            evaluation = evaluate(
                before,
                after,
                samples,
                model.output_names,
                advance=advance,
                lists=value_lengths(model),
            )
        return evaluation, None if self.held is None else _paired_drop(self.held, file)


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
    seed = workspace.options.seed
    inputs = split_inputs(case, inputs, seed, nothing_aside if test else for_judging)
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
                    own = split_inputs(case, own, workspace.options.seed)
                grounds[key] = stack.enter_context(measured(case, own, workspace, progress))
            ground = grounds[key]
            # What is measured does not depend on the size; the largest is in reach if any is.
            wished = way.planning(start.planning, max(sizes))
            model, settled_planning = settled(ground.case, ground.inputs, workspace, wished)
            ready[name] = prepare(replace(ground, case=model), settled_planning, progress)
        yield ready
