"""Samples drawn and split by seed: to fit to, to choose on, and to certify a bound on.

Samples of a group go to the same part. Otherwise choices would be made on samples that are nearly
those that were fitted to, and would not hold for any others.
"""

from bisect import bisect_left
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from onnx_relusv.core.errors import InputError
from onnx_relusv.samples.samples import Samples

# Of the samples that are not set aside.
SELECT_SHARE = 0.2
# Of few samples, so many are set aside.
ASIDE_SHARE = 0.4
# More than these hardly make a fit better, and each that is set aside makes a bound tighter. Of
# 25,000 other images fashion_vgg at 0.25 of the bytes answers 0.61 % otherwise with so many, and of
# 50,000 others 0.62 % with twice as many; lenet_300_100 at 0.44 and 0.3 of 25,000 others 0.67 and
# 1.50 %, and 0.61 and 1.57 %.
ENOUGH_TO_FIT = 1500
CERTIFY_SHARE = 0.7
_STREAM, _STREAM_DRAWN, _STREAM_FEWER = 7, 8, 9
# From how many samples, or groups, there are to how many of them are set aside.
SetAside = Callable[[int], int]


def for_judging(count: int) -> int:
    """How many samples are set aside to judge many files on."""
    return round(ASIDE_SHARE * count)


def for_certifying(count: int) -> int:
    """How many samples are set aside to certify a bound on; how many decides how tight it is.

    As many as for judging, and all beyond those that are enough to fit to, up to a larger share.
    """
    return max(for_judging(count), min(round(CERTIFY_SHARE * count), count - ENOUGH_TO_FIT))


def nothing_aside(count: int) -> int:
    """None is set aside."""
    return 0


@dataclass(frozen=True)
class Split:
    """Three disjoint parts of the samples.

    Attributes:
        fit: Samples that moments are taken of and factors are fitted to.
        select: Samples for choices between factors, forms and ranks; None where there is a single
            sample or group.
        certify: Samples that are set aside, to bound the drop of a finished file or to judge files
            on; None where none are.
        judge: Samples that nothing was fitted to, those for choosing among them, where these are
            not all that there are.
    """

    fit: Samples
    select: Samples | None
    certify: Samples | None = None
    judge: Samples | None = None

    def fewer(self, most: int | None, seed: int) -> "Split":
        """The same with about so many samples to fit to and to choose on; all are judged on.

        Groups stay whole, so that there may be more where they are large.

        Args:
            most: How many there are in both; None for all.
            seed: Decides which.
        """
        if most is None or self.select is None:
            return self
        share = most / (self.fit.count + self.select.count)
        if share >= 1:
            return self
        fit, select = (
            _drawn(part, max(1, round(share * part.count)), [seed, _STREAM_FEWER, place])
            for place, part in enumerate((self.fit, self.select))
        )
        return replace(self, fit=fit, select=select, judge=self.select)


def drawn(samples: Samples, most: int | None, seed: int) -> Samples:
    """At most so many of the samples, drawn at random; all where there are no more.

    Only their positions are drawn: nothing is read. Groups are drawn whole, one after the other,
    and those that would be too many are passed over.

    Args:
        samples: All of them.
        most: How many at most; None for all.
        seed: Decides which.

    Raises:
        InputError: Every group has more samples than that.
    """
    if most is None or samples.count <= most:
        return samples
    smallest = _smallest(samples)
    if smallest > most:
        raise InputError(
            f"{samples.name}: the smallest group has {smallest} samples, and groups stay whole: "
            f"--max-samples {most} leaves none. Use {smallest} or more."
        )
    return _drawn(samples, most, [seed, _STREAM_DRAWN])


def _smallest(samples: Samples) -> int:
    """How many samples the smallest group has."""
    if samples.groups is None:
        return 1
    return int(np.unique(samples.groups, return_counts=True)[1].min())


def _drawn(samples: Samples, most: int, seed: list[int]) -> Samples:
    """At most so many samples out of more, whole groups, and one of these at least."""
    rng = np.random.default_rng(seed)
    if samples.groups is None:
        return samples.part(np.sort(rng.choice(samples.count, most, replace=False)))
    groups, sizes = np.unique(samples.groups, return_counts=True)
    room, taken = max(most, _smallest(samples)), []
    for place in rng.permutation(len(groups)):
        if sizes[place] <= room:
            taken.append(groups[place])
            room -= int(sizes[place])
    return samples.part(np.flatnonzero(np.isin(samples.groups, taken)))


def split(samples: Samples, seed: int, aside: SetAside = nothing_aside) -> Split:
    """Splits the samples at random.

    Args:
        samples: All of them.
        seed: Decides which goes where.
        aside: How many of them are set aside.
    """
    group = np.arange(samples.count) if samples.groups is None else samples.groups
    groups, sizes = np.unique(group, return_counts=True)
    order = np.random.default_rng([seed, _STREAM]).permutation(len(groups))
    bounds = _bounds(sizes[order], aside)
    certify, select, fit = (
        np.flatnonzero(np.isin(group, groups[part])) for part in np.split(order, bounds)
    )
    return Split(
        fit=samples.part(fit),
        select=samples.part(select) if len(select) else None,
        certify=samples.part(certify) if len(certify) else None,
    )


def _bounds(sizes: np.ndarray, aside: SetAside) -> tuple[int, int]:
    """Where a sequence of groups is divided into the three parts.

    Args:
        sizes: (groups,) of the groups.
        aside: How many of any number are set aside.

    Returns:
        How many groups are set aside, and how many are that or for choosing.
    """
    certified, selected, _ = _sizes(len(sizes), aside)
    ends = np.cumsum([0, *sizes])
    targets = np.cumsum(_sizes(int(ends[-1]), aside)[:2])
    first, second = np.abs(ends - targets[:, None]).argmin(axis=1)
    # A part that would have samples without groups has a group; so has the last.
    last, least = len(sizes) - 1, min(selected, 1)
    first = np.clip(first, min(certified, 1), max(last - least, 0))
    return int(first), int(np.clip(second, first + least, last))


def samples_for(certified: int) -> int:
    """The fewest samples of which so many are for certifying, and some for each other part."""

    def enough(count: int) -> bool:
        certifying, *others = _sizes(count, for_certifying)
        return certifying >= certified and min(others) >= 1

    # Of no more samples are fewer set aside, and of three times as many enough.
    return bisect_left(range(3 * certified + 3), True, key=enough)


def _sizes(count: int, aside: SetAside) -> tuple[int, int, int]:
    """How many samples are set aside, for choosing and for fitting."""
    certified = aside(count)
    others = count - certified
    selected = min(max(1, round(SELECT_SHARE * others)), others - 1)
    return certified, selected, others - selected
