"""From measured blocks to a plan: by one level, or by the damage that is measured."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from onnx_relusv.core.blocks import Block, StatisticsSource
from onnx_relusv.core.errors import UsageError
from onnx_relusv.core.kinds import kind_of
from onnx_relusv.core.options import PlanOptions
from onnx_relusv.core.plans import Budgets, Candidate, Cost, DamageCurve, Plan
from onnx_relusv.graph.model import external_location, external_tensors
from onnx_relusv.graph.writing import PAGE, SMALLEST_PAGED
from onnx_relusv.measuring.blocks import Measured
from onnx_relusv.measuring.case import BlockMoments, Case, Workspace
from onnx_relusv.measuring.inputs import Inputs
from onnx_relusv.planning.cost import SizeOf, size_of, sized
from onnx_relusv.planning.damage import damage_curves, priced, scaled_damages, with_damage
from onnx_relusv.planning.knapsack import make_damage_plan
from onnx_relusv.planning.latency import Measure, Timed, plan_within, timed_candidates
from onnx_relusv.planning.level import Origin, make_plan
from onnx_relusv.planning.objective import DamageMeasure, damage_measure
from onnx_relusv.planning.probe import reserved_bytes, with_refits
from onnx_relusv.rewrites.apply import provenance_bytes
from onnx_relusv.rewrites.low_rank.candidates import between_rungs, block_cost
from onnx_relusv.work.executors import Progress

# What says where a tensor lies in external data.
_PLACE_BYTES = 200
# Of the original's bytes: smaller steps between the ranks of a block are not worth a candidate.
_FINEST = 1e-3


@dataclass(frozen=True, eq=False)
class Offer:
    """All that plans of double layers are made of; measured once, for any number of plans.

    Attributes:
        blocks: In topological order.
        candidates: By key of the blocks that may change; with their damages where these were
            measured.
        finer: By key, what lies between the ranks of candidates, likewise.
        curves: What the damages come from.
        origin: What plans are for.
        statistics: What blocks were measured on, by key.
        measure: What damages are; None where plans go by one common level.
        refit: Lets the blocks that a plan keeps be fitted to what it changes.
        latency: Measures a plan's latency; None without a budget on it.
        size_of: Tells the bytes of a plan's file; None where estimates will do.
    """

    blocks: tuple[Block, ...]
    candidates: Mapping[str, Sequence[Candidate]]
    finer: Mapping[str, Sequence[Candidate]]
    curves: tuple[DamageCurve, ...]
    origin: Origin
    statistics: Mapping[str, StatisticsSource]
    measure: DamageMeasure | None
    refit: Callable[[Plan], Plan]
    latency: Measure | None = None
    size_of: SizeOf | None = None

    def plan(self, budgets: Budgets) -> Plan:
        """The plan within the budgets: by damage where that was measured, else by one level.

        Raises:
            BudgetError: They cannot be reached.
        """

        def make(limits: Budgets) -> Plan:
            return sized(self._estimated, self.origin, limits, self.size_of)

        if self.latency is None:
            return make(budgets)
        return plan_within(make, budgets, self.latency)

    def _estimated(self, origin: Origin, limits: Budgets) -> Plan:
        """A plan whose bytes are estimated."""
        if self.measure is None:
            plan = make_plan(self.blocks, self.candidates, limits, origin, self.finer)
            return self.refit(with_statistics(plan, self.statistics))
        plan = make_damage_plan(self.blocks, self._all, self.curves, limits, origin)
        plan = with_statistics(plan, self.statistics)
        return self.refit(replace(plan, damage_measure=self.measure.words))

    @property
    def _all(self) -> dict[str, list[Candidate]]:
        return {key: [*own, *self.finer.get(key, ())] for key, own in self.candidates.items()}

    @property
    def damage(self) -> DamageMeasure:
        """What damages are; they were measured."""
        assert self.measure is not None
        return self.measure

    def priced(self, plan: Plan) -> Plan:
        """A plan with the damages that are offered here, whatever it was made by."""
        choices = priced(plan.choices, self._all)
        return replace(plan, choices=choices, damage=sum(one.damage or 0.0 for one in choices))

    def with_origin(self, origin: Origin) -> "Offer":
        """The same for another origin."""
        return replace(self, origin=origin)

    def scaled(self, layers: Mapping[str, float], others: float) -> "Offer":
        """With scaled damages.

        Args:
            layers: What those of a block's double layers are multiplied by, by its key.
            others: The same of all other blocks.
        """
        return replace(
            self,
            candidates=scaled_damages(self.candidates, layers, others),
            finer=scaled_damages(self.finer, layers, others),
        )

    def least_size(self, tolerance: float | None) -> float:
        """The smallest share of the bytes that there is a plan for, whatever the damage."""
        total, saved = self.origin.total.bytes, self.origin.reserved_bytes
        candidates = self._all
        for block in self.blocks:
            offered = [
                candidate.bytes
                for candidate in candidates.get(block.key, ())
                if tolerance is None or candidate.level <= tolerance
            ]
            now = block_cost(block).bytes
            saved += now - min([now, *offered])
        return (total + self.origin.added_bytes - saved) / total


class Planner(Protocol):
    """What plans are made of: measured once, for any number of budgets."""

    @property
    def origin(self) -> Origin:
        """What plans are for."""
        ...

    def with_origin(self, origin: Origin) -> "Planner":
        """The same for another origin."""
        ...

    def plan(self, budgets: Budgets) -> Plan:
        """The plan within the budgets.

        Raises:
            BudgetError: They cannot be reached.
        """
        ...

    def least_size(self, tolerance: float | None) -> float:
        """The smallest share of the bytes that there is a plan for, whatever the damage."""
        ...

    @property
    def damage(self) -> DamageMeasure:
        """What damages are, where plans go by them."""
        ...

    def priced(self, plan: Plan) -> Plan:
        """A plan with the damages that are offered here, whatever it was made by."""
        ...

    def scaled(self, layers: Mapping[str, float], others: float) -> "Planner":
        """With scaled damages.

        Args:
            layers: What those of a block's double layers are multiplied by, by its key.
            others: The same of all other blocks, and of removed units.
        """
        ...


def by_damage(inputs: Inputs, planning: PlanOptions) -> bool:
    """Whether a plan goes by measured damage, and not by one common level.

    Raises:
        UsageError: Damage was asked for without samples.
    """
    if planning.allocation == "damage" and not inputs.has_selection:
        raise UsageError("--allocation damage needs --samples, two at least.")
    return planning.allocation != "level" and inputs.has_selection and planning.has_budget


def resolved(inputs: Inputs, planning: PlanOptions) -> PlanOptions:
    """With the method that is meant: both kinds of change are weighed by measured damage alone.

    Raises:
        UsageError: Damage was asked for without samples, or a number of channels where no units are
            removed.
    """
    if planning.method != "auto":
        return planning
    if by_damage(inputs, planning) and planning.budgets.latency is None:
        return planning
    try:
        return replace(planning, method="double-layer")
    except UsageError as error:
        raise UsageError(
            f"{error} --method auto removes units only where damage is measured, which takes "
            "--samples and a --size, --macs or --max-drop, and no --latency."
        ) from error


def layer_offer(
    case: Case,
    inputs: Inputs,
    workspace: Workspace,
    measured: Measured,
    moments: BlockMoments,
    planning: PlanOptions,
    progress: Progress,
) -> Offer:
    """Measures what plans of double layers go by: time, and damage unless one level is asked for.

    Args:
        case: The model, its samples split.
        inputs: Its samples.
        workspace: Where it runs, and what is kept.
        measured: Its blocks' candidates.
        moments: Of the blocks' inputs.
        planning: What plans may do.
        progress: Shows the blocks that are timed, and the batches that damage is measured on.

    Raises:
        BudgetError: The budget on latency cannot be reached.
        UsageError: Damage was asked for without samples.
    """
    timed = timed_candidates(
        case, inputs, workspace, allowed_candidates(measured, planning), planning, progress
    )
    candidates: Mapping[str, Sequence[Candidate]] = timed.candidates
    curves: Mapping[str, tuple[DamageCurve, ...]] = {}
    damage: DamageMeasure | None = None
    if by_damage(inputs, planning):
        selection = inputs.selection
        damage = damage_measure(case, inputs, workspace, selection, planning)
        curves = damage_curves(
            case, inputs, workspace, selection, timed.candidates, moments, progress, damage
        )
        candidates = {
            key: with_damage(found, curves.get(key, ())) for key, found in candidates.items()
        }
    return Offer(
        blocks=case.blocks,
        candidates=candidates,
        finer={} if timed.measure else finer_candidates(case, candidates),
        curves=tuple(curve for own in curves.values() for curve in own),
        origin=origin_of(case, inputs, workspace, measured, planning, timed),
        statistics={row.block.key: row.statistics for row in measured.rows},
        measure=damage,
        refit=lambda plan: with_refits(plan, case, inputs, planning),
        latency=timed.measure,
        size_of=size_of(case, inputs, workspace, measured),
    )


def with_statistics(plan: Plan, sources: Mapping[str, StatisticsSource]) -> Plan:
    """A plan that says what its blocks were measured on."""
    choices = (replace(choice, statistics=sources[choice.key]) for choice in plan.choices)
    return replace(plan, choices=tuple(choices))


def allowed_candidates(
    measured: Measured, planning: PlanOptions
) -> dict[str, tuple[Candidate, ...]]:
    """By key, the candidates of the blocks that may change."""
    return {key: found for key, found in measured.candidates.items() if planning.allows(key)}


def finer_candidates(
    case: Case, candidates: Mapping[str, Sequence[Candidate]]
) -> dict[str, tuple[Candidate, ...]]:
    """By key, what lies between the rungs of candidates, so that budgets can be used.

    Args:
        case: The model.
        candidates: By key, with their damages where these were measured.
    """
    finest = _FINEST * case.model.bytes
    blocks = (block for block in case.blocks if block.key in candidates)
    return {block.key: between_rungs(block, candidates[block.key], finest) for block in blocks}


def _padding(case: Case) -> int:
    """What beginning on pages adds at most to a file with external data, and naming where."""
    lengths = [external_location(one).length for one in external_tensors(case.model.proto)]
    if not lengths:
        return 0
    # A weight becomes two, of a Conv three; biases are small.
    further = [
        block.original_bytes
        for block in case.blocks
        for _ in range(2 if kind_of(block.geometry).spatial else 1)
    ]
    paged = sum(length >= SMALLEST_PAGED for length in (*lengths, *further))
    return PAGE * paged + _PLACE_BYTES * 2 * len(further)


def origin_of(
    case: Case,
    inputs: Inputs,
    workspace: Workspace,
    measured: Measured,
    planning: PlanOptions,
    timed: Timed | None = None,
) -> Origin:
    """What plans are for.

    Args:
        case: The model.
        inputs: Its samples.
        workspace: Where it runs, and what is kept.
        measured: Its blocks' candidates.
        planning: What plans may do.
        timed: What was timed; None where nothing was.
    """
    reserved = reserved_bytes(case, inputs, planning) + _padding(case)
    origin = Origin(
        model_sha256=case.model.sha256,
        samples_sha256=None if inputs.user_samples is None else inputs.user_samples.sha256,
        total=Cost(bytes=case.model.bytes, macs=case.facts.macs),
        added_bytes=reserved + _stated_bytes(case, inputs, workspace, planning, planning.budgets),
        reserved_bytes=reserved,
        seed=workspace.options.seed,
        method="double-layer",
        assumed=inputs.data_free and any(row.statistics != "none" for row in measured.rows),
    )
    if timed is None:
        return origin
    total = replace(origin.total, latency=timed.whole)
    return replace(origin, total=total, batch=timed.batch, latencies=timed.blocks)


def with_provenance(
    offer: Planner,
    case: Case,
    inputs: Inputs,
    workspace: Workspace,
    planning: PlanOptions,
    budgets: Budgets,
) -> Planner:
    """An offer for files that state other budgets than it was made with.

    Args:
        offer: What plans are made of.
        case: The model.
        inputs: Its samples.
        workspace: Where it runs, and what is kept.
        planning: What plans may do.
        budgets: As the file will state them.
    """
    origin, stated = offer.origin, _stated_bytes(case, inputs, workspace, planning, budgets)
    return offer.with_origin(replace(origin, added_bytes=origin.reserved_bytes + stated))


def _stated_bytes(
    case: Case, inputs: Inputs, workspace: Workspace, planning: PlanOptions, budgets: Budgets
) -> int:
    """What a file takes to say where it comes from."""
    return provenance_bytes(case, inputs, workspace, planning.method, budgets, planning.input_range)
