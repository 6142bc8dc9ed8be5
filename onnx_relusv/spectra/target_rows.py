"""Patches of what the compressed network delivers to a block, with the original's answers."""

from dataclasses import dataclass

import numpy as np

from onnx_relusv.records import Block, LinearMap, ReadOnlyArrays
from onnx_relusv.runtime.refine_kernels import rows_kernel
from onnx_relusv.runtime.session import as_value
from onnx_relusv.spectra.sampling import Sampling
from onnx_relusv.spectra.target_moments import Seen


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

    def at(self, places: np.ndarray) -> "Rows":
        """Some of them, in the order in which they are named."""
        shift = None if self.shift is None else self.shift[:, places]
        return Rows(self.z[:, places], self.target[:, places], shift)


class TargetRows:
    """Collects patches with their targets, batch by batch.

    Args:
        block: The block.
        linear: Its linear map.
        samples: How many samples there are in all.
        most: About how many patches are taken of them.
    """

    def __init__(self, block: Block, linear: LinearMap, samples: int, most: int) -> None:
        self._is_conv = block.geometry.kind == "conv"
        self._sampling = Sampling(block, samples, most)
        self._weight = linear.weight.astype(np.float32)
        groups, rows, _ = linear.weight.shape
        self._bias = linear.bias.reshape(groups, rows, 1).astype(np.float32)
        self._z: list[np.ndarray] = []
        self._target: list[np.ndarray] = []
        self._shift: list[np.ndarray] = []

    def add(self, seen: Seen, rng: np.random.Generator, provider: str) -> None:
        """Adds patches of the real samples of a batch."""
        draw = self._sampling.draw(seen.delivered.shape, seen.real, seen.size, rng)
        values = {"x": as_value(seen.delivered), "y": as_value(seen.original)}
        kernel = rows_kernel(provider, self._is_conv, values["x"].element_type())
        found = kernel.run_on_device(
            {**values, "weight": self._weight, "bias": self._bias, **draw.feeds}, ["z", "target"]
        )
        target = found["target"].numpy()
        if seen.shortcut is not None:
            exact, delivered = (
                self._sampling.answers(values, draw, seen.real).astype(np.float32)
                for values in seen.shortcut
            )
            target = target + exact
            self._shift.append(delivered)
        self._z.append(found["z"].numpy())
        self._target.append(target)

    def rows(self) -> Rows:
        """All of them; one at least was added."""
        shift = np.concatenate(self._shift, axis=1) if self._shift else None
        return Rows(np.concatenate(self._z, axis=1), np.concatenate(self._target, axis=1), shift)
