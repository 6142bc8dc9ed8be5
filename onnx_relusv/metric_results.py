"""The frozen records of what a metric says of two models."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, kw_only=True)
class MetricChange:
    """A metric of two models on the same samples.

    Attributes:
        name: The metric's.
        samples: How many.
        part: Which: all, those for choosing, on which factors, forms and ranks were chosen too,
            or those for certifying and those of a test file, which nothing was fitted to or
            chosen on.
        before: The first model's; higher is better.
        after: The second's.
    """

    name: str
    samples: int
    part: Literal["all", "choosing", "certifying", "test"]
    before: float
    after: float

    @property
    def loss(self) -> float:
        """What is lost, in the metric's units; negative where something is gained."""
        return self.before - self.after


@dataclass(frozen=True, kw_only=True)
class MetricTrial:
    """A size that the search for the smallest file tried; losses are in the metric's units.

    Attributes:
        size: Planned share of the original's bytes, an upper bound.
        select_drop: The loss on the samples for choosing.
        bound: Estimated upper bound of the loss from the samples for certifying; None where they
            were not looked at.
    """

    size: float
    select_drop: float
    bound: float | None = None


@dataclass(frozen=True, kw_only=True)
class DropEstimate:
    """How much of a metric the written file loses at most, on samples like these; no certificate.

    The bound is a quantile of a jackknife's Student distribution: near enough for many samples and
    smooth metrics, and proved for none. All losses are in the metric's units.

    Attributes:
        max_drop: What may be lost.
        confidence: The probability with which the bound is to hold, near enough.
        change: The metric before and after, on the samples for certifying.
        fit_samples: How many samples factors were fitted to.
        select_samples: How many the search looked at.
        groups: How many groups the samples for certifying were put into.
        standard_error: Of the loss on them; estimated.
        bound: Estimated upper bound of the loss, at most `max_drop`.
        select_drop: The loss on the samples for choosing.
        trials: What was tried, the largest first.
    """

    max_drop: float
    confidence: float
    change: MetricChange
    fit_samples: int
    select_samples: int
    groups: int
    standard_error: float
    bound: float
    select_drop: float
    trials: tuple[MetricTrial, ...]
