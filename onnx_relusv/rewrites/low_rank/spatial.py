"""The spatial form: a 2-D Conv as (kernel rows x 1) to `rank` channels, then (1 x kernel columns).

It separates in another unfolding of the kernel: with the weight as (o, c, y, x), its first factor
is a matrix P of shape (rank, c*y) and its second one Q of shape (o*x, rank). L is a sum over kernel
columns x of Q_x P. P spans the best rank of the unfolded kernel in the covariance of one kernel
column, averaged over the columns; Q is then the least squares answer in the whole C. For C = I both
steps are the plain SVD of the unfolded kernel.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from onnx_relusv.core.blocks import Floats, Geometry
from onnx_relusv.core.linear_algebra import energy, solved
from onnx_relusv.rewrites.low_rank.form import Form, LevelLoad, Nested, Reals, of_width
from onnx_relusv.spectra.singular import Decomposition, decompose, left_basis, spectral_norm


class NestedSpatial(Nested):
    """P is nested, so that the costly products are made once."""

    @cached_property
    def _unfolded(self) -> Floats:
        found: Floats = _unfolded(self.geometry, self.W[None])[0]
        return found

    @cached_property
    def _basis(self) -> tuple[Floats, Floats]:
        """P and a first Q from the unfolded kernel, in the mean covariance of a kernel column.

        With a metric, Q follows from P by least squares, and only the span of P's first k rows
        counts for every k; so they come orthonormal, which a kernel with dead channels would not
        give.
        """
        C = self.C
        column = None if C is None else np.einsum("ixjx->ij", _by_column(self.geometry, C))
        left = left_basis(self._unfolded, column)[:, : self.largest]
        first = left.T @ self._unfolded
        return (first if C is None else np.linalg.qr(first.T)[0].T), left

    @cached_property
    def _seen(self) -> "_Seen":
        assert self.C is not None  # it is needed in a metric alone
        return _Seen.of(self.geometry, self.W, self.C, self._basis[0])

    def at(self, rank: int) -> tuple[Floats, Floats]:
        """P and Q at a rank."""
        first, second = self._basis
        if self.C is None:
            return first[:rank], second[:, :rank]
        seen = self._seen.truncated(self.geometry.kernel[1], rank)
        answer = solved(seen.within, seen.across.T).T
        # (o, x * k) -> (o * x, k), the rows of the second factor.
        return first[:rank], answer.reshape(-1, rank)

    def gaps(self, part: Decomposition, ranks: Sequence[int]) -> Sequence[float]:
        """Of Gram matrices, without factors."""
        return [spectral_norm(gram) for gram in self._grams(ranks)]

    def _grams(self, ranks: Sequence[int]) -> list[Floats]:
        """(W - L) C (W - L)' at several increasing ranks."""
        if self.C is None:
            return self._plain_grams(ranks)
        whole = energy(self.W, self.C)
        grams = []
        for rank in ranks:
            seen = self._seen.truncated(self.geometry.kernel[1], rank)
            # At the least squares answer L C L' = L C W', so the gap is W C W' - L C W'.
            explained = solved(seen.within, seen.across.T)
            grams.append(whole - seen.across @ explained)
        return grams

    def _plain_grams(self, ranks: Sequence[int]) -> list[Floats]:
        """The same for C = I, where it is what the truncated SVD of the unfolded kernel drops.

        With the unfolded kernel's left singular vectors u_j over (o, x), (W - L)(W - L)' is the
        sum over the dropped j of sigma_j^2 u_j u_j', traced over x; summed up from the smallest on.
        """
        rows = self.geometry.rows
        reduced = decompose(self._unfolded).reduced
        scaled = reduced.reshape(rows, self.geometry.kernel[1], -1)
        gram = np.zeros((rows, rows))
        grams: list[Floats] = []
        end = reduced.shape[1]
        for rank in reversed(ranks):
            dropped = scaled[:, :, rank:end].reshape(rows, -1)
            gram = gram + dropped @ dropped.T
            grams.append(gram)
            end = rank
        return grams[::-1]


def _by_column(geometry: Geometry, C: Floats) -> Floats:
    """(c*y, x, c*y, x) view of a covariance of patches in the order (c, y, x)."""
    width = geometry.kernel[1]
    height = geometry.columns // width
    return C.reshape(height, width, height, width)


@dataclass(frozen=True, eq=False)
class _Seen:
    """What least squares for Q needs: S C S' and W C S', S the block diagonal of P over x."""

    within: Floats
    across: Floats

    @staticmethod
    def of(geometry: Geometry, W: Floats, C: Floats, first: Floats) -> "_Seen":
        width, rank = geometry.kernel[1], len(first)
        by_column = _by_column(geometry, C)
        # (x, k, c*y, x'): the inner channels' covariance with every input of the patch.
        inner = np.einsum("ki,ixjz->xkjz", first, by_column, optimize=True)
        within = np.einsum("xkjz,lj->xkzl", inner, first, optimize=True)
        across = W @ inner.reshape(width * rank, geometry.columns).T
        return _Seen(within.reshape(width * rank, width * rank), across)

    def truncated(self, width: int, rank: int) -> "_Seen":
        """The same for the first `rank` rows of P."""
        largest = len(self.within) // width
        keep = (np.arange(width)[:, None] * largest + np.arange(rank)).reshape(-1)
        return _Seen(self.within[np.ix_(keep, keep)], self.across[:, keep])


