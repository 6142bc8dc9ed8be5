"""Patches that stream by: float64 sums of products, sketches of wide covariances, and kept rows.

`ProductSums` adds up whole square arrays. `CovarianceSketch` does without one, by frequent
directions (Liberty 2013; Ghashami, Liberty, Phillips, Woodruff 2016): rows are collected, and
whenever there are twice as many as `terms`, the collection is replaced by its `terms` leading
singular directions, each shortened by as much as the next one is long. With X the centred rows and
F the factor that remains,

    0 <= X'X - F'F <= |X - X_k|_F^2 / (terms - k)    for every k < terms,

X_k being the best approximation of rank k. What is missing on the diagonal, which is never
negative, is added to it, so that every column keeps its own variance. With no more than twice as
many rows as terms nothing is lost.

`TargetMoments` and `Rows` are of patches in the compressed network, with the targets of a fit.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.linalg

from onnx_relusv.core.blocks import FactoredCovariance, Floats, ReadOnlyArrays
from onnx_relusv.runtime.kernels.moments import products_kernel
from onnx_relusv.runtime.kernels.parts import DOUBLE, FLOAT
from onnx_relusv.runtime.providers import kernels_on
from onnx_relusv.runtime.session import CPU, as_array, on_device
from onnx_relusv.work.executors import threads_for

# Rows for every direction that a sketch keeps, which are enough to determine it.
ROWS_A_TERM = 4


class CovarianceSketch:
    """The running sketch of one group's rows.

    Args:
        columns: Length of a row.
        terms: How many directions are kept at least.
    """

    def __init__(self, columns: int, terms: int) -> None:
        self._terms = terms
        # Grows with the rows, which may be few.
        self._rows: list[Floats] = []
        self._collected = 0
        self._mean = np.zeros(columns)
        self._scatter = np.zeros(columns)
        self.count = 0

    def add(self, rows: np.ndarray) -> None:
        """Adds rows, (n, columns) float32 or float64."""
        for start in range(0, len(rows), self._terms):
            self._add_few(rows[start : start + self._terms].astype(np.float64))

    def _add_few(self, rows: Floats) -> None:
        centre, before = rows.mean(axis=0), self.count
        self.count += len(rows)
        rows -= centre
        # The scatter of all is that of both parts and of the distance of their means.
        step = np.sqrt(before * len(rows) / self.count) * (centre - self._mean)
        self._mean += (centre - self._mean) * len(rows) / self.count
        if before:
            rows = np.vstack([rows, step])
        self._scatter += np.einsum("nc,nc->c", rows, rows)
        self._rows.append(rows)
        self._collected += len(rows)
        if self._collected > 2 * self._terms:
            self._shorten()

    def _shorten(self) -> None:
        gathered = np.vstack(self._rows)
        self._rows.clear()
        squares, vectors = np.linalg.eigh(gathered @ gathered.T)
        squares, vectors = squares[::-1], vectors[:, ::-1]
        kept = squares[: self._terms]
        shortened = np.maximum(kept - max(squares[self._terms], 0.0), 0.0)
        # With G = UD^2U', the directions are D^(-1)U'X; a direction of no length is none.
        some = kept > np.finfo(np.float64).eps * squares[0]
        share = np.sqrt(shortened[some] / kept[some])
        self._rows.append((vectors[:, : self._terms][:, some] * share).T @ gathered)
        self._collected = len(self._rows[0])

    def finished(self) -> tuple[Floats, FactoredCovariance]:
        """The mean, (columns,), and the covariance; the sketch is used up."""
        factor = np.vstack(self._rows) if self._rows else np.zeros((0, len(self._mean)))
        self._rows.clear()
        factor /= np.sqrt(max(self.count, 1))
        lost = self._scatter / max(self.count, 1) - np.einsum("nc,nc->c", factor, factor)
        return self._mean, FactoredCovariance(factor, np.maximum(lost, 0.0))


class ProductSums:
    """The running sums of z, zz' and tz' over patches z with targets t.

    On a GPU the products are made and added up on the device. On the CPU BLAS adds them up in
    place, of a symmetric product one half, which no graph can.

    Args:
        groups: Groups.
        columns: Length of z.
        rows: Length of t; 0 without targets.
        provider: Execution provider.
    """

    def __init__(self, groups: int, columns: int, rows: int, provider: str) -> None:
        self._provider = provider = kernels_on(provider)
        self._sum = np.zeros((groups, columns))
        self._target_sum = np.zeros((groups, rows))
        # Of each group's, which is stored column by column, only the lower half is made up.
        self._total = np.zeros((groups, columns, columns))
        self._cross = np.zeros((groups, rows, columns))
        self._values = {}
        if provider != CPU:
            self._values = {
                "total": on_device(self._total, provider),
                "cross": on_device(self._cross, provider),
            }
        self.rows = 0

    def add(self, z: np.ndarray, target: np.ndarray) -> None:
        """Adds patches.

        Args:
            z: (groups, n, columns) float32 or float64.
            target: (groups, n, rows), likewise; empty without targets.
        """
        self.rows += z.shape[1]
        self._sum += z.sum(axis=1, dtype=np.float64)
        self._target_sum += target.sum(axis=1, dtype=np.float64)
        if self._provider != CPU:
            self._add_on_device(z, target)
            return
        each = zip(self._total, self._cross, z, target, strict=True)
        with threads_for(z.shape[1] * z.shape[2] * max(z.shape[2], target.shape[2])):
            for total, cross, patches, targets in each:
                exact = patches.astype(np.float64)
                scipy.linalg.blas.dsyrk(1.0, exact.T, beta=1.0, c=total.T, lower=1, overwrite_c=1)
                cross += targets.astype(np.float64).T @ exact

    def _add_on_device(self, z: np.ndarray, target: np.ndarray) -> None:
        kernel = products_kernel(self._provider, DOUBLE if z.dtype == np.float64 else FLOAT)
        # The sums are added to where they are: they are the largest thing here.
        into: dict[str, Any] = {f"new_{name}": value for name, value in self._values.items()}
        kernel.run_on_device({"z": z, "t": target, **self._values}, list(into), into)

    def means(self) -> tuple[Floats, Floats, Floats, Floats]:
        """E z, E zz', E t and E tz'; the sums are used up.

        Returns:
            (groups, columns), (groups, columns, columns), (groups, rows), (groups, rows, columns).
        """
        total, cross = self._total, self._cross
        if self._provider != CPU:
            total, cross = (as_array(self._values[name]) for name in ("total", "cross"))
            self._values = {}
        else:
            for group in total:
                for place, row in enumerate(group):
                    row[:place] = group[:place, place]
        for sums in (total, cross, self._sum, self._target_sum):
            sums /= self.rows
        return self._sum, total, self._target_sum, cross


@dataclass(frozen=True, eq=False)
class Seen(ReadOnlyArrays):
    """What a block sees of a batch.

    Attributes:
        original: Its input in the original network, x.
        delivered: Its input in the compressed network, z.
        real: How many samples of the batch count; the rest pads a fixed batch.
        size: How many it has.
        shortcut: What is added to its answer, in the original and in the compressed network; None
            where nothing is.
    """

    original: np.ndarray
    delivered: np.ndarray
    real: int
    size: int
    shortcut: tuple[np.ndarray, np.ndarray] | None = None


@dataclass(frozen=True, eq=False)
class TargetMoments(ReadOnlyArrays):
    """Moments of z and of the target t, none of them centred.

    t is Wx + b, and behind a shortcut Wx + b + s - s', s being what is added to the answer in the
    original network and s' in the compressed one: so the sum is what is fitted.

    Attributes:
        second: (groups, columns, columns) float64, E zz'.
        cross: (groups, rows, columns) float64, E tz'.
        mean: (groups, columns) float64, E z.
        target: (groups, rows) float64, E t.
        rows: How many patches or vectors they are means of.
    """

    second: Floats
    cross: Floats
    mean: Floats
    target: Floats
    rows: int


def target_moments(sums: ProductSums) -> TargetMoments:
    """The moments that sums with targets hold; the sums are used up."""
    mean, second, target, cross = sums.means()
    return TargetMoments(second=second, cross=cross, mean=mean, target=target, rows=sums.rows)


@dataclass(frozen=True, eq=False)
class Rows(ReadOnlyArrays):
    """Patches and targets in memory.

    Attributes:
        z: (groups, n, columns) float32, patches of the delivered input.
        target: (groups, n, rows) float32, the original's Wx + b, with what its shortcut adds.
        shift: (groups, n, rows) float32, what the compressed network's shortcut adds; None where
            there is none.
    """

    z: np.ndarray
    target: np.ndarray
    shift: np.ndarray | None

    @property
    def count(self) -> int:
        """How many."""
        return int(self.z.shape[1])

    @property
    def missing(self) -> np.ndarray:
        """(groups, n, rows) float32: the part of the target that the block itself has to answer."""
        return self.target if self.shift is None else self.target - self.shift

    def at(self, places: np.ndarray) -> "Rows":
        """Some of them, in the order in which they are named."""
        shift = None if self.shift is None else self.shift[:, places]
        return Rows(self.z[:, places], self.target[:, places], shift)


class CollectedRows:
    """Rows that are kept in memory, batch by batch."""

    def __init__(self) -> None:
        self._parts: list[Rows] = []

    def add(self, rows: Rows, most: int, rng: np.random.Generator) -> None:
        """Adds rows of a batch, or where there are more of them than `most`, so many of them."""
        if rows.count > most:
            rows = rows.at(np.sort(rng.choice(rows.count, most, replace=False)))
        self._parts.append(rows)

    def rows(self) -> Rows:
        """All of them; some were added. They are kept here no longer."""
        parts, self._parts = self._parts, []
        shifts = [part.shift for part in parts if part.shift is not None]
        return Rows(
            np.concatenate([part.z for part in parts], axis=1),
            np.concatenate([part.target for part in parts], axis=1),
            np.concatenate(shifts, axis=1) if shifts else None,
        )
