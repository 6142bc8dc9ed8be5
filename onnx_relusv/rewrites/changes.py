"""What a plan changes: blocks with their forms, ranks and the channels that they keep."""

from collections.abc import Collection, Iterable

from onnx_relusv.core.blocks import Block
from onnx_relusv.core.errors import InputError
from onnx_relusv.core.plans import ChannelMask, Plan
from onnx_relusv.core.reduction import Change, Integers, masked_geometry
from onnx_relusv.graph.blocks import dependents
from onnx_relusv.measuring.case import Case
from onnx_relusv.measuring.inputs import Inputs
from onnx_relusv.rewrites.low_rank.candidates import LEAST_OPSET, can_be_int8
from onnx_relusv.rewrites.low_rank.forms import DENSE, FORMS, available_forms
from onnx_relusv.rewrites.prune.units import kept_channels


def direct_consumers(block: Block, blocks: Iterable[Block]) -> list[Block]:
    """The blocks that read a block's output; empty unless they are all that reads it."""
    readers = [other for other in blocks if other.source == block.key]
    simple = block.geometry.groups == 1 and all(r.geometry.groups == 1 for r in readers)
    return readers if simple and len(readers) == len(block.consumers) else []


def is_reproduced(case: Case, inputs: Inputs, block: Block, kept: ChannelMask | None) -> bool:
    """Whether what is left of a block is fitted to tell its consumers what all of it told them.

    That needs units that are gone, and consumers that are blocks, and nothing else, which are then
    fitted to what is left; and samples to choose by.

    Args:
        case: The model and its samples, split.
        inputs: Its samples.
        block: The block.
        kept: What is left of its channels; None where all are.
    """
    if kept is None or len(kept.outputs) == block.geometry.out_channels:
        return False
    if inputs.split is None or inputs.split.select is None:
        return False
    consumers = direct_consumers(block, case.blocks)
    return any(case.folding(consumer).weight.any() for consumer in consumers)


def changes_of(case: Case, inputs: Inputs, plan: Plan) -> list[Change]:
    """What a plan changes, checked against the model, in topological order.

    Raises:
        InputError: The plan names blocks or ranks that the model does not have.
    """
    choices = {choice.key: choice for choice in plan.choices if not choice.is_kept}
    unknown = set(choices) - {block.key for block in case.blocks}
    if unknown:
        raise InputError(f"the plan changes {min(unknown)}, which is no block of this model.")
    changed: list[Change] = []
    left = kept_channels(case, plan)
    behind = dependents(case.model, {*choices, *left})
    for block in case.blocks:
        choice, kept = choices.get(block.key), left.get(block.key)
        if choice is None and kept is None:
            continue
        layer = choice is not None and choice.is_double_layer
        integers: Integers | None = None
        if choice is not None and choice.is_int8:
            integers = Integers(plan.int8_format, plan.int8_ranges, choice.rounding)
        if integers and not can_be_int8(block, case.model.opset):
            raise InputError(
                f"the plan has {block.key} computed with 8-bit integers, which takes numbers "
                f"of 32 bits and operator set {LEAST_OPSET}."
            )
        cut_alone = (
            not integers and not layer and kept is not None and _gets_all(block, kept, behind)
        )
        if cut_alone and not is_reproduced(case, inputs, block, kept):
            # Its rows are cut, and no more is to be done.
            continue
        geometry = masked_geometry(block.geometry, kept)
        if choice is None or choice.form is None or choice.rank is None or not layer:
            # What it loses follows from the groups, however a plan was edited.
            rank = DENSE.largest_rank(geometry)
            changed.append(Change(block, DENSE.name, rank, kept, integers))
            continue
        form, rank = choice.form, choice.rank
        if form not in available_forms(block.geometry):
            raise InputError(f"the plan gives {block.key} the form {form}, which it lacks.")
        largest = FORMS[form].largest_rank(geometry)
        if not 1 <= rank <= largest:
            raise InputError(
                f"the plan gives {block.key} rank {rank}; it has to be from 1 to {largest}."
            )
        changed.append(Change(block, form, rank, kept, integers))
    return changed


def _gets_all(block: Block, kept: ChannelMask, behind: Collection[str]) -> bool:
    """Whether a block gets what it got before; `behind` is what depends on changed blocks."""
    whole = len(kept.inputs) * block.geometry.groups == block.geometry.in_channels
    return whole and block.source not in behind
