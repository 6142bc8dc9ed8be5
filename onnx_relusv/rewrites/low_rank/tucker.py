"""The tucker form: a Conv as 1x1 to p channels, the whole kernel (the core) to r, then 1x1.

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

The first factor has shape (p, c), the core (r, p*kernel values) and the second one (o, r);
`tucker_widths` says which p and r a rank stands for.
"""

from collections.abc import Iterator, Sequence
from math import ceil, floor, prod, sqrt

import numpy as np
import scipy.linalg

from onnx_relusv.core.blocks import Covariance, Floats, Geometry
from onnx_relusv.rewrites.low_rank.form import (
    Form,
    LevelLoad,
    Nested,
    Reals,
    of_width,
    pointwise,
    ratio,
)
from onnx_relusv.spectra.singular import Decomposition, left_basis, spectral_norm

# Of balancing a core; each sweep divides the distance from the answer, in logarithms, by four.
_SWEEPS = 24


def tucker_widths(geometry: Geometry, rank: int) -> tuple[int, int]:
    """The channels p in front of a tucker's core and r behind it, per group.

    r is the rank, and p is r over the root of the kernel's values, rounded up: r lies half way, in
    logarithms, between the p channels and the p * values numbers of a patch. That is a heuristic:
    on the bundled models' 3x3 kernels, at 3 to 25 % of the numbers, its squared error is 6 % above
    that of the best p on average, where p in proportion to the channels is 44 % above it. Where
    one of the two reaches what the block has, the other goes on alone.
    """
    return (
        min(_most_in_front(geometry), ceil(rank / sqrt(prod(geometry.kernel)))),
        min(geometry.largest_rank, rank),
    )


