"""How well what is left of a block's units tells its consumers what all units told them.

    E e'Se,    e = B phi(Lz + b') + c - phi(Wx + b),

with one row of e for every unit of the whole block, L and b' of the units that are left, and S the
consumers' Gram matrix. B and c stand for the consumers: whatever a linear map of the kept units
makes of the removed ones, they will be fitted to. Moved together with them, the kept units need
not stay what they were: they become those from which all of them follow best. Our reading: what
neuron merging does for one pair of layers (Kim, Kim, Park, Kim, "Neuron Merging", NeurIPS 2020),
with the kept units free too, on what really runs through them.
"""

from dataclasses import dataclass

import numpy as np

from onnx_relusv.decisions import Factors
from onnx_relusv.objectives import ROUNDINGS, Slopes, map_feeds, run, slopes_feed, steps_over
from onnx_relusv.records import Activation, Floats, Geometry, ReadOnlyArrays
from onnx_relusv.regression import regression
from onnx_relusv.runtime.refine_kernels import (
    activated_kernel,
    reproduction_error_kernel,
    reproduction_slope_kernel,
)
from onnx_relusv.spectra.product_sums import ProductSums
from onnx_relusv.spectra.target_moments import target_moments
from onnx_relusv.spectra.target_rows import Rows

# Of the mean variance of the kept units, by which B is drawn towards leaving them as they are: from
# nothing, where a few units really tell the others, to what few samples need.
_RIDGES = (1e-9, 1e-4, 1e-2, 1.0)


@dataclass(frozen=True, eq=False, kw_only=True)
class Reproduction(ReadOnlyArrays):
    """E e'Se over rows with the answers of all units, for factors of those that are left.

    Attributes:
        geometry: Of what is left of the block; one group.
        activation: Of the units that are left.
        whole_geometry: Of the whole block.
        whole_activation: Of all its units.
        kept: (kept,) int64, the units that are left.
        importance: (units, units) float64 S.
        provider: Execution provider.
    """

    geometry: Geometry
    activation: Activation
    whole_geometry: Geometry
    whole_activation: Activation
    kept: np.ndarray
    importance: Floats
    provider: str

    def others(self, start: Factors, rows: Rows, selecting: Rows) -> tuple[Floats, ...]:
        """B and c by least squares, with the ridge that is best on the selecting rows."""
        sums = ProductSums(1, len(self.kept), self.whole_geometry.rows, self.provider)
        kernel = activated_kernel(self.provider, clipped=self._clipped)
        for chosen in steps_over(rows):
            found = run(kernel, self._feeds(start, rows, chosen))
            sums.add(found["own_out"], found["target_out"])
        identity = np.eye(self.whole_geometry.rows)[:, self.kept]
        moments = target_moments(sums)
        tried = [regression(identity[None], moments, ridge) for ridge in _RIDGES]
        offered = [(linear.weight[0], linear.bias) for linear in tried]
        return min(offered, key=lambda others: self.value(start, selecting, others))

    def value(self, factors: Factors, rows: Rows, others: tuple[Floats, ...] = ()) -> float:
        """The mean of e'Se."""
        kernel = reproduction_error_kernel(self.provider, clipped=self._clipped)
        total = sum(
            float(run(kernel, self._all_feeds(factors, rows, chosen, others))["loss"])
            for chosen in steps_over(rows)
        )
        return total / max(rows.count, 1)

    def rounding(self, rows: Rows) -> float:
        """A value that rounding alone can make."""
        return ROUNDINGS**2 * float(np.mean(np.sum(rows.target.astype(np.float64) ** 2, axis=2)))

    def slopes(
        self, factors: Factors, rows: Rows, chosen: slice, others: tuple[Floats, ...] = ()
    ) -> Slopes:
        """Half the derivatives of the mean over some rows, for B and c too."""
        kernel = reproduction_slope_kernel(self.provider, clipped=self._clipped)
        found = run(kernel, self._all_feeds(factors, rows, chosen, others))
        count = chosen.stop - chosen.start
        bias, reading, offset = (
            found[f"{name}_slope"][0].astype(np.float64) / count
            for name in ("bias", "reading", "offset")
        )
        map_slope = found["map_slope"] / np.float32(count)
        return Slopes(map_slope, bias.reshape(-1), (reading, offset.reshape(-1)))

    def settled(self, factors: Factors, rows: Rows) -> Factors:
        """The factors: consumers will see all of them."""
        return factors

    @property
    def _clipped(self) -> bool:
        return self.activation.ceiling is not None

    def _feeds(self, factors: Factors, rows: Rows, chosen: slice) -> dict[str, np.ndarray]:
        feeds = map_feeds(self.geometry, factors, rows, chosen)
        feeds["slope"] = slopes_feed(self.activation, self.geometry)
        feeds["whole_slope"] = slopes_feed(self.whole_activation, self.whole_geometry)
        if self._clipped:
            feeds["ceiling"] = np.full((1, 1, 1), self.activation.ceiling)
        return feeds

    def _all_feeds(
        self, factors: Factors, rows: Rows, chosen: slice, others: tuple[Floats, ...]
    ) -> dict[str, np.ndarray]:
        reading, offset = others
        return {
            **self._feeds(factors, rows, chosen),
            "reading": reading[None],
            "offset": offset[None, None],
            "importance": self.importance[None],
        }
