"""A covariance of very many columns from rows that stream by, without a square array of them.

Frequent directions (Liberty 2013; Ghashami, Liberty, Phillips, Woodruff 2016): rows are collected,
and whenever there are twice as many as `terms`, the collection is replaced by its `terms` leading
singular directions, each shortened by as much as the next one is long. With X the centred rows and
F what is left of them,

    0 <= X'X - F'F <= |X - X_k|_F^2 / (terms - k)    for every k < terms,

X_k being the best approximation of rank k. What is missing on the diagonal, which is never
negative, is added to it, so that every column keeps its own variance. With no more than twice as
many rows as terms nothing is lost.
"""

import numpy as np

from onnx_relusv.records import FactoredCovariance, Floats

# Rows that are enough to tell so many leading directions apart.
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
        left = np.maximum(kept - max(squares[self._terms], 0.0), 0.0)
        # With G = UD^2U', the directions are D^(-1)U'X; a direction of no length is none.
        some = kept > np.finfo(np.float64).eps * squares[0]
        share = np.sqrt(left[some] / kept[some])
        self._rows.append((vectors[:, : self._terms][:, some] * share).T @ gathered)
        self._collected = len(self._rows[0])

    def finished(self) -> tuple[Floats, FactoredCovariance]:
        """The mean, (columns,), and the covariance; the sketch is used up."""
        factor = np.vstack(self._rows) if self._rows else np.zeros((0, len(self._mean)))
        self._rows.clear()
        factor /= np.sqrt(max(self.count, 1))
        lost = self._scatter / max(self.count, 1) - np.einsum("nc,nc->c", factor, factor)
        return self._mean, FactoredCovariance(factor, np.maximum(lost, 0.0))
