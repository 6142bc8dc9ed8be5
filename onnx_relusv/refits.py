"""Blocks that keep their form and get other values, since blocks before them change.

What a changed block no longer delivers, the next ones can mend in part without a byte more: they
are fitted to what they get, as double layers are, in their own form.
"""

from dataclasses import replace

from onnx_relusv import forms
from onnx_relusv.candidates import item_size
from onnx_relusv.cost import refit_bytes, weight_numbers
from onnx_relusv.decisions import Choice, Plan
from onnx_relusv.graph.dependents import dependents
from onnx_relusv.opened import Opened
from onnx_relusv.options import PlanOptions
from onnx_relusv.records import Block

# How much more than a block takes, with all that goes with it, its weight may take by itself.
_LARGER = 1.5


def refittable(opened: Opened, planning: PlanOptions) -> tuple[Block, ...]:
    """The blocks that may get other values: none without samples to fit them on and to judge.

    Nor those whose numbers the file has in so much less that others would make it larger.
    """
    if opened.split is None or opened.split.select is None:
        return ()
    return tuple(
        block
        for block in opened.blocks
        if planning.allows(block.key)
        and item_size(block) * weight_numbers(block) <= _LARGER * block.original_bytes
    )


def reserved_bytes(opened: Opened, planning: PlanOptions) -> int:
    """What all refits together add to a file at most."""
    nodes = opened.model.proto.graph.node
    return sum(
        refit_bytes(block, nodes, item_size(block)) for block in refittable(opened, planning)
    )


def with_refits(plan: Plan, opened: Opened, planning: PlanOptions) -> Plan:
    """A plan in which the blocks behind a change that would be kept are fitted anew."""
    changed = [choice.key for choice in plan.choices if choice.action != "keep"]
    behind = dependents(opened.model, changed)
    blocks = {block.key: block for block in refittable(opened, planning) if block.source in behind}
    choices = (
        _refit(choice, blocks[choice.key])
        if choice.action == "keep" and choice.key in blocks
        else choice
        for choice in plan.choices
    )
    return replace(plan, choices=tuple(choices))


def _refit(choice: Choice, block: Block) -> Choice:
    why = f"fitted to what changed blocks deliver; not smaller: {choice.why}"
    rank = forms.largest_rank("dense", block.geometry)
    return replace(choice, action="refit", form="dense", rank=rank, why=why)
