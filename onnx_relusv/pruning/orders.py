"""The orders of all groups' units: as many are found at a time as cores and memory allow."""

from collections.abc import Callable

import numpy as np

from onnx_relusv.graph.channel_records import ChannelGroup, Channels
from onnx_relusv.opened import BlockMoments, Opened
from onnx_relusv.options import PlanOptions
from onnx_relusv.parallel import Load, available_cores, in_parallel
from onnx_relusv.progress import Progress
from onnx_relusv.pruning.curves import Ordered
from onnx_relusv.pruning.elimination import Elimination, eliminate
from onnx_relusv.pruning.freedom import blocks_by_output, free_groups
from onnx_relusv.pruning.kept import KeptOrders
from onnx_relusv.pruning.readings import (
    columns_read,
    group_readings,
    local_dead,
    local_twins,
    still_units,
)
from onnx_relusv.records import Block, Floats
from onnx_relusv.scores import scores_block

# Of a reading's columns, squared: its covariance twice, a factor, and P and G with what is added.
_SQUARES = 7
_FLOAT64 = 8
_LARGEST_SQUARE = 11_000


def ordered_groups(
    opened: Opened,
    channels: Channels,
    moments: BlockMoments,
    planning: PlanOptions,
    progress: Progress,
) -> tuple[Ordered, ...]:
    """Orders the units of the groups that may change.

    Args:
        opened: The model, its samples split.
        channels: Its groups.
        moments: Of the blocks' inputs.
        planning: What may change.
        progress: Told of the groups.
    """
    blocks, free = blocks_by_output(opened), free_groups(opened, planning)
    places = {block.key: place for place, block in enumerate(opened.blocks)}
    scores, cores, kept = scores_block(opened), available_cores(), KeptOrders(opened)

    def weighting(block: Block) -> Floats | None:
        if scores is None or block.key != scores.block.key:
            return None
        return scores.root

    def order(group: ChannelGroup, threads: int) -> Elimination:
        return _order(opened, channels, group, moments, weighting, kept)

    def load(group: ChannelGroup) -> Load:
        columns = np.array(columns_read(opened, channels, group), np.float64)
        # Of wide readings, whose covariances are factored, no square array is made.
        columns = np.minimum(columns, _LARGEST_SQUARE)
        work, memory = np.sum(columns**3), _FLOAT64 * _SQUARES * np.sum(columns**2)
        return Load(work=float(work), memory=int(memory))

    with progress.stage("Order of the units", len(free)) as advance:
        orders = in_parallel(
            free,
            order,
            load,
            memory=opened.options.working_bytes,
            workers=cores,
            cores=cores,
            advance=advance,
        )
    found = []
    for group, elimination in zip(free, orders, strict=True):
        consumers = [blocks[name] for name in group.consumers if name in blocks]
        consumers.sort(key=lambda block: places[block.key])
        found.append(Ordered(group, elimination, tuple(consumers)))
    return tuple(found)


def _order(
    opened: Opened,
    channels: Channels,
    group: ChannelGroup,
    moments: BlockMoments,
    weighting: Callable[[Block], Floats | None],
    kept: KeptOrders,
) -> Elimination:
    """A group's order: what is nothing to anybody first, and one unit stays to the end."""
    readings = group_readings(opened, channels, group, moments, weighting)
    equal = local_twins(channels, group)
    dead = np.flatnonzero(local_dead(channels, group))
    spare = np.setdiff1d(np.flatnonzero(equal != np.arange(len(equal))), dead)
    still = np.setdiff1d(still_units(readings, len(equal)), [*dead, *spare])
    first = [*dead.tolist(), *spare.tolist(), *still.tolist()][: len(equal) - 1]
    found = kept.get(group.key, len(group.units), dead, first)
    if found is None:
        found = eliminate(readings, len(group.units), first)
        kept.put(group.key, dead, first, found)
    return found
