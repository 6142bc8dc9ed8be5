"""Moments for a regression: of an input z, and of z with a target that the original gives."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from onnx_relusv.records import Block, Floats, LinearMap, ReadOnlyArrays
from onnx_relusv.runtime.moment_kernels import fit_kernel
from onnx_relusv.runtime.session import as_array, as_value
from onnx_relusv.spectra.sampling import Sampling


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

    t is Wx, and behind a shortcut Wx + s - s', s being what is added to the answer in the original
    network and s' in the compressed one: so the sum is what is fitted.

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
        seen: Seen,
        rng: np.random.Generator,
        provider: str,
    ) -> None:
        """Adds the real samples of a batch."""
        draw = self._sampling.draw(seen.delivered.shape, seen.real, seen.size, rng)
        feeds = {"x": as_value(seen.delivered), "y": as_value(seen.original), **draw.feeds}
        if seen.shortcut is not None:
            exact, delivered = (
                self._sampling.answers(values, draw, seen.real).astype(np.float32)
                for values in seen.shortcut
            )
            feeds["shift"] = exact - delivered
        kernel = fit_kernel(
            provider, self._is_conv, feeds["x"].element_type(), seen.shortcut is not None
        )
        result = kernel.run_on_device(
            {**feeds, "weight": self._weight, **self._sums}, [f"new_{name}" for name in self._sums]
        )
        self._sums = {name: result[f"new_{name}"] for name in self._sums}
        self.rows += draw.rows

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
