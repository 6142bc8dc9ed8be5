"""Linear maps beside the factors that stand for them: decomposed, measured, and composed as stored.

Dense maps of many blocks are composed when they are needed, so that not all are in memory at once.
"""

from collections.abc import Iterable, Iterator, Mapping

import numpy as np
from onnx import helper

from onnx_relusv.core.blocks import Block, Covariance, Floats, LinearMap, Moments
from onnx_relusv.core.plans import Factors
from onnx_relusv.core.reduction import embed, masked_geometry
from onnx_relusv.rewrites.low_rank.forms import FORMS
from onnx_relusv.runtime.differences import epsilon
from onnx_relusv.spectra.singular import Decomposition, measured, metric_norm, valued

# Entries whose moves are drawn at a time; what is drawn takes several times as much as they do.
_DRAWN = 1 << 22


def decompose_block(linear: LinearMap, moments: Moments | None) -> tuple[Decomposition, ...]:
    """The decomposition of a linear map in the metric of its input, one a group."""
    return tuple(measured(W, _metric(moments, group)) for group, W in enumerate(linear.weight))


def block_values(linear: LinearMap, moments: Moments | None) -> tuple[Decomposition, ...]:
    """The same where nothing but singular values is needed of it."""
    return tuple(valued(W, _metric(moments, group)) for group, W in enumerate(linear.weight))


def composed_level(linear: LinearMap, composed: Floats, moments: Moments | None) -> float:
    """The level of a dense kernel (groups, rows, columns) in place of the linear map's weight."""
    gaps, norms = [], []
    for group, (W, L) in enumerate(zip(linear.weight, composed, strict=True)):
        C = _metric(moments, group)
        gaps.append(metric_norm(W - L, C))
        norms.append(metric_norm(W, C))
    return max(gaps) / max(norms) if max(norms) > 0 else 0.0


def as_stored(block: Block, factors: Factors) -> LinearMap:
    """The dense map that factors stand for once they are rounded to the types they are stored in.

    It has the whole block's shape; what belongs to removed channels is zero.
    """
    dtype = helper.tensor_dtype_to_np_dtype(block.weight_type)
    if factors.are_integers:  # as products with their scales they are float32s
        dtype = np.dtype(np.float32)
    matrices = [matrix.astype(dtype).astype(np.float64) for matrix in factors.matrices]
    bias = factors.bias.astype(helper.tensor_dtype_to_np_dtype(block.element_type))
    geometry = masked_geometry(block.geometry, factors.kept)
    kernel = FORMS[factors.form].compose(geometry, *matrices)
    reduced = LinearMap(kernel, bias.astype(np.float64))
    return embed(block.geometry, reduced, factors.kept)


def _metric(moments: Moments | None, group: int) -> Covariance | None:
    return None if moments is None else moments.of_group(group)


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
