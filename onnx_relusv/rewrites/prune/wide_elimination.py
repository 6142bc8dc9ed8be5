"""Elimination where a reading's covariance is factored, and no square array of its columns fits.

With C = F'F + D on the kept columns K, E = F D^(-1/2), W scaled likewise, and M = I + E_K E_K',
Woodbury's identity gives what elimination needs in these coordinates, in which D is the identity:

    P = C^(-1) = I - E_K' M^(-1) E_K,    B = W_K + Y M^(-1) E_K,    Y = W_R E_R',

R being what is gone; removing units changes M and Y alone, which have few rows. All units' costs
are computed anew from time to time. In between only the cheapest of them, a pool whose square
arrays are small, are candidates, and followed exactly: of P and G = B'B, removal changes the pool's
part by that part alone. So every figure is exact, and the order is greedy among the pool.
"""

from collections.abc import Iterator
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import scipy.linalg

from onnx_relusv.core.blocks import FactoredCovariance, Floats

NONE_LEFT = -1
# Columns of a pool, and of the columns that are looked at side by side.
POOL_COLUMNS, _CHUNK = 2048, 8192
# Beyond so many rows, singular values are taken as so many equal ones as fit their first moments.
_LARGEST_GRAM = 6000

Columns = npt.NDArray[np.int64]


