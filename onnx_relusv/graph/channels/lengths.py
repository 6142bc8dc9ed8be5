"""Lengths of axes as functions of the lengths of other axes, and rules that they keep.

A length is `scale * f1(L1) * f2(L2) / divisor`, rounded down, where every L is the length of an
axis and every f a chain of steps, each of which multiplies, adds and divides: what a convolution
makes of L pixels, or a Reshape of its rows. Of what is not of this form, it is only known on which
axes it depends. Two walks share them: which inputs a model can be run on (`input_axes`), where axes
are those of the inputs, and which shapes a graph computes, and how these depend on the number of
channels (`inferred`), where axes are those of all tensors.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import reduce
from math import gcd
from typing import Literal

import numpy as np

Integers = np.ndarray | int
Kind = Literal["equal", "one_or", "multiple", "least"]
# Lengths that are searched for one that fits; a kernel or a row of pixels is shorter.
LONGEST = 1 << 17


@dataclass(frozen=True)
class Step:
    """`(length * times + plus) // by`."""

    times: int = 1
    plus: int = 0
    by: int = 1

    def __call__(self, length: Integers) -> Integers:
        """The length behind the step."""
        return (length * self.times + self.plus) // self.by


@dataclass(frozen=True)
class Length:
    """The length of an axis.

    Attributes:
        scale: What the product of the parts is multiplied with.
        divisor: What it is divided by then.
        parts: Names of axes, each with the steps that lead from its length, sorted.
        exact: Whether it is that; otherwise it depends on these axes somehow.
    """

    scale: int = 1
    divisor: int = 1
    parts: tuple[tuple[str, tuple[Step, ...]], ...] = ()
    exact: bool = True

    @property
    def fixed(self) -> int | None:
        """Its value where it depends on no axis, otherwise None."""
        return None if self.parts or not self.exact else self.scale // self.divisor

    @property
    def names(self) -> set[str]:
        """The axes that it depends on."""
        return {name for name, _ in self.parts}

    @property
    def is_product(self) -> bool:
        """Whether it is a multiple of a product of axes, and no more."""
        return self.exact and self.divisor == 1 and not any(steps for _, steps in self.parts)

    @property
    def name(self) -> str | None:
        """The axis whose length it is, None where it is anything else."""
        plain = self.is_product and self.scale == len(self.parts) == 1
        return self.parts[0][0] if plain else None

    def value(self, lengths: Mapping[str, Integers]) -> Integers:
        """Its value where those of the axes are these; arrays are taken element by element."""
        total: Integers = self.scale
        for name, steps in self.parts:
            total = total * reduce(lambda length, step: step(length), steps, lengths[name])
        return total // self.divisor

    def times(self, other: "Length") -> "Length":
        """The product."""
        if not (self.exact and other.exact):
            return self.somehow(other)
        return _reduced(
            self.scale * other.scale, self.divisor * other.divisor, (*self.parts, *other.parts)
        )

    def somehow(self, *others: "Length") -> "Length":
        """Something that depends on several."""
        parts = {part for each in (self, *others) for part in each.parts}
        return Length(parts=tuple(sorted(parts, key=repr)), exact=False)

    def over(self, other: "Length") -> "Length | None":
        """The quotient, where all that the other one depends on is a factor of this one."""
        if not (self.exact and other.exact):
            return None
        left = list(self.parts)
        for part in other.parts:
            if part not in left:
                return None
            left.remove(part)
        if not other.scale:
            return None
        return _reduced(self.scale * other.divisor, self.divisor * other.scale, tuple(left))

    def stepped(self, step: Step) -> "Length | None":
        """The length behind a step; None where this is a product of several axes, or not exact."""
        if self.fixed is not None:
            return constant(int(step(self.fixed)))
        if step == Step():
            return self
        if len(self.parts) > 1 or not self.exact:
            return None
        (name, steps) = self.parts[0]
        own = Step(self.scale, 0, self.divisor)
        return Length(parts=((name, (*steps, *(() if own == Step() else (own,)), step)),))


def constant(value: int) -> Length:
    """A length that depends on nothing."""
    return Length(scale=value)


def axis(name: str) -> Length:
    """The length of an axis."""
    return Length(parts=((name, ()),))


def product(lengths: Sequence[Length | None]) -> Length | None:
    """The product of lengths; None where one is not known."""
    known = [length for length in lengths if length is not None]
    return reduce(Length.times, known, Length()) if len(known) == len(lengths) else None


def stepped(length: Length | None, step: Step) -> Length | None:
    """The length behind a step; None where it is not known."""
    return None if length is None else length.stepped(step)


def _reduced(scale: int, divisor: int, parts: tuple[tuple[str, tuple[Step, ...]], ...]) -> Length:
    common = gcd(scale, divisor) or 1
    return Length(scale // common, divisor // common, tuple(sorted(parts, key=repr)))


@dataclass(frozen=True)
class Rule:
    """What a node requires of a length.

    Attributes:
        length: The length, not fixed.
        kind: ``equal`` to the number, ``one_or`` the number, a ``multiple`` of it, or at ``least``
            the number.
        number: The number.
        certain: Whether the node runs for sure; those in the body of another may not.
    """

    length: Length
    kind: Kind
    number: int
    certain: bool = True

    def holds(self, lengths: Mapping[str, Integers]) -> np.ndarray:
        """Whether it is kept; an array of bool where lengths are arrays."""
        if self.kind == "multiple":
            # What is divided comes first, so that no remainder is lost.
            whole = Length(self.length.scale, 1, self.length.parts).value(lengths)
            return np.asarray(whole % (self.number * self.length.divisor) == 0)
        value = self.length.value(lengths)
        if self.kind == "least":
            return np.asarray(value >= self.number)
        equal = np.asarray(value == self.number)
        return equal | np.asarray(value == 1) if self.kind == "one_or" else equal


# Of a tensor, the lengths of its axes; None for those, or for all, that are not known.
Axes = tuple[Length | None, ...]
Dims = Axes | None


@dataclass(eq=False)
class AxisRules:
    """What a walk has found.

    Attributes:
        rules: On lengths.
        same: Pairs of axes that have one length.
        numbers: By input of whole numbers, constants that it is compared with.
        tables: By input of whole numbers, the fewest rows of a table that it is an index into.
        fits: Whether nothing contradicts the inputs' numbers of axes and fixed lengths.
        reads: Whether any weight or fixed shape was met at all.
    """

    rules: list[Rule] = field(default_factory=list)
    same: list[tuple[str, str]] = field(default_factory=list)
    numbers: dict[str, list[float]] = field(default_factory=dict)
    tables: dict[str, int] = field(default_factory=dict)
    fits: bool = True
    reads: bool = False


# Whole numbers in a tensor that may be a shape, the ends of a slice, or a number to compare with.
MOST_NUMBERS = 64


class Unknown(Exception):  # noqa: N818 - it is an answer, not an error
    """A node makes something of numbers that is not followed."""


@dataclass(frozen=True)
class Row:
    """A small tensor of whole numbers.

    Attributes:
        entries: Its numbers, the last axis fastest.
        rank: How many axes it has.
    """

    entries: tuple[Length, ...]
    rank: int = 1

    @property
    def product(self) -> Length:
        """Of its numbers."""
        return reduce(Length.times, self.entries, Length())


class Numbers(ABC):
    """A walk through a graph as the rules for numbers see it; all methods may raise `Unknown`."""

    @abstractmethod
    def row(self, name: str) -> Row:
        """The numbers in a tensor or constant."""

    @abstractmethod
    def lengths(self, name: str) -> tuple[Length, ...]:
        """The lengths of a tensor's axes."""

    @abstractmethod
    def keeps(self, element_type: int) -> bool:
        """Whether numbers are followed through a Cast into a type."""

    def vector(self, name: str) -> tuple[Length, ...]:
        """The entries of a tensor of one axis."""
        found = self.row(name)
        if found.rank != 1:
            raise Unknown
        return found.entries

    def values(self, name: str) -> list[int]:
        """The numbers of a tensor, where none depends on a length."""
        found = [number.fixed for number in self.row(name).entries]
        if None in found:
            raise Unknown
        return [number for number in found if number is not None]

    def known(self, name: str) -> list[int] | None:
        """The same; None where that is not known."""
        try:
            return self.values(name)
        except Unknown:
            return None


