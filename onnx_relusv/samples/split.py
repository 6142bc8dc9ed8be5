"""Samples drawn and split by seed: to fit to, to choose on, and to certify a bound on.

Samples of a group go to the same part. Otherwise choices would be made on samples that are nearly
those that were fitted to, and would not hold for any others.
"""

import math
from dataclasses import dataclass

import numpy as np

from onnx_relusv.core.errors import InputError
from onnx_relusv.samples.samples import Samples

# Of the samples that are not for certifying.
SELECT_SHARE = 0.2
# With a bound to be certified; how many these are decides how small a drop can be certified.
CERTIFY_SHARE = 0.4
_STREAM, _STREAM_DRAWN = 7, 8


@dataclass(frozen=True)
class Split:
    """Three disjoint parts of the samples.

    Attributes:
        fit: Samples that moments are taken of and factors are fitted to.
        select: Samples for choices between factors, forms and ranks; None where there is a single
            sample or group.
        certify: Samples that bound the drop of a finished file; None where nothing is certified.
    """

    fit: Samples
    select: Samples | None
    certify: Samples | None = None


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
    rng = np.random.default_rng([seed, _STREAM_DRAWN])
    if samples.groups is None:
        return samples.part(np.sort(rng.choice(samples.count, most, replace=False)))
    groups, sizes = np.unique(samples.groups, return_counts=True)
    if sizes.min() > most:
        raise InputError(
            f"{samples.path}: the smallest group has {sizes.min()} samples, and groups stay whole: "
            f"--max-samples {most} leaves none. Use {sizes.min()} or more."
        )
    room, taken = most, []
    for place in rng.permutation(len(groups)):
        if sizes[place] <= room:
            taken.append(groups[place])
            room -= int(sizes[place])
    return samples.part(np.flatnonzero(np.isin(samples.groups, taken)))


def split(samples: Samples, seed: int, *, certifying: bool = False) -> Split:
    """Splits the samples at random.

    Args:
        samples: All of them.
        seed: Decides which goes where.
        certifying: Whether a part is set aside for certifying.
    """
    group = np.arange(samples.count) if samples.groups is None else samples.groups
    groups, sizes = np.unique(group, return_counts=True)
    order = np.random.default_rng([seed, _STREAM]).permutation(len(groups))
    bounds = _bounds(sizes[order], certifying=certifying)
    certify, select, fit = (
        np.flatnonzero(np.isin(group, groups[part])) for part in np.split(order, bounds)
    )
    return Split(
        fit=samples.part(fit),
        select=samples.part(select) if len(select) else None,
        certify=samples.part(certify) if len(certify) else None,
    )


def _bounds(sizes: np.ndarray, *, certifying: bool) -> tuple[int, int]:
    """Where a sequence of groups is divided into the three parts.

    Args:
        sizes: (groups,) of the groups.
        certifying: Whether a part is set aside for certifying.

    Returns:
        How many groups are for certifying, and how many for certifying or choosing.
    """
    certified, selected, _ = _sizes(len(sizes), certifying=certifying)
    ends = np.cumsum([0, *sizes])
    targets = np.cumsum(_sizes(int(ends[-1]), certifying=certifying)[:2])
    first, second = np.abs(ends - targets[:, None]).argmin(axis=1)
    # A part that would have samples without groups has a group; so has the last.
    last, least = len(sizes) - 1, min(selected, 1)
    first = np.clip(first, min(certified, 1), max(last - least, 0))
    return int(first), int(np.clip(second, first + least, last))


def samples_for(certified: int) -> int:
    """The fewest samples of which so many are for certifying, and some for each other part."""
    # Rounding moves the share by half a sample.
    count = max(certified, math.floor((certified - 1) / CERTIFY_SHARE))
    while True:
        certifying, *others = _sizes(count, certifying=True)
        if certifying >= certified and min(others) >= 1:
            return count
        count += 1


def _sizes(count: int, *, certifying: bool) -> tuple[int, int, int]:
    """How many samples are for certifying, for choosing and for fitting."""
    certified = round(CERTIFY_SHARE * count) if certifying else 0
    others = count - certified
    selected = min(max(1, round(SELECT_SHARE * others)), others - 1)
    return certified, selected, others - selected