class FactoredElimination:
    """What is followed of a reading with a factored covariance.

    Args:
        weight: (rows, columns) float64.
        covariance: Of the columns.
        units: (columns,) int64: the unit of each, `NO_UNIT` for none.
        count: How many units there are.

    Attributes:
        costs: (units,) float64: what each unit costs, as of the last `refresh`.
    """

    def __init__(
        self, weight: Floats, covariance: FactoredCovariance, units: Columns, count: int
    ) -> None:
        self._weight = weight
        self._root = np.sqrt(covariance.diagonal)
        self._factor = covariance.factor / self._root
        self._members = _members(units, count)
        self._fixed = np.flatnonzero(units == NONE_LEFT)
        self._gone = np.zeros((len(weight), len(self._factor)))
        self._alive = np.array([len(own) > 0 for own in self._members], np.bool_)
        self.costs = np.zeros(count)
        self._last: tuple[Floats, bool] | None = None

    def columns(self, unit: int) -> int:
        """How many columns a unit has that is not gone."""
        return len(self._members[unit]) if self._alive[unit] else 0

    def remove(self, unit: int) -> None:
        """Takes a unit away; the others' costs are those of before."""
        if self._alive[unit]:
            own = self._members[unit]
            self._gone += self._scaled(own) @ self._factor[:, own].T
            self._alive[unit] = False
            self._last = None
        self.costs[unit] = 0.0

    def refresh(self) -> None:
        """Computes the costs of all units that are left."""
        told = self._told()
        for units in self._chunks(np.flatnonzero(self._alive)):
            members = np.stack([self._members[unit] for unit in units])
            inner, best = self._inner_and_best(members.reshape(-1), told)
            self.costs[units] = self._costs(members, inner, best, told)

    def pool(self, units: Columns) -> tuple[Floats, Floats, Columns]:
        """P and G of some units' columns, and the unit of each of these columns."""
        own = [self._members[unit] for unit in units if self._alive[unit]]
        columns = np.concatenate([*own, np.zeros(0, np.int64)])
        inner, best = self._inner_and_best(columns, self._told())
        inverse = np.eye(len(columns)) - self._factor[:, columns].T @ inner
        belonging = np.concatenate(
            [np.full(len(self._members[u]), u) for u in units if self._alive[u]]
            or [np.zeros(0, np.int64)]
        )
        return (inverse + inverse.T) / 2, best.T @ best, belonging

    def _scaled(self, columns: Columns) -> Floats:
        return np.asarray(self._weight[:, columns] * self._root[columns])

    def _told(self) -> tuple[Floats, bool]:
        """The lower Cholesky factor of M, of what is kept."""
        if self._last is None:
            self._last = self._factored()
        return self._last

    def _factored(self) -> tuple[Floats, bool]:
        M = np.eye(len(self._factor))
        kept = [self._fixed, *(self._members[unit] for unit in np.flatnonzero(self._alive))]
        columns = np.concatenate(kept)
        for start in range(0, len(columns), _CHUNK):
            part = self._factor[:, columns[start : start + _CHUNK]]
            M += part @ part.T
        return np.asarray(np.linalg.cholesky(M)), True

    def _inner_and_best(self, columns: Columns, told: tuple[Floats, bool]) -> tuple[Floats, Floats]:
        """M^(-1) E and B of some of the kept columns."""
        inner = scipy.linalg.cho_solve(told, self._factor[:, columns], check_finite=False)
        return inner, self._scaled(columns) + self._gone @ inner

    def _costs(
        self, members: Columns, inner: Floats, best: Floats, told: tuple[Floats, bool]
    ) -> Floats:
        """tr(B_u P_uu^(-1) B_u') of units of equal size, with as small systems as there are.

        Args:
            members: (units, size) columns.
            inner: (terms, units * size) M^(-1) E of these.
            best: (rows, units * size) B, likewise.
            told: The Cholesky factor of M.
        """
        count, size = members.shape
        E, inner, best = (
            values.reshape(len(values), count, size).transpose(1, 0, 2)
            for values in (self._factor[:, members.reshape(-1)], inner, best)
        )
        if size <= E.shape[1]:
            inverse = np.eye(size) - E.transpose(0, 2, 1) @ inner
            costs = np.trace(
                np.linalg.solve(inverse, best.transpose(0, 2, 1) @ best), axis1=1, axis2=2
            )
        else:
            # P_uu^(-1) = I + E_u' (M - E_u E_u')^(-1) E_u.
            seen = best @ E.transpose(0, 2, 1)
            others = told[0] @ told[0].T - E @ E.transpose(0, 2, 1)
            further = np.linalg.solve(others, seen.transpose(0, 2, 1) @ seen)
            costs = np.sum(best**2, axis=(1, 2)) + np.trace(further, axis1=1, axis2=2)
        return np.asarray(np.maximum(costs, 0.0))

    def _chunks(self, units: Columns) -> Iterator[Columns]:
        """Units of equal size, so many at a time that their columns are looked at side by side."""
        sizes = np.array([len(self._members[unit]) for unit in units], np.int64)
        for size in np.unique(sizes).tolist():
            alike = units[sizes == size]
            for start in range(0, len(alike), max(1, _CHUNK // size)):
                yield alike[start : start + max(1, _CHUNK // size)]


class FactoredLoss:
    """What a reading with a factored covariance loses with the first units of an order.

    Args:
        weight: (rows, columns) float64.
        covariance: Of the columns.
        ages: (columns,) int64: when each goes; as many as there are units where it stays.
    """

    def __init__(self, weight: Floats, covariance: FactoredCovariance, ages: Columns) -> None:
        self._weight, self._ages = weight, ages
        self._root = np.sqrt(covariance.diagonal)
        self._factor = covariance.factor / self._root

    def values(self, gone: int) -> Floats:
        """Singular values of W_R S^(1/2), S the covariance of what the kept columns do not tell.

        With the scaled covariance I + E'E, S = I + E_R' M^(-1) E_R, and a root of it is
        [I, E_R' L^(-T)], L the Cholesky factor of M.
        """
        removed = np.flatnonzero(self._ages < gone)
        M, seen = np.eye(len(self._factor)), np.zeros((len(self._weight), len(self._factor)))
        kept = np.flatnonzero(self._ages >= gone)
        for start in range(0, len(kept), _CHUNK):
            part = self._factor[:, kept[start : start + _CHUNK]]
            M += part @ part.T
        gram = None if len(removed) < len(self._weight) else np.zeros((len(self._weight),) * 2)
        for start in range(0, len(removed), _CHUNK):
            own = removed[start : start + _CHUNK]
            scaled = self._weight[:, own] * self._root[own]
            seen += scaled @ self._factor[:, own].T
            if gram is not None:
                gram += scaled @ scaled.T
        told = scipy.linalg.solve_triangular(np.linalg.cholesky(M), seen.T, lower=True).T
        if gram is None:
            lost = np.hstack([self._weight[:, removed] * self._root[removed], told])
            gram = lost @ lost.T if len(lost) <= lost.shape[1] else lost.T @ lost
        else:
            gram += told @ told.T
        return _roots(gram)


def _roots(gram: Floats) -> Floats:
    """The roots of the eigenvalues of a Gram matrix, or as many equal ones where it is large."""
    if len(gram) <= _LARGEST_GRAM:
        return np.sqrt(np.maximum(scipy.linalg.eigvalsh(gram), 0.0))
    trace, square = float(np.trace(gram)), float(np.einsum("ij,ij->", gram, gram))
    if trace <= 0:
        return np.zeros(1)
    count = int(np.clip(round(trace**2 / square), 1, len(gram)))
    return np.full(count, np.sqrt(trace / count))


def _members(units: Columns, count: int) -> list[Columns]:
    """The columns of every unit."""
    order = np.argsort(units, kind="stable")
    edges = np.searchsorted(units[order], np.arange(count + 1))
    return [order[start:end] for start, end in pairwise(edges)]
