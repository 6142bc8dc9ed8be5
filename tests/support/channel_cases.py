"""Graphs from `x` to `y` with the groups that are to be found in them."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from channel_graphs import check_cut, images
from graphs import normal

from onnx_relusv.graph.channels.walk import ChannelGroup

HEAD = "a = Conv<pads=[1,1,1,1]>(x, k1, b1)"
TAIL = "y = Conv<pads=[1,1,1,1]>(h, k2, b2)"
ENDS = {
    "k1": normal(6, 3, 3, 3),
    "b1": normal(6),
    "k2": normal(5, 6, 3, 3),
    "b2": normal(5),
}


def whole(*numbers: int) -> np.ndarray:
    return np.array(numbers, np.int64)


@dataclass(frozen=True)
class Case:
    """A graph from `x` to `y` with its groups.

    Attributes:
        body: Its nodes.
        arrays: Its constants.
        groups: Of every group: its producers, consumers, operators, and how many units it has.
        opsets: At which it is tried.
    """

    body: str
    arrays: dict[str, np.ndarray]
    groups: tuple[tuple[str, str, str, int], ...]
    opsets: tuple[int, ...] = (17,)


def case(
    body: str, *groups: tuple[str, str, str, int], opsets: tuple[int, ...] = (17,), **arrays: object
) -> Case:
    """A case; constants of the ends are there if they are read."""
    read = {name: values for name, values in ENDS.items() if name in body}
    return Case(body, read | arrays, groups, opsets)


def chain(inner: str, operators: str, *, opsets: tuple[int, ...] = (17,), **arrays: object) -> Case:
    """Something between two Convs that keeps all of six channels apart."""
    return case(f"{HEAD} {inner} {TAIL}", ("a", "y", operators, 6), opsets=opsets, **arrays)


def described(group: ChannelGroup) -> tuple[str, str, str, int]:
    """A group as a case says it."""
    parts = (group.producers, group.consumers, group.operators)
    producers, consumers, operators = (" ".join(each) for each in parts)
    return producers, consumers, operators, len(group.units)


def check_case(found: Case, opset: int, folder: Path) -> None:
    """Finds the groups of a case, and cuts them at random and down to a unit each."""
    followed = images(found.body, folder, opset=opset, **found.arrays)
    assert tuple(map(described, followed.channels.groups)) == found.groups
    for seed in range(2):
        check_cut(followed, followed.random(np.random.default_rng(seed)), folder)
    check_cut(followed, followed.removal(slice(1, None)), folder)
