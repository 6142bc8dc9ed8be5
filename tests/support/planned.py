"""Plans of double layers, by hand."""

from opened import Opened

from onnx_relusv.core.plans import Budgets, Choice, Plan


def plan(model: Opened, **changed: tuple[str, int]) -> Plan:
    """Some blocks as double layers of a form and a rank; the others stay."""

    def choice(key: str) -> Choice:
        if key not in changed:
            return Choice(key=key, why="too little")
        form, rank = changed[key]
        return Choice(key=key, action="double_layer", form=form, rank=rank)

    return Plan(
        model_sha256=model.case.model.sha256,
        samples_sha256=None,
        budgets=Budgets(),
        method="double-layer",
        seed=3,
        allocation="damage",
        level=0.1,
        size=0.9,
        macs=0.9,
        choices=tuple(choice(block.key) for block in model.case.blocks),
        damage=None,
        curves=(),
    )
