"""The samples, drawn and split by seed: for fitting, for choosing, and for certifying a bound.

Samples of one group go to the same part. If they did not, what is chosen on some would be chosen on
what was fitted to, very nearly, and would not hold for any other.
"""

import math
from dataclasses import dataclass

import numpy as np

from onnx_relusv.core.errors import InputError
from onnx_relusv.samples.samples import Samples

# Of the samples that are not for certifying.
SELECT_SHARE = 0.2
# With a bound to be certified; what is left over decides how small a drop can be certified at all.
CERTIFY_SHARE = 0.4
_STREAM, _STREAM_DRAWN = 7, 8


@dataclass(frozen=True)
class Split:
    """Three disjoint parts of the samples.

    Attributes:
        fit: What moments are taken of and factors are fitted to.
        select: What choices between factors, forms and ranks are judged on; None where there is
            only one sample, or one group.
        certify: What the drop of a finished file is bounded on; None where nothing is certified.
    """

    fit: Samples
    select: Samples | None
    certify: Samples | None = None


def drawn(samples: Samples, most: int | None, seed: int) -> Samples:
    """At most so many of the samples, drawn at random; all where there are no more.

    Only their positions are drawn: nothing is read. Groups are drawn whole, one after the other,
    and one for which there is no room is passed over.

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
    found, sizes = np.unique(samples.groups, return_counts=True)
    if sizes.min() > most:
        raise InputError(
            f"{samples.path}: the smallest group has {sizes.min()} samples, and groups stay whole: "
            f"--max-samples {most} leaves none. Use {sizes.min()} or more."
        )
    left, taken = most, []
    for place in rng.permutation(len(found)):
        if sizes[place] <= left:
            taken.append(found[place])
            left -= int(sizes[place])
    return samples.part(np.flatnonzero(np.isin(samples.groups, taken)))


def split(samples: Samples, seed: int, *, certifying: bool = False) -> Split:
    """Splits the samples at random.

    Args:
        samples: All of them.
        seed: Decides which goes where.
        certifying: Whether a part is set aside for certifying.
    """
    group = np.arange(samples.count) if samples.groups is None else samples.groups
    found, sizes = np.unique(group, return_counts=True)
    order = np.random.default_rng([seed, _STREAM]).permutation(len(found))
    bounds = _bounds(sizes[order], certifying=certifying)
    certify, select, fit = (
        np.flatnonzero(np.isin(group, found[part])) for part in np.split(order, bounds)
    )
    return Split(
        fit=samples.part(fit),
        select=samples.part(select) if len(select) else None,
        certify=samples.part(certify) if len(certify) else None,
    )


def _bounds(sizes: np.ndarray, *, certifying: bool) -> tuple[int, int]:
    """Where groups that stand in the order of the parts are divided.

    Args:
        sizes: (groups,) of the groups.
        certifying: Whether a part is set aside for certifying.

    Returns:
        How many groups are for certifying, and how many for certifying or choosing.
    """
    certified, selected, _ = _sizes(len(sizes), certifying=certifying)
    ends = np.cumsum([0, *sizes])
    wanted = np.cumsum(_sizes(int(ends[-1]), certifying=certifying)[:2])
    first, second = np.abs(ends - wanted[:, None]).argmin(axis=1)
    # A part that would have samples, were each a group of its own, has a group; so has the last.
    last, least = len(sizes) - 1, min(selected, 1)
    first = np.clip(first, min(certified, 1), max(last - least, 0))
    return int(first), int(np.clip(second, first + least, last))


def samples_for(certified: int) -> int:
    """The fewest samples of which so many are for certifying, and some for each other part."""
    # Rounding moves the share by half a sample.
    count = max(certified, math.floor((certified - 1) / CERTIFY_SHARE))
    while True:
        own, *others = _sizes(count, certifying=True)
        if own >= certified and min(others) >= 1:
            return count
        count += 1


def _sizes(count: int, *, certifying: bool) -> tuple[int, int, int]:
    """How many samples are for certifying, for choosing and for fitting."""
    certified = round(CERTIFY_SHARE * count) if certifying else 0
    left = count - certified
    selected = min(max(1, round(SELECT_SHARE * left)), left - 1)
    return certified, selected, left - selected
