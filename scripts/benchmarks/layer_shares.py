"""The same share of the units of every group removed, in the order of harmonic pruning.

A plan by a budget removes where it does the least damage. Published figures remove the same share
of every layer, so to stand beside them the plan is made by hand here: the orders are those that
plans by harmonic pruning are made of, and `apply` carries it out as any other.
"""

from pathlib import Path

import numpy as np

from onnx_relusv import Budgets, MeasureOptions, PlanOptions, apply
from onnx_relusv.blind import planning_moments
from onnx_relusv.decisions import Plan
from onnx_relusv.opened import open_model
from onnx_relusv.planning import divided
from onnx_relusv.progress import Silent
from onnx_relusv.pruning.choices import Decision, plan_of
from onnx_relusv.pruning.items import AllItems, GroupItem
from onnx_relusv.pruning.offer import PruningOffer
from onnx_relusv.pruning.plan_cost import PlanCost
from onnx_relusv.pruning.planning import pruning_offer, with_channels
from onnx_relusv.pruning.units import units_of_blocks
from onnx_relusv.results import Compression
from onnx_relusv.rows import measure_blocks


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
    return apply(model, plan, output, samples=samples, cache=cache, force=True)


def _plan(model: Path, share: float, samples: Path | None, cache: Path) -> Plan:
    opened = with_channels(divided(open_model(model, samples, MeasureOptions(cache=cache))))
    progress = Silent()
    with planning_moments(opened, progress) as moments:
        measured = measure_blocks(opened, moments, progress)
        # Without a budget no damage is measured, only orders and levels.
        planning = PlanOptions(method="harmonic")
        offer = pruning_offer(opened, measured, moments, planning, progress)
        return offer.refit(_of_share(offer, share))


def _of_share(offer: PruningOffer, share: float) -> Plan:
    channels, units = offer.channels, units_of_blocks(offer.channels, offer.blocks)
    places = {group.key: place for place, group in enumerate(channels.groups)}
    kept = {one.group.key: one.units - round(share * one.units) for one in offer.ordered}
    items = [GroupItem(places[key], np.array([count], np.int64)) for key, count in kept.items()]
    complete = AllItems(items, []).complete()
    costs = PlanCost(complete, channels, units, offer.cut, offer.origin, [])
    only = (0,) * len(items)
    decision = Decision(
        counts=costs.kept(only),
        layers={},
        cost=costs.total(only),
        allocation="level",
        level=max(one.level(kept[one.group.key]) for one in offer.ordered),
        why=f"{share:g} of the units of every group",
    )
    return plan_of(decision, Budgets(), offer.blocks, channels, offer.ordered, units, offer.origin)
