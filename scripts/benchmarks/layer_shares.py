"""The same share of the units of every group removed, in the order of harmonic pruning.

A plan by a budget removes where it does the least damage. Published figures remove the same share
of every layer, so to stand beside them the plan is made by hand here: the orders are those that
plans by harmonic pruning are made of, and `apply` carries it out as any other.
"""

from pathlib import Path

import numpy as np

from onnx_relusv import ApplyOptions, Budgets, MeasureOptions, PlanOptions, apply
from onnx_relusv.core.plans import Cost, Plan
from onnx_relusv.core.results import Compression
from onnx_relusv.measuring.blocks import measure_blocks
from onnx_relusv.measuring.case import open_model, split_inputs
from onnx_relusv.measuring.without_samples import planning_moments, samples_where_units_go
from onnx_relusv.planning.search import Decision, plan_of
from onnx_relusv.planning.unit_offer import PruningOffer
from onnx_relusv.planning.units import pruning_offer, with_channels
from onnx_relusv.rewrites.prune.units import units_of_blocks
from onnx_relusv.work.executors import Silent


def without_share(
    model: Path, share: float, output: Path, samples: Path | None, cache: Path
) -> Compression:
    """Writes a model that has lost a share of the units of every group.

    Args:
        model: The ONNX file.
        share: Above 0 and below 1, of each group's units, rounded to whole ones.
        output: The smaller model; overwritten where it exists.
        samples: What is measured and fitted on; None for nothing.
        cache: Folder for what several shares have in common.
    """
    plan = _plan(model, share, samples, cache)
    return apply(
        model, plan, output, samples=samples, measuring=ApplyOptions(cache=cache), force=True
    )


def _plan(model: Path, share: float, samples: Path | None, cache: Path) -> Plan:
    case, inputs, workspace = open_model(model, samples, MeasureOptions(cache=cache))
    progress = Silent()
    with samples_where_units_go(case, inputs, workspace, None, go=True) as inputs:
        inputs = split_inputs(case, inputs, workspace.options.seed)
        case = with_channels(case, inputs, workspace)
        with planning_moments(case, inputs, workspace, progress) as moments:
            measured = measure_blocks(case, inputs, workspace, moments, progress)
            # Without a budget no damage is measured, only orders and levels.
            planning = PlanOptions(method="harmonic")
            offer = pruning_offer(case, inputs, workspace, measured, moments, planning, progress)
            return offer.refit(_of_share(offer, share))


def _of_share(offer: PruningOffer, share: float) -> Plan:
    channels, origin = offer.channels, offer.origin
    kept = {group.key: len(group.units) for group in channels.groups}
    for one in offer.ordered:
        kept[one.group.key] -= round(share * one.units)
    counts = np.array(list(kept.values()), np.int64)
    saved, spared = offer.cut.saved(counts)
    decision = Decision(
        counts=counts,
        layers={},
        cost=Cost(
            bytes=int(origin.total.bytes + origin.added_bytes - saved),
            macs=int(origin.total.macs - spared),
        ),
        allocation="level",
        level=max(one.level(kept[one.group.key]) for one in offer.ordered),
        why=f"{share:g} of the units of every group",
    )
    units = units_of_blocks(channels, offer.blocks)
    return plan_of(decision, Budgets(), offer.blocks, channels, offer.ordered, units, origin)
