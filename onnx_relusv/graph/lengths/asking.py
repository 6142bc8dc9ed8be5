"""What rules for lengths are written in: shapes of lengths, and what is asked of them."""

from collections.abc import Callable, Sequence
from typing import Any, Protocol

from onnx import NodeProto, helper

from onnx_relusv.graph.lengths.lengths import Kind, Length, constant

Shape = tuple[Length | None, ...] | None
Values = tuple[Length | None, ...]


class Asking(Protocol):
    """The walk through a graph, as operators see it."""

    def ask(self, length: Length | None, kind: Kind, number: int) -> None:
        """A rule; nothing where the length is not known."""

    def ask_same(self, first: Length | None, second: Length | None) -> None:
        """That two lengths are one."""

    def ask_rank(self, shape: Shape, *ranks: int) -> None:
        """That a shape has one of some numbers of axes."""

    def values(self, name: str) -> Values | None:
        """The whole numbers in a small tensor, in a row, as far as they are known."""


Operator = Callable[[Asking, NodeProto, Sequence[Shape]], Sequence[Shape]]


def attribute(node: NodeProto, name: str, default: Any = None) -> Any:
    """An attribute of a node, or what stands for it."""
    for entry in node.attribute:
        if entry.name == name:
            return helper.get_attribute_value(entry)
    return default


def whole_numbers(values: Values | None) -> list[int] | None:
    """Values as numbers; None where one is not known."""
    if values is None:
        return None
    known = [None if value is None else value.fixed for value in values]
    return None if None in known else [value for value in known if value is not None]


def broadcast(walk: Asking, first: Shape, second: Shape) -> Shape:
    """The shape of an element-by-element operation."""
    if first is None or second is None:
        return None
    rank = max(len(first), len(second))
    one = constant(1)
    padded = [(one,) * (rank - len(shape)) + shape for shape in (first, second)]
    return tuple(_joined(walk, left, right) for left, right in zip(*padded, strict=True))


def _joined(walk: Asking, left: Length | None, right: Length | None) -> Length | None:
    if left is None or right is None:
        known = left if right is None else right
        # Only what is no 1 decides over what is not known.
        return known if known is not None and (known.fixed or 1) > 1 else None
    if left.fixed == 1:
        return right
    if right.fixed == 1 or left == right:
        return left
    if left.fixed is None and right.fixed is not None:
        walk.ask(left, "one_or", right.fixed)
        return right
    if right.fixed is None and left.fixed is not None:
        walk.ask(right, "one_or", left.fixed)
    return left


def ask_equal(walk: Asking, first: Length | None, second: Length | None) -> None:
    """One of them is known from a weight, or both are axes of the inputs."""
    if first is None or second is None or first == second:
        return
    if second.fixed is not None:
        walk.ask(first, "equal", second.fixed)
    elif first.fixed is not None:
        walk.ask(second, "equal", first.fixed)
    else:
        walk.ask_same(first, second)
