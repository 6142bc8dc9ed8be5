"""The order in which a group's units go, and what the kept ones cannot reproduce.

A consumer computes Wx of an input x with covariance C. If the units R are removed, the best linear
answer from the kept ones K misses W_R r, r being what of x_R does not follow linearly from x_K; its
covariance is the Schur complement. With P the inverse of C on what is kept and B the best map of it
(B = W at first), removing one unit u, with its columns u, costs

    tr(B_u P_uu^(-1) B_u')

more, and then B becomes B - B_u P_uu^(-1) P_u:, P becomes P - P_:u P_uu^(-1) P_u:. That is the
exact cost, not an approximation; the order is greedy, cheapest first (backward elimination of
blocks of columns; the optimal brain surgeon of Hassibi, Stork (1993) for a quadratic error). One
order is nested, and serves all cuts. A unit that the others reproduce costs nothing.

Of B nothing is needed but G = B'B. With P_uu = LL', Z = P_:u L^(-T) and
A = G_:u L^(-T) - Z L^(-1) G_uu L^(-T) / 2, the two become P - ZZ' and G - AZ' - ZA', and only their
blocks on the diagonal are needed at once; the rest is made up for many units at a time.

A wide reading, whose covariance is factored, is followed without these square arrays
(wide_elimination).

A wide reading by units and by positions: its covariance as a Kronecker product.

Columns of a Conv's patch, and of a Gemm behind a Flatten, are (channel, position). Where their
covariance is factored, it is taken for the order of the units as C_channels (x) C_positions: the
covariance of the channels, averaged over the positions, and of the positions, averaged over the
channels and scaled to a mean variance of 1. Then with C_positions = KK' every position is a reading
of its own of the weight W (I (x) K), all with the one covariance of the channels, which is small.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Annotated

import numpy as np
import numpy.typing as npt
import scipy.linalg

from onnx_relusv.core.blocks import Covariance, FactoredCovariance, Floats, ReadOnlyArrays
from onnx_relusv.core.codec import Axes, Limits
from onnx_relusv.rewrites.prune.wide_elimination import (
    NONE_LEFT,
    POOL_COLUMNS,
    FactoredElimination,
    FactoredLoss,
)
from onnx_relusv.spectra.mean_widths import width_of

# Counts at which widths are computed; in between, their ratio to the Frobenius norm is.
_RUNGS = 8
# Columns that are removed before the matrices are made up.
_WAITING = 192

Columns = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Reading(ReadOnlyArrays):
    """A weight that reads units, and the moments of what it reads.

    Attributes:
        weight: (rows, columns) float64, weighted by what its answers count.
        covariance: (columns, columns) float64, centred and positive definite; factored where there
            are very many columns.
        units: (columns,) int64: the unit that each column belongs to, `NO_UNIT` for none.
        varies: (columns,) bool: whether what a column reads varies at all, as far as is known.
        positions: How many rows, one behind the other, are what one row of a wide weight makes of
            different positions.
    """

    weight: Floats
    covariance: Covariance
    units: Columns
    varies: npt.NDArray[np.bool_]
    positions: int = 1


@dataclass(frozen=True, eq=False)
class Elimination(ReadOnlyArrays):
    """A nested order of a group's units.

    Attributes:
        order: (units,) int64, the first to go first.
        levels: (units + 1,) float64: w(W R^(1/2)) / w(W C^(1/2)) once so many are gone, all
            readings' weights stacked; from 0, with none gone, and never decreasing.
    """

    order: Annotated[Columns, Axes(("units",))]
    levels: Annotated[Floats, Limits(least=0)]

    def problem(self) -> str | None:
        """What is wrong with it as a whole."""
        units = len(self.order)
        if self.levels.shape != (units + 1,):
            return f"{units} units and {self.levels.shape} levels."
        complete = np.array_equal(np.sort(self.order), np.arange(units))
        return None if complete else "its order is none of all units."


def eliminate(
    readings: Sequence[Reading],
    count: int,
    first: Sequence[int] = (),
    pool_columns: int = POOL_COLUMNS,
) -> Elimination:
    """Orders units by what the others cannot reproduce of them, as their consumers see it.

    Args:
        readings: What reads them. Without any, all units are free to go.
        count: Units, numbered from 0.
        first: Units that go before all others, for nothing.
        pool_columns: Of factored readings, how many columns are followed exactly at a time.
    """
    states = [_state(reading, count, pool_columns) for reading in readings]
    wide = [state for state in states if isinstance(state, _WideState)]
    costs = sum((state.costs for state in states), np.zeros(count))
    alive = np.ones(count, np.bool_)
    order: list[int] = []
    energies = [0.0]
    pool = _Pool(states, wide, count)
    for step in range(count):
        if step < len(first):
            unit = first[step]
        else:
            offered, costs = pool.offered(alive, costs)
            unit = int(np.argmin(np.where(offered, costs, np.inf)))
        order.append(unit)
        alive[unit] = False
        energies.append(energies[-1] + (0.0 if step < len(first) else float(costs[unit])))
        for state in states:
            state.remove(unit)
        costs = sum((state.costs for state in states), np.zeros(count))
    found = np.array(order, np.int64)
    rungs = np.unique(np.linspace(len(first), count, _RUNGS + 1).round().astype(int))
    losses = [_loss(reading, found) for reading in readings]
    widths = {int(gone): _width(losses, gone) for gone in rungs if gone > len(first)}
    return Elimination(found, _levels(np.array(energies), widths))


def _state(reading: Reading, count: int, pool_columns: int) -> "_State | _WideState":
    # What stays for good is never asked for, so it need not be followed.
    read = reading.units != NONE_LEFT
    if isinstance(reading.covariance, FactoredCovariance):
        return _WideState(reading, count, pool_columns)
    inverse = scipy.linalg.inv(reading.covariance, check_finite=False)[np.ix_(read, read)]
    W = reading.weight[:, read]
    return _State((inverse + inverse.T) / 2, W.T @ W, reading.units[read], count)


class _Pool:
    """Which units are candidates: all, or where readings are wide the cheapest ones."""

    def __init__(
        self, states: Sequence["_State | _WideState"], wide: Sequence["_WideState"], count: int
    ) -> None:
        self._states, self._wide, self._count = states, wide, count
        self._left, self._units = 0, np.zeros(count, np.bool_)

    def offered(self, alive: npt.NDArray[np.bool_], costs: Floats) -> tuple[Mask, Floats]:
        """The candidates, and all costs; where half of a pool is gone another one is made."""
        if not self._wide:
            return alive, costs
        if self._left <= 0:
            for state in self._wide:
                state.refresh()
            costs = sum((state.costs for state in self._states), np.zeros(self._count))
            cheapest = np.argsort(np.where(alive, costs, np.inf), kind="stable")
            cheapest = cheapest[: np.count_nonzero(alive)]
            taken = min(state.fitting(cheapest) for state in self._wide)
            self._left = (taken + 1) // 2
            self._units = np.zeros(self._count, np.bool_)
            self._units[cheapest[:taken]] = True
            for state in self._wide:
                state.follow(np.sort(cheapest[:taken]))
        self._left -= 1
        return alive & self._units, costs


class _WideState:
    """A reading with a factored covariance, and the dense state of the pool's columns."""

    def __init__(self, reading: Reading, count: int, pool_columns: int) -> None:
        assert isinstance(reading.covariance, FactoredCovariance)
        self._whole = FactoredElimination(reading.weight, reading.covariance, reading.units, count)
        self._most, self._count = pool_columns, count
        self._pool: _State | None = None
        self._followed = np.zeros(0, np.int64)
        self.costs = np.zeros(count)

    def refresh(self) -> None:
        """Computes the costs of all units."""
        self._whole.refresh()
        self._pool = None
        self.costs = self._whole.costs

    def fitting(self, units: Columns) -> int:
        """How many of the first of some units a pool takes, one at least."""
        held = np.cumsum([self._whole.columns(unit) for unit in units.tolist()])
        return max(1, int(np.count_nonzero(held <= self._most)))

    def follow(self, units: Columns) -> None:
        """Makes some units the pool; of a single one nothing has to be followed."""
        self._followed, self._pool = units, None
        if len(units) > 1:
            self._pool = _State(*self._whole.pool(units), self._count)

    def remove(self, unit: int) -> None:
        """Takes a unit away."""
        self._whole.remove(unit)
        costs = self._whole.costs.copy()
        if self._pool is not None:
            self._pool.remove(unit)
            costs[self._followed] = self._pool.costs[self._followed]
        self.costs = costs


