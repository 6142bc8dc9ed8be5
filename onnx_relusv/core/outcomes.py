"""The frozen records of what became of what was asked for: of latency, of the drop, of damage.

The frozen record of how far one output of a model is from the same output of another.
"""

import math
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, kw_only=True)
class Latency:
    """Median seconds of one run at a batch size, measured interleaved."""

    batch: int
    before: float
    after: float


@dataclass(frozen=True, kw_only=True)
class SampleCounts:
    """How many samples there were, and what for.

    Attributes:
        given: In the file.
        taken: Of these, all or as many as were drawn.
        fit: That factors were fitted to.
        select: That sizes, forms and factors were chosen on.
        certify: That were set aside for certifying.
        test: In a file of their own, that the result was judged on; 0 where none was given.
    """

    given: int
    taken: int
    fit: int
    select: int
    certify: int = 0
    test: int = 0


@dataclass(frozen=True, kw_only=True)
class FeedChange:
    """How far the outputs change on one synthetic feed.

    Attributes:
        inputs: What it holds, in words.
        samples: How many samples.
        change: Of the output that changes most, see `OutputChange.change`; None where nothing at
            all changes though blocks did, which tells nothing.
    """

    inputs: str
    samples: int
    change: float | None


@dataclass(frozen=True, kw_only=True)
class Correction:
    """What became of the corrective round.

    Attributes:
        damage: Of the compressed network to the outputs, on the samples for choosing, with the
            plan by damages that were measured one by one.
        corrected: With the plan by damages in company; None where that promised too little to be
            fitted.
    """

    damage: float
    corrected: float | None = None

    @property
    def taken(self) -> bool:
        """Whether the second plan is the one that was carried out."""
        return self.corrected is not None and self.corrected < self.damage


@dataclass(frozen=True, kw_only=True)
class Trial:
    """A size that the search for the smallest file tried.

    Attributes:
        size: Planned share of the original's bytes, an upper bound.
        select_drop: Points lost, or of changed answers, on the samples for choosing.
        bound: Upper bound of these points from the samples for certifying; None where they were
            not looked at.
    """

    size: float
    select_drop: float
    bound: float | None = None


@dataclass(frozen=True, kw_only=True)
class Certificate:
    """How much the written file loses at most, on samples like these.

    Certified, over all the trials that were looked at, is that it loses `max_drop` points at most,
    with a probability of `confidence` at least; not that it loses `bound` at most, which is that
    only where no more than one trial was looked at.

    Attributes:
        max_drop: Points of accuracy that may be lost; without labels, of answers that may change.
        confidence: The probability with which the certificate holds, at least.
        labelled: Whether the samples have labels.
        fit_samples: How many samples factors were fitted to.
        select_samples: How many the search looked at.
        certify_samples: How many the certificate rests on; nothing was fitted to them or chosen
            on them.
        lost: Of these, how many the original alone has right; without labels, how many answers
            differ.
        gained: Of these, how many the smaller model alone has right; None without labels.
        drop: Points lost, or of changed answers, on these.
        bound: Upper bound of these points, at most `max_drop`.
        select_drop: Points lost, or of changed answers, on the samples for choosing.
        trials: What was tried, the largest first.
    """

    max_drop: float
    confidence: float
    labelled: bool
    fit_samples: int
    select_samples: int
    certify_samples: int
    lost: int
    gained: int | None
    drop: float
    bound: float
    select_drop: float
    trials: tuple[Trial, ...]


@dataclass(frozen=True, kw_only=True)
class LatencyOutcome:
    """What came of a budget on latency.

    Attributes:
        asked: Share of the original's time of a run.
        planned: That share as the plan estimated it; None where the plan does not say.
        measured: The written file in turns with the original: median seconds of both.
        provider: The execution provider that ran both.
        threads: Of one operator, as onnxruntime chose; None where that cannot be seen.
    """

    asked: float
    planned: float | None
    measured: Latency
    provider: str
    threads: int | None

    @property
    def share(self) -> float:
        """The measured share of the original's time."""
        return self.measured.after / self.measured.before


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