def _unfolded(geometry: Geometry, weight: Reals) -> Reals:
    groups, (height, width) = len(weight), geometry.kernel
    split = weight.reshape(groups, geometry.rows, -1, height, width)
    moved = split.transpose(0, 1, 4, 2, 3)
    return np.ascontiguousarray(moved).reshape(groups, geometry.rows * width, -1)


class Spatial(Form):
    """Down the kernel's rows, then across its columns."""

    name = "spatial"
    nested = NestedSpatial
    unfolding = "of another unfolding"
    costly = True
    rows_are_outputs = False

    def fits(self, geometry: Geometry) -> bool:
        """There are two axes, both longer than 1."""
        return len(geometry.kernel) == 2 and min(geometry.kernel) > 1

    def layers(self, geometry: Geometry, rank: int) -> tuple[Geometry, ...]:
        """Each has the strides, dilations and pads of its own axis."""
        (height, width), (down, across) = geometry.kernel, geometry.strides
        (row_step, column_step) = geometry.dilations
        top, left, bottom, right = geometry.pads if geometry.pads else (0, 0, 0, 0)
        # auto_pad acts on each axis by itself, and pads one of kernel 1 and stride 1 by nothing.
        columns = replace(
            of_width(geometry, geometry.in_channels // geometry.groups, rank),
            kernel=(height, 1),
            strides=(down, 1),
            dilations=(row_step, 1),
            pads=(top, 0, bottom, 0),
        )
        rows = replace(
            of_width(geometry, rank, geometry.rows),
            kernel=(1, width),
            strides=(1, across),
            dilations=(1, column_step),
            pads=(0, left, 0, right),
        )
        return columns, rows

    def shapes(self, geometry: Geometry, rank: int) -> tuple[tuple[int, int], ...]:
        """P (rank, c*y) and Q (o*x, rank)."""
        columns = geometry.in_channels // geometry.groups * geometry.kernel[0]
        return (rank, columns), (geometry.rows * geometry.kernel[1], rank)

    def largest_rank(self, geometry: Geometry) -> int:
        """The shorter side of the unfolded kernel."""
        (_, columns), (rows, _) = self.shapes(geometry, 1)
        return min(columns, rows)

    def load(self, geometry: Geometry) -> LevelLoad:
        """The covariance in another order, and products, with it and with P."""
        return LevelLoad(
            self.largest_rank(geometry), 2, geometry.columns**3 // (2 * geometry.kernel[1])
        )

    def as_layers(self, geometry: Geometry, matrices: Sequence[Floats]) -> tuple[Floats, ...]:
        """Rows of Q are (output channel, kernel column), its layer's columns (rank, column)."""
        first, second = matrices
        groups, _, rank = second.shape
        split = second.reshape(groups, geometry.rows, geometry.kernel[1], rank)
        return first, split.transpose(0, 1, 3, 2).reshape(groups, geometry.rows, -1)

    def from_layers(self, geometry: Geometry, layers: Sequence[Floats]) -> tuple[Floats, ...]:
        """Back again."""
        first, second = layers
        groups, rank = first.shape[:2]
        split = second.reshape(groups, geometry.rows, rank, geometry.kernel[1])
        return first, split.transpose(0, 1, 3, 2).reshape(groups, -1, rank)

    def reads(self, geometry: Geometry, before: Sequence[Floats]) -> Floats:
        """Of every column of the patch what the first layer makes."""
        (first,) = before
        height, width = geometry.kernel
        groups, rank = first.shape[:2]
        split = first.reshape(groups, rank, 1, -1, height, 1)
        along = split * np.eye(width).reshape(1, 1, width, 1, 1, width)
        return along.reshape(groups, rank * width, -1)

    def first_metric(self, geometry: Geometry, covariance: Floats) -> Floats:
        """That of a column of the patch, averaged over the columns."""
        mean = np.einsum("ixjx->ij", _by_column(geometry, covariance)) / geometry.kernel[1]
        return np.asarray(mean)

    def unfold(self, geometry: Geometry, weight: Reals) -> Reals:
        """(groups, o*x, c*y) of (groups, o, c*y*x)."""
        return _unfolded(geometry, weight)

    def fold(self, geometry: Geometry, matrix: Reals) -> Reals:
        """Back again."""
        groups, (height, width) = len(matrix), geometry.kernel
        split = matrix.reshape(groups, geometry.rows, width, -1, height)
        moved = split.transpose(0, 1, 3, 4, 2)
        return np.ascontiguousarray(moved).reshape(groups, geometry.rows, geometry.columns)
