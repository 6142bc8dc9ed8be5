"""What a written file takes: the whole of it under a budget, and every block that changed."""

from pathlib import Path

import numpy as np
from onnx import helper

from onnx_relusv.core.errors import BudgetError
from onnx_relusv.core.measures import Latency, LatencyOutcome
from onnx_relusv.core.plans import Plan
from onnx_relusv.core.reduction import Change
from onnx_relusv.graph.model import Model
from onnx_relusv.measuring.case import Case, Workspace
from onnx_relusv.measuring.inputs import Inputs
from onnx_relusv.planning.latency.models import Race, any_factors, length
from onnx_relusv.planning.latency.timed import MARGIN, MOST_MEASURED
from onnx_relusv.planning.latency.variants import changed_blocks
from onnx_relusv.report import words
from onnx_relusv.rewrites.changes import changes_of
from onnx_relusv.rewrites.low_rank.forms import FORMS
from onnx_relusv.rewrites.low_rank.surgery import isolated
from onnx_relusv.runtime.latency import undisturbed_latencies
from onnx_relusv.runtime.session import Session, default_threads
from onnx_relusv.work.executors import Progress

# A block that takes longer by more than this share is called slower.
SLOWER = 0.1
# Seconds: shorter runs differ by what starts them.
_TOO_SHORT = 1e-4

# By key, seconds of a block by itself, before and after.
BlockTimes = dict[str, tuple[float, float]]


def final_latency(
    case: Case, inputs: Inputs, workspace: Workspace, plan: Plan, written: Model
) -> LatencyOutcome | None:
    """Measures a file that is about to get its name; None without a budget on latency.

    A file that seems to be over the budget is measured again, since a machine that is busy with
    something else does not hit both models alike. What was planned by the times of another machine
    is measured here, and held to nothing.

    Raises:
        BudgetError: It is over its budget by more than `MARGIN` of it.
    """
    asked = plan.budgets.latency
    if asked is None:
        return None
    race = Race(case, inputs, workspace, plan.batch)
    elsewhere = plan.timed_on is not None and plan.timed_on.from_file
    most = 1 if elsewhere else MOST_MEASURED
    found: list[LatencyOutcome] = []
    while len(found) < most and not any(one.share <= asked for one in found):
        found.append(
            LatencyOutcome(
                asked=asked,
                planned=plan.latency,
                measured=race.against(written.path),
                provider=workspace.provider,
                threads=default_threads(),
            )
        )
    least = min(found, key=lambda one: one.share)
    if not elsewhere:
        check_latency(least.asked, least.measured)
    return least


def slower_file(
    case: Case, inputs: Inputs, workspace: Workspace, batch: int, written: Path, seen: Latency
) -> tuple[str, ...]:
    """A warning where a file takes longer than the original; empty where it does not.

    A short look may err, so what seems slower is timed again for longer.

    Args:
        case: The original.
        inputs: Its samples.
        workspace: Where it runs.
        batch: Samples in a run, where the model leaves it open.
        written: The file.
        seen: What a short look found.
    """
    if seen.before < _TOO_SHORT or seen.after <= seen.before * (1 + SLOWER):
        return ()
    found = Race(case, inputs, workspace, batch).against(written)
    if found.after <= found.before * (1 + SLOWER):
        return ()
    return (
        f"The file is slower than the original: it takes {found.after / found.before:.2f} times as "
        f"long at batch {found.batch} here ({words.seconds(found.before)} -> "
        f"{words.seconds(found.after)}). If time matters, ask for more bytes, or for --latency 1.",
    )


def check_planned_latency(case: Case, inputs: Inputs, workspace: Workspace, plan: Plan) -> None:
    """Holds a plan that was read against its budget on latency, before anything is fitted.

    Stand-ins take the place of factors, since time does not depend on the weights' values. A plan
    by times from a file is for the machine that these are of, and is held to nothing here.

    Raises:
        BudgetError: It is over its budget by more than `MARGIN` of it, whenever it is measured.
    """
    asked = plan.budgets.latency
    elsewhere = plan.timed_on is not None and plan.timed_on.from_file
    if asked is None or elsewhere or not changed_blocks(case, inputs, plan):
        return
    race = Race(case, inputs, workspace, plan.batch)
    shares: list[float] = []
    while len(shares) < MOST_MEASURED:
        shares.append(race.share(plan))
        if shares[-1] <= asked * (1 + MARGIN):
            return
    raise BudgetError(
        f"the plan takes {min(shares):.4g} of the time at batch {race.batch}, over its budget of "
        f"{asked:.4g}; nothing was fitted. It may have been made on another machine, or this one "
        "is busy: make a plan here, or set its latency budget to null."
    )


def check_latency(asked: float, measured: Latency) -> None:
    """Holds a measured time against a budget.

    Raises:
        BudgetError: It is over the budget by more than `MARGIN` of it.
    """
    share = measured.after / measured.before
    if share > asked * (1 + MARGIN):
        raise BudgetError(
            f"the file takes {share:.4g} of the time at batch {measured.batch}, over the budget of "
            f"{asked:.4g}; nothing was written. Is the machine busy? Try again, or ask for less."
        )


def block_times(
    case: Case, inputs: Inputs, workspace: Workspace, plan: Plan, progress: Progress
) -> BlockTimes:
    """Times every block that changes by itself, before and after; equal ones once.

    Not those with fewer channels or with integers: what these take depends on their neighbours.
    """
    changes = [
        change
        for change in changes_of(case, inputs, plan)
        if not FORMS[change.form].one_layer and not change.kept and not change.is_int8
    ]
    batch = length(case, plan.batch)
    known: dict[tuple[object, ...], tuple[float, float]] = {}
    found: BlockTimes = {}
    with progress.stage("Latency of the changed blocks", len(changes)) as advance:
        for change in changes:
            block = change.block
            shape = (block.source_shape[0] * batch, *block.source_shape[1:])
            operators = tuple(case.model.proto.graph.node[index].op_type for index in block.nodes)
            layers = block.geometry, change.form, change.rank
            key = (*layers, operators, block.activation.kind, block.element_type, shape)
            if key not in known:
                known[key] = _by_itself(case, workspace, change, shape)
            found[block.key] = known[key]
            advance(1)
    return found


def _by_itself(
    case: Case, workspace: Workspace, change: Change, shape: tuple[int, ...]
) -> tuple[float, float]:
    """Seconds of a block by itself, before and after."""
    rng = np.random.default_rng(workspace.options.seed)
    dtype = helper.tensor_dtype_to_np_dtype(change.block.element_type)
    source = rng.standard_normal(shape, np.float32).astype(dtype)
    alone = isolated(case.model, change.block, source)
    made = alone.dense(), alone.double_layer(any_factors(case, change, rng))
    sessions = [Session(each, workspace.provider) for each in made]
    before, after = undisturbed_latencies(sessions, {change.block.source: source})
    return before, after


def slower_blocks(times: BlockTimes, batch: int) -> tuple[str, ...]:
    """A warning that names the blocks that their rewrite makes slower; empty without any."""
    named = [
        f"{key} ({words.seconds(before)} -> {words.seconds(after)})"
        for key, (before, after) in times.items()
        if after > before * (1 + SLOWER)
    ]
    if not named:
        return ()
    return (
        f"Smaller, but slower by themselves at batch {batch}: {', '.join(named)}. "
        "--exclude keeps them as they are.",
    )
