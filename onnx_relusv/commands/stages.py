"""The order of the stages, from a model that was read to a plan with its factors.

A model is measured (`measured`), what plans are made of is measured on it (`prepare`), and from
there a plan within budgets is made, fitted, corrected or searched for (`produce`). `compress` and
`plan` go through it once, a search for the largest drop and `sweep` repeat the last step, and
`apply`, which has its plan, fits it on the same ground; so all of them make the same file.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

from onnx_relusv.checking.certificate import certified
from onnx_relusv.checking.corrective import fitted_by_damage
from onnx_relusv.checking.limit import DropLimit, drop_limit
from onnx_relusv.checking.search import search
from onnx_relusv.core.measures import Correction
from onnx_relusv.core.metric import LossBound
from onnx_relusv.core.options import PlanOptions
from onnx_relusv.core.plans import Budgets, Plan
from onnx_relusv.core.reduction import FittedPlan
from onnx_relusv.fitting.plan import fit_plan
from onnx_relusv.measuring.blocks import Ground, measure_blocks
from onnx_relusv.measuring.case import Case, Workspace, selected, split_inputs
from onnx_relusv.measuring.inputs import Inputs
from onnx_relusv.measuring.without_samples import planning_moments, samples_where_units_go
from onnx_relusv.planning.latency.pack import with_pack
from onnx_relusv.planning.latency.times_file import times_for
from onnx_relusv.planning.objective import check_measures
from onnx_relusv.planning.offer import Offer, make_offer, with_provenance
from onnx_relusv.planning.settling import by_damage, resolved, saying_where_bytes_are, searched
from onnx_relusv.samples.split import for_certifying, nothing_aside
from onnx_relusv.work.executors import Progress


@dataclass(frozen=True, eq=False)
class Prepared:
    """A model of which files within any budgets can be made.

    Attributes:
        ground: What they rest on.
        planning: What plans may do; its method and its pack are those in force.
        offer: What they are made of.
        limit: What a file may lose; None without a largest drop.
    """

    ground: Ground
    planning: PlanOptions
    offer: Offer
    limit: DropLimit | None = None


@dataclass(frozen=True, eq=False)
class Produced:
    """A plan with its factors, not written yet.

    Attributes:
        fitted: The plan and its factors.
        correction: What the corrective round did; None where there was none.
        bound: What is lost at most; None without a largest drop.
    """

    fitted: FittedPlan
    correction: Correction | None = None
    bound: LossBound | None = None


@contextmanager
def measured(
    case: Case, inputs: Inputs, workspace: Workspace, progress: Progress
) -> Iterator[Ground]:
    """Measures a model's blocks; what it yields holds within the context.

    Args:
        case: The model.
        inputs: Its samples, split.
        workspace: Where it runs, and what is kept.
        progress: Shows the stages.
    """
    with planning_moments(case, inputs, workspace, progress) as moments:
        blocks = measure_blocks(case, inputs, workspace, moments, progress)
        yield Ground(case, inputs, workspace, moments, blocks)


def settled(
    case: Case, inputs: Inputs, workspace: Workspace, planning: PlanOptions
) -> tuple[Case, PlanOptions]:
    """Settles the method, and refuses what shapes alone show to be out of reach.

    Args:
        case: The model.
        inputs: Its samples, split.
        workspace: Where it runs.
        planning: What plans may do, its patterns resolved.

    Returns:
        The model with its groups of units where these may go, and the method that is left.

    Raises:
        UsageError: What was asked for does not go together.
        BudgetError: Nothing can be made smaller, or not by as much.
        InputError: A sample lies outside of a declared range.
    """
    return searched(case, inputs, workspace, resolved(inputs, planning))


def prepare(ground: Ground, planning: PlanOptions, progress: Progress) -> Prepared:
    """Measures what plans are made of.

    Args:
        ground: A model that was measured; `settled` where units may go.
        planning: What plans may do, settled.
        progress: Shows the stages.

    Raises:
        UsageError: Damage was asked for without a selection set.
        BudgetError: The budget on latency cannot be reached.
    """
    planning = with_pack(ground.workspace, planning)
    return Prepared(ground, planning, make_offer(ground, planning, progress))


@contextmanager
def prepared(
    case: Case, inputs: Inputs, workspace: Workspace, planning: PlanOptions, progress: Progress
) -> Iterator[Prepared]:
    """All stages up to what plans are made of; what it yields holds within the context.

    Budget errors that come out of the context say where the model's bytes are.

    Args:
        case: The model as it was read.
        inputs: Its samples, whole.
        workspace: Where it runs, and what is kept.
        planning: What plans may do.
        progress: Shows the stages.

    Raises:
        UsageError: What was asked for does not go together, or needs samples.
        InputError: The samples do not fit what was asked for.
        BudgetError: The budgets cannot be reached.
    """
    planning, options = selected(case, planning), workspace.options
    times_for(case, planning)  # before anything long
    aside = nothing_aside if planning.budgets.max_drop is None else for_certifying
    inputs = split_inputs(case, inputs, options, aside)
    with saying_where_bytes_are(case, planning):
        case, planning = settled(case, inputs, workspace, planning)
    limit = drop_limit(case, inputs, workspace, planning.budgets)
    # What counts answers takes real samples.
    counts = planning.budgets.max_drop is not None or planning.metric is not None
    go = not planning.lowers_ranks and not counts
    synthetic = samples_where_units_go(case, inputs, workspace, planning.input_range, go=go)
    with saying_where_bytes_are(case, planning), synthetic as found:
        inputs = inputs if found is inputs else split_inputs(case, found, options)
        check_measures(case, inputs, workspace, planning)
        with measured(case, inputs, workspace, progress) as ground:
            yield replace(prepare(ground, planning, progress), limit=limit)


def planned(prepared: Prepared, budgets: Budgets, progress: Progress) -> Plan:
    """The plan of the file that `produce` makes; arguments and errors as there.

    By damage, that takes fits: the corrective round looks at the compressed network.
    """
    if _is_corrected(prepared):
        return produce(prepared, budgets, progress).fitted.plan
    return _offer(prepared, budgets).plan(budgets)


def produce(prepared: Prepared, budgets: Budgets, progress: Progress) -> Produced:
    """Makes the plan within budgets, and fits it.

    Args:
        prepared: What it is made of.
        budgets: All of them hold.
        progress: Shows the stages.

    Raises:
        BudgetError: The budgets cannot be reached, or no file is certified to lose as little.
        ValidationError: Factors as stored are not what they were fitted to be.
    """
    ground, offer = prepared.ground, _offer(prepared, budgets)
    case, inputs, workspace, moments = ground.case, ground.inputs, ground.workspace, ground.moments
    if prepared.limit is not None:
        descent = search(case, inputs, workspace, offer, moments, budgets, prepared.limit, progress)
        fitted, bound = certified(case, inputs, workspace, descent, prepared.limit, progress)
        return Produced(fitted, bound=bound)
    if _is_corrected(prepared):
        fitted, correction = fitted_by_damage(
            case, inputs, workspace, offer, budgets, moments, progress
        )
        return Produced(fitted, correction=correction)
    return Produced(fit_plan(case, inputs, workspace, offer.plan(budgets), moments, progress))


def _is_corrected(prepared: Prepared) -> bool:
    """Whether a plan is looked at again in the compressed network."""
    ground = prepared.ground
    return ground.spending.corrects and by_damage(ground.inputs, prepared.planning)


def _offer(prepared: Prepared, budgets: Budgets) -> Offer:
    """What plans are made of, with the bytes of what a file says of these budgets."""
    return with_provenance(prepared.offer, prepared.ground, prepared.planning, budgets)
