"""The frozen records of what became of what was asked for: of latency, of the drop, of damage."""

from dataclasses import dataclass


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
