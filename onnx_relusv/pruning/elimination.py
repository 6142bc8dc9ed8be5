"""The order in which a group's units go, and what the kept ones cannot reproduce.

A consumer computes Wx of an input x with covariance C. If the units R are removed, the best linear
answer from the kept ones K misses W_R r, r being what of x_R does not follow linearly from x_K; its
covariance is the Schur complement. With P the inverse of C on what is kept and B the best map of it
(B = W at first), removing one unit u, with its columns u, costs

    tr(B_u P_uu^(-1) B_u')

more, and then B becomes B - B_u P_uu^(-1) P_u:, P becomes P - P_:u P_uu^(-1) P_u:. That is the
exact cost, not an approximation; the order is greedy, cheapest first (backward elimination of
blocks of columns; the optimal brain surgeon of Hassibi, Stork (1993) for a quadratic error). One order is
nested, and serves all cuts. A unit that the others reproduce costs nothing, and a duplicate goes.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import scipy.linalg

from onnx_relusv.records import Floats, ReadOnlyArrays
from onnx_relusv.spectra.mean_width import width_of

NO_UNIT = -1
# Counts at which widths are computed; in between, their ratio to the Frobenius norm is.
_RUNGS = 24


@dataclass(frozen=True, eq=False)
class Reading(ReadOnlyArrays):
    """A weight that reads units, and the moments of what it reads.

    Attributes:
        weight: (rows, columns) float64, weighted by what its answers count.
        covariance: (columns, columns) float64, centred and positive definite.
        units: (columns,) int64: the unit that each column belongs to, `NO_UNIT` for none.
    """

    weight: Floats
    covariance: Floats
    units: npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Elimination(ReadOnlyArrays):
    """A nested order of a group's units.

    Attributes:
        order: (units,) int64, the first to go first.
        levels: (units + 1,) float64: w(W R^(1/2)) / w(W C^(1/2)) once so many are gone, all
            readings' weights stacked; from 0, with none gone, and never decreasing.
    """

    order: npt.NDArray[np.int64]
    levels: Floats


def eliminate(readings: Sequence[Reading], count: int) -> Elimination:
    """Orders units by what the others cannot reproduce of them, as their consumers see it.

    Args:
        readings: What reads them. Without any, all units are free to go.
        count: Units, numbered from 0.
    """
    states = [_State(reading, count) for reading in readings]
    alive = np.ones(count, np.bool_)
    order: list[int] = []
    energies, widths = [0.0], {0: 0.0}
    rungs = set(np.unique(np.linspace(0, count, _RUNGS + 1).round().astype(int)).tolist())
    for gone in range(1, count + 1):
        costs = np.where(alive, sum((state.costs() for state in states), np.zeros(count)), np.inf)
        unit = int(np.argmin(costs))
        order.append(unit)
        alive[unit] = False
        for state in states:
            state.remove(unit)
        energies.append(energies[-1] + float(costs[unit]))
        if gone in rungs:
            widths[gone] = _width(states)
    return Elimination(np.array(order, np.int64), _levels(np.array(energies), widths))


def _levels(energies: Floats, widths: dict[int, float]) -> Floats:
    """Widths at all counts, from those at the rungs and the Frobenius norms, over the largest."""
    norms = np.sqrt(np.maximum(energies, 0))
    places = [place for place in sorted(widths) if norms[place] > 0]
    if not places or widths[places[-1]] <= 0:
        return np.zeros(len(energies))
    ratios = [widths[place] / norms[place] for place in places]
    found = norms * np.interp(np.arange(len(norms)), places, ratios)
    return np.maximum.accumulate(np.minimum(found / widths[places[-1]], 1.0))


def _width(states: Sequence["_State"]) -> float:
    squares = np.concatenate([state.squares() for state in states] or [np.zeros(0)])
    return width_of(np.sqrt(np.sort(squares)[::-1])) if squares.any() else 0.0


class _State:
    """A reading on the way: what is kept of it, and what is lost so far."""

    def __init__(self, reading: Reading, count: int) -> None:
        inverse = scipy.linalg.inv(reading.covariance, check_finite=False)
        self._inverse = (inverse + inverse.T) / 2
        # Rows that are combinations of others cost nothing, and few rows are quick.
        self._map = _fewest_rows(reading.weight)
        self._lost = np.zeros((len(self._map), len(self._map)))
        self._units = reading.units
        self._count = count

    def costs(self) -> Floats:
        """(units,) float64: what each costs; 0 for those that this reading does not read."""
        found = np.zeros(self._count)
        for members in _by_size(self._units):
            # (units, size) columns; all blocks of one size at once.
            blocks = self._inverse[members[:, :, None], members[:, None, :]]
            read = self._map[:, members].transpose(1, 2, 0)
            found[self._units[members[:, 0]]] = np.einsum(
                "usr,usr->u", read, np.linalg.solve(blocks, read)
            )
        return found

    def remove(self, unit: int) -> None:
        """Takes a unit away."""
        columns = np.flatnonzero(self._units == unit)
        if not len(columns):
            return
        block = self._inverse[np.ix_(columns, columns)]
        read = self._map[:, columns]
        solved = np.linalg.solve(block, self._inverse[columns])
        self._lost += read @ np.linalg.solve(block, read.T)
        kept = self._units != unit
        self._map = (self._map - read @ solved)[:, kept]
        reduced = self._inverse - self._inverse[:, columns] @ solved
        self._inverse = reduced[np.ix_(kept, kept)]
        self._units = self._units[kept]

    def squares(self) -> Floats:
        """Squares of the singular values of what is lost."""
        return np.maximum(scipy.linalg.eigvalsh(self._lost), 0.0)


def _fewest_rows(weight: Floats) -> Floats:
    """R of the same R'R as W'W, with no more rows than columns."""
    if len(weight) <= weight.shape[1]:
        return weight
    return np.asarray(np.linalg.qr(weight, mode="r"))


def _by_size(units: npt.NDArray[np.int64]) -> list[npt.NDArray[np.int64]]:
    """(units, size) int64 for each number of columns that units have: where these columns are."""
    order = np.argsort(units, kind="stable")
    order = order[units[order] != NO_UNIT]
    _, starts, sizes = np.unique(units[order], return_index=True, return_counts=True)
    return [order[starts[sizes == size][:, None] + np.arange(size)] for size in np.unique(sizes)]
