"""The times that plans are made with: of the whole original, of its blocks, of their candidates."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from onnx_relusv.decisions import Candidate, Plan
from onnx_relusv.errors import BudgetError
from onnx_relusv.fitted import Change
from onnx_relusv.latency.blocks import block_seconds, layers_to_time, with_latency
from onnx_relusv.latency.kept import KeptTimings
from onnx_relusv.latency.models import Race, length
from onnx_relusv.latency.timings import Timings
from onnx_relusv.opened import Opened
from onnx_relusv.options import PlanOptions
from onnx_relusv.progress import Progress
from onnx_relusv.records import Block
from onnx_relusv.rewriting import changes_of

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
    opened: Opened,
    candidates: Candidates,
    planning: PlanOptions,
    progress: Progress,
    timings: Timings | None = None,
) -> Timed:
    """Times the candidates of a model; only looks at its batch without a budget on latency.

    Args:
        opened: The model.
        candidates: By block key; other blocks are not timed.
        planning: The budgets and the batch.
        progress: Told of the blocks.
        timings: Times that are known, which others are added to; those of the cache if None.
    """
    if planning.budgets.latency is None:
        return Timed(length(opened, planning.batch), candidates)
    timings = KeptTimings(opened) if timings is None else timings
    race = Race(opened, planning.batch)
    layers = {
        block.key: layers_to_time(block, candidates[block.key])
        for block in opened.blocks
        if candidates.get(block.key)
    }
    dense: dict[str, float] = {}
    changed: dict[str, tuple[float, ...]] = {}
    waiting = [block for block in opened.blocks if block.key in layers]
    with progress.stage("Latency of the blocks' forms", len(waiting)) as advance:
        for block in waiting:
            dense[block.key], changed[block.key] = block_seconds(
                opened, block, race.batch, layers[block.key], timings
            )
            advance(1)
    whole = race.original()
    scale = scale_of(whole, list(dense.values()))

    asked = planning.budgets.latency

    def share(changes: Sequence[Change]) -> float:
        found = race.against_plan(changes)
        return found.after / found.before

    def measure(plan: Plan) -> float:
        changes = changes_of(opened, plan)
        if not changes:
            return 1.0
        first = share(changes)
        # What passes is timed again: one lucky measurement is no reason to fit anything.
        return first if first > asked else max(first, share(changes))

    timed = {
        block.key: with_latency(
            block,
            candidates[block.key],
            dict(zip(layers[block.key], changed[block.key], strict=True)),
            scale,
        )
        for block in waiting
    }
    check_reachable(asked, lambda: share(fastest(opened.blocks, timed, dense, scale)))
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


def check_reachable(asked: float, measure: Callable[[], float]) -> None:
    """Ends a run whose budget on latency even the fastest forms miss, before anything costly.

    Args:
        asked: The budget.
        measure: Measures the share that the fastest forms of all blocks take.

    Raises:
        BudgetError: Every measurement is over it by more than `MARGIN` of it.
    """
    shares: list[float] = []
    while len(shares) < MOST_MEASURED:
        shares.append(measure())
        if shares[-1] <= asked * (1 + MARGIN):
            return
    raise BudgetError(
        f"{asked:.4g} of the latency cannot be reached: with every block in its fastest form the "
        f"model still takes {min(shares):.4g}, the least that was measured; nothing was fitted. "
        "Ask for a larger share, or allow more blocks."
    )


def scale_of(whole: float, dense: Sequence[float]) -> float:
    """What times of blocks by themselves are multiplied with, so that they fit into the whole."""
    return min(1.0, whole / max(sum(dense), 1e-12))
