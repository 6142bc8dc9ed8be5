"""What blocks take to run, whatever becomes of them: measured where they were, else by the model.

Kernels are modelled (`kernels`); a block that was timed, as it is or in a form, tells by how much
the model is wrong for it, and with fewer channels it is taken to be wrong by as much.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from onnx_relusv.core.blocks import Block
from onnx_relusv.core.plans import Candidate
from onnx_relusv.planning.latency.kernels import Kernels
from onnx_relusv.rewrites.low_rank.method import LayerItem


@dataclass(frozen=True, eq=False)
class BlockTimes:
    """What blocks take.

    Attributes:
        kernels: The model.
        blocks: All blocks, whole, by key.
        measured: Seconds of those that were timed, whole and as they are, by key.
        unit: Seconds of a multiply-accumulate of the fastest kernels, for all other blocks; 1
            where nothing was timed, so that times are as many of them.
    """

    kernels: Kernels
    blocks: Mapping[str, Block]
    measured: Mapping[str, float] = field(default_factory=dict)
    unit: float = 1.0

    def of(self, left: Block, layer: Candidate | None = None) -> float:
        """What is left of a block takes, as it is or as what it may become.

        Args:
            left: A block, or what is left of it.
            layer: What it becomes; with a time of the whole block in that form, that is scaled.
        """
        found = self.kernels.of(left, layer)
        seconds = self.measured.get(left.key)
        if seconds is None:
            return self.unit * found
        whole = self.blocks[left.key]
        if layer is not None and layer.latency == layer.latency:
            return found * layer.latency / self.kernels.of(whole, layer)
        return found * seconds / self.kernels.of(whole)

    def on(self, item: LayerItem) -> LayerItem:
        """A block with the times of all that it may become."""
        layers = [replace(layer, latency=self.of(item.block, layer)) for layer in item.candidates]
        return item.timed(layers, self.of(item.block))

    @property
    def total(self) -> float:
        """Of all blocks as they are."""
        return sum(map(self.of, self.blocks.values()))
