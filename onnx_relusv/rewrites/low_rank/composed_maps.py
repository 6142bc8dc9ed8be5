"""Dense maps that are composed when they are asked for, so that not all are in memory at once."""

from collections.abc import Iterable, Iterator, Mapping

import numpy as np
from onnx import helper

from onnx_relusv.core.blocks import Block, LinearMap
from onnx_relusv.core.plans import Factors
from onnx_relusv.rewrites.low_rank.factors import as_stored
from onnx_relusv.runtime.differences import epsilon

# Entries whose moves are drawn at a time; what is drawn takes several times as much as they do.
_DRAWN = 1 << 22


class ComposedMaps(Mapping[str, LinearMap]):
    """By key, the one linear map that each double layer composes to, as it is stored.

    Args:
        blocks: All blocks.
        factors: By key, of those that changed.
    """

    def __init__(self, blocks: Iterable[Block], factors: Mapping[str, Factors]) -> None:
        self._blocks = {block.key: block for block in blocks if block.key in factors}
        self._factors = factors

    def __getitem__(self, key: str) -> LinearMap:
        return as_stored(self._blocks[key], self._factors[key])

    def __contains__(self, key: object) -> bool:
        return key in self._blocks  # and nothing is composed for it

    def __iter__(self) -> Iterator[str]:
        return iter(self._blocks)

    def __len__(self) -> int:
        return len(self._blocks)


class MovedMaps(Mapping[str, LinearMap]):
    """Dense maps with every weight one rounding of its type larger or smaller, by chance.

    They are drawn when they are asked for: in the blocks' order, once each, a seed repeats them.

    Args:
        blocks: All blocks.
        dense: By key, of those that changed.
        rng: Draws which way.
    """

    def __init__(
        self, blocks: Iterable[Block], dense: Mapping[str, LinearMap], rng: np.random.Generator
    ) -> None:
        self._blocks = {block.key: block for block in blocks if block.key in dense}
        self._dense, self._rng = dense, rng

    def __getitem__(self, key: str) -> LinearMap:
        dtype = helper.tensor_dtype_to_np_dtype(self._blocks[key].weight_type)
        dense, step = self._dense[key], epsilon(dtype)
        weight = np.array(dense.weight, order="C")
        entries = weight.reshape(-1)
        for start in range(0, len(entries), _DRAWN):
            part = entries[start : start + _DRAWN]
            part *= 1 + step * self._rng.choice((-1.0, 1.0), len(part))
        return LinearMap(weight, dense.bias)

    def __contains__(self, key: object) -> bool:
        return key in self._blocks

    def __iter__(self) -> Iterator[str]:
        return iter(self._blocks)

    def __len__(self) -> int:
        return len(self._blocks)
