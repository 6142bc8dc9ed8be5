"""What tells the moments of one block's input from those of another's."""

from dataclasses import dataclass

from onnx_relusv.records import Block


@dataclass(frozen=True)
class MomentsKey:
    """What two blocks share when their moments are the same: the tensor and its patches."""

    source: str
    groups: int
    columns: int
    kernel: tuple[int, ...]
    strides: tuple[int, ...]
    dilations: tuple[int, ...]
    pads: tuple[int, ...]
    auto_pad: str


def moments_key(block: Block) -> MomentsKey:
    """The key of a block's moments."""
    g = block.geometry
    return MomentsKey(
        block.source, g.groups, g.columns, g.kernel, g.strides, g.dilations, g.pads, g.auto_pad
    )
