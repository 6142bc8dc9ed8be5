"""How often samples run through a model, so that the moments under way stay within a budget.

The moments of a few blocks are added up at a time; for the others the samples run again. What is
in memory meanwhile: the blocks' running sums, the products of one batch for one of them, the
columns these are products of, and the values of the blocks' inputs for a batch.
"""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from math import prod

from onnx_relusv.records import Block
from onnx_relusv.samples import Samples
from onnx_relusv.spectra.moments_key import MomentsKey, moments_key
from onnx_relusv.spectra.sampling import Sampling

LARGEST_BATCH = 128
_FLOAT32, _FLOAT64 = 4, 8
# The values that are read out, and about as much that the model holds on the way to them.
_VALUES = 2 * _FLOAT32
# A column's numbers: gathered, as a patch, and in float64 for the product.
_COLUMNS = 2 * _FLOAT32 + _FLOAT64
# The share of a budget that a batch may take.
_BATCH_SHARE = 3


@dataclass(frozen=True)
class Passes:
    """The passes over the samples.

    Attributes:
        length: Samples a batch, the same in all passes, so that all draw the same positions.
        groups: The blocks of each pass.
    """

    length: int
    groups: tuple[tuple[Block, ...], ...]


def plan_passes(blocks: Iterable[Block], samples: Samples, memory: int) -> Passes:
    """Divides blocks over as few passes as a budget allows.

    Blocks that share moments share a pass. A block whose running sums alone, with the products
    that are added to them, exceed the budget is in no pass. Where one sample's values exceed it,
    the pass takes one block and what it needs.

    Args:
        blocks: The blocks.
        samples: What runs.
        memory: Bytes.
    """
    together: dict[MomentsKey, list[Block]] = {}
    for block in blocks:
        if 2 * _square(block) <= memory:
            together.setdefault(moments_key(block), []).append(block)
    firsts = [members[0] for members in together.values()]
    length = samples.batch_size(
        _length(_values(firsts) + _largest_columns(firsts, samples.count), memory)
    )
    # The largest first: what is small fills up what they leave.
    groups: list[list[Block]] = []
    for block in sorted(firsts, key=_square, reverse=True):
        fitting = (
            group
            for group in groups
            if _pass_bytes([*group, block], samples.count, length) <= memory
        )
        group = next(fitting, None)
        if group is None:
            groups.append([block])
        else:
            group.append(block)
    return Passes(length, tuple(tuple(group) for group in groups))


def batch_length(blocks: Collection[Block], memory: int) -> int:
    """Samples a batch, so that the inputs of these blocks take their share of a budget in bytes."""
    return _length(_values(blocks), memory)


def _length(bytes_per_sample: int, memory: int) -> int:
    fitting = memory // (_BATCH_SHARE * max(bytes_per_sample, 1))
    return max(1, min(LARGEST_BATCH, fitting))


def _pass_bytes(blocks: Sequence[Block], samples: int, length: int) -> int:
    squares = [_square(block) for block in blocks]
    batch = _values(blocks) + _largest_columns(blocks, samples)
    return sum(squares) + max(squares) + length * batch


def _square(block: Block) -> int:
    """Bytes of a block's second moments."""
    return _FLOAT64 * block.geometry.groups * block.geometry.columns**2


def _values(blocks: Iterable[Block]) -> int:
    """Bytes for one sample of the values that blocks read, and of what leads to them."""
    sources = {block.source: prod(block.source_shape) for block in blocks}
    return _VALUES * sum(sources.values())


def _largest_columns(blocks: Iterable[Block], samples: int) -> int:
    """Bytes for one sample of what is made of the values of one block at a time."""
    return max((_columns(block, samples) for block in blocks), default=0)


def _columns(block: Block, samples: int) -> int:
    geometry = block.geometry
    is_conv = geometry.kind == "conv"
    rows = prod(block.output_shape[2:] if is_conv else block.output_shape[:-1])
    rows = min(rows, Sampling(block, samples).rows_per_sample)
    return _COLUMNS * geometry.groups * geometry.columns * rows
