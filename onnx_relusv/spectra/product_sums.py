"""Sums of products of patches, in float64."""

from typing import Any

import numpy as np
import scipy.linalg

from onnx_relusv.records import Floats
from onnx_relusv.runtime.graph_parts import DOUBLE, FLOAT
from onnx_relusv.runtime.moment_kernels import products_kernel
from onnx_relusv.runtime.session import CPU, as_array, on_device


class ProductSums:
    """The running sums of z, zz' and tz' over patches z with targets t.

    On a GPU the products are made and added up where they are. On the CPU it is BLAS that adds
    them up, in place, of a symmetric product one half, which no graph can.

    Args:
        groups: Groups.
        columns: Length of z.
        rows: Length of t; 0 without targets.
        provider: Execution provider.
    """

    def __init__(self, groups: int, columns: int, rows: int, provider: str) -> None:
        self._provider = provider
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
        for total, cross, own, wanted in zip(self._total, self._cross, z, target, strict=True):
            exact = own.astype(np.float64)
            scipy.linalg.blas.dsyrk(1.0, exact.T, beta=1.0, c=total.T, lower=1, overwrite_c=1)
            cross += wanted.astype(np.float64).T @ exact

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
