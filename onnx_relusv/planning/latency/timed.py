"""The times that plans are made with: by the model of the kernels, or by that as it was timed here.

With a budget on latency, variants of the whole model are timed in turns with it, each once, and the
model of the kernels is fitted to them. All else is the same: plans go by times of all that blocks
and groups may become.
"""

import platform
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from onnx_relusv.core.blocks import Item
from onnx_relusv.core.codec import to_data
from onnx_relusv.core.options import PlanOptions
from onnx_relusv.core.plans import Int8Format, Plan, TimedOn
from onnx_relusv.measuring.case import Case, Workspace, run_identity
from onnx_relusv.measuring.inputs import Inputs
from onnx_relusv.planning.latency.fit import fitted
from onnx_relusv.planning.latency.kernels import Kernels, ModelledTimes
from onnx_relusv.planning.latency.models import Race, length
from onnx_relusv.planning.latency.pack import measured_pack
from onnx_relusv.planning.latency.times_file import ModelTimes, times_for
from onnx_relusv.planning.latency.variants import TimedVariant, changed_blocks, variants
from onnx_relusv.rewrites.low_rank.method import LayerItem
from onnx_relusv.runtime.session import default_threads, runtime_version
from onnx_relusv.samples.samples import fixed_batch
from onnx_relusv.work.executors import Done, Known, Progress, Task, Tasks, available_cores, run

# A measured share may seem to be over its budget by this share of it: measurements vary that much.
MARGIN = 0.05
MOST_MEASURED = 3
# Samples in a run that files meet besides as many as asked for: a server's, or an evaluation's.
MANY = 32
# Of the time of the whole model: what floats have to save for a block to be left its own.
_WORTH = 0.02

# Told a plan, says its measured latency as a share of the original's.
Measure = Callable[[Plan], float]


@dataclass(frozen=True, eq=False)
class Timed:
    """What plans know of time.

    Attributes:
        batch: Samples in a run.
        times: Of all that blocks may become; None where nothing is to go by them.
        measure: Measures a plan's latency; None without a budget on it.
        slower: By key of the blocks that integers make slower, seconds with the numbers of the
            file, and with integers.
        least: The smallest share of the original's time that was measured.
        timed_on: Where; None where nothing was timed.
        at_many: The model's times with `MANY` samples in a run; None where fewer are not looked at,
            or something was timed.
    """

    batch: int
    times: ModelledTimes | None = None
    measure: Measure | None = None
    slower: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    least: float = 1.0
    timed_on: TimedOn | None = None
    at_many: ModelledTimes | None = None

    def on(self, item: Item) -> Item:
        """A block with times; anything else as it is."""
        if self.times is None or not isinstance(item, LayerItem):
            return item
        return self.times.on(item)

    def quick(self, item: Item) -> Item:
        """With a budget on them, without what makes a block slower by itself."""
        if self.measure is None or not isinstance(item, LayerItem):
            return item
        return item.fast_enough()


def timed(
    case: Case,
    inputs: Inputs,
    workspace: Workspace,
    items: Sequence[LayerItem],
    planning: PlanOptions,
    progress: Progress,
) -> Timed:
    """Finds what plans go by; runs nothing without a budget on latency, or with times from a file.

    Args:
        case: The model, with its groups of units where these may go.
        inputs: Its samples.
        workspace: Where it runs, and what is kept.
        items: The blocks that may change.
        planning: The budgets, the batch, the pack, the file of times, and what integers are.
        progress: Shows the variants.

    Raises:
        InputError: The file of times cannot be read, or is of something else.
    """
    limit, batch = planning.budgets.latency, length(case, planning.batch)
    blocks = {block.key: block for block in case.blocks}
    known = None if planning.uses_fp16 else times_for(case, planning)
    if known is None and limit is None:
        if planning.kernels_pack is None:
            return Timed(batch)
        times, many = (
            ModelledTimes(Kernels(count, planning.kernels_pack), blocks) for count in (batch, MANY)
        )
        is_open = fixed_batch(case.model.inputs) is None and batch < MANY
        return Timed(batch, times, at_many=many if is_open else None)
    found = known or model_times(case, inputs, workspace, planning, progress)
    kernels = Kernels(batch, planning.kernels_pack or found.pack or 1)
    times = ModelledTimes(kernels, blocks)
    if found.variants:
        times = fitted(kernels, blocks, found.variants)
    return Timed(
        batch,
        times,
        _measure(case, inputs, workspace, planning, estimated=known is not None),
        dict(_slower(times, items)) if limit is not None else {},
        min((one.after / one.before for one in found.variants), default=1.0),
        found.timed_on,
    )


