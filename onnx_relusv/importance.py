"""Which errors of a block its consumers feel: a metric on its outputs.

A change e of the pre-activation reaches the consumers as W_c (m * e), m the 0/1 mask of active
units, W_c their stacked weights. With the mask independent of e, and of the other units,

    E|W_c (m * e)|^2 = E e'Se,    S = (W_c' W_c) * (pp' + diag(p - p^2)),

p the shares of inputs on which units are active, * entry by entry; S is positive semidefinite by
Schur's product theorem. p is read off the mean and variance of the pre-activation as if it were
normal. All of this is an estimate, so a share of the identity is kept.
"""

from collections.abc import Iterable

import numpy as np
import scipy.special

from onnx_relusv.records import Activation, Block, Floats, LinearMap

# Of the mean of S's diagonal: what errors count that the estimate takes for harmless.
_IDENTITY = 0.3


def importance_root(
    activation: Activation, mean: Floats, variance: Floats, consumers: Iterable[LinearMap]
) -> Floats | None:
    """An upper triangular R with S = R'R, scaled to a mean diagonal of 1.

    Args:
        activation: The block's; slopes count as activity.
        mean: (out,) means of the pre-activation.
        variance: (out,) its variances.
        consumers: The linear maps, of one group each, that read the block's output.

    Returns:
        (out, out) float64; None where the consumers' weights are zero.
    """
    units = len(mean)
    gram = _gram(units, consumers)
    deviation = np.sqrt(np.maximum(variance, np.finfo(np.float64).tiny))
    active = scipy.special.ndtr(mean / deviation)
    if activation.kind == "none":
        active = np.ones(units)
    else:
        slopes = np.broadcast_to(activation.slopes, (units,)) ** 2
        active = active + (1 - active) * slopes
    together = np.outer(active, active)
    together[np.diag_indices_from(together)] = active
    felt = gram * together
    metric = _normalised(felt)
    return None if metric is None else np.asarray(np.linalg.cholesky(metric).T)


def consumers_gram(units: int, consumers: Iterable[LinearMap]) -> Floats | None:
    """W_c'W_c with a share of the identity, scaled to a mean diagonal of 1.

    Behind the activation nothing is masked any more: the error e of the answers reaches the
    consumers as W_c e.

    Args:
        units: Output channels of the block.
        consumers: The linear maps, of one group each, that read its output.

    Returns:
        (out, out) float64; None where the consumers' weights are zero.
    """
    return _normalised(_gram(units, consumers))


def _gram(units: int, consumers: Iterable[LinearMap]) -> Floats:
    gram = np.zeros((units, units))
    for consumer in consumers:
        # A Conv's columns are (channel, tap): every tap meets the channel's errors.
        taps = consumer.weight[0].reshape(consumer.weight.shape[1], units, -1)
        flat = taps.transpose(0, 2, 1).reshape(-1, units)
        gram += flat.T @ flat
    return gram


def _normalised(felt: Floats) -> Floats | None:
    level = float(np.trace(felt)) / len(felt)
    if not level > 0:
        return None
    felt = felt.copy()
    felt[np.diag_indices_from(felt)] += _IDENTITY * level
    return felt / ((1 + _IDENTITY) * level)


def direct_consumers(block: Block, blocks: Iterable[Block]) -> list[Block]:
    """The blocks that read a block's output; empty unless they are all that reads it."""
    readers = [other for other in blocks if other.source == block.key]
    simple = block.geometry.groups == 1 and all(r.geometry.groups == 1 for r in readers)
    return readers if simple and len(readers) == len(block.consumers) else []
