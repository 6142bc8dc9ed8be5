"""From a measured model to plans: items of all methods, with their damages where plans go by them.

What is measured here is measured once, for any number of budgets.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

from onnx_relusv.core.blocks import Item
from onnx_relusv.core.errors import BudgetError
from onnx_relusv.core.measures import Measured, ModelledTime
from onnx_relusv.core.options import PlanOptions
from onnx_relusv.core.plans import COST_BUDGETS, Budgets, Plan
from onnx_relusv.measuring.blocks import Ground
from onnx_relusv.planning.allocation import (
    Problem,
    UnreachableError,
    least_cost,
    least_damage,
    not_slower,
    quicker,
    time_share,
    uniform_error,
)
from onnx_relusv.planning.cost import Coupling, PlanCost
from onnx_relusv.planning.decisions import (
    Offered,
    plan_of,
    with_damages,
    with_refits,
)
from onnx_relusv.planning.file_size import SizeOf, changes_anything, size_of, sized
from onnx_relusv.planning.latency.kernels import ModelledTimes
from onnx_relusv.planning.latency.timed import MANY, Measure, Timed, timed
from onnx_relusv.planning.limits import Origin, how_far, limits, plan_within
from onnx_relusv.planning.objective import DamageMeasure, damage_measure
from onnx_relusv.planning.origin import origin_of, stated_bytes, untouched
from onnx_relusv.planning.probe import measured_damages
from onnx_relusv.planning.search import State
from onnx_relusv.planning.settling import by_damage, cut_cost
from onnx_relusv.rewrites.fp16.observed import float_nodes
from onnx_relusv.rewrites.low_rank.method import LayerItem
from onnx_relusv.rewrites.low_rank.rounding import feeds_errors_back
from onnx_relusv.rewrites.methods import Rewrite, rewrites_of
from onnx_relusv.rewrites.prune.units import units_of_blocks
from onnx_relusv.work.executors import Progress

# Time is saved for no more than this share of the damage more, and of damage that is worth a word;
# for so much of it where a plan is slower than the original otherwise.
_WORTHLESS, _NOT_SLOWER = 0.03, 2.0
# By so much an estimated time may be over a budget on it before measuring is no use.
_FAR = 1.25
# Of the plans that are quick, the quickest of which the exact bytes are found.
_MOST_SIZED = 2


@dataclass(frozen=True, eq=False)
class Offer:
    """All that plans are made of.

    Attributes:
        offered: What plans choose from.
        refit: Lets the blocks that a plan keeps be fitted to what it changes.
        measure: What damages are; None where plans go by one common relative error.
        latency: Measures a plan's latency; None without a budget on it.
        size_of: Tells the bytes of a plan's file; None where estimates will do.
        keeps_pace: Whether of plans that lose as little the quickest is taken, by the model of the
            kernels.
        at_many: Times by that model with many samples in a run, with which a plan should not be
            slower than the original either; None where that is not looked at.
    """

    offered: Offered
    refit: Callable[[Plan], Plan]
    measure: DamageMeasure | None = None
    latency: Measure | None = None
    size_of: SizeOf | None = None
    keeps_pace: bool = False
    at_many: ModelledTimes | None = None

    @property
    def origin(self) -> Origin:
        """What plans are for."""
        return self.offered.origin

    def with_origin(self, origin: Origin) -> "Offer":
        """The same for another origin."""
        return replace(self, offered=replace(self.offered, origin=origin))

    def plan(self, budgets: Budgets) -> Plan:
        """The plan within the budgets: by damage where that was measured, else by one error.

        Raises:
            BudgetError: They cannot be reached, or nothing can be made smaller.
        """
        if not self.offered.items and not self.origin.uses_fp16:
            nothing = (rewrite.nothing for rewrite in rewrites_of(self.origin))
            raise BudgetError(f"{', and '.join(nothing)}; nothing was written.")

        if self.latency is not None and budgets.latency is not None:
            return plan_within(
                lambda within: self._sized(within)[0], budgets, budgets.latency, self.latency
            )
        if self.keeps_pace and self.measure is None:
            # Where nothing that is quick keeps the budgets, they are kept by something else.
            with suppress(BudgetError):
                plan, *_ = self._without_slow_forms()._sized(budgets)
                if changes_anything(plan):
                    return plan
        plan, known, state = self._sized(budgets)
        return known._quicker(plan, state, budgets) if self.keeps_pace else plan

    def least_damage(self, budgets: Budgets) -> Plan:
        """The plan within the budgets as `plan` makes it, whatever time its file takes."""
        return replace(self, keeps_pace=False).plan(budgets)

    def _sized(
        self, budgets: Budgets, time: float | None = None, near: State | None = None
    ) -> "tuple[Plan, Offer, State]":
        """A plan whose file keeps the budgets, and what is estimated a limit on time.

        Args:
            budgets: As asked for.
            time: The limit, as a share of the original's.
            near: A state around which alone is searched.

        Returns:
            The plan, this with the bytes that its file has beside what is estimated, and the plan's
            state.
        """
        used: dict[tuple[object, ...], tuple[Origin, State]] = {}

        def make(origin: Origin, within: Budgets) -> Plan:
            limited = within if time is None else replace(within, latency=time)
            plan, state = self._estimated(origin, limited, near)
            used[plan.choices, plan.groups] = origin, state
            return replace(plan, budgets=within)

        plan = sized(make, self.origin, budgets, self.size_of)
        origin, state = used[plan.choices, plan.groups]
        return plan, self.with_origin(origin), state

    def _without_slow_forms(self) -> "Offer":
        """Without the forms that are slower than what they replace, by the model of the kernels."""
        items = tuple(
            item.fast_enough() if isinstance(item, LayerItem) else item
            for item in self.offered.items
        )
        return replace(self, offered=replace(self.offered, items=items))

    def _quicker(self, plan: Plan, state: State, budgets: Budgets) -> Plan:
        """Of the plans that lose little more than one, that which takes the least modelled time.

        Args:
            plan: By damage; by one error it stays.
            state: Its state.
            budgets: As asked for; without any on a cost it stays, too.
        """
        within = limits(budgets, self.origin.total)
        if self.measure is None or plan.damage is None or not self.offered.items or not within:
            return plan
        problem = self._problem(self.origin, budgets.tolerance, within)
        most = (1 + _WORTHLESS) * (plan.damage + _WORTHLESS * self.measure.noticeable)
        found = quicker(problem, state, most)
        if (found[-1][0] if found else plan.latency or 0.0) > 1:
            most *= _NOT_SLOWER
            near = not_slower(problem, state, most)
            found += [] if near is None else [(1.0, near)]
        # The exact bytes of a plan may put the least out of reach, and then the next one is not.
        for share, near in found[: -_MOST_SIZED - 1 : -1]:
            with suppress(BudgetError):
                quick, known, own = self._sized(budgets, share, near)
                if quick.damage is not None and quick.damage <= most:
                    return known._quick_for_many(quick, own, budgets)
        return self._quick_for_many(plan, state, budgets)

    def _quick_for_many(self, plan: Plan, state: State, budgets: Budgets) -> Plan:
        """A plan, or another one where that is slower than the original with many samples in a run.

        The other one does twice the damage at most, and is not slower with as many as asked for, or
        no slower than the plan. Either says what it takes with so many.
        """
        if self.at_many is None or plan.damage is None or self.measure is None:
            return plan
        many = self.by_times(self.at_many)
        problem, own = (
            each._problem(each.origin, budgets.tolerance, limits(budgets, each.origin.total))
            for each in (many, self)
        )
        most = _NOT_SLOWER * (plan.damage + _WORTHLESS * self.measure.noticeable)
        taken = ModelledTime(batch=MANY, share=time_share(problem, state))
        plan = replace(plan, many=taken)
        if taken.share <= 1:
            return plan
        near = not_slower(problem, state, most)
        if near is None:
            return plan
        with suppress(BudgetError):
            found, _, other = many._sized(budgets, 1.0, near)
            share = time_share(own, other)
            is_harmless = found.damage is not None and found.damage <= most
            if is_harmless and share <= max(1.0, plan.latency or 0.0):
                seen = ModelledTime(batch=MANY, share=time_share(problem, other))
                return replace(found, latency=share, many=seen)
        return plan

    def by_times(self, times: ModelledTimes) -> "Offer":
        """The same by other times."""
        offered, origin = self.offered, self.origin
        items = (times.on(item) if isinstance(item, LayerItem) else item for item in offered.items)
        coupling = offered.coupling
        if coupling is not None:
            coupling = replace(coupling, times=times, known={}, left={})
        total = replace(origin.total, latency=times.total)
        origin = replace(origin, total=total)
        return replace(
            self,
            offered=replace(offered, items=tuple(items), coupling=coupling, origin=origin),
        )

    def _out_of_reach(
        self, problem: Problem, far: UnreachableError, budgets: Budgets
    ) -> BudgetError:
        return BudgetError(how_far(problem.costs.total(far.nearest), budgets, self.origin.total))

    def _estimated(
        self, origin: Origin, budgets: Budgets, near: State | None
    ) -> tuple[Plan, State]:
        """A plan whose bytes are estimated, and its state."""
        problem = self._problem(origin, budgets.tolerance, limits(budgets, origin.total))
        try:
            if self.measure is None or not self.offered.items:
                allocation = uniform_error(problem, _error_without_limits(origin, budgets))
            else:
                allocation = least_damage(problem, near)
        except UnreachableError as far:
            raise self._out_of_reach(problem, far, budgets) from None
        offered = replace(self.offered, origin=origin)
        plan = plan_of(offered, problem.items, allocation, problem.costs, budgets)
        return self.refit(plan), allocation.state

    def _problem(
        self, origin: Origin, tolerance: float | None, within: Mapping[str, float]
    ) -> Problem:
        def costs_of(items: Sequence[Item], names: Sequence[str]) -> PlanCost:
            return PlanCost(items, self.offered.coupling, origin, names)

        items = tuple(item.within(tolerance) for item in self.offered.items)
        whole = {budget.cost: getattr(origin.total, budget.cost) for budget in COST_BUDGETS}
        return Problem(items, within, costs_of, whole)

    @property
    def damage(self) -> DamageMeasure:
        """What damages are.

        Raises:
            ValueError: None were measured.
        """
        if self.measure is None:
            raise ValueError("plans of this offer go by one common relative error")
        return self.measure

    def with_damages(self, plan: Plan) -> Plan:
        """A plan with the damages that are offered here, whatever it was made by."""
        return with_damages(plan, self.offered.items)

    def scaled(self, layers: Mapping[str, float], others: float) -> "Offer":
        """With scaled damages.

        Args:
            layers: What those of a block's double layers are multiplied by, by its key.
            others: The same of everything else.
        """
        items = tuple(
            item.scaled(layers.get(item.key, others) if isinstance(item, LayerItem) else others)
            for item in self.offered.items
        )
        return replace(self, offered=replace(self.offered, items=items))

    def least_size(self, tolerance: float | None) -> float:
        """The smallest share of the bytes that there is a plan for, whatever the damage."""
        problem = self._problem(self.origin, tolerance, {"bytes": 1.0})
        least = float(problem.costs.of(least_cost(problem))[0]) - self.origin.reserved_bytes
        return least / self.origin.total.bytes


def _error_without_limits(origin: Origin, budgets: Budgets) -> float:
    """The common relative error where no cost is limited."""
    if budgets.tolerance is not None:
        return budgets.tolerance
    if origin.uses_int8:  # numbers alone change
        return 0.0
    informed = origin.samples_sha256 is not None or origin.assumed
    return min(rewrite.default_error(informed) for rewrite in rewrites_of(origin))


def make_offer(ground: Ground, planning: PlanOptions, progress: Progress) -> Offer:
    """Finds what plans choose from: items, times, and damages unless one error is asked for.

    Args:
        ground: A measured model, with its groups of units where these may go.
        planning: What plans may do, its method settled.
        progress: Shows the stages.

    Raises:
        BudgetError: The budget on latency cannot be reached.
        UsageError: Damage was asked for without samples.
    """
    case, inputs, workspace = ground.case, ground.inputs, ground.workspace
    # Where formats alone change, there is nothing to choose.
    nothing = planning.uses_fp16 and planning.changes_precision_alone
    made = [
        (rewrite, rewrite.items(ground, planning, progress))
        for rewrite in (() if nothing else rewrites_of(planning))
    ]
    layers = [item for _, own in made for item in own if isinstance(item, LayerItem)]
    times = timed(case, inputs, workspace, layers, planning, progress)
    float_nodes = _float_nodes(ground, planning, progress)
    measure: DamageMeasure | None = None
    if by_damage(inputs, planning):
        measure = damage_measure(case, inputs, workspace, inputs.selection, planning)
    origin = origin_of(ground, planning, times, float_nodes)
    coupling = _coupling(ground, planning, times.times)
    if planning.budgets.latency is not None:
        _check_reachable(made, times, coupling, origin, planning.budgets.latency)
    items: list[Item] = []
    curves: list[Measured] = []
    for rewrite, own_items in made:
        measured = [times.quick(times.on(item)) for item in own_items]
        found = [times.on(rewrite.finer(item, ground, planning)) for item in measured]
        if measure is not None:
            sites = rewrite.sites(measured, ground)
            damages = measured_damages(
                ground, sites, measure, progress, rewrite.measuring, planning.int8_format
            )
            for place, item in enumerate(found):
                found[place], own = rewrite.with_damages(item, damages.get(item.key, {}))
                curves.extend(own)
        items.extend(_with_way_out(times.quick(item), measure, times) for item in found)
    return Offer(
        offered=Offered(
            blocks=case.blocks,
            items=tuple(items),
            origin=origin,
            statistics={row.block.key: row.statistics for row in ground.measured.rows},
            coupling=coupling,
            layered=planning.lowers_ranks,
            left_out=frozenset(b.key for b in case.blocks if not planning.allows(b.key)),
            nearest=_rounded_to_nearest(ground, planning),
            formats_alone=nothing,
            slower=times.slower,
            curves=tuple(curves),
            damage_measure=None if measure is None else measure.words,
        ),
        refit=lambda plan: with_refits(plan, case, inputs, planning),
        measure=measure,
        latency=times.measure,
        keeps_pace=times.times is not None
        and times.measure is None
        and (measure is None or workspace.spending.searches_time),
        at_many=times.at_many,
        size_of=size_of(case, inputs, workspace, ground.measured, float_nodes),
    )


def _check_reachable(
    made: Sequence[tuple[Rewrite[Any], Sequence[Item]]],
    timed: Timed,
    coupling: Coupling | None,
    origin: Origin,
    target: float,
) -> None:
    """Ends a run whose budget on latency not even the smallest of everything keeps.

    Raises:
        BudgetError: By the fitted times it is far over it.
    """
    items = tuple(timed.on(item) for _, own in made for item in own)

    def costs_of(items: Sequence[Item], names: Sequence[str]) -> PlanCost:
        return PlanCost(items, coupling, origin, names)

    whole = origin.total.latency
    problem = Problem(items, {"latency": target * whole}, costs_of, {"latency": whole})
    least = min(float(problem.costs.of(least_cost(problem))[0]) / whole, timed.least)
    if items and least > target * _FAR:
        raise BudgetError(
            f"{target:.4g} of the latency cannot be reached: by what was timed the model takes "
            f"{least:.4g} at least; nothing was fitted. Ask for a larger share, or allow more "
            "blocks."
        )


def _rounded_to_nearest(ground: Ground, planning: PlanOptions) -> frozenset[str]:
    keys = (block.key for block in ground.blocks if planning.uses_int8)
    return frozenset(key for key in keys if not feeds_errors_back(ground.moments[key]))


def _with_way_out(item: Item, measure: DamageMeasure | None, timed: Timed) -> Item:
    """An item that may stay as it is after all, where 8-bit integers hurt it or make it slower."""
    if not isinstance(item, LayerItem) or not item.is_int8:
        return item
    if item.key in timed.slower:
        return item.or_as_it_is().fast_enough()
    hurt = measure is not None and item.damages[0] > measure.noticeable
    return item.or_as_it_is() if hurt else item


def _coupling(
    ground: Ground, planning: PlanOptions, times: ModelledTimes | None
) -> Coupling | None:
    channels, cut = ground.case.channels, cut_cost(ground.case, ground.workspace, planning)
    if channels is None or cut is None:
        return None
    return Coupling(channels, units_of_blocks(channels, ground.blocks), cut, times)


def _float_nodes(ground: Ground, planning: PlanOptions, progress: Progress) -> Mapping[str, str]:
    """The nodes of the original that stay float32 in half precision, with reasons."""
    if not planning.uses_fp16:
        return {}
    case = ground.case
    left = untouched(case, planning)
    return float_nodes(case, ground.inputs, ground.workspace, case.model.proto, left, progress)


def with_provenance(offer: Offer, ground: Ground, planning: PlanOptions, budgets: Budgets) -> Offer:
    """An offer for files that state other budgets than it was made with.

    Args:
        offer: What plans are made of.
        ground: The model.
        planning: What plans may do.
        budgets: As the file will state them.
    """
    origin, stated = offer.origin, stated_bytes(ground, planning, budgets)
    return offer.with_origin(replace(origin, added_bytes=origin.reserved_bytes + stated))