def _measure(
    case: Case, inputs: Inputs, workspace: Workspace, planning: PlanOptions, *, estimated: bool
) -> Measure | None:
    """What tells a plan's latency; on another machine it is what was estimated."""
    limit = planning.budgets.latency
    if limit is None:
        return None
    if estimated:
        return lambda plan: 1.0 if plan.latency is None else plan.latency
    race = Race(case, inputs, workspace, planning.batch)

    def measure(plan: Plan) -> float:
        if not changed_blocks(case, inputs, plan):
            return 1.0
        share = race.share(plan)
        # What passes is timed again: one lucky measurement is no reason to fit anything.
        return share if share > limit else max(share, race.share(plan))

    return measure


def model_times(
    case: Case,
    inputs: Inputs,
    workspace: Workspace,
    planning: PlanOptions,
    progress: Progress,
) -> ModelTimes:
    """Times a model's variants on this machine; arguments as of `timed`."""
    race = Race(case, inputs, workspace, planning.batch)
    int8_format = planning.int8_format if planning.uses_int8 else None
    return ModelTimes(
        model_sha256=case.model.sha256,
        timed_on=TimedOn(
            machine=platform.node(),
            processor=platform.machine(),
            onnxruntime=runtime_version(),
            provider=workspace.provider,
            threads=default_threads(),
        ),
        batch=race.batch,
        pack=planning.kernels_pack or measured_pack(workspace.provider),
        int8_format=int8_format,
        seed=workspace.options.seed,
        variants=timed_variants(case, inputs, workspace, race, int8_format, progress),
    )


def _slower(
    times: ModelledTimes, items: Sequence[LayerItem]
) -> Iterator[tuple[str, tuple[float, float]]]:
    """The blocks that take longer with integers, as far as it is worth a word."""
    for item in items:
        if item.is_int8:
            floats, integers = times.of(item.block), times.of(item.block, item.layers[0])
            if integers - floats > _WORTH * times.total:
                yield item.key, (floats, integers)


def timed_variants(
    case: Case,
    inputs: Inputs,
    workspace: Workspace,
    race: Race,
    int8_format: Int8Format | None,
    progress: Progress,
) -> tuple[TimedVariant, ...]:
    """Times variants of a model, those that the cache does not have.

    Args:
        case: The model, with its groups of units where these may go.
        inputs: Its samples.
        workspace: Where it runs, and what is kept.
        race: The original, open to be timed.
        int8_format: What layers of integers read; None where blocks stay floats.
        progress: Shows the variants.
    """
    drawn = [(plan, changed_blocks(case, inputs, plan)) for plan in variants(case, int8_format)]
    # What is drawn of few channels may change nothing.
    plans = [plan for plan, blocks in drawn if blocks]
    changed = [blocks for _, blocks in drawn if blocks]
    machine = [platform.node(), platform.machine(), available_cores()]
    identity = {**run_identity(case, inputs, workspace), "machine": machine, "batch": race.batch}
    tasks = {
        place: Task(
            kind="timing",
            key={**identity, "format": int8_format, "blocks": to_data(blocks)},
            result=TimedVariant,
        )
        for place, blocks in enumerate(changed)
    }
    with progress.stage("Latency of variants", len(plans)) as advance:

        def in_turn(
            tasks: Tasks[int, TimedVariant],
            known: Known[int, TimedVariant],
            done: Done[int, TimedVariant],
        ) -> None:
            left = [place for place in tasks if place not in known]
            for start in range(0, len(left), race.at_once):
                some = left[start : start + race.at_once]
                before, *afters = race.undisturbed([plans[place] for place in some])
                for place, after in zip(some, afters, strict=True):
                    done(place, TimedVariant(blocks=changed[place], before=before, after=after))
                    advance(1)

        return tuple(run(tasks, in_turn, workspace.cache, advance).values())
