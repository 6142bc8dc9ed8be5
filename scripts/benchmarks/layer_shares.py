"""The same share of the units of every group removed, in the order of harmonic pruning.

A plan by a budget removes where it does the least damage. Published figures remove the same share
of every layer, so to stand beside them the plan is made by hand here: the orders are those that
plans by harmonic pruning are made of, and `apply` carries it out as any other.
"""

from pathlib import Path

from onnx_relusv import ApplyOptions, Budgets, MeasureOptions, PlanOptions, apply
from onnx_relusv.core.plans import Plan
from onnx_relusv.core.results import Compression
from onnx_relusv.measuring.blocks import Ground, measure_blocks
from onnx_relusv.measuring.case import open_model, split_inputs
from onnx_relusv.measuring.without_samples import planning_moments, samples_where_units_go
from onnx_relusv.planning.allocation import Allocation
from onnx_relusv.planning.cost import PlanCost
from onnx_relusv.planning.decisions import plan_of
from onnx_relusv.planning.offer import Offer, make_offer
from onnx_relusv.planning.settling import with_channels
from onnx_relusv.rewrites.prune.method import GroupItem
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
        inputs = split_inputs(case, inputs, workspace.options)
        case = with_channels(case, inputs, workspace)
        with planning_moments(case, inputs, workspace, progress) as moments:
            measured = measure_blocks(case, inputs, workspace, moments, progress)
            # Without a budget no damage is measured, only orders and levels.
            planning = PlanOptions(method="harmonic")
            ground = Ground(case, inputs, workspace, moments, measured)
            offer = make_offer(ground, planning, progress)
            return offer.refit(_of_share(offer, share))


def _of_share(offer: Offer, share: float) -> Plan:
    items = offer.offered.items
    groups = [item for item in items if isinstance(item, GroupItem)]
    state = tuple(round(share * item.ordered.units) for item in groups)
    error = max(float(item.errors[gone]) for item, gone in zip(groups, state, strict=True))
    costs = PlanCost(items, offer.offered.coupling, offer.origin, ("bytes",))
    return plan_of(offer.offered, items, Allocation(state, error), costs, Budgets())
