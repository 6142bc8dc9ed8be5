"""The bytes of the file that a plan makes, before anything is fitted, and plans that use a budget.

While a plan is searched for, bytes are estimated, since what a change saves depends on others:
which constants are still read, which blocks get a bias, how long names become. The plan that was
found is written with any numbers in the place of what will be fitted, since values do not matter to
the file's length. By what the estimate was off the search is repeated, until a plan is what it was
said to be.
"""

from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from types import MappingProxyType

import numpy as np

from onnx_relusv.core.errors import BudgetError
from onnx_relusv.core.plans import Budgets, Factors, Int8Format, Plan
from onnx_relusv.core.reduction import ActivationScale, Change, masked_geometry
from onnx_relusv.graph.writing import written_bytes
from onnx_relusv.measuring.blocks import Measured
from onnx_relusv.measuring.case import Case, Workspace
from onnx_relusv.measuring.inputs import Inputs
from onnx_relusv.planning.limits import Origin
from onnx_relusv.rewrites.apply import unfitted
from onnx_relusv.rewrites.low_rank.forms import FORMS
from onnx_relusv.rewrites.prune.units import removes_units

# Beyond it an estimate is good enough: it is off by some hundred bytes a block.
_LARGE = 64 << 20
_MOST_PLANS = 4
# Of the budget: an error of the estimate that is not worth another plan.
_NEAR = 2e-3

# How many bytes the file of a plan has.
SizeOf = Callable[[Plan], int]
# Makes a plan within budgets by what a file is estimated to gain besides blocks.
Make = Callable[[Origin, Budgets], Plan]


def size_of(
    case: Case,
    inputs: Inputs,
    workspace: Workspace,
    measured: Measured,
    float_nodes: Mapping[str, str],
) -> SizeOf | None:
    """What tells the bytes of plans' files; None for a model so large that estimates will do.

    Args:
        case: The model, with its channels where units may go.
        inputs: Its samples.
        workspace: Where it runs, and what is kept.
        measured: Its blocks; what they were measured on tells which biases can be zero.
        float_nodes: Those of the original that stay float32 in half precision.
    """
    if case.model.bytes > _LARGE:
        return None
    blocks = {row.block.key: row for row in measured.rows}
    biased = {
        key
        for key, row in blocks.items()
        if row.statistics != "none" or np.any(case.folding(row.block).bias)
    }

    def size(plan: Plan) -> int:
        return planned_bytes(case, inputs, workspace, plan, biased, float_nodes)

    return size


def planned_bytes(
    case: Case,
    inputs: Inputs,
    workspace: Workspace,
    plan: Plan,
    biased: Collection[str],
    float_nodes: Mapping[str, str] = MappingProxyType({}),
) -> int:
    """The bytes of the model file and its external data.

    Args:
        case: The model.
        inputs: Its samples.
        workspace: Where it runs, and what is kept.
        plan: For this model.
        biased: Keys of the blocks whose bias is not zero once they are fitted.
        float_nodes: As of `size_of`.
    """

    def factors_of(change: Change) -> Factors:
        return _placeholders(change, biased=change.block.key in biased)

    proto = unfitted(case, inputs, workspace, plan, factors_of, _placeholder_scales, float_nodes)
    return written_bytes(proto, case.model)


def _placeholder_scales(
    tensors: Mapping[str, str], int8_format: Int8Format
) -> dict[str, ActivationScale]:
    """A scale and a zero point for every tensor, the same where they share one, and no others."""
    signed = int8_format == "s8s8"
    places = {name: place for place, name in enumerate(dict.fromkeys(tensors.values()), 1)}
    return {
        name: ActivationScale(float(places[own]), 0 if signed else places[own] % 256, signed)
        for name, own in tensors.items()
    }


def _placeholders(change: Change, *, biased: bool) -> Factors:
    geometry = masked_geometry(change.block.geometry, change.kept)
    shapes = FORMS[change.form].shapes(geometry, change.rank)
    bias = np.ones if biased else np.zeros
    layers = FORMS[change.form].layers(geometry, change.rank) if change.is_int8 else ()
    return Factors(
        form=change.form,
        rank=change.rank,
        matrices=tuple(np.ones((geometry.groups, *shape)) for shape in shapes),
        bias=bias(geometry.out_channels),
        kept=change.kept,
        scales=tuple(np.ones((layer.groups, layer.rows)) for layer in layers),
    )


def sized(make: Make, origin: Origin, budgets: Budgets, size_of: SizeOf | None) -> Plan:
    """A plan whose share of the bytes is that of its file, and that uses the budget on them.

    Args:
        make: Makes a plan.
        origin: What the plan is for.
        budgets: As asked for. A file has to be smaller than the original in any case.
        size_of: Tells a plan's bytes; None to leave estimates as they are.

    Raises:
        BudgetError: The budgets cannot be reached, or the file would be no smaller.
    """
    if size_of is None:
        return make(origin, budgets)
    if budgets.size is not None:
        return _within(make, origin, budgets, budgets.size, size_of)
    plan, total = make(origin, budgets), origin.total.bytes
    size = size_of(plan) if changes_anything(plan) else 0
    if size < total:
        return replace(plan, size=size / total) if size else plan
    share = (total - 1) / total
    try:
        found = _within(make, origin, replace(budgets, size=share), share, size_of)
        return replace(found, budgets=budgets)
    except BudgetError as error:
        raise BudgetError(
            f"the file would have {size:,} bytes and the original has {total:,}: the nodes, names "
            "and entries that it gains take more than is saved. Nothing was written."
        ) from error


def _within(make: Make, origin: Origin, budgets: Budgets, share: float, size_of: SizeOf) -> Plan:
    """A plan whose file has no more than a share of the bytes, the budget on them."""
    best: Plan | None = None
    total, extra = origin.total.bytes, 0
    for _ in range(_MOST_PLANS):
        try:
            plan = make(_with_more(origin, extra), budgets)
        except BudgetError:
            # What is set aside for refits may not be needed.
            if best is not None or extra < 0 or not origin.reserved_bytes:
                break
            extra = -origin.reserved_bytes
            continue
        if not changes_anything(plan):
            return plan
        size = size_of(plan)
        off = size - round(plan.size * total)
        plan = replace(plan, size=size / total)
        if size <= share * total:
            best = plan if best is None or _is_better(plan, best) else best
            if abs(off) <= _NEAR * share * total:
                break
        # A plan that is over the budget by a byte must not be made again.
        extra += off if off else 1
    if best is not None:
        return best
    # Where there is no plan, this says how far one gets.
    plan = make(_with_more(origin, extra), budgets)
    size = size_of(plan)
    if size <= share * total:
        return replace(plan, size=size / total)
    raise BudgetError(
        f"{share:.4g} of the bytes cannot be reached: the smallest file that was found has "
        f"{size / total:.4g} of them. Ask for less, or allow more blocks."
    )


def _with_more(origin: Origin, extra: int) -> Origin:
    return replace(origin, added_bytes=origin.added_bytes + extra)


def changes_anything(plan: Plan) -> bool:
    """Whether a plan does anything."""
    changed = any(not choice.is_kept for choice in plan.choices)
    return plan.uses_fp16 or removes_units(plan) or changed


def _is_better(plan: Plan, other: Plan) -> bool:
    if plan.damage is None or other.damage is None:
        return (plan.level, -plan.size) <= (other.level, -other.size)
    return plan.damage <= other.damage
