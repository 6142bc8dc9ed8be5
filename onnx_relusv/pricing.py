"""What choices of a plan are offered for, and what their damages are in a compressed network."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from onnx_relusv.decisions import Candidate, Choice

Offered = Mapping[str, Sequence[Candidate]]


def priced(choices: Iterable[Choice], offered: Offered) -> tuple[Choice, ...]:
    """Choices with the damages that their double layers are offered for.

    Args:
        choices: Made by whatever damages.
        offered: Double layers with their damages, by block key.
    """
    return tuple(
        _priced(choice, offered[choice.key]) if choice.action == "double_layer" else choice
        for choice in choices
    )


def _priced(choice: Choice, offered: Sequence[Candidate]) -> Choice:
    wanted = (choice.form, choice.rank)
    damage = next(one.damage for one in offered if (one.form, one.rank) == wanted)
    if damage == choice.damage:
        return choice
    why = f"least damage in company for the bytes, {damage:.3g} by itself"
    return replace(choice, damage=damage, why=why)


def in_company(
    offered: Offered, layers: Mapping[str, float], others: float
) -> dict[str, list[Candidate]]:
    """Double layers with scaled damages.

    Args:
        offered: By block key.
        layers: By block key, what their damages are multiplied by.
        others: The same of the blocks that are not named.
    """
    return {
        key: [replace(one, damage=one.damage * layers.get(key, others)) for one in own]
        for key, own in offered.items()
    }
