"""One corrective round: damage is measured again in the compressed network, and bytes move.

A plan adds up what single changes do to the original. In the compressed network they do something
else: what an early block loses, the fits of later ones compensate in part, and what comes last
nothing compensates. So every double layer is put back as the block was, by itself, and what that
recovers is its joint damage; what is left of the network's damage is that of all removed units
together. The damages of all candidates are scaled by the ratio of the two, and a plan is made of
them. If it promises less damage, by those figures, it is fitted too, and of the two the one with
less damage on the samples for choosing is taken; so the round never does harm there.

The blocks behind were fitted to what the changed block delivers, so putting it back can even do
harm. A ratio tells a direction rather than an amount, and is kept near that of the other blocks.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from onnx_relusv.core.blocks import Block, LinearMap
from onnx_relusv.core.errors import BudgetError
from onnx_relusv.core.measures import Correction
from onnx_relusv.core.metric import MetricChange
from onnx_relusv.core.plans import Budgets, Plan
from onnx_relusv.core.reduction import FittedPlan, compensated_map, embed
from onnx_relusv.fitting.plan import fit_plan
from onnx_relusv.graph.reference import runnable
from onnx_relusv.measuring.case import BlockMoments, Case, Workspace
from onnx_relusv.measuring.held_out import original_metric
from onnx_relusv.measuring.inputs import Inputs
from onnx_relusv.planning.offer import Offer
from onnx_relusv.planning.probe import Try, probe, whole_damages
from onnx_relusv.rewrites.apply import composed, dense_maps, rewritten
from onnx_relusv.rewrites.prune.units import blocks_by_output
from onnx_relusv.runtime.outputs import collected
from onnx_relusv.runtime.session import Session
from onnx_relusv.work.executors import Advance, Progress

_Damages = Mapping[str, float]


@dataclass(frozen=True)
class CorrectionSettings:
    """When a corrective round is worth its fit, and how far it may go.

    Attributes:
        furthest: How far a block's ratio may be from the median of all.
        least_gain: The share of the damage that another plan has to promise to save. Of plans
            that promised 6 % to 12 %, half did more damage than the first in the end, and the
            others 3 % less at most.
    """

    furthest: float = 2.0
    least_gain: float = 0.2


DEFAULT_CORRECTION = CorrectionSettings()


def fitted_by_damage(
    case: Case,
    inputs: Inputs,
    workspace: Workspace,
    offer: Offer,
    budgets: Budgets,
    moments: BlockMoments,
    progress: Progress,
    settings: CorrectionSettings = DEFAULT_CORRECTION,
) -> tuple[FittedPlan, Correction]:
    """Fits the plan with the least damage within the budgets, and corrects it once.

    Args:
        case: The model, its samples split.
        inputs: Its samples.
        workspace: Where it runs, and what is kept.
        offer: What plans are made of.
        budgets: As asked for.
        moments: Of the blocks' inputs.
        progress: Shows the fits.
        settings: Of the corrective round.

    Raises:
        BudgetError: The budgets cannot be reached, or the plan changes nothing.
        ValidationError: Factors as stored are not what they were fitted to be.
    """
    first = fit_plan(case, inputs, workspace, offer.plan(budgets), moments, progress)
    smaller = {choice.key for choice in first.plan.choices if choice.is_double_layer}
    blocks = [block for block in case.blocks if block.key in smaller]
    with progress.stage("Damage of all changes together", len(blocks)) as advance:
        whole, recovered = _joint_damages(
            case, inputs, workspace, offer, first, blocks, moments, advance
        )
    if not blocks:  # there is nothing to weigh removed units against
        return first, Correction(damage=whole)
    scaled = offer.scaled(*_ratios(first.plan, whole, recovered, settings.furthest))
    try:
        # Of plans that do little more damage the quickest is searched for only where one pays.
        least = scaled.least_damage(budgets)
        if _gain(scaled, first.plan, least) < settings.least_gain:
            return first, Correction(damage=whole)
        plan = scaled.plan(budgets)
    except BudgetError:  # a budget on latency is measured, so what was kept may be missed
        return first, Correction(damage=whole)
    if _gain(scaled, first.plan, plan) < settings.least_gain:
        return first, Correction(damage=whole)
    second = fit_plan(
        case, inputs, workspace, offer.with_damages(plan), moments, progress, earlier=first
    )
    correction = Correction(damage=whole, corrected=_damage(case, inputs, workspace, offer, second))
    return (second if correction.taken else first), correction


def _joint_damages(
    case: Case,
    inputs: Inputs,
    workspace: Workspace,
    offer: Offer,
    fitted: FittedPlan,
    blocks: Sequence[Block],
    moments: BlockMoments,
    advance: Advance,
) -> tuple[float, dict[str, float]]:
    """The damage of a compressed network, and what putting a double layer back recovers."""
    dense = dense_maps(case, fitted)
    whole = _damage(case, inputs, workspace, offer, fitted)

    def examine(block: Block, damage: Try) -> float:
        # The channels that are gone stay gone: they are not the double layer's.
        kept, geometry = fitted.factors[block.key].kept, block.geometry
        left = compensated_map(geometry, case.folding(block), moments[block.key], kept)
        return whole - damage(embed(geometry, left, kept))

    return whole, _probed(case, inputs, workspace, offer, blocks, dense, examine, advance)


def _damage(
    case: Case, inputs: Inputs, workspace: Workspace, offer: Offer, fitted: FittedPlan
) -> float:
    """The damage of a compressed network on the samples for choosing."""
    dense = dense_maps(case, fitted)
    if not dense or not _seen_by_blocks(case, fitted.plan):
        changed = [composed(case, fitted)]
        measure, selection = offer.damage, inputs.selection
        return whole_damages(case, workspace, selection, changed, measure, lambda steps: None)[0]
    # Any of the changed blocks will do to hang the network on: all of them are replaced.
    block = next(block for block in case.blocks if block.key in dense)

    def examine(one: Block, damage: Try) -> float:
        return damage(dense[one.key])

    return _probed(case, inputs, workspace, offer, [block], dense, examine, lambda steps: None)[
        block.key
    ]


def _seen_by_blocks(case: Case, plan: Plan) -> bool:
    """Whether blocks alone read the units that a plan removes."""
    outputs = blocks_by_output(case)
    lost = (choice for choice in plan.groups if len(choice.kept) < choice.units)
    return all(name in outputs for choice in lost for name in choice.consumers)


def _probed(
    case: Case,
    inputs: Inputs,
    workspace: Workspace,
    offer: Offer,
    blocks: Sequence[Block],
    dense: Mapping[str, LinearMap],
    examine: Callable[[Block, Try], float],
    advance: Advance,
) -> dict[str, float]:
    return probe(case, workspace, inputs.selection, blocks, dense, examine, advance, offer.damage)


def joint_ratios(
    isolated: _Damages, joint: _Damages, furthest: float = DEFAULT_CORRECTION.furthest
) -> dict[str, float]:
    """The joint damage of a block's change over its isolated damage; kept near the median.

    Args:
        isolated: By key, what the change does to the original by itself, expected.
        joint: By key, what is recovered in the compressed network where the change is undone; below
            0 where that does harm.
        furthest: The largest factor between a ratio and the median of all.

    Returns:
        By key, of the blocks whose change does anything by itself; within that factor of their
        median, and 1 for all where that is not above 0.
    """
    found = {key: joint[key] / isolated[key] for key in joint if isolated.get(key, 0) > 0}
    median = float(np.median(list(found.values()))) if found else 0.0
    if median <= 0:
        return dict.fromkeys(found, 1.0)
    least, most = median / furthest, median * furthest
    return {key: float(np.clip(ratio, least, most)) for key, ratio in found.items()}


def _ratios(
    plan: Plan,
    whole: float,
    recovered: _Damages,
    furthest: float = DEFAULT_CORRECTION.furthest,
) -> tuple[dict[str, float], float]:
    """The ratios of the double layers by key, and that of everything else.

    Args:
        plan: With the damages of its changes by themselves.
        whole: The damage of the compressed network.
        recovered: By key, what is recovered where a double layer is put back.
        furthest: As of `joint_ratios`.
    """
    alone = {choice.key: choice.damage for choice in plan.choices if choice.damage}
    ratios = joint_ratios(alone, recovered, furthest)
    if not ratios:
        return {}, 1.0
    usual = float(np.median(list(ratios.values())))
    removed = sum(choice.damage or 0.0 for choice in plan.groups)
    if removed <= 0 or sum(recovered.values()) <= 0:
        return ratios, usual
    left = (whole - sum(recovered.values())) / removed
    return ratios, float(np.clip(left, usual / furthest, usual * furthest))


def _gain(offer: Offer, first: Plan, second: Plan) -> float:
    """The share of the first plan's damage that the second one spares, by the offer's figures."""
    before, after = (offer.with_damages(plan).damage or 0.0 for plan in (first, second))
    return 1 - after / before if before > 0 else 0.0


def metric_change(
    case: Case, inputs: Inputs, workspace: Workspace, fitted: FittedPlan
) -> MetricChange | None:
    """The metric before and after on the samples for choosing; None where there is no metric.

    Raises:
        InputError: The metric fails.
    """
    before = original_metric(case, inputs, workspace)
    if before is None or inputs.metric is None:
        return None
    samples = inputs.selection
    smaller = Session(
        runnable(case.model, rewritten(case, inputs, workspace, fitted)),
        workspace.provider,
        alone=False,
    )
    outputs = collected(smaller, samples, case.model.output_names)
    return MetricChange(
        name=inputs.metric.name,
        samples=samples.count,
        part="choosing",
        before=before,
        after=inputs.metric.value(outputs, samples.labels),
    )