def _levels(energies: Floats, widths: dict[int, float]) -> Floats:
    """Widths at all counts, from those at the rungs and the Frobenius norms, over the largest."""
    norms = np.sqrt(np.maximum(energies, 0))
    places = [place for place in sorted(widths) if norms[place] > 0]
    if not places or widths[places[-1]] <= 0:
        return np.zeros(len(energies))
    ratios = [widths[place] / norms[place] for place in places]
    found = norms * np.interp(np.arange(len(norms)), places, ratios)
    return np.maximum.accumulate(np.minimum(found / widths[places[-1]], 1.0))


def _loss(reading: Reading, order: Columns) -> "_Loss | FactoredLoss":
    age = np.full(len(order), len(order))
    age[order] = np.arange(len(order))
    ages = np.where(reading.units == NONE_LEFT, len(order), age[np.maximum(reading.units, 0)])
    if isinstance(reading.covariance, FactoredCovariance):
        return FactoredLoss(reading.weight, reading.covariance, ages)
    return _Loss(reading.weight, reading.covariance, ages, reading.positions)


def _width(losses: Sequence["_Loss | FactoredLoss"], gone: int) -> float:
    """The mean width of what is lost with the first `gone` units of an order."""
    joined = np.sort(np.concatenate([*(loss.values(gone) for loss in losses), np.zeros(0)]))[::-1]
    return width_of(joined) if joined.any() else 0.0


