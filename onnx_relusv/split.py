"""The samples, split once by seed: for fitting, for choosing, and for certifying a bound."""

import math
from dataclasses import dataclass

import numpy as np

from onnx_relusv.samples import Samples

# Of the samples that are not for certifying.
SELECT_SHARE = 0.2
# With a bound to be certified; what is left over decides how small a drop can be certified at all.
CERTIFY_SHARE = 0.4
_STREAM = 7


@dataclass(frozen=True)
class Split:
    """Three disjoint parts of the samples.

    Attributes:
        fit: What moments are taken of and factors are fitted to.
        select: What choices between factors, forms and ranks are judged on; None where there is
            only one sample.
        certify: What the drop of a finished file is bounded on; None where nothing is certified.
    """

    fit: Samples
    select: Samples | None
    certify: Samples | None = None


def split(samples: Samples, seed: int, *, certifying: bool = False) -> Split:
    """Splits the samples at random.

    Args:
        samples: All of them.
        seed: Decides which goes where.
        certifying: Whether a part is set aside for certifying.
    """
    order = np.random.default_rng([seed, _STREAM]).permutation(samples.count)
    bounds = np.cumsum(_sizes(samples.count, certifying=certifying)[:2])
    certify, select, fit = (np.sort(part) for part in np.split(order, bounds))
    return Split(
        fit=samples.part(fit),
        select=samples.part(select) if len(select) else None,
        certify=samples.part(certify) if len(certify) else None,
    )


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
