"""How much the outputs depend on single blocks, out of the damages that a plan was made of."""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from onnx_relusv.core.blocks import SMALLEST, Block
from onnx_relusv.core.measures import DamageCurve
from onnx_relusv.core.plans import Plan
from onnx_relusv.rewrites.low_rank.forms import FORMS

# What is imagined to stay of a block's weights.
_LEFT = 0.5


def sensitivities(
    plan: Plan, blocks: Sequence[Block], written: Mapping[str, str]
) -> dict[str, float]:
    """What half of each block's weights, gone in the way that does least, would do to the outputs.

    Estimated, with every other block as it was: the damage that was measured at two ranks, or
    numbers of units, is interpolated between them along a straight line of its logarithm. Beyond
    what was measured it is that of the nearest.

    Args:
        plan: It has the damages that were measured.
        blocks: Of the model.
        written: By a block's key, the tensor that its linear map writes, by which groups of units
            know it.

    Returns:
        By key; blocks of which nothing was measured are left out.
    """
    found = {block.key: list(_by_rank(plan, block)) for block in blocks}
    for group, curve in ((one, two) for one in plan.groups for two in plan.group_curves):
        if group.key == curve.key:
            damage = _at(_LEFT * group.units, curve.counts, curve.damages)
            for block in blocks:
                if written[block.key] in group.producers:
                    found[block.key].append(damage)
    return {key: min(damages) for key, damages in found.items() if damages}


def _by_rank(plan: Plan, block: Block) -> Iterator[float]:
    """The damage of every form that was measured, at the rank with half of the weights."""
    for curve in plan.curves:
        if curve.key == block.key:
            yield _at(_half(curve, block), curve.ranks, curve.damages)


def _half(curve: DamageCurve, block: Block) -> float:
    """The rank, no whole number, at which a form has half as many weights as the block."""
    form, geometry = FORMS[curve.form], block.geometry
    ranks = np.arange(1, form.largest_rank(geometry) + 1)
    numbers = [form.parameters(geometry, int(rank)) for rank in ranks]
    return float(np.interp(_LEFT * geometry.numbers, numbers, ranks))


def _at(place: float, known: Sequence[int], damages: Sequence[float]) -> float:
    logarithms = np.log(np.maximum(damages, SMALLEST))
    return float(np.exp(np.interp(place, known, logarithms)))
