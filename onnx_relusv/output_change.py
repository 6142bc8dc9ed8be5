"""The frozen record of how far one output of a model is from the same output of another."""

import math
from dataclasses import dataclass
from typing import Literal

# scores: class scores, one row a sample. values: other numbers. labels: whole numbers of 32 or 64
# bits and truth values, which are equal or not. text: likewise. list: rows that are there or not,
# as of NonZero or a non-maximum suppression. nothing: it never held anything.
OutputKind = Literal["scores", "values", "labels", "text", "list", "nothing"]
OutputForm = Literal["tensor", "sequence", "map", "nothing"]


@dataclass(frozen=True, kw_only=True)
class NotFinite:
    """How many entries of one model's output are no finite numbers.

    Attributes:
        nan: Those that are NaN.
        infinite: Those that are infinite, of either sign.
    """

    nan: int = 0
    infinite: int = 0

    @property
    def count(self) -> int:
        """All of them."""
        return self.nan + self.infinite


@dataclass(frozen=True, kw_only=True)
class OutputChange:
    """How far an output of a second model is from the first's, over all samples.

    Numbers are compared where both are finite. What only one of the two has, of outputs whose
    length differs, is compared with zero, but for lists of numbers: these are compared in the runs
    where they are equally long.

    Attributes:
        name: The output's.
        kind: What it is compared as.
        form: What holds it.
        agreement: Of scores, the share of samples with the same top-1, which a NaN has not; of
            labels and text, of equal entries; of lists, of the rows of either that both have, of
            lists of numbers the shorter length beside the longer one. None of values.
        relative: L2 of the difference over L2 of the first, 0 where both are zero, infinite where
            the first is. NaN where no entries are finite in both models; None where it is not
            numbers that are compared.
        mean: Mean absolute difference; NaN and None likewise.
        largest: Largest absolute difference; NaN and None likewise.
        entries: How many entries were looked at, in the longer of the two.
        before: The first model's entries that are not finite.
        after: The second's.
        mismatched: Entries that are not finite in one of the two, and not the same in the other.
        runs: How many runs there were.
        other_shape: In how many of them it had another shape or length than the first's.
        varies: Whether the first model's output is not the same for all samples, to rounding; where
            it is, how far the second's is from it tells nothing of other samples.
    """

    name: str
    kind: OutputKind
    form: OutputForm = "tensor"
    agreement: float | None = None
    relative: float | None = None
    mean: float | None = None
    largest: float | None = None
    entries: int = 0
    before: NotFinite = NotFinite()
    after: NotFinite = NotFinite()
    mismatched: int = 0
    runs: int = 1
    other_shape: int = 0
    varies: bool = True

    @property
    def change(self) -> float:
        """How much it changed, from 0 on.

        Of numbers `relative`; of labels, text and lists the share that differs; of lists of
        numbers the larger of both. Infinite where the second model gives a NaN, or something that
        is not finite in one of the two alone.
        """
        if self.after.nan or self.mismatched:
            return math.inf
        found = [] if self.relative is None else [self.relative]
        if self.kind != "scores" and self.agreement is not None:
            found.append(1 - self.agreement)
        if not found:
            return math.inf if self.other_shape else 0.0
        return math.inf if any(map(math.isnan, found)) else max(found)
