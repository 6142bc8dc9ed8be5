"""How much a smaller model loses at most: exact bounds of counted answers, estimates for a metric.

`Discordance` counts samples in pairs. Both models answer the same samples, so what counts is where
only one of them is right. Let p10 be the probability that a sample loses (the original is right,
the smaller model wrong) and p01 that it gains (the other way round). The drop is p10 - p01: where
both are right or both wrong, the accuracies are equal.

Of n independent samples, the number that loses is binomial (n, p10), the number that gains
binomial (n, p01). Clopper and Pearson's upper end U(k) is the p at which k losses or fewer have
probability e. The true p10 lies above it with probability e at most, whatever it is: U grows with
k, and at the largest k with U(k) < p10, k losses or fewer have a probability below e. Likewise for
the lower end L of p01. The two counts depend on each other, but the union bound needs no
independence: with half of the error e each,

    P(p10 - p01 > U(n10) - L(n01)) <= P(p10 > U) + P(p01 < L) <= e/2 + e/2.

Without labels, the share of answers that change is bounded in place of the drop, by one upper end
with all of the error. It bounds the drop, too, whatever the labels are: every loss is a change.

`ExpectedDrop` bounds the drop without labels, presuming something of the original. A change from
its answer a to another one b lowers the accuracy by P(a is right) - P(b is right), which is far
below 1 where the two are near to each other, as they are where answers change. Let Z be p_a - p_b,
by the original's probabilities p, where the answer changes, and 0 elsewhere. If these are right on
average where answers change, or too far apart, as those of an overconfident model are, the drop is
the mean of Z at most. Z is from 0 to 1, and its mean m has an exact bound by a bet: for independent
samples the product of 1 - l (Z_i - m), 0 <= l < 1, has the expectation 1, so that it reaches 1/e
with probability e at most (Markov), and so has the mean of such products over several l. They grow
with m; the bound is where their mean is 1/e (Waudby-Smith and Ramdas 2024, with fixed bets).

`MetricLoss` is estimated, by a delete-a-group jackknife in pairs, since nothing is known of a
metric but its values. The samples are put into groups at random, and the loss t, the metric of the
original minus that of the smaller model, is computed again without each of them: both models always
answer the same samples, so what they have in common cancels. With h_j = n / n_j, group j having n_j
of n samples, the pseudo-values h_j t - (h_j - 1) t_(-j) are nearly independent, and nearly of mean
t; their spread gives the standard error (Busing, Meijer, van der Leeden 1999, for groups that
differ in size). The bound is t plus that, times a quantile of Student's distribution with one
degree of freedom less than groups.

That presumes samples drawn independently, a metric that is smooth in them, and a loss that is near
to normally distributed. Changes in fewer than a few of the samples are hardly noticed: where both
models have the same metric with and without every group, the error is estimated to be zero.
"""

import math
from bisect import bisect_left
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from scipy.optimize import brentq
from scipy.special import betainccinv, betaincinv, logsumexp, stdtrit

from onnx_relusv.core.blocks import Floats, ReadOnlyArrays


@dataclass(frozen=True)
class Discordance:
    """On how many samples two models differ.

    Attributes:
        samples: How many there are.
        lost: With labels, those that the original alone has right; without, those whose answers
            differ.
        gained: Those that the smaller model alone has right; None without labels.
    """

    samples: int
    lost: float
    gained: float | None

    @property
    def drop(self) -> float:
        """The drop of the accuracy on these samples, or the disagreement, as a share."""
        return (self.lost - (self.gained or 0)) / self.samples

    def bound(self, error: float) -> float:
        """An upper bound of the drop, or of the disagreement, as a share.

        It holds with probability 1 - error at least, for samples drawn independently and used
        once.

        Args:
            error: The probability with which it may fail.
        """
        if self.gained is None:
            return upper_end(self.lost, self.samples, error)
        most = upper_end(self.lost, self.samples, error / 2)
        return most - lower_end(self.gained, self.samples, error / 2)

    def interval(self, error: float) -> tuple[float, float]:
        """A two-sided interval of the drop, or of the disagreement, as a share.

        Each side has half of the error, so both hold together with probability 1 - error at least.

        Args:
            error: The probability with which it may miss.
        """
        upper = self.bound(error / 2)
        if self.gained is None:
            return lower_end(self.lost, self.samples, error / 2), upper
        least = lower_end(self.lost, self.samples, error / 4)
        return least - upper_end(self.gained, self.samples, error / 4), upper

    def expected(self, samples: int) -> "Discordance":
        """What to expect of other samples; a guess, whose counts need not be whole.

        The rates are those seen here, but a smaller model is not expected to be the better one:
        where more was gained than lost, that is chance, and both counts take their mean.
        """
        lost, gained = self.lost, self.gained
        if gained is not None and gained > lost:
            lost = gained = (lost + gained) / 2
        factor = samples / self.samples
        return Discordance(samples, lost * factor, None if gained is None else gained * factor)


# Bets: large ones where few answers change, small ones where many do.
_BETS = np.geomspace(0.05, 0.98, 6)


