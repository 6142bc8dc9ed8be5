"""The tucker form in numbers: input channels are mixed, a core convolves, its outputs are mixed.

W acts on patches whose values are (channel, kernel value); S = U_in' (x) I leaves p channels of
each. In the metric C:

1. U_in' spans the best rank p of the kernel unfolded along its input channels, in the covariance of
   one kernel value's channels, averaged over the kernel values. That of every p is part of the
   next one's.
2. The best map of what is left, W C S' (S C S')^-1, is least squares in the whole C.
3. The r leading left singular vectors of that map in S C S' are U_out, and the rest is the core; so
   U_out and the core are the best there are for this U_in (Eckart, Young, Mirsky).

This is a step of the higher-order orthogonal iteration (De Lathauwer, De Moor, Vandewalle, 2000)
in a metric. Alternating further takes less than one per cent off the squared error of the bundled
models' blocks, so it stops there.

Factors whose inner channels are equally long on both sides, which low-precision storage needs.

Of all factors with one product these have the least sum of squares, and steps of one length do as
much to each of them.
"""

from collections.abc import Iterator, Sequence
from math import prod

import numpy as np
import scipy.linalg

from onnx_relusv.core.blocks import Floats, Geometry
from onnx_relusv.rewrites.low_rank import forms
from onnx_relusv.spectra.singular import left_basis

# Of a core; each sweep divides the distance from the answer, in logarithms, by four.
_SWEEPS = 24


def balanced(*matrices: Floats) -> tuple[Floats, ...]:
    """Scales inner channels; the composed kernel stays the same.

    Args:
        matrices: A double layer's factors with the groups as their first axis, in the order in
            which their layers run.

    Returns:
        The same with equal norms before and behind every inner channel, but for those that are
        zero on one side, which stay as they are.
    """
    if len(matrices) == 1:
        return matrices
    if len(matrices) == 2:
        first, second = matrices
        scale = np.sqrt(_ratio(np.linalg.norm(first, axis=2), np.linalg.norm(second, axis=1)))
        return first * scale[:, :, None], second / scale[:, None, :]
    return _balanced_with_core(*matrices)


def _balanced_with_core(first: Floats, core: Floats, second: Floats) -> tuple[Floats, ...]:
    """Both sides of the core depend on each other: fixed-point steps on the squares of norms."""
    in_front = first.shape[1]
    by_value = forms.core_by_value(core, in_front)
    squares = np.sum(by_value**2, axis=2)  # (groups, r, p)
    before, after = np.sum(first**2, axis=2), np.sum(second**2, axis=1)
    # Squares of what the first factor's rows and the second one's columns are multiplied with.
    rows, columns = np.ones_like(before), np.ones_like(after)
    for _ in range(_SWEEPS):
        rows = np.sqrt(_ratio(before, np.sum(squares / columns[:, :, None], axis=1)))
        columns = np.sqrt(_ratio(after, np.sum(squares / rows[:, None, :], axis=2)))
    rows, columns = np.sqrt(rows), np.sqrt(columns)
    split = core.reshape(*squares.shape, -1)
    scaled = split / rows[:, None, :, None] / columns[:, :, None, None]
    return (
        first * rows[:, :, None],
        scaled.reshape(core.shape),
        second * columns[:, None, :],
    )


def _ratio(before: Floats, after: Floats) -> Floats:
    """What `before` has to be multiplied with to be `after`; 1 where either is 0."""
    ratio = np.ones_like(before)
    np.divide(after, before, out=ratio, where=(before > 0) & (after > 0))
    return ratio


class NestedTucker:
    """One group's factors and gaps at every rank up to a largest one.

    A Cholesky root of S C S' is made once: that of fewer channels is its upper left corner.

    Args:
        geometry: The block's geometry.
        W: (rows, columns) of the group.
        C: (columns, columns), positive definite; the identity if None.
        largest: The largest rank.
    """

    def __init__(self, geometry: Geometry, W: Floats, C: Floats | None, largest: int) -> None:
        self._geometry = geometry
        self._values = prod(geometry.kernel)
        self._energy = W @ W.T if C is None else W @ C @ W.T
        channels = geometry.in_channels // geometry.groups
        in_front, _ = forms.tucker_widths(geometry, largest)
        by_channel = None if C is None else C.reshape((channels, self._values) * 2)
        self._first = self._input_basis(W, by_channel)[:in_front]
        shape = in_front * self._values, -1
        if by_channel is None:
            kernel = W.reshape(-1, channels, self._values)
            # (p * values, rows): W S' turned.
            seen = np.einsum("kc,ocv->kvo", self._first, kernel, optimize=True)
            self._root, self._seen = None, seen.reshape(shape)
            return
        inner = np.einsum("kc,cvdw->kvdw", self._first, by_channel, optimize=True)
        within = np.einsum("kvdw,ld->kvlw", inner, self._first, optimize=True)
        self._root = scipy.linalg.cholesky(within.reshape(shape), lower=True)
        # Its Gram matrix of the first p * values rows is what p channels explain of W C W'.
        self._seen = scipy.linalg.solve_triangular(
            self._root, inner.reshape(shape) @ W.T, lower=True
        )

    def at(self, rank: int) -> tuple[Floats, Floats, Floats]:
        """The first factor, the core and the second factor at a rank, the second orthonormal."""
        in_front, behind = forms.tucker_widths(self._geometry, rank)
        seen = self._seen[: in_front * self._values]
        second = left_basis(seen.T)[:, :behind]
        core = seen @ second
        if self._root is not None:
            corner = self._root[: len(seen), : len(seen)]
            core = scipy.linalg.solve_triangular(corner, core, lower=True, trans="T")
        return self._first[:in_front], core.T, second

    def gaps(self, ranks: Sequence[int]) -> Iterator[Floats]:
        """(W - L) C (W - L)' at several increasing ranks.

        W - L is what U_in loses, plus what U_out loses of the rest; these are orthogonal in C.
        """
        explained, used = np.zeros_like(self._energy), 0
        for rank in ranks:
            in_front, behind = forms.tucker_widths(self._geometry, rank)
            if in_front * self._values > used:
                added = self._seen[used : in_front * self._values]
                explained = explained + added.T @ added
                squares, vectors = np.linalg.eigh(explained)
                used += len(added)
            kept = vectors[:, len(vectors) - behind :]
            yield self._energy - (kept * squares[len(squares) - behind :]) @ kept.T

    def _input_basis(self, W: Floats, by_channel: Floats | None) -> Floats:
        """(p, channels) orthonormal, the leading ones first."""
        unfolded = W.reshape(len(W), -1, self._values).transpose(0, 2, 1)
        matrix = unfolded.reshape(len(W) * self._values, -1)
        metric = None
        if by_channel is not None:
            metric = np.einsum("cvdv->cd", by_channel) / self._values
        left = left_basis(matrix, metric)
        # Only the span counts for the core; a kernel with dead channels would not give all of it.
        return np.linalg.qr((left.T @ matrix).T)[0].T
