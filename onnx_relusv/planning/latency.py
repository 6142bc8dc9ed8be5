"""The times that plans are made with: of the whole original, of its blocks, of their candidates.

What blocks and their double layers take by themselves, timed at a few ranks of every form.

A tiny model of the block's own nodes, or of those that would take their place, runs on an input of
the real shape; dense and double layers in turn. Between timed ranks time follows the
multiply-accumulates along straight lines, those of a Conv's rank rounded up to a whole pack of
channels, since that is what onnxruntime's kernels compute on a CPU. That is an estimate, and what a
block takes inside of its model may be less or more than by itself.

Keeps a budget on measured latency: plans are made, timed, and made again.

The times that a plan is made with are estimates, block by block. So what the whole planned model
takes is measured before anything is fitted, and the limit for the next plan moves in proportion:
down while the model is over the budget, up where it leaves room, and always between limits that are
known to be too low and too high.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import sqrt

import numpy as np
from onnx import helper

from onnx_relusv.core.blocks import Block
from onnx_relusv.core.errors import BudgetError
from onnx_relusv.core.kinds import kind_of
from onnx_relusv.core.options import PlanOptions
from onnx_relusv.core.plans import Budgets, Candidate, Choice, Plan
from onnx_relusv.core.reduction import Change
from onnx_relusv.measuring.case import Case, Workspace
from onnx_relusv.measuring.inputs import Inputs
from onnx_relusv.planning.latency_models import (
    Race,
    Timing,
    TimingKey,
    Timings,
    length,
    timing_task,
)
from onnx_relusv.rewrites.changes import changes_of
from onnx_relusv.rewrites.low_rank.surgery import isolated, random_factors
from onnx_relusv.runtime.latency import undisturbed_latencies
from onnx_relusv.runtime.session import Session
from onnx_relusv.work.cache import NO_CACHE, Cache
from onnx_relusv.work.executors import Done, Known, Progress, Tasks, run

MOST_TIMED = 4
# Channels that a Conv's kernels take at once, with AVX-512; 8 with AVX2, where it is a little much.
_PACK = 16
Layer = tuple[str, int]


def block_seconds(
    case: Case,
    inputs: Inputs,
    workspace: Workspace,
    block: Block,
    batch: int,
    layers: Sequence[Layer],
    timings: Timings,
    cache: Cache = NO_CACHE,
) -> tuple[float, tuple[float, ...]]:
    """Seconds of one run of a block as it is, and with each of several double layers.

    Args:
        case: The model.
        inputs: Its samples.
        workspace: Where it runs, and what is kept.
        block: One of its blocks.
        batch: Samples in a run.
        layers: Forms and ranks.
        timings: Times that are known. Unless all that is wanted is there or in the cache, all of
            it is timed together, so that it can be compared, and put there.
        cache: Where times of earlier runs are.
    """
    shape = (block.source_shape[0] * batch, *block.source_shape[1:])
    dense = TimingKey(
        geometry=block.geometry,
        operators=tuple(case.model.proto.graph.node[index].op_type for index in block.nodes),
        activation=block.activation.kind,
        element_type=block.element_type,
        source_shape=shape,
        provider=workspace.provider,
    )
    keys = [dense, *(replace(dense, form=form, rank=rank) for form, rank in layers)]

    def together(
        tasks: Tasks[TimingKey, Timing],
        known: Known[TimingKey, Timing],
        done: Done[TimingKey, Timing],
    ) -> None:
        for key, seconds in zip(keys, _timed(case, workspace, block, shape, layers), strict=True):
            done(key, Timing(seconds))

    tasks = {key: timing_task(case, inputs, workspace, key) for key in keys}
    known = {key: Timing(timings[key]) for key in keys if key in timings}
    found = run(tasks, together, cache, known=known)
    timings.update((key, timing.seconds) for key, timing in found.items())
    first, *others = (timings[key] for key in keys)
    return first, tuple(others)


def _timed(
    case: Case, workspace: Workspace, block: Block, shape: tuple[int, ...], layers: Sequence[Layer]
) -> tuple[float, ...]:
    rng = np.random.default_rng(workspace.options.seed)
    dtype = helper.tensor_dtype_to_np_dtype(block.element_type)
    source = rng.standard_normal(shape, np.float32).astype(dtype)
    alone, linear = isolated(case.model, block, source), case.folding(block)
    models = [alone.dense()]
    for form, rank in layers:
        models.append(alone.double_layer(random_factors(form, block.geometry, linear, rank, rng)))
    sessions = [Session(model, workspace.provider) for model in models]
    return undisturbed_latencies(sessions, {block.source: source})


def layers_to_time(block: Block, offered: Sequence[Candidate]) -> tuple[Layer, ...]:
    """A few ranks of every form, whole packs if there are any, on a geometric ladder of MACs."""
    found: list[Layer] = []
    for form in dict.fromkeys(candidate.form for candidate in offered):
        own = [candidate for candidate in offered if candidate.form == form]
        largest = max(own, key=lambda candidate: candidate.rank)
        even = [c for c in own if c.rank % _pack(block) == 0 and c is not largest]
        macs = np.array([candidate.macs for candidate in [*(even or own), largest]], np.float64)
        wanted = np.geomspace(macs.min(), macs.max(), MOST_TIMED)
        places = {int(np.argmin(np.abs(macs - one))) for one in wanted}
        ranks = [candidate.rank for candidate in [*(even or own), largest]]
        found.extend((form, rank) for rank in sorted({ranks[place] for place in places}))
    return tuple(found)


def with_latency(
    block: Block, offered: Sequence[Candidate], seconds: Mapping[Layer, float], scale: float
) -> tuple[Candidate, ...]:
    """A block's candidates with their estimated times.

    Args:
        block: The block.
        offered: Its candidates.
        seconds: Of those that were timed, by `layers_to_time`.
        scale: What times by themselves are multiplied with.
    """
    pack = _pack(block)
    found: list[Candidate] = []
    for form in dict.fromkeys(candidate.form for candidate in offered):
        own = [candidate for candidate in offered if candidate.form == form]
        # MACs are proportional to the rank.
        packs = np.array([-(-candidate.rank // pack) for candidate in own], np.float64)
        timed = {
            count: seconds[form, candidate.rank]
            for count, candidate in zip(packs.tolist(), own, strict=True)
            if (form, candidate.rank) in seconds
        }
        known = sorted(timed)
        estimates = scale * np.interp(packs, known, [timed[count] for count in known])
        found.extend(
            replace(candidate, latency=float(estimate))
            for candidate, estimate in zip(own, estimates, strict=True)
        )
    return tuple(found)


def _pack(block: Block) -> int:
    return _PACK if kind_of(block.geometry).spatial else 1


# A measured share may seem to be over its budget by this share of it: measurements vary that much.
MARGIN = 0.05
MOST_MEASURED = 3

Candidates = Mapping[str, tuple[Candidate, ...]]
# Told a plan, says its measured latency as a share of the original's.
Measure = Callable[[Plan], float]


@dataclass(frozen=True, eq=False)
class Timed:
    """Candidates with their times, where there is a budget on latency.

    What blocks take by themselves may add up to more than the model takes. Then all of them are
    scaled down to it; otherwise what is left belongs to the rest of the model, which stays.

    Attributes:
        batch: Samples in a run.
        candidates: By block key, with estimated seconds; as they were without that budget.
        whole: Measured seconds of the original; NaN without that budget.
        blocks: By key, seconds of the blocks that have candidates, as they are.
        measure: Measures a plan's latency; None without that budget.
    """

    batch: int
    candidates: Candidates
    whole: float = math.nan
    blocks: Mapping[str, float] = field(default_factory=dict)
    measure: Measure | None = None


def timed_candidates(
    case: Case,
    inputs: Inputs,
    workspace: Workspace,
    candidates: Candidates,
    planning: PlanOptions,
    progress: Progress,
) -> Timed:
    """Times the candidates of a model; only looks at its batch without a budget on latency.

    Args:
        case: The model.
        inputs: Its samples.
        workspace: Where it runs, and what is kept.
        candidates: By block key; other blocks are not timed.
        planning: The budgets and the batch.
        progress: Shows the blocks.
    """
    if planning.budgets.latency is None:
        return Timed(length(case, planning.batch), candidates)
    timings: Timings = {}
    race = Race(case, inputs, workspace, planning.batch)
    layers = {
        block.key: layers_to_time(block, candidates[block.key])
        for block in case.blocks
        if candidates.get(block.key)
    }
    dense: dict[str, float] = {}
    changed: dict[str, tuple[float, ...]] = {}
    waiting = [block for block in case.blocks if block.key in layers]
    with progress.stage("Latency of the blocks' forms", len(waiting)) as advance:
        for block in waiting:
            dense[block.key], changed[block.key] = block_seconds(
                case,
                inputs,
                workspace,
                block,
                race.batch,
                layers[block.key],
                timings,
                workspace.cache,
            )
            advance(1)
    whole = race.original()
    scale = scale_of(whole, list(dense.values()))

    limit = planning.budgets.latency

    def share(changes: Sequence[Change]) -> float:
        found = race.against_plan(changes)
        return found.after / found.before

    def measure(plan: Plan) -> float:
        changes = changes_of(case, inputs, plan)
        if not changes:
            return 1.0
        first = share(changes)
        # What passes is timed again: one lucky measurement is no reason to fit anything.
        return first if first > limit else max(first, share(changes))

    timed = {
        block.key: with_latency(
            block,
            candidates[block.key],
            dict(zip(layers[block.key], changed[block.key], strict=True)),
            scale,
        )
        for block in waiting
    }
    check_reachable(limit, lambda: share(fastest(case.blocks, timed, dense, scale)))
    return Timed(
        batch=race.batch,
        candidates={**candidates, **timed},
        whole=whole,
        blocks={key: scale * seconds for key, seconds in dense.items()},
        measure=measure,
    )


def fastest(
    blocks: Sequence[Block],
    candidates: Candidates,
    dense: Mapping[str, float],
    scale: float,
) -> list[Change]:
    """Every block in the form that takes the least time by its estimate; those that gain by it."""
    found = []
    for block in blocks:
        best = min(candidates.get(block.key, ()), key=lambda one: one.latency, default=None)
        if best is not None and best.latency < scale * dense[block.key]:
            found.append(Change(block, best.form, best.rank))
    return found


def check_reachable(target: float, measure: Callable[[], float]) -> None:
    """Ends a run whose budget on latency even the fastest forms miss, before anything costly.

    Args:
        target: The budget, as a share of the original's time.
        measure: Measures the share that the fastest forms of all blocks take.

    Raises:
        BudgetError: Every measurement is over it by more than `MARGIN` of it.
    """
    shares: list[float] = []
    while len(shares) < MOST_MEASURED:
        shares.append(measure())
        if shares[-1] <= target * (1 + MARGIN):
            return
    raise BudgetError(
        f"{target:.4g} of the latency cannot be reached: with every block in its fastest form the "
        f"model still takes {min(shares):.4g}, the least that was measured; nothing was fitted. "
        "Ask for a larger share, or allow more blocks."
    )


def scale_of(whole: float, dense: Sequence[float]) -> float:
    """What times of blocks by themselves are multiplied with, so that they fit into the whole."""
    return min(1.0, whole / max(sum(dense), 1e-12))


MOST_PLANS = 5
_MOST_PLANS = 12
# A model that takes this share of the budget or more is near enough to it.
_NEAR = 0.95
# The next limit is a little lower than proportion says, so that noise does not decide.
_CAUTION = 0.98
# No limit lies above: a plan may cost a little more time than the original by its estimate.
_HIGHEST = 1.1
# Limits that are nearer to each other than this ratio are one.
_APART = 1.01


def plan_within(
    make: Callable[[Budgets], Plan],
    budgets: Budgets,
    target: float,
    measure: Callable[[Plan], float],
) -> Plan:
    """The plan with the least loss, among a few, whose measured latency keeps the budget.

    Args:
        make: Makes a plan with a limit on its estimated latency, or raises a BudgetError.
        budgets: The user's, one on latency among them.
        target: That one.
        measure: Measures a plan's latency, as a share of the original's.

    Raises:
        BudgetError: No plan keeps the budgets.
    """
    low, high, limit = 0.0, _HIGHEST, target
    shares: dict[tuple[Choice, ...], float] = {}
    best: Plan | None = None
    problem: BudgetError | None = None
    for _ in range(_MOST_PLANS):
        try:
            plan = make(replace(budgets, latency=limit))
        except BudgetError as error:
            problem, low = problem or error, limit
            limit = sqrt(low * high)
            if high < _APART * low:
                break
            continue
        is_known = plan.choices in shares
        share = shares[plan.choices] if is_known else measure(plan)
        shares[plan.choices] = share
        if share <= target:
            best, low = plan, limit
            # Where another budget binds, more room makes no other plan.
            if is_known or share >= _NEAR * target:
                break
        else:
            high = limit
        if len(shares) == MOST_PLANS or high < _APART * low:
            break
        limit *= _CAUTION * target / share
        if not low < limit < high:
            limit = sqrt(low * high)
    if best is not None:
        return replace(best, budgets=budgets)
    if problem is not None and not shares:
        raise problem
    raise BudgetError(
        f"{target:.4g} of the latency cannot be reached: the smallest share that was measured is "
        f"{min(shares.values()):.4g}. Ask for less, or allow more blocks."
    )