@dataclass(frozen=True, eq=False)
class ExpectedDrop(ReadOnlyArrays):
    """What changed answers cost, by the probabilities that the original gives.

    Attributes:
        samples: How many there are.
        differences: (changed,) float64 from 0 to 1, of the samples whose answers differ: the
            original's probability of its own answer less that of the smaller model's.
        weight: How often each of these counts, 1 for what was seen.
    """

    samples: int
    differences: Floats
    weight: float = 1.0

    @property
    def drop(self) -> float:
        """The drop of the accuracy that is expected on these samples, as a share."""
        return self.weight * float(self.differences.sum()) / self.samples

    def bound(self, error: float) -> float:
        """An upper bound of the expected drop, as a share.

        It holds with probability 1 - error at least, for samples drawn independently and used
        once. That the expected drop is the drop at least is presumed, not certified.

        Args:
            error: The probability with which it may fail.
        """
        enough = -math.log(error)
        if self._capital(1.0) <= enough:
            return 1.0
        return float(brentq(lambda mean: self._capital(mean) - enough, 0.0, 1.0, xtol=1e-12))

    def _capital(self, mean: float) -> float:
        """The logarithm of the mean of the bets' products, were this the mean of all samples."""
        same = self.samples - self.weight * len(self.differences)
        changed = np.log1p(-_BETS[:, None] * (self.differences - mean)).sum(axis=1)
        products = self.weight * changed + same * np.log1p(_BETS * mean)
        return float(logsumexp(products)) - math.log(len(_BETS))

    def expected(self, samples: int) -> "ExpectedDrop":
        """What to expect of other samples; a guess: changes are as frequent as here, and alike."""
        return replace(self, samples=samples, weight=self.weight * samples / self.samples)


def upper_end(count: float, samples: int, error: float) -> float:
    """Clopper and Pearson's one-sided upper end for a probability.

    Args:
        count: How often it happened.
        samples: Of how many.
        error: The probability with which the true value may lie above.
    """
    return 1.0 if count >= samples else float(betainccinv(count + 1, samples - count, error))


def lower_end(count: float, samples: int, error: float) -> float:
    """Clopper and Pearson's one-sided lower end, as `upper_end`."""
    return 0.0 if count <= 0 else float(betaincinv(count, samples - count + 1, error))


def samples_needed(most: float, error: float, unchanged: "Discordance | ExpectedDrop") -> int:
    """How many samples it takes until a file that changes no answer can be certified.

    Counted, with no discordant sample, the upper end is 1 - e^(1/n), e being all of the error, or
    half of it with labels; it reaches `most` at n = ln(e) / ln(1 - most).

    Args:
        most: The largest drop or disagreement, a share above 0 and below 1.
        error: The probability with which the bound may fail.
        unchanged: What is seen of such a file, on any number of samples.
    """

    def is_enough(count: int) -> bool:
        return replace(unchanged, samples=count).bound(error) <= most

    count = 1
    while not is_enough(count):
        count *= 2
    return bisect_left(range(count), True, lo=count // 2, key=is_enough)


GROUPS = 30
# A change in a hundredth of the samples is missed by all of 300 with a probability of 0.05; with
# fewer samples, a bound of zero would mean little.
LEAST_IN_GROUP = 10


@dataclass(frozen=True)
class MetricLoss:
    """The loss of a metric on samples.

    Attributes:
        metric: Its name.
        samples: On how many samples.
        before: The original's metric.
        after: The smaller model's.
        standard_error: Of their difference; estimated.
        groups: How many groups the estimate was made of, two at least.
    """

    metric: str
    samples: int
    before: float
    after: float
    standard_error: float
    groups: int

    @property
    def drop(self) -> float:
        """What is lost, in the metric's units; negative where something is gained."""
        return self.before - self.after

    def bound(self, error: float) -> float:
        """An estimated upper bound of what is lost.

        Args:
            error: The probability with which it is to fail, near enough.
        """
        return self.drop + float(-stdtrit(self.groups - 1, error)) * self.standard_error

    def expected(self, samples: int) -> "MetricLoss":
        """What to expect of other samples; a guess.

        A smaller model is not expected to be the better one, and standard errors go with the
        square root of the number of samples.
        """
        return replace(
            self,
            samples=samples,
            after=min(self.after, self.before),
            standard_error=self.standard_error * math.sqrt(self.samples / samples),
        )


def groups_of(samples: int, rng: np.random.Generator) -> npt.NDArray[np.int64]:
    """Puts samples into `GROUPS` groups, fewer if there are fewer samples, at random.

    Returns:
        (samples,): the number of each one's group; groups differ by one sample at most.
    """
    return rng.permutation(np.arange(samples) % min(GROUPS, samples))


def standard_error(whole: float, without: Floats, sizes: npt.NDArray[np.int64]) -> float:
    """The standard error of a quantity.

    Args:
        whole: The quantity on all samples.
        without: (groups,): without each group.
        sizes: (groups,): how many samples each group has.
    """
    count, groups = int(sizes.sum()), len(sizes)
    shares = count / sizes
    pseudo = shares * whole - (shares - 1) * without
    centre = groups * whole - float(np.sum((1 - sizes / count) * without))
    return math.sqrt(float(np.mean((pseudo - centre) ** 2 / (shares - 1))))


# A smaller model's loss on samples: counted answers have exact bounds of a share, and so have
# expected ones, of what is presumed; a metric that is resampled has estimates in its own units.
Loss = Discordance | ExpectedDrop | MetricLoss
