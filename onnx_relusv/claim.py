"""What a rewritten file claims to be, which validation holds it to."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from onnx_relusv.graph.channel_records import Channels
from onnx_relusv.graph.cutting import staying, zeroed
from onnx_relusv.graph.model import Model
from onnx_relusv.pruning.units import Mask
from onnx_relusv.records import Block, LinearMap, ReadOnlyArrays


@dataclass(frozen=True, eq=False)
class Cut(ReadOnlyArrays):
    """Units that were removed.

    Attributes:
        channels: The original's units.
        removed: (units,) bool.
    """

    channels: Channels
    removed: Mask

    def reference(self, model: Model) -> tuple[Model, dict[str, np.ndarray]]:
        """The model with consumers' entries of removed units zeroed, and arrays of its stubs."""
        proto, arrays = zeroed(model, self.channels, self.removed)
        return replace(model, proto=proto), arrays

    def whole(self, names: Iterable[str]) -> bool:
        """Whether nothing is cut of some of the original's tensors."""
        found = (self.channels.tensors.get(name) for name in names)
        return all(axis is None or staying(axis.units, self.removed).all() for axis in found)

    def left(self, name: str, values: np.ndarray) -> np.ndarray:
        """What is left of a tensor of the original."""
        axis = self.channels.tensors.get(name)
        if axis is None:
            return values
        return np.compress(staying(axis.units, self.removed), values, axis=axis.axis)


@dataclass(frozen=True)
class Claim:
    """What the rewritten file claims to be.

    Attributes:
        blocks: The original's blocks.
        dense: By key of every changed block, its composed kernel and bias as stored.
        levels: By key, the level that was stated for it.
        cut: What was removed of the graph; None where all units stay.
    """

    blocks: Sequence[Block]
    dense: Mapping[str, LinearMap]
    levels: Mapping[str, float]
    cut: Cut | None = None
