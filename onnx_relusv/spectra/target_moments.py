"""Moments for a regression: of an input z, and of z with a target that another input gives."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from onnx_relusv import forms
from onnx_relusv.decisions import Factors
from onnx_relusv.records import Block, Floats, LinearMap, ReadOnlyArrays
from onnx_relusv.runtime.moment_kernels import fit_kernel
from onnx_relusv.runtime.session import as_array, as_value
from onnx_relusv.spectra.sampling import Sampling


@dataclass(frozen=True, eq=False)
class TargetMoments(ReadOnlyArrays):
    """Moments of z and of t = Wx, none of them centred.

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

    def error(
        self, block: Block, linear: LinearMap, factors: Factors, root: Floats | None
    ) -> float:
        """E|R(Wx + b - Lz - b')|^2, less E|RWx|^2, which no choice changes; R = I if None."""
        composed = forms.compose(factors.form, block.geometry, factors.first, factors.second)
        shift = (linear.bias - factors.bias).reshape(self.target.shape)
        if root is not None:
            weighted = replace(self, cross=root @ self.cross, target=self.target @ root.T)
            return weighted._error(root @ composed, shift @ root.T)
        return self._error(composed, shift)

    def _error(self, composed: Floats, shift: Floats) -> float:
        total = float(np.sum(shift**2))
        for L, second, cross, mean, target, offset in zip(
            composed, self.second, self.cross, self.mean, self.target, shift, strict=True
        ):
            total += float(np.sum((L @ second) * L) - 2 * np.sum(cross * L))
            total += float(2 * offset @ (target - L @ mean))
        return total


class TargetSums:
    """The running sums behind `TargetMoments`, on the device."""

    def __init__(self, block: Block, linear: LinearMap, samples: int) -> None:
        geometry = block.geometry
        groups, rows, columns = linear.weight.shape
        self._is_conv = geometry.kind == "conv"
        self._sampling = Sampling(block, samples)
        self._weight = linear.weight
        self.rows = 0
        self._sums: dict[str, Any] = {
            "total": np.zeros((groups, columns, columns)),
            "sum": np.zeros((groups, columns, 1)),
            "cross": np.zeros((groups, rows, columns)),
            "target_sum": np.zeros((groups, rows, 1)),
        }

    def add(
        self,
        x: np.ndarray,
        z: np.ndarray,
        real: int,
        size: int,
        rng: np.random.Generator,
        provider: str,
    ) -> None:
        """Adds the `real` samples of a batch of `size`: the original's input x, its stand-in z."""
        feeds, rows = self._sampling.feeds(z.shape, real, size, rng)
        values = {"x": as_value(z), "y": as_value(x)}
        kernel = fit_kernel(provider, self._is_conv, values["x"].element_type())
        result = kernel.run_on_device(
            {**values, "weight": self._weight, **self._sums, **feeds},
            [f"new_{name}" for name in self._sums],
        )
        self._sums = {name: result[f"new_{name}"] for name in self._sums}
        self.rows += rows

    def plus(self, other: "TargetSums") -> "TargetSums":
        """The sums of both."""
        both = object.__new__(TargetSums)
        both.rows = self.rows + other.rows
        both._sums = {
            name: as_array(value) + as_array(other._sums[name])
            for name, value in self._sums.items()
        }
        return both

    def means(self) -> TargetMoments:
        """The moments."""
        means = {name: as_array(value) / self.rows for name, value in self._sums.items()}
        return TargetMoments(
            second=means["total"],
            cross=means["cross"],
            mean=means["sum"][:, :, 0],
            target=means["target_sum"][:, :, 0],
            rows=self.rows,
        )
