"""Plans of double layers, by hand."""

from onnx_relusv.core.plans import Budgets, Choice, Plan
from onnx_relusv.measuring.case import Opened


def plan(model: Opened, **changed: tuple[str, int]) -> Plan:
    """Some blocks as double layers of a form and a rank; the others stay."""

    def choice(key: str) -> Choice:
        if key not in changed:
            return Choice(key=key, why="too little")
        form, rank = changed[key]
        return Choice(key=key, action="double_layer", form=form, rank=rank)

    return Plan(
        model_sha256=model.model.sha256,
        samples_sha256=None,
        budgets=Budgets(),
        method="double-layer",
        seed=3,
        allocation="damage",
        level=0.1,
        size=0.9,
        macs=0.9,
        choices=tuple(choice(block.key) for block in model.blocks),
        damage=None,
        curves=(),
    )