@dataclass(frozen=True)
class Known:
    """What is known of a tensor.

    Attributes:
        dims: The lengths of its axes.
        row: Its numbers, where it is small and of whole ones.
        source: The input of the model whose numbers it holds.
    """

    dims: Dims = None
    row: Row | None = None
    source: str | None = None


class Scope(dict[str, Known]):
    """What is known of tensors by name; a body sees what is around it."""

    def __init__(self, around: "Scope | None" = None) -> None:
        super().__init__()
        self._around = around

    def __missing__(self, name: str) -> Known:
        return Known() if self._around is None else self._around[name]


class LengthWalk(Numbers):
    """Lengths as far as they have been followed, and what rules for nodes say of them.

    Attributes:
        found: All rules so far.
        scope: What is known where the walk is.
        certain: Whether the nodes there run for sure.
    """

    def __init__(self) -> None:
        self.found = AxisRules()
        self.scope = Scope()
        self.certain = True

    def require(self, length: Length | None, kind: Kind, number: int) -> None:
        """A rule; nothing where the length is not known."""
        if length is None:
            return
        self.found.reads |= length.fixed is None and kind != "least"
        rule = Rule(length, kind, number, self.certain)
        if length.fixed is None:
            self.found.rules.append(rule)
        elif not rule.holds({}).all():
            self.found.fits &= not self.certain

    def require_equal(self, first: Length | None, second: Length | None) -> None:
        """That two lengths are one: of a weight and an axis, or of two axes of the inputs."""
        if first is None or second is None or first == second:
            return
        if second.fixed is not None:
            self.require(first, "equal", second.fixed)
        elif first.fixed is not None:
            self.require(second, "equal", first.fixed)
        elif first.name and second.name:
            self.found.same.append((first.name, second.name))

    def of_rank(self, dims: Dims, rank: int) -> Dims:
        """A tensor's lengths, of which there must be so many; None where they are not known."""
        if dims is None:
            return None
        self.found.reads = True
        self.found.fits &= len(dims) == rank or not self.certain
        return dims if len(dims) == rank else None

    def broadcast(self, first: Dims, second: Dims) -> Dims:
        """The lengths that an operation on two tensors, number by number, makes."""
        if first is None or second is None:
            return None
        rank, one = max(len(first), len(second)), constant(1)
        padded = [(one,) * (rank - len(dims)) + dims for dims in (first, second)]
        return tuple(self._joined(left, right) for left, right in zip(*padded, strict=True))

    def _joined(self, left: Length | None, right: Length | None) -> Length | None:
        if left is None or right is None:
            known = left if right is None else right
            # Only what is no 1 decides over what is not known.
            return known if known is not None and (known.fixed or 1) > 1 else None
        if left.fixed == 1:
            return right
        if right.fixed == 1 or left == right:
            return left
        if left.fixed is None and right.fixed is not None:
            self.require(left, "one_or", right.fixed)
            return right
        if right.fixed is None and left.fixed is not None:
            self.require(right, "one_or", left.fixed)
        return left

    def dims_in(self, name: str) -> Dims:
        """The numbers of a tensor as lengths, where it holds a shape."""
        row = self.scope[name].row
        return None if row is None else tuple(each if each.exact else None for each in row.entries)

    def row(self, name: str) -> Row:
        """The numbers in a tensor or constant."""
        found = self.scope[name].row
        if found is None:
            raise Unknown
        return found

    def lengths(self, name: str) -> tuple[Length, ...]:
        """The lengths of a tensor's axes."""
        found = self.scope[name].dims
        if found is None:
            raise Unknown
        return tuple(each or Length(exact=False) for each in found)

    def keeps(self, element_type: int) -> bool:
        """Through any Cast: what is computed of a rounded length is a guess that is tried."""
        return True
