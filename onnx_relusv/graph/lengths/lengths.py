"""Lengths of axes as functions of the lengths of a model's input axes, and what is asked of them.

A length is `scale * f1(L1) * f2(L2) / divisor`, rounded down, where every L is the length of an
input's dynamic axis and every f a chain of steps, each of which multiplies, adds and divides: what
a convolution makes of L pixels, or a Reshape of its rows. What is not of this form is not known.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
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
        parts: Names of input axes, each with the steps that lead from its length, sorted.
    """

    scale: int = 1
    divisor: int = 1
    parts: tuple[tuple[str, tuple[Step, ...]], ...] = ()

    @property
    def fixed(self) -> int | None:
        """Its value where it depends on no input axis, otherwise None."""
        return None if self.parts else self.scale // self.divisor

    @property
    def names(self) -> set[str]:
        """The input axes that it depends on."""
        return {name for name, _ in self.parts}

    @property
    def name(self) -> str | None:
        """The input axis whose length it is, None where it is anything else."""
        plain = self.scale == self.divisor == len(self.parts) == 1
        return self.parts[0][0] if plain and not self.parts[0][1] else None

    def value(self, lengths: Mapping[str, Integers]) -> Integers:
        """Its value, given those of the input axes; arrays are taken element by element."""
        total: Integers = self.scale
        for name, steps in self.parts:
            total = total * reduce(lambda length, step: step(length), steps, lengths[name])
        return total // self.divisor

    def times(self, other: "Length") -> "Length":
        """The product."""
        return _reduced(
            self.scale * other.scale, self.divisor * other.divisor, (*self.parts, *other.parts)
        )

    def over(self, other: "Length") -> "Length | None":
        """The quotient, where all that the other one depends on is a factor of this one."""
        left = list(self.parts)
        for part in other.parts:
            if part not in left:
                return None
            left.remove(part)
        if not other.scale:
            return None
        return _reduced(self.scale * other.divisor, self.divisor * other.scale, tuple(left))

    def stepped(self, step: Step) -> "Length | None":
        """The length behind a step; None where this is a product of several axes."""
        if self.fixed is not None:
            return constant(int(step(self.fixed)))
        if step == Step():
            return self
        if len(self.parts) > 1:
            return None
        (name, steps) = self.parts[0]
        own = Step(self.scale, 0, self.divisor)
        return Length(parts=((name, (*steps, *(() if own == Step() else (own,)), step)),))


def constant(value: int) -> Length:
    """A length that depends on nothing."""
    return Length(scale=value)


def axis(name: str) -> Length:
    """The length of an input's axis."""
    return Length(parts=((name, ()),))


def product(lengths: Sequence[Length | None]) -> Length | None:
    """The product of lengths; None where one is not known."""
    total = Length()
    for length in lengths:
        if length is None:
            return None
        total = total.times(length)
    return total


def _reduced(scale: int, divisor: int, parts: tuple[tuple[str, tuple[Step, ...]], ...]) -> Length:
    common = gcd(scale, divisor) or 1
    return Length(
        scale // common, divisor // common, tuple(sorted(parts, key=lambda part: repr(part)))
    )


@dataclass(frozen=True)
class Rule:
    """What a node asks of a length.

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


class Solver:
    """Finds lengths of input axes that keep rules, as near to what is wanted as there are.

    Args:
        rules: The rules. Of such as are not certain, those that contradict others are passed over.
    """

    def __init__(self, rules: Sequence[Rule]) -> None:
        unique = list(dict.fromkeys(rules))
        unique.sort(key=lambda rule: not rule.certain)
        self._own: dict[str, np.ndarray] = {}
        self._long: dict[str, int] = {}
        self._joint: list[Rule] = []
        for rule in unique:
            names = rule.length.names
            if len(names) > 1:
                self._joint.append(rule)
            elif names:
                self._add(next(iter(names)), rule)

    def _add(self, name: str, rule: Rule) -> None:
        if rule.kind == "equal" and rule.length.name is not None and rule.number > LONGEST:
            self._long.setdefault(name, rule.number)
            return
        known = self._own.get(name)
        kept = rule.holds({name: np.arange(1, LONGEST + 1)})
        kept = kept if known is None else kept & known
        if kept.any():
            self._own[name] = kept

    def is_bound(self, name: str) -> bool:
        """Whether anything is asked of the axis alone."""
        return name in self._own or name in self._long

    def nearest(self, name: str, wanted: int) -> int:
        """The length that keeps all rules of this axis alone: as wanted, above it, or below."""
        if name in self._long:
            return self._long[name]
        kept = self._own.get(name)
        if kept is None or (wanted <= LONGEST and kept[wanted - 1]):
            return wanted
        found = np.flatnonzero(kept) + 1
        above = found[found >= wanted]
        return int(above[0] if len(above) else found[-1])

    def solved(
        self, wanted: Mapping[str, int], movable: Sequence[str], batch: Sequence[str]
    ) -> dict[str, int]:
        """Lengths that keep the rules of single axes, and those of several where that is found.

        Args:
            wanted: By axis.
            movable: The axes that may be moved for a rule of several, the first ones first.
            batch: The axes of samples, which are moved where nothing else helps.
        """
        lengths = {name: self.nearest(name, length) for name, length in wanted.items()}
        for rule in self._joint:
            if rule.length.names <= set(lengths) and not rule.holds(lengths):
                lengths |= self._moved(rule, lengths, movable, batch)
        return lengths

    def _moved(
        self, rule: Rule, lengths: Mapping[str, int], movable: Sequence[str], batch: Sequence[str]
    ) -> dict[str, int]:
        own = [name for name in movable if name in rule.length.names]
        samples = [name for name in batch if name in rule.length.names]
        tried: list[tuple[Rule, list[str]]] = []
        for each in (*_one_a_sample(rule, samples), rule):
            tried += [(each, own), *((each, [name]) for name in own)]
        tried += [(rule, samples), (rule, own + samples)]
        for each, names in tried:
            found = self._together(each, lengths, names) if names else None
            if found is not None:
                return dict.fromkeys(names, found)
        return {}

    def _together(self, rule: Rule, lengths: Mapping[str, int], names: list[str]) -> int | None:
        """The nearest length of several axes, the same for all, that keeps a rule."""
        every = np.arange(1, LONGEST + 1)
        kept = rule.holds({**lengths, **dict.fromkeys(names, every)})
        for name in names:
            kept = kept & self._own.get(name, True)
        found = every[kept]
        if not len(found):
            return None
        above = found[found >= lengths[names[0]]]
        return int(above[0] if len(above) else found[-1])


def _one_a_sample(rule: Rule, samples: Sequence[str]) -> list[Rule]:
    """Of rows that a Reshape makes of everything: that every sample becomes one row."""
    parts = tuple(part for part in rule.length.parts if part[0] not in samples)
    if rule.kind != "multiple" or not parts:
        return []
    return [Rule(Length(rule.length.scale, rule.length.divisor, parts), "equal", rule.number)]
