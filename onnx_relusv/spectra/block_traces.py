"""Records what every sample does in one block, batch by batch."""

from math import prod
from typing import Any

import numpy as np

from onnx_relusv.records import Block, Floats, LinearMap
from onnx_relusv.samples import Batch
from onnx_relusv.spectra.activated_operators import ActivatedOperators, Figures
from onnx_relusv.traces import BlockTrace

# What is recorded of every sample, by the name it has among the figures of operators.
_RECORDED = ("active", "lower", "upper", "width", "largest", "margin")
POSITIONS = 8


class BlockRecorder:
    """The activated operators of one block at the inputs that go through it.

    Where a sample has more than one output position, as in a Conv or in a MatMul on sequences,
    figures are means over 8 positions, or all if there are fewer. The seed draws them once, so all
    samples are measured at the same ones.

    Args:
        block: The block, with an activation.
        linear: Its linear map.
        samples: How many samples will come.
        provider: Execution provider.
        seed: Draws positions.
        exact: Whether mean widths are computed, and not only bounded.
    """

    def __init__(
        self,
        block: Block,
        linear: LinearMap,
        samples: int,
        *,
        provider: str,
        seed: int,
        exact: bool,
    ) -> None:
        self.block = block
        self._is_conv = block.geometry.kind == "conv"
        self._operators = ActivatedOperators(
            linear.weight,
            block.activation,
            is_conv=self._is_conv,
            provider=provider,
            exact=exact,
        )
        self._rng = np.random.default_rng(seed)
        self._positions: np.ndarray | None = None
        self._shape: tuple[int, ...] = ()
        self._recorded = {name: np.empty(samples) for name in _RECORDED}

    def add(self, values: Any, batch: Batch) -> str | None:
        """Measures the real samples of a batch.

        Args:
            values: OrtValue, the block's pre-activation.
            batch: What it was computed from.

        Returns:
            None, or why the block cannot be traced; nothing is recorded then.
        """
        shape = tuple(values.shape())
        problem = self._problem(shape, batch.size)
        if problem is not None:
            return problem
        if self._positions is None:
            available = prod(shape[2:]) if self._is_conv else prod(shape[:-1]) // batch.size
            count = min(available, POSITIONS)
            self._positions = np.sort(self._rng.choice(available, count, replace=False))
            self._shape = shape[1:]
        figures = self._operators.measure(values, batch.size, self._positions)
        real = slice(batch.start, batch.start + batch.count)
        for name, recorded in self._recorded.items():
            recorded[real] = _mean(figures, name)[: batch.count]
        return None

    def _problem(self, shape: tuple[int, ...], size: int) -> str | None:
        if len(shape) < 2 or not all(shape):
            return f"its pre-activation has shape {shape}, which holds no outputs of samples"
        # Measured with one sample, so the length of axis 0 says how many rows each has.
        rows = self.block.output_shape[0]
        if shape[0] != size * rows or (self._is_conv and rows != 1):
            return (
                f"its pre-activation has shape {shape} for a batch of {size}, so it is not known "
                "which part belongs to which sample"
            )
        if self._positions is not None and shape[1:] != self._shape:
            return (
                f"its pre-activation has shape {shape[1:]} after axis 0 in one batch, and "
                f"{self._shape} before"
            )
        return None

    def trace(self) -> BlockTrace:
        """What was recorded."""
        recorded, geometry = self._recorded, self.block.geometry
        assert self._positions is not None  # there is at least one sample
        return BlockTrace(
            key=self.block.key,
            units=geometry.out_channels,
            positions=len(self._positions),
            active=recorded["active"],
            width_lower=recorded["lower"],
            width_upper=recorded["upper"],
            width=recorded["width"],
            largest=recorded["largest"],
            margin=recorded["margin"],
        )


def _mean(figures: Figures, name: str) -> Floats:
    values: Floats = getattr(figures, name)
    mean: Floats = values.mean(axis=1)
    return mean
