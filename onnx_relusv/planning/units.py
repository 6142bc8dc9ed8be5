"""From a measured model to what plans of removed units are made of."""

from collections.abc import Mapping
from dataclasses import replace

from onnx_relusv.core.blocks import Floats
from onnx_relusv.core.options import PlanOptions
from onnx_relusv.core.plans import Candidate, Cost, DamageCurve
from onnx_relusv.graph.channels.groups import channel_tensors, find_channels
from onnx_relusv.measuring.blocks import Measured
from onnx_relusv.measuring.case import BlockMoments, Case, Workspace, shapes_of
from onnx_relusv.measuring.inputs import Inputs
from onnx_relusv.planning.cost import size_of
from onnx_relusv.planning.damage import damage_curves, damages, group_curves, with_damage
from onnx_relusv.planning.objective import damage_measure
from onnx_relusv.planning.offer import (
    Planner,
    allowed_candidates,
    by_damage,
    finer_candidates,
    layer_offer,
    origin_of,
)
from onnx_relusv.planning.probe import with_refits
from onnx_relusv.planning.reachable import check_reachable
from onnx_relusv.planning.unit_offer import PruningOffer
from onnx_relusv.rewrites.prune.cost import CutCost
from onnx_relusv.rewrites.prune.orders import ordered_groups
from onnx_relusv.rewrites.prune.units import (
    Rounding,
    check_range,
    nothing_to_remove,
    shrinking_groups,
    twins,
    units_of_blocks,
)
from onnx_relusv.work.executors import Progress


def with_channels(
    case: Case,
    inputs: Inputs,
    workspace: Workspace,
    input_range: tuple[float, float] | None = None,
) -> Case:
    """A model with its groups of units looked into, which takes one run with all tensors shown.

    Args:
        case: The model.
        inputs: Its samples.
        workspace: Where it runs.
        input_range: Between which numbers all inputs lie, as was declared; None where it was not.

    Raises:
        InputError: A sample lies outside of the range.
    """
    if input_range is not None and inputs.user_samples is not None:
        check_range(inputs.user_samples, input_range)
    model, shapes = case.model, _shapes(case, workspace)
    found = find_channels(model, shapes)
    channels = replace(found, twins=twins(model, found))
    return replace(case, channels=channels, unit_shapes=shapes)


def searched(
    case: Case, inputs: Inputs, workspace: Workspace, planning: PlanOptions
) -> tuple[Case, PlanOptions]:
    """A model with its groups of units where these may go, and the method that is left.

    Where no unit can go, ``auto`` makes double layers as ``double-layer`` does; limits on what is
    left of groups then hold of themselves.

    Args:
        case: The model.
        inputs: Its samples, split.
        workspace: Where it runs.
        planning: What plans may do; its method is the one that is meant.

    Raises:
        BudgetError: Units alone may go, and none can, or a budget lies below what any plan leaves.
        InputError: A sample lies outside of a declared range.
    """
    if planning.method != "double-layer":
        if case.channels is None:
            case = with_channels(case, inputs, workspace, planning.input_range)
        planning = possible(case, planning)
    check_reachable(case, planning, cut_cost(case, workspace, planning))
    return case, planning


def cut_cost(case: Case, workspace: Workspace, planning: PlanOptions) -> CutCost | None:
    """What cuts save; None where no units go."""
    if planning.method == "double-layer" or case.channels is None:
        return None
    return CutCost(case.model, case.channels, case.unit_shapes or _shapes(case, workspace))


def possible(case: Case, planning: PlanOptions) -> PlanOptions:
    """What plans of a model whose groups were looked into may do; errors as of `searched`."""
    if shrinking_groups(case, planning):
        return planning
    if planning.method == "harmonic":
        raise nothing_to_remove(case, planning)
    return replace(planning, method="double-layer", round_to=1, keep_at_least=1, input_range=None)


def _shapes(case: Case, workspace: Workspace) -> Mapping[str, tuple[int, ...]]:
    tensors = channel_tensors(case.model.proto)
    return shapes_of(case.model, tensors, workspace.provider, case.example, case.example_batch)


def make_offer(
    case: Case,
    inputs: Inputs,
    workspace: Workspace,
    measured: Measured,
    moments: BlockMoments,
    planning: PlanOptions,
    progress: Progress,
) -> Planner:
    """Measures what plans by a method are made of; arguments and errors as of both makers."""
    maker = layer_offer if planning.method == "double-layer" else pruning_offer
    return maker(case, inputs, workspace, measured, moments, planning, progress)


def pruning_offer(
    case: Case,
    inputs: Inputs,
    workspace: Workspace,
    measured: Measured,
    moments: BlockMoments,
    planning: PlanOptions,
    progress: Progress,
) -> PruningOffer:
    """Orders the units of all groups, and measures what their removal does where plans go by it.

    Args:
        case: The model with its channels, its samples split.
        inputs: Its samples.
        workspace: Where it runs, and what is kept.
        measured: Its blocks' candidates.
        moments: Of the blocks' inputs.
        planning: What plans may do.
        progress: Shows the groups, and of the tries.
    """
    channels, cut = case.channels, cut_cost(case, workspace, planning)
    assert channels is not None  # with_channels has looked
    assert cut is not None  # units may go
    ordered = ordered_groups(case, inputs, workspace, channels, moments, planning, progress)
    origin = replace(
        origin_of(case, inputs, workspace, measured, planning),
        method=planning.method,
        total=Cost(bytes=case.model.bytes, macs=case.facts.macs),
        input_range=planning.input_range,
    )
    offer = PruningOffer(
        blocks=case.blocks,
        channels=channels,
        ordered=ordered,
        damages=None,
        candidates={},
        cut=cut,
        rounding=Rounding(planning.round_to, planning.keep_at_least),
        origin=origin,
        refit=lambda plan: with_refits(plan, case, inputs, planning),
        left_out=frozenset(b.key for b in case.blocks if not planning.allows(b.key)),
        size_of=size_of(case, inputs, workspace, measured),
    )
    if not by_damage(inputs, planning):
        return offer
    selection = inputs.selection
    measure = damage_measure(case, inputs, workspace, selection, planning)
    units = units_of_blocks(channels, case.blocks)
    cuts = group_curves(
        case,
        inputs,
        workspace,
        selection,
        ordered,
        units,
        channels.count,
        moments,
        progress,
        measure,
    )
    candidates: dict[str, list[Candidate]] = {}
    layers: tuple[DamageCurve, ...] = ()
    if planning.method == "auto":
        offered = allowed_candidates(measured, planning)
        curves = damage_curves(
            case, inputs, workspace, selection, offered, moments, progress, measure
        )
        candidates = {key: with_damage(own, curves.get(key, ())) for key, own in offered.items()}
        for key, finer in finer_candidates(case, candidates).items():
            candidates[key] += finer
        layers = tuple(curve for own in curves.values() for curve in own)
    found: dict[str, Floats] = {
        one.group.key: damages(cuts.get(one.group.key), one.elimination, len(one.group.units))
        for one in ordered
    }
    return replace(
        offer,
        damages=found,
        candidates=candidates,
        curves=layers,
        group_curves=tuple(cuts.values()),
        measure=measure,
    )
