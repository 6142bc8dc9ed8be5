"""How often samples run through a model, so that the moments under way stay within a memory budget.

The moments of a few blocks are added up at a time; for the others the samples run again. In memory
meanwhile: the blocks' running sums, the products of one batch for one of them, the columns these
are products of, and the values of the blocks' inputs for a batch.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from math import prod

from onnx_relusv.core.blocks import Block, Geometry
from onnx_relusv.core.kinds import kind_of
from onnx_relusv.samples.samples import Samples
from onnx_relusv.spectra.moments import MomentsKey, Sampling, moments_key
from onnx_relusv.spectra.product_sums import ROWS_A_TERM

LARGEST_BATCH = 128
# Bytes of values from which on longer batches take more time and no less: memory is handed out and
# cleared anew for them, and caches hold none of it. Fewer samples than that are no batch.
_ENOUGH_VALUES, _LEAST_BATCH = 64 << 20, 8
_FLOAT32, _FLOAT64 = 4, 8
# The values that are read out, and about as much that the model holds on the way to them.
_VALUES = 2 * _FLOAT32
# A column's numbers: gathered, as a patch, and in float64 for the product.
_COLUMNS = 2 * _FLOAT32 + _FLOAT64
# The share of a budget that a batch may take.
_BATCH_SHARE = 3
# The share of it that a sketch may take, and how many directions are enough, and the fewest.
_SKETCH_SHARE = 4
_MOST_TERMS, _FEWEST_TERMS = 512, 32


@dataclass(frozen=True)
class Passes:
    """The passes over the samples.

    Attributes:
        length: Samples a batch, the same in all passes, so that all draw the same positions.
        groups: The blocks of each pass.
        terms: Of wide blocks, how many directions their sketches keep.
    """

    length: int
    groups: tuple[tuple[Block, ...], ...]
    terms: Mapping[MomentsKey, int] = field(default_factory=dict)


def plan_passes(blocks: Iterable[Block], samples: Samples, memory: int) -> Passes:
    """Divides blocks over as few passes as a budget allows.

    Blocks that share moments share a pass. Of a block whose running sums alone, with the products
    that are added to them, exceed the budget a sketch is kept. Where one sample's values exceed it,
    the pass takes one block and what it needs.

    Args:
        blocks: The blocks.
        samples: What runs.
        memory: Bytes.
    """
    together: dict[MomentsKey, list[Block]] = {}
    for block in blocks:
        together.setdefault(moments_key(block), []).append(block)
    firsts = [members[0] for members in together.values()]
    wide = {
        moments_key(block): sketch_terms(block, memory)
        for block in firsts
        if is_wide(block.geometry, memory)
    }
    bytes_of = partial(_held, terms=wide)
    length = samples.batch_size(
        _length(_values(firsts), _largest_columns(firsts, samples.count, wide), memory),
        stacked=True,
    )
    # The largest first: what is small fills up what they leave.
    groups: list[list[Block]] = []
    for block in sorted(firsts, key=bytes_of, reverse=True):
        for group in groups:
            if _pass_bytes([*group, block], samples.count, length, wide) <= memory:
                group.append(block)
                break
        else:
            groups.append([block])
    return Passes(length, tuple(tuple(group) for group in groups), wide)


def is_wide(geometry: Geometry, memory: int) -> bool:
    """Whether the square array of a block's columns, with one that is added to it, is too large."""
    return 2 * _square(geometry) > memory


def sketch_terms(block: Block, memory: int) -> int:
    """How many directions a wide block's sketch keeps, within its share of a budget in bytes."""
    geometry = block.geometry
    # Twice as many rows are collected, and the new ones made beside them.
    each = 3 * _FLOAT64 * geometry.groups * geometry.columns
    return max(_FEWEST_TERMS, min(_MOST_TERMS, memory // (_SKETCH_SHARE * each)))


def batch_length(blocks: Collection[Block], memory: int) -> int:
    """Samples a batch, so that the inputs of these blocks take their share of a budget in bytes."""
    return _length(_values(blocks), 0, memory)


def _length(values: int, columns: int, memory: int) -> int:
    """Samples a batch, by the bytes that each takes."""
    enough = max(_LEAST_BATCH, _ENOUGH_VALUES // max(values, 1))
    room = memory // (_BATCH_SHARE * max(values + columns, 1))
    return max(1, min(LARGEST_BATCH, enough, room))


def _pass_bytes(
    blocks: Sequence[Block], samples: int, length: int, terms: Mapping[MomentsKey, int]
) -> int:
    held = [_held(block, terms) for block in blocks]
    batch = _values(blocks) + _largest_columns(blocks, samples, terms)
    return sum(held) + max(held) + length * batch


def _held(block: Block, terms: Mapping[MomentsKey, int]) -> int:
    """Bytes of a block's second moments, or of their sketch."""
    geometry = block.geometry
    kept = terms.get(moments_key(block))
    if kept is None:
        return _square(geometry)
    return 2 * _FLOAT64 * geometry.groups * kept * geometry.columns


def _square(geometry: Geometry) -> int:
    return _FLOAT64 * geometry.groups * geometry.columns**2


def _values(blocks: Iterable[Block]) -> int:
    """Bytes for one sample of the values that blocks read, and of what leads to them."""
    sources = {block.source: prod(block.source_shape) for block in blocks}
    return _VALUES * sum(sources.values())


def _largest_columns(blocks: Iterable[Block], samples: int, terms: Mapping[MomentsKey, int]) -> int:
    """Bytes for one sample of what is made of the values of one block at a time."""
    return max((_columns(block, samples, terms) for block in blocks), default=0)


def _columns(block: Block, samples: int, terms: Mapping[MomentsKey, int]) -> int:
    geometry = block.geometry
    rows = kind_of(geometry).positions(block.output_shape)
    kept = terms.get(moments_key(block))
    rows = min(rows, Sampling(block, samples, kept and ROWS_A_TERM * kept).rows_per_sample)
    return _COLUMNS * geometry.groups * geometry.columns * rows