def _most_in_front(geometry: Geometry) -> int:
    """The rank of the kernel unfolded along its input channels, which it cannot exceed."""
    return min(geometry.in_channels // geometry.groups, geometry.rows * prod(geometry.kernel))


def core_by_value(core: Reals, in_front: int) -> Reals:
    """(groups, r, kernel values, p) from a core's (groups, r, p * kernel values)."""
    groups, width, _ = core.shape
    split = core.reshape(groups, width, in_front, -1)
    return np.ascontiguousarray(split.transpose(0, 1, 3, 2))


class NestedTucker(Nested):
    """A Cholesky root of S C S' is made once: that of fewer channels is its upper left corner."""

    def __init__(
        self, geometry: Geometry, W: Floats, metric: Covariance | None, largest: int
    ) -> None:
        super().__init__(geometry, W, metric, largest)
        C = self.C
        self._values = prod(geometry.kernel)
        self._energy = W @ W.T if C is None else W @ C @ W.T
        channels = geometry.in_channels // geometry.groups
        in_front, _ = tucker_widths(geometry, largest)
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
        in_front, behind = tucker_widths(self.geometry, rank)
        seen = self._seen[: in_front * self._values]
        second = left_basis(seen.T)[:, :behind]
        core = seen @ second
        if self._root is not None:
            corner = self._root[: len(seen), : len(seen)]
            core = scipy.linalg.solve_triangular(corner, core, lower=True, trans="T")
        return self._first[:in_front], core.T, second

    def gaps(self, part: Decomposition, ranks: Sequence[int]) -> Sequence[float]:
        """Of Gram matrices, without factors."""
        return [spectral_norm(gram) for gram in self._grams(ranks)]

    def _grams(self, ranks: Sequence[int]) -> Iterator[Floats]:
        """(W - L) C (W - L)' at several increasing ranks.

        W - L is what U_in loses, plus what U_out loses of the rest; these are orthogonal in C.
        """
        explained, used = np.zeros_like(self._energy), 0
        for rank in ranks:
            in_front, behind = tucker_widths(self.geometry, rank)
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


class Tucker(Form):
    """Input channels are mixed, a core convolves, its outputs are mixed."""

    name = "tucker"
    nested = NestedTucker
    unfolding = "of two unfoldings"
    costly = True

    def fits(self, geometry: Geometry) -> bool:
        """One input channel leaves nothing for a layer in front of the core to mix."""
        return prod(geometry.kernel) > 1 and geometry.in_channels > geometry.groups

    def layers(self, geometry: Geometry, rank: int) -> tuple[Geometry, ...]:
        """The core has the block's own strides, dilations and pads."""
        in_front, behind = tucker_widths(geometry, rank)
        return (
            pointwise(geometry, geometry.in_channels // geometry.groups, in_front),
            of_width(geometry, in_front, behind),
            pointwise(geometry, behind, geometry.rows),
        )

    def largest_rank(self, geometry: Geometry) -> int:
        """The least that gives every channel in front of the core, and behind it."""
        in_front = floor((_most_in_front(geometry) - 1) * sqrt(prod(geometry.kernel))) + 1
        return max(in_front, geometry.largest_rank)

    def load(self, geometry: Geometry) -> LevelLoad:
        """Products with the covariance and the root of what is left of it.

        At the largest rank they are as large as the covariance.
        """
        return LevelLoad(0, 3, geometry.columns**3 // 3)

    def reads(self, geometry: Geometry, before: Sequence[Floats]) -> Floats:
        """The core reads of every kernel value what the first layer makes."""
        if len(before) > 1:
            return self.inner(*before)
        (first,) = before
        values = prod(geometry.kernel)
        groups, in_front, channels = first.shape
        split = first.reshape(groups, in_front, 1, channels, 1)
        at_values = split * np.eye(values).reshape(1, 1, values, 1, values)
        return at_values.reshape(groups, in_front * values, -1)

    def first_metric(self, geometry: Geometry, covariance: Floats) -> Floats:
        """That of the channels of one kernel value, averaged over the values."""
        values = prod(geometry.kernel)
        split = covariance.reshape(-1, values, len(covariance) // values, values)
        return np.asarray(np.einsum("cvdv->cd", split) / values)

    def inner(self, first: Reals, *further: Reals) -> Reals:
        """(groups, r, c * kernel values) of (groups, p, c) and (groups, r, p * kernel values)."""
        by_value = core_by_value(further[0], first.shape[1])
        groups, width, values, _ = by_value.shape
        mixed = (by_value.reshape(groups, width * values, -1) @ first).reshape(
            groups, width, values, -1
        )
        return np.ascontiguousarray(mixed.transpose(0, 1, 3, 2)).reshape(groups, width, -1)

    def inner_slopes(self, slope: Reals, first: Reals, *further: Reals) -> list[Reals]:
        """With respect to the first factor and the core."""
        (core,) = further
        groups, in_front, channels = first.shape
        by_value = core_by_value(core, in_front)
        slope_by_value = core_by_value(slope, channels)
        rows = groups, -1, channels
        first_slope = by_value.reshape(groups, -1, in_front).transpose(0, 2, 1) @ (
            slope_by_value.reshape(rows)
        )
        core_slope = slope_by_value.reshape(rows) @ first.transpose(0, 2, 1)
        turned = core_slope.reshape(by_value.shape).transpose(0, 1, 3, 2)
        return [first_slope, np.ascontiguousarray(turned).reshape(core.shape)]

    def balanced(self, *matrices: Floats) -> tuple[Floats, ...]:
        """Both sides of the core depend on each other: fixed-point steps on squares of norms."""
        first, core, second = matrices
        squares = np.sum(core_by_value(core, first.shape[1]) ** 2, axis=2)  # (groups, r, p)
        before, after = np.sum(first**2, axis=2), np.sum(second**2, axis=1)
        # Squares of what the first factor's rows and the second one's columns are multiplied with.
        rows, columns = np.ones_like(before), np.ones_like(after)
        for _ in range(_SWEEPS):
            rows = np.sqrt(ratio(before, np.sum(squares / columns[:, :, None], axis=1)))
            columns = np.sqrt(ratio(after, np.sum(squares / rows[:, None, :], axis=2)))
        rows, columns = np.sqrt(rows), np.sqrt(columns)
        split = core.reshape(*squares.shape, -1)
        scaled = split / rows[:, None, :, None] / columns[:, :, None, None]
        return (
            first * rows[:, :, None],
            scaled.reshape(core.shape),
            second * columns[:, None, :],
        )
