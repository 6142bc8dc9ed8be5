"""How much of a metric is lost at most, estimated: a delete-a-group jackknife, in pairs.

Nothing is known of a metric but its values, so no exact bound can be had. The samples are put into
groups at random, and the loss t, the metric of the original minus that of the smaller model, is
computed again without each of them: both models always answer the same samples, so what they have
in common cancels. With h_j = n / n_j, group j having n_j of n samples, the pseudo-values
h_j t - (h_j - 1) t_(-j) are nearly independent, and nearly of mean t; their spread gives the
standard error (Busing, Meijer, van der Leeden 1999, for groups that differ in size). The bound is
t plus that, times a quantile of Student's distribution with one degree of freedom less than groups.

This is an estimate. It presumes samples drawn independently, a metric that is smooth in them, and a
loss that is near to normally distributed. What befalls fewer than a few of the samples is not
seen, or hardly: where both models have the same metric with and without every group, the error is
estimated to be nothing.
"""

import math
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from scipy.special import stdtrit

from onnx_relusv.records import Floats

GROUPS = 30
# What befalls one sample in a hundred is missed by all of 300 with a probability of 0.05; with
# fewer, a bound of nothing would mean little.
LEAST_IN_GROUP = 10


@dataclass(frozen=True)
class MetricLoss:
    """What a smaller model was seen to lose of a metric.

    Attributes:
        samples: On how many samples.
        before: The original's metric.
        after: The smaller model's.
        standard_error: Of their difference; estimated.
        groups: How many groups the estimate was made of, two at least.
    """

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
