"""The times that plans are made with: of the whole original, of its blocks, of their candidates.

What blocks and their double layers take by themselves, timed at a few ranks of every form.

A tiny model of the block's own nodes, or of those that would take their place, runs on an input of
the real shape; dense and double layers in turn. Between timed ranks time follows the
multiply-accumulates along straight lines, those of a Conv's rank rounded up to a whole pack of
channels, since that is what onnxruntime's kernels compute on a CPU. That is an estimate, and what a
block takes inside of its model may be less or more than by itself.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from onnx import helper

from onnx_relusv.core.blocks import Block
from onnx_relusv.core.errors import BudgetError
from onnx_relusv.core.kinds import kind_of
from onnx_relusv.core.options import PlanOptions
from onnx_relusv.core.plans import Candidate, Int8Format, Plan
from onnx_relusv.core.reduction import Change, Integers
from onnx_relusv.graph.reference import runnable
from onnx_relusv.measuring.case import Case, Workspace
from onnx_relusv.measuring.inputs import Inputs
from onnx_relusv.planning.latency.kernels import Kernels, ModelledTimes
from onnx_relusv.planning.latency.models import (
    Race,
    Timing,
    TimingKey,
    Timings,
    any_factors,
    length,
    timing_task,
    with_changes,
    worth,
)
from onnx_relusv.rewrites.changes import changes_of
from onnx_relusv.rewrites.int8.isolated import OnIntegers
from onnx_relusv.rewrites.low_rank.forms import DENSE, FORMS
from onnx_relusv.rewrites.low_rank.method import LayerItem
from onnx_relusv.rewrites.low_rank.surgery import isolated
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
    *,
    integers: OnIntegers | None = None,
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
        integers: How the double layers are computed with integers; None where they are not.
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
    other = replace(dense, integers=integers)
    keys = [dense, *(replace(other, form=form, rank=rank) for form, rank in layers)]

    def together(
        tasks: Tasks[TimingKey, Timing],
        known: Known[TimingKey, Timing],
        done: Done[TimingKey, Timing],
    ) -> None:
        measured = _timed(case, workspace, block, shape, layers, integers)
        for key, seconds in zip(keys, measured, strict=True):
            done(key, Timing(seconds))

    tasks = {key: timing_task(case, inputs, workspace, key) for key in keys}
    known = {key: Timing(timings[key]) for key in keys if key in timings}
    found = run(tasks, together, cache, known=known)
    timings.update((key, timing.seconds) for key, timing in found.items())
    first, *others = (timings[key] for key in keys)
    return first, tuple(others)


def _timed(
    case: Case,
    workspace: Workspace,
    block: Block,
    shape: tuple[int, ...],
    layers: Sequence[Layer],
    integers: OnIntegers | None,
) -> tuple[float, ...]:
    rng = np.random.default_rng(workspace.options.seed)
    dtype = helper.tensor_dtype_to_np_dtype(block.element_type)
    source = rng.standard_normal(shape, np.float32).astype(dtype)
    alone = isolated(case.model, block, source)
    format_ = None if integers is None else Integers(integers.int8_format)
    changes = [Change(block, form, rank, integers=format_) for form, rank in layers]
    factors = [any_factors(case, change, rng) for change in changes]
    dense = Session(alone.dense(), workspace.provider)
    if integers is None:
        others = [Session(alone.double_layer(each), workspace.provider) for each in factors]
        return undisturbed_latencies([dense, *others], {block.source: source})
    protos = [integers.alone(alone.rewritten(each), block) for each in factors]
    others = [Session(runnable(case.model, proto), workspace.provider) for proto in protos]
    (name,), given = others[0].input_names, integers.given(source)
    return (
        *undisturbed_latencies([dense], {block.source: source}),
        *undisturbed_latencies(others, {name: given}),
    )


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
    block: Block, offered: Sequence[Candidate], seconds: Mapping[Layer, float]
) -> tuple[Candidate, ...]:
    """A block's candidates with their estimated times.

    Args:
        block: The block.
        offered: Its candidates.
        seconds: Of those that were timed, by `layers_to_time`.
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
        estimates = np.interp(packs, known, [timed[count] for count in known])
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
    """What blocks may become, with times, where there is a budget on latency.

    What blocks take by themselves may add up to more than the model takes. Then all of them are
    scaled down to it; otherwise what is left belongs to the rest of the model, which stays.

    Attributes:
        batch: Samples in a run.
        items: By block key, with estimated seconds, and without what makes a block slower; as they
            were without that budget.
        whole: Measured seconds of the original; NaN without that budget.
        measure: Measures a plan's latency; None without that budget.
        slower: By key of the blocks that integers make slower, seconds by themselves with the
            numbers of the file, and with integers.
        times: By the model of the kernels, of all that blocks may become; None with that budget,
            and where nothing is to go by them.
    """

    batch: int
    items: Mapping[str, LayerItem]
    whole: float = math.nan
    measure: Measure | None = None
    slower: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    times: ModelledTimes | None = None


