"""The certificate of what a file loses, and which of the files that were tried is written.

Files are tested one after the other, from the largest down, on samples that nothing was fitted to
or chosen on; the first that fails ends it, and the last that passed is taken.

Let the files be f_1, f_2, ..., each of which is made when all before it have passed. As long as
they pass, what is made next is settled by the samples for fitting and choosing alone, so given
these the whole sequence is fixed. If a file is taken that loses too much, then the first such file
of the sequence has passed its test, and that has the error's probability: every test may have all
of the error, however many there are (testing in a fixed sequence; Maurer, Hothorn, Lehmacher 1995).
That would not hold if a file were made by what a test has found, such as how far a bound is from
the limit, or if tests went on behind a failure.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TypeVar

from onnx_relusv.checking.limit import DropLimit, judge
from onnx_relusv.checking.search import Descent, SizeTrial
from onnx_relusv.core.errors import BudgetError
from onnx_relusv.core.metric import LossBound, MetricChange, Trial
from onnx_relusv.core.reduction import FittedPlan
from onnx_relusv.graph.reference import runnable
from onnx_relusv.measuring.bounds import Discordance, ExpectedDrop, Loss
from onnx_relusv.measuring.case import Case, Workspace
from onnx_relusv.measuring.inputs import Inputs
from onnx_relusv.rewrites.apply import rewritten
from onnx_relusv.work.executors import Progress


def certified(
    case: Case,
    inputs: Inputs,
    workspace: Workspace,
    descent: Descent,
    limit: DropLimit,
    progress: Progress,
) -> tuple[FittedPlan, LossBound]:
    """The smallest of the tries that can be certified, and what it loses at most.

    With a metric all of it goes the same way, but the bounds are estimates and certify nothing.

    Args:
        case: The model, its samples split for certifying.
        inputs: Its samples.
        workspace: Where it runs, and what is kept.
        descent: What is tried, in its order.
        limit: What may be lost.
        progress: Shows the looks.

    Raises:
        BudgetError: None can.
        UsageError: The samples are not split for certifying.
    """
    seen: dict[SizeTrial, Loss] = {}
    bounds: dict[SizeTrial, float] = {}
    with progress.stage("Certification", len(descent)) as advance:
        loss = judge(case, workspace, inputs.certification, limit)

        def passes(trial: tuple[SizeTrial, FittedPlan]) -> bool:
            one, fitted = trial
            seen[one] = loss(runnable(case.model, rewritten(case, inputs, workspace, fitted)))
            bounds[one] = limit.scale * seen[one].bound(limit.error)
            advance(1)
            return bounds[one] <= limit.points

        passed = last_passed(descent, passes)
    tries = sorted({*descent.tries, *seen}, key=lambda one: one.plan.size, reverse=True)
    if passed is None:
        raise BudgetError(_how_far(tries, seen, limit))
    taken, fitted = passed
    return fitted, _bound(tries, taken, seen[taken], bounds, limit, inputs)


File = TypeVar("File")


def last_passed(files: Iterable[File], passes: Callable[[File], bool]) -> File | None:
    """The last of some files before the first that fails its test; None where the first one does.

    If each test lets a file that loses too much pass with some probability, whatever the file, then
    a file that loses too much is returned with no more than that probability, however many there
    are, and however their tests depend on each other.

    Args:
        files: In an order that tests have no part in but by ending it; none behind the first that
            fails is asked for.
        passes: Tests one.
    """
    taken = None
    for one in files:
        if not passes(one):
            break
        taken = one
    return taken


def _bound(
    tries: Sequence[SizeTrial],
    taken: SizeTrial,
    found: Loss,
    bounds: Mapping[SizeTrial, float],
    limit: DropLimit,
    inputs: Inputs,
) -> LossBound:
    bound = LossBound(
        exact=limit.metric is None,
        max_drop=limit.points,
        confidence=limit.confidence,
        fit_samples=0 if inputs.calibration is None else inputs.calibration.count,
        select_samples=taken.found.samples,
        certify_samples=found.samples,
        drop=limit.scale * found.drop,
        bound=bounds[taken],
        select_drop=limit.scale * taken.found.drop,
        trials=tuple(
            Trial(
                size=one.plan.size,
                select_drop=limit.scale * one.found.drop,
                bound=bounds.get(one),
            )
            for one in tries
        ),
    )
    if isinstance(found, Discordance):
        gained = None if found.gained is None else int(found.gained)
        return replace(bound, lost=int(found.lost), gained=gained)
    if isinstance(found, ExpectedDrop):
        return replace(bound, presumed=True, lost=len(found.differences))
    change = MetricChange(
        name=found.metric,
        samples=found.samples,
        part="certifying",
        before=found.before,
        after=found.after,
    )
    return replace(bound, metric=change, groups=found.groups, standard_error=found.standard_error)


def _how_far(tries: Sequence[SizeTrial], seen: Mapping[SizeTrial, Loss], limit: DropLimit) -> str:
    known = seen or {one: one.found for one in tries}
    best = min(known, key=lambda one: known[one].bound(limit.error))
    found = known[best]
    part = "set aside for certifying" if seen else "for choosing, where no try stayed within it"
    standing = "certified" if limit.metric is None else "estimated"
    bound = limit.scale * found.bound(limit.error)
    return (
        f"no file is {standing} to lose at most {limit.points:g} {limit.unit} at a confidence of "
        f"{limit.confidence:g}: the smallest bound is {bound:.3g} {limit.unit}, "
        f"with {best.plan.size:.4g} of the bytes, on the {found.samples} samples {part}. Nothing "
        "was written. Allow a larger --max-drop, or give more samples."
    )
