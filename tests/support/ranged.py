"""Models with the ranges that are certified for their tensors, and what a run shows of these."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from graphs import run, saved
from onnx import ModelProto

from onnx_relusv.graph.channels.groups import channel_tensors, find_channels
from onnx_relusv.graph.channels.intervals import Interval
from onnx_relusv.graph.channels.ranges import tensor_ranges
from onnx_relusv.graph.channels.walk import Channels
from onnx_relusv.graph.model import Model
from onnx_relusv.rewrites.prune.units import dead_units

Range = tuple[float, float]


@dataclass(frozen=True, eq=False)
class Ranged:
    """A model with one input, x, that lies in a range."""

    model: Model
    shapes: dict[str, tuple[int, ...]]
    declared: Range
    ranges: dict[str, Interval]

    def values(self, x: np.ndarray) -> dict[str, np.ndarray]:
        """All tensors between nodes."""
        return run(self.model.proto, {"x": x}, channel_tensors(self.model.proto)) | {"x": x}

    def dead(self) -> tuple[Channels, np.ndarray]:
        """The units, and which of them are dead."""
        channels = find_channels(self.model, self.shapes)
        return channels, dead_units(self.model, channels, self.shapes, self.declared)


def ranged(proto: ModelProto, example: np.ndarray, declared: Range, folder: Path) -> Ranged:
    """A model whose shapes are those of a run with one sample."""
    model = saved(proto, folder)
    values = run(proto, {"x": example}, channel_tensors(model.proto)) | {"x": example}
    shapes = {name: np.shape(value) for name, value in values.items()}
    return Ranged(model, shapes, declared, tensor_ranges(model, shapes, declared))


def within(shape: tuple[int, ...], declared: Range, rng: np.random.Generator) -> np.ndarray:
    """Inputs from a range, half of the numbers at its ends; float32."""
    inside = rng.uniform(*declared, shape)
    return np.where(rng.random(shape) < 0.5, rng.choice(declared, shape), inside).astype(np.float32)


def holds(found: Interval, values: np.ndarray) -> bool:
    """Whether all numbers of a tensor lie within its bounds, which broadcast to it."""
    low, high = (np.broadcast_to(ends, values.shape) for ends in (found.low, found.high))
    return bool(np.all((low <= values) & (values <= high)))


def tightened(found: Interval, share: float) -> Interval:
    """With some of its width gone at either end."""
    width = share * (found.high - found.low)
    return Interval(found.low + width, found.high - width)