def timed_items(
    case: Case,
    inputs: Inputs,
    workspace: Workspace,
    items: Sequence[LayerItem],
    planning: PlanOptions,
    progress: Progress,
) -> Timed:
    """Times what blocks may become; only looks at the batch without a budget on latency.

    Args:
        case: The model.
        inputs: Its samples.
        workspace: Where it runs, and what is kept.
        items: Other blocks are not timed.
        planning: The budgets, the batch, and what integers are.
        progress: Shows the blocks.

    Raises:
        BudgetError: Even the fastest forms of all blocks are over the budget.
    """
    limit, offered = planning.budgets.latency, {item.key: item for item in items}
    if limit is None:
        batch = length(case, planning.batch)
        if planning.pack is None:
            return Timed(batch, offered)
        blocks = {block.key: block for block in case.blocks}
        modelled = ModelledTimes(Kernels(batch, planning.pack), blocks)
        return Timed(batch, offered, whole=modelled.total, times=modelled)
    race = Race(case, inputs, workspace, planning.batch)
    integers = {
        key: Change(item.block, DENSE.name, layer.rank, integers=Integers(planning.int8_format))
        for key, item in offered.items()
        if (layer := item.layers[0]) is not None
    }
    all_integers = list(integers.values())
    times = _block_times(case, inputs, workspace, offered, all_integers, race.batch, progress)
    whole = race.original()

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

    def gain(keys: Sequence[str]) -> float:
        left = [change for key, change in integers.items() if key not in keys]
        return 1 - race.share(left, all_integers)

    times = _fitting_in(times, whole, share(all_integers) if integers else None)
    timed = {
        key: with_latency(item.block, item.candidates, times[key].layers)
        for key, item in offered.items()
    }
    dense = {key: found.dense for key, found in times.items()}
    check_reachable(limit, lambda: share(fastest(case.blocks, timed, dense, planning.int8_format)))
    suspects = [key for key in integers if times[key].in_its_form > dense[key]]
    return Timed(
        batch=race.batch,
        items={
            key: item.timed(timed[key], dense[key]).fast_enough() for key, item in offered.items()
        },
        whole=whole,
        measure=measure,
        slower={key: (dense[key], times[key].in_its_form) for key in worth(suspects, gain)},
    )


@dataclass(frozen=True)
class _Times:
    """Seconds of a block as it is, and of what it may become, by form and rank."""

    dense: float
    layers: Mapping[Layer, float]

    @property
    def in_its_form(self) -> float:
        """In its own form with integers; NaN where that was not timed."""
        found = (seconds for (form, _), seconds in self.layers.items() if FORMS[form].one_layer)
        return next(found, math.nan)

    def scaled(self, dense: float, layers: float) -> "_Times":
        """Multiplied."""
        found = {layer: layers * seconds for layer, seconds in self.layers.items()}
        return _Times(dense * self.dense, found)


def _block_times(
    case: Case,
    inputs: Inputs,
    workspace: Workspace,
    offered: Mapping[str, LayerItem],
    all_integers: Sequence[Change],
    batch: int,
    progress: Progress,
) -> dict[str, _Times]:
    """What blocks take by themselves, integers where all of `all_integers` have some."""
    timings: Timings = {}
    numbers = {change.block.key: change.integers for change in all_integers}
    # It holds copies of all weights, which blocks of floats do not need.
    around = with_changes(case, workspace, all_integers) if all_integers else None
    found: dict[str, _Times] = {}
    with progress.stage("Latency of the blocks' forms", len(offered)) as advance:
        for key, item in offered.items():
            own, integers = numbers.get(key), None
            if own is not None and around is not None:
                integers = OnIntegers.of(around, item.block.source, key, own.format)
            layers = layers_to_time(item.block, item.candidates)
            dense, changed = block_seconds(
                case,
                inputs,
                workspace,
                item.block,
                batch,
                layers,
                timings,
                workspace.cache,
                integers=integers,
            )
            found[key] = _Times(dense, dict(zip(layers, changed, strict=True)))
            advance(1)
    return found


def _fitting_in(
    times: Mapping[str, _Times], whole: float, share: float | None
) -> dict[str, _Times]:
    """Times scaled so that they fit into those of whole models.

    By itself a block of integers also turns what it reads and makes into the layout of integer
    kernels and back, which inside of a network is seldom done.

    Args:
        times: Of blocks by themselves.
        whole: Seconds of the original.
        share: What all blocks that may have integers take with them in their own forms, with
            everything else, as a share of that; None without any.
    """
    scale = scale_of(whole, [found.dense for found in times.values()])
    own = [found for found in times.values() if not math.isnan(found.in_its_form)]
    of_integers = scale
    if share is not None:
        left = share * whole - (whole - scale * sum(found.dense for found in own))
        if left > 0:
            of_integers = scale_of(left, [found.in_its_form for found in own])
    return {
        key: found.scaled(scale, scale if math.isnan(found.in_its_form) else of_integers)
        for key, found in times.items()
    }


def fastest(
    blocks: Sequence[Block],
    candidates: Candidates,
    dense: Mapping[str, float],
    int8_format: Int8Format = "u8s8",
) -> list[Change]:
    """Every block in the form that takes the least time by its estimate; those that gain by it."""
    found = []
    for block in blocks:
        best = min(candidates.get(block.key, ()), key=lambda one: one.latency, default=None)
        if best is not None and best.latency < dense[block.key]:
            integers = Integers(int8_format) if best.is_int8 else None
            found.append(Change(block, best.form, best.rank, integers=integers))
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
