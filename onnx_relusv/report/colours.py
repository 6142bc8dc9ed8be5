"""The colours of the plots, on a light and on a dark page."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Colour:
    """One role's colour on both kinds of page, as hexadecimal RGB in lower case.

    The light values differ from one another: plots are drawn in them, and the page tells roles
    apart by them.
    """

    light: str
    dark: str


COLOURS = {
    "ink": Colour("#3c4654", "#b9c2cf"),
    "grid": Colour("#dfe3e9", "#343c48"),
    "sigma": Colour("#1f5fa8", "#7fb4ee"),
    "band": Colour("#a9c8e8", "#31557c"),
    "estimate": Colour("#b4530a", "#f0a35e"),
    "untrained": Colour("#8a94a3", "#7d8896"),
    "chosen": Colour("#0f7b4f", "#5fcf9d"),
    "level": Colour("#b3261e", "#f2857c"),
    "before": Colour("#c3cad4", "#4b5563"),
    "after": Colour("#20609f", "#7fb3ea"),
    "every": Colour("#a3adbb", "#5d6979"),
    "right": Colour("#a8c6e4", "#35587d"),
    "wrong": Colour("#c0372b", "#f48f84"),
    "active": Colour("#7b4fa3", "#c5a3e6"),
    "width": Colour("#0b6cb5", "#76b7f2"),
    "largest": Colour("#0c7a63", "#58cbb0"),
    "margin": Colour("#a65a00", "#eda85a"),
}


def light(role: str) -> str:
    """A role's colour on a light page."""
    return COLOURS[role].light
