"""What a model's plans may do at all, settled before anything is measured.

The method that is meant, the groups of units that may go, and budgets that shapes alone show to be
out of reach: every block that may change has rank one in its cheapest form, every group that may
lose units has its fewest, whatever that does to the answers. Bytes are bounded from below: names
and headers that a change adds are left out, and those that may go are taken to be gone. So a budget
below the bound cannot be kept by any plan; one above it may still turn out to be out of reach.

Budget errors say where the bytes of the model lie.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace

import numpy as np

from onnx_relusv.core.blocks import Block
from onnx_relusv.core.errors import BudgetError, Coverage, UsageError
from onnx_relusv.core.options import PlanOptions
from onnx_relusv.core.plans import Budgets, Cost
from onnx_relusv.core.reduction import block_of_size
from onnx_relusv.graph import writing
from onnx_relusv.graph.channels.groups import channel_tensors, find_channels
from onnx_relusv.graph.channels.walk import Channels
from onnx_relusv.graph.constants import Constants
from onnx_relusv.graph.coverage import coverage
from onnx_relusv.measuring.case import Case, Workspace, shapes_of
from onnx_relusv.measuring.inputs import Inputs
from onnx_relusv.planning.cost import BlockSize, bytes_left
from onnx_relusv.planning.limits import HALF, in_words, shares_of
from onnx_relusv.rewrites.low_rank.candidates import (
    block_macs,
    can_be_int8,
    candidate_cost,
    item_size,
    useful_ranks,
)
from onnx_relusv.rewrites.low_rank.forms import DENSE, FORMS, available_forms
from onnx_relusv.rewrites.low_rank.method import DoubleLayers
from onnx_relusv.rewrites.prune.cost import Counts, CutCost
from onnx_relusv.rewrites.prune.units import (
    Rounding,
    check_range,
    duplicates,
    nothing_to_remove,
    shrinking_groups,
    units_of_blocks,
)


def by_damage(inputs: Inputs, planning: PlanOptions) -> bool:
    """Whether a plan goes by measured damage, and not by one common level.

    Raises:
        UsageError: Damage was asked for without samples.
    """
    if planning.allocation == "damage" and not inputs.has_selection:
        raise UsageError("--allocation damage needs --samples, two at least.")
    # Half precision is no choice: with nothing else to decide on, nothing is measured.
    decides = planning.uses_int8 and planning.changes_precision_alone
    asked = planning.has_budget or decides
    return planning.allocation != "level" and inputs.has_selection and asked


def resolved(inputs: Inputs, planning: PlanOptions) -> PlanOptions:
    """With the method that is meant: both kinds of change are weighed by measured damage alone.

    Raises:
        UsageError: Damage was asked for without samples, or a number of channels where no units are
            removed.
    """
    if planning.uses_int8 and not inputs.has_selection:
        planning = _weights_alone(inputs, planning)
    if planning.changes_precision_alone:
        return planning.layers_alone()
    if not (planning.lowers_ranks and planning.removes_units):
        return planning
    if by_damage(inputs, planning):
        return planning
    try:
        return replace(planning, method=DoubleLayers.name)
    except UsageError as error:
        raise UsageError(
            f"{error} --method auto removes units only where damage is measured, which takes "
            "--samples and a --size, --macs, --latency or --max-drop."
        ) from error


def _weights_alone(inputs: Inputs, planning: PlanOptions) -> PlanOptions:
    """Without samples nothing tells how far tensors reach; weights are there.

    Raises:
        UsageError: More was asked for, or there is one sample, on which nothing can be chosen.
    """
    if inputs.user_samples is not None:
        raise UsageError(
            "--precision int8 needs --samples, two at least: which blocks integers hurt is "
            "measured on them. Without any, weights alone become integers."
        )
    if planning.int8_format == "s8s8":
        raise UsageError(
            "--int8-format s8s8 needs --samples, two at least: how far tensors reach is measured "
            "on them. Without any, weights alone can be integers: --int8-format weights."
        )
    return replace(planning, int8_format="weights")


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
    channels = replace(found, duplicates=duplicates(model, found))
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
    if planning.removes_units:
        if case.channels is None:
            case = with_channels(case, inputs, workspace, planning.input_range)
        planning = possible(case, planning)
    check_reachable(case, planning, cut_cost(case, workspace, planning))
    return case, planning


def cut_cost(case: Case, workspace: Workspace, planning: PlanOptions) -> CutCost | None:
    """What cuts save; None where no units go."""
    if not planning.removes_units or case.channels is None:
        return None
    return CutCost(case.model, case.channels, case.unit_shapes or _shapes(case, workspace))


def possible(case: Case, planning: PlanOptions) -> PlanOptions:
    """What plans of a model whose groups were looked into may do; errors as of `searched`."""
    if shrinking_groups(case, planning):
        return planning
    if not planning.lowers_ranks:
        raise nothing_to_remove(case, planning)
    return planning.layers_alone()


def _shapes(case: Case, workspace: Workspace) -> Mapping[str, tuple[int, ...]]:
    tensors = channel_tensors(case.model.proto)
    return shapes_of(case.model, tensors, workspace.provider, case.example, case.example_batch)


def model_coverage(case: Case, planning: PlanOptions | None = None) -> Coverage:
    """Says of all constants whether blocks hold them.

    Args:
        case: The model.
        planning: What plans may do; anything if None.
    """
    staying: dict[str, str] = {}
    with_units = set[str]()
    if case.channels is not None:
        with_units = set(units_of_blocks(case.channels, case.blocks))
    for block in case.blocks:
        if planning is not None and not planning.allows(block.key):
            staying[block.key] = "left out by --include or --exclude"
        elif not _has_smaller_form(block) and block.key not in with_units:
            staying[block.key] = "no double layer makes them smaller"
    return coverage(case.model, case.blocks, case.refusals, staying)


@contextmanager
def saying_where_bytes_are(case: Case, planning: PlanOptions) -> Iterator[None]:
    """Lets budget errors that come out of it say where the model's bytes lie.

    Not those on what may be lost, which bytes do not explain.
    """
    try:
        yield
    except BudgetError as error:
        budgets = planning.budgets
        explains = budgets.max_drop is None or bool(budgets.shares)
        if error.coverage is None and explains:
            error.coverage = model_coverage(case, planning)
        raise


def _has_smaller_form(block: Block) -> bool:
    forms = available_forms(block.geometry)
    return any(True for form in forms for _ in useful_ranks(block, form, biased=False))


# Tags and lengths of a field in front of its message, at most; what a node takes that makes a
# constant, beside the constant and names.
_TAGS, _NODE = 12, 64


def check_reachable(case: Case, planning: PlanOptions, cut: CutCost | None = None) -> None:
    """Refuses budgets that no plan can keep.

    Args:
        case: The model, with its channels where units may go.
        planning: What plans may do; its method is the one that is meant.
        cut: What cuts save; None where no units go.

    Raises:
        BudgetError: Nothing can be made smaller, or not by as much.
    """
    allowed = _allowed(case, planning)
    halved = planning.uses_fp16
    if cut is None and not halved and not any(_can_shrink(case, b, planning) for b in allowed):
        raise BudgetError("no block of this model can be made smaller; nothing was written.")
    problem = unreachable(planning.budgets, case, least_cost(case, planning, cut))
    if problem is not None:
        raise problem


def unreachable(budgets: Budgets, case: Case, least: Cost) -> BudgetError | None:
    """The error where budgets lie below the least; None where they do not."""
    left = shares_of(least, Cost(bytes=case.facts.bytes, macs=case.facts.macs))
    missed = {
        budget: share
        for budget, share in budgets.shares.items()
        if budget in left and share < left[budget]
    }
    if not missed:
        return None
    return BudgetError(
        f"{in_words(missed)} cannot be reached: with all that may change at its smallest, "
        f"{in_words(left)} are left. Nothing was written. Ask for less, or allow more blocks."
    )


def least_cost(case: Case, planning: PlanOptions, cut: CutCost | None = None) -> Cost:
    """A lower bound of what any plan leaves; arguments as of `check_reachable`."""
    blocks = _allowed(case, planning) if planning.lowers_ranks or planning.uses_int8 else []
    bytes_, macs = float(case.model.bytes), float(case.facts.macs)
    left, headers = list(blocks), _Headers(case)
    if cut is not None and case.channels is not None:
        counts = _fewest(case, case.channels, planning)
        saved, saved_macs = cut.most_saved(counts)
        bytes_, macs = bytes_ - saved - _TAGS * cut.parts, macs - saved_macs
        left = _left(case, case.channels, blocks, counts)
    for block, own in zip(blocks, left, strict=True):
        forms = available_forms(own.geometry) if planning.lowers_ranks else ()
        integers = planning.uses_int8 and can_be_int8(block, case.model.opset)
        costs = [
            candidate_cost(own, form, 1, 1 if integers else item_size(block), biased=False)
            for form in (*forms, *((DENSE.name,) if integers else ()))
            if FORMS[form].largest_rank(own.geometry) > 1 or FORMS[form].one_layer
        ]
        now = bytes_left(block, own) + block.surplus_bytes + headers.of(block)
        bytes_ += min([0.0, *(cost.bytes - now for cost in costs)])
        macs += min([0, *(cost.macs - block_macs(own) for cost in costs)])
    if planning.uses_fp16:
        bytes_ *= HALF
    return Cost(bytes=max(0, int(bytes_)), macs=max(0, int(macs)))


def _allowed(case: Case, planning: PlanOptions) -> list[Block]:
    return [block for block in case.blocks if planning.allows(block.key)]


def _can_shrink(case: Case, block: Block, planning: PlanOptions) -> bool:
    if planning.uses_int8 and can_be_int8(block, case.model.opset):
        return True
    return _has_smaller_form(block)


def _fewest(case: Case, channels: Channels, planning: PlanOptions) -> Counts:
    """(groups,) int64: how many units stay at least."""
    free = {group.key for group in shrinking_groups(case, planning)}
    return np.array(
        [
            _least_units(len(group.units), planning) if group.key in free else len(group.units)
            for group in channels.groups
        ],
        np.int64,
    )


def _least_units(units: int, planning: PlanOptions) -> int:
    return Rounding.of(units, planning).counts(units)[-1]


def _left(case: Case, channels: Channels, blocks: Sequence[Block], counts: Counts) -> list[Block]:
    """The blocks with as many channels as are left of them."""
    units = units_of_blocks(channels, case.blocks)
    sizes = [BlockSize(block, channels, units.get(block.key)) for block in blocks]
    return [
        block_of_size(block, *size.at(counts)) for block, size in zip(blocks, sizes, strict=True)
    ]


class _Headers:
    """What may go with a block besides the numbers and nodes that it is said to cost, at most."""

    def __init__(self, case: Case) -> None:
        self._model = case.model
        graph = case.model.proto.graph
        self._constants = Constants(case.model)
        self._initializers = {tensor.name for tensor in graph.initializer}
        self._described = {value.name: value.ByteSize() for value in graph.value_info}

    def of(self, block: Block) -> int:
        nodes = [self._model.proto.graph.node[index] for index in block.nodes]
        constants = {name for node in nodes for name in node.input if name}
        tensors = {name for node in nodes for name in node.output}
        described = sum(writing.entry(self._described.get(name, 0)) for name in tensors)
        return sum(map(self._of_constant, constants)) + described + _TAGS * len(nodes)

    def _of_constant(self, name: str) -> int:
        tensor = self._constants.tensor(name)
        if tensor is None:
            return 0
        found = writing.tensor(name, tensor.dims, 0) + _TAGS
        if self._model.lists_initializers:
            found += writing.listed(name, tensor.dims)
        # One that a node makes is gone with it, and so are Identity nodes between them.
        made = 0 if name in self._initializers else len(list(self._constants.path(name)))
        return found + made * (_NODE + 3 * len(name.encode()))