class _Loss:
    """What a reading loses with the first units of an order, for any number of them.

    With the columns in the opposite order, those that stay for good in front, what is gone stands
    at the end, and its Schur complement is LL', L being the end of the covariance's one Cholesky
    factor.
    """

    def __init__(self, weight: Floats, covariance: Floats, ages: Columns, positions: int) -> None:
        self._ages, self._positions = ages, positions
        places = np.argsort(-self._ages, kind="stable")
        self._weight = weight[:, places]
        self._factor = scipy.linalg.cholesky(
            covariance[np.ix_(places, places)], lower=True, overwrite_a=True
        )

    def values(self, gone: int) -> Floats:
        """Singular values of W_R S^(1/2), S the covariance of what the kept columns do not tell."""
        start = int(np.count_nonzero(self._ages >= gone))
        lost = self._weight[:, start:] @ self._factor[start:, start:]
        lost = lost.reshape(len(lost) // self._positions, -1)
        gram = lost @ lost.T if len(lost) <= lost.shape[1] else lost.T @ lost
        return np.sqrt(np.maximum(scipy.linalg.eigvalsh(gram), 0.0))


@dataclass(frozen=True, eq=False)
class _Blocks:
    """Diagonal blocks of equal size.

    Attributes:
        units: (n,) whose they are.
        members: (n, size): their columns.
        inverse: (n, size, size) of P; the identity once a unit is gone.
        gram: (n, size, size) of G.
    """

    units: Columns
    members: Columns
    inverse: Floats
    gram: Floats

    def change(self, Z: Floats, A: Floats) -> None:
        """Follows P - ZZ' and G - AZ' - ZA'."""
        z, a = Z[self.members], A[self.members]
        cross = a @ z.transpose(0, 2, 1)
        self.inverse[...] -= z @ z.transpose(0, 2, 1)
        self.gram[...] -= cross + cross.transpose(0, 2, 1)

    def drop(self, unit: int) -> None:
        """Lets a unit cost nothing any more."""
        gone = self.units == unit
        self.inverse[gone] = np.eye(self.members.shape[1])
        self.gram[gone] = 0

    def costs(self) -> Floats:
        """(n,) tr(B_u P_uu^(-1) B_u')."""
        if self.members.shape[1] == 1:
            found = self.gram[:, 0, 0] / self.inverse[:, 0, 0]
        else:
            found = np.trace(np.linalg.solve(self.inverse, self.gram), axis1=1, axis2=2)
        return np.asarray(np.maximum(found, 0))


class _State:
    """P and G of a reading, on the columns of units that are left.

    Args:
        inverse: (columns, columns) P; it is changed.
        gram: (columns, columns) G; likewise.
        units: (columns,) the unit of each; likewise.
        count: How many units there are.

    Attributes:
        costs: (units,) float64: what each costs; 0 for those that the reading does not read.
    """

    def __init__(self, inverse: Floats, gram: Floats, units: Columns, count: int) -> None:
        self._inverse = inverse
        self._gram = gram
        self._units = units
        self._count = count
        self._begin()

    def _begin(self) -> None:
        self._blocks = [
            _Blocks(self._units[members[:, 0]], members, *self._diagonal(members))
            for members in _by_size(self._units)
        ]
        # Z and A of the units that went since, side by side, in the first `_waiting` columns.
        most = _WAITING + max((blocks.members.shape[1] for blocks in self._blocks), default=0)
        self._Z, self._A = np.empty((2, most, len(self._units))).transpose(0, 2, 1)
        self._waiting = 0
        self.costs = self._all_costs()

    def _diagonal(self, members: Columns) -> tuple[Floats, Floats]:
        places = members[:, :, None], members[:, None, :]
        return self._inverse[places], self._gram[places]

    def _all_costs(self) -> Floats:
        found = np.zeros(self._count)
        for blocks in self._blocks:
            found[blocks.units] = blocks.costs()
        return found

    def remove(self, unit: int) -> None:
        """Takes a unit away."""
        own = np.flatnonzero(self._units == unit)
        if not len(own):
            return
        P, G = self._inverse[:, own], self._gram[:, own]
        earlier_Z, earlier_A = self._Z[:, : self._waiting], self._A[:, : self._waiting]
        P = P - earlier_Z @ earlier_Z[own].T
        G = G - earlier_A @ earlier_Z[own].T - earlier_Z @ earlier_A[own].T
        factor = np.linalg.cholesky(P[own])
        Z = scipy.linalg.solve_triangular(factor, P.T, lower=True).T
        A = scipy.linalg.solve_triangular(factor, G.T, lower=True).T
        A = A - Z @ (scipy.linalg.solve_triangular(factor, A[own], lower=True)) / 2
        fresh = slice(self._waiting, self._waiting + len(own))
        self._Z[:, fresh], self._A[:, fresh] = Z, A
        self._waiting = fresh.stop
        for blocks in self._blocks:
            blocks.change(Z, A)
            blocks.drop(unit)
        self._units[own] = NONE_LEFT
        if self._waiting >= _WAITING:
            self._make_up()
        else:
            self.costs = self._all_costs()

    def _make_up(self) -> None:
        left = self._units != NONE_LEFT
        Z, A = self._Z[left, : self._waiting], self._A[left, : self._waiting]
        self._units = self._units[left]
        self._inverse = self._inverse[np.ix_(left, left)]
        self._inverse -= Z @ Z.T
        self._gram = self._gram[np.ix_(left, left)]
        self._gram -= np.hstack([A, Z]) @ np.hstack([Z, A]).T
        self._begin()


def _by_size(units: Columns) -> list[Columns]:
    """(units, size) int64 for each number of columns that units have: where these columns are."""
    order = np.argsort(units, kind="stable")
    order = order[units[order] != NONE_LEFT]
    _, starts, sizes = np.unique(units[order], return_index=True, return_counts=True)
    return [order[starts[sizes == size][:, None] + np.arange(size)] for size in np.unique(sizes)]


def separable(reading: Reading, *, always: bool = False) -> Reading:
    """A reading by channels where it is wide and its units have positions; itself otherwise.

    Args:
        reading: The reading.
        always: Whether one that is not wide is taken apart, too.
    """
    covariance, units = reading.covariance, reading.units
    wide = isinstance(covariance, FactoredCovariance)
    if not (wide or always) or not len(units):
        return reading
    edges = np.flatnonzero(np.diff(units, prepend=units[0] - 1, append=units[-1] - 1))
    positions = int(np.gcd.reduce(np.diff(edges)))
    if positions == 1:
        return reading
    channels, places = _apart(covariance, positions)
    root = scipy.linalg.cholesky(places * (positions / np.trace(places)), lower=True)
    weight = reading.weight.reshape(len(reading.weight), -1, positions) @ root
    return replace(
        reading,
        weight=np.asarray(weight.transpose(0, 2, 1).reshape(-1, len(channels))),
        covariance=channels,
        units=units[::positions],
        varies=np.asarray(reading.varies.reshape(-1, positions).any(axis=1)),
        positions=positions,
    )


def _apart(covariance: Covariance, positions: int) -> tuple[Floats, Floats]:
    """The covariance of the channels, averaged over positions, and of these, summed over those."""
    if not isinstance(covariance, FactoredCovariance):
        whole = covariance.reshape(-1, positions, len(covariance) // positions, positions)
        channels = np.einsum("upvp->uv", whole) / positions
        return channels, np.einsum("upuq->pq", whole)
    factor = covariance.factor.reshape(len(covariance.factor), -1, positions)
    own = covariance.diagonal.reshape(-1, positions)
    by_channel = factor.transpose(1, 0, 2).reshape(len(own), -1)
    channels = by_channel @ by_channel.T / positions
    channels[np.diag_indices_from(channels)] += own.mean(axis=1)
    by_position = factor.transpose(2, 0, 1).reshape(positions, -1)
    places = by_position @ by_position.T
    places[np.diag_indices_from(places)] += own.sum(axis=0)
    return channels, places
