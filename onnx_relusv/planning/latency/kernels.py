"""What onnxruntime's CPU kernels take for a layer, by a model of them: nothing is timed.

A kernel multiplies, streams its weights through the caches, writes its outputs, and starts. A 2-D
Conv's kernels compute a pack of output channels at once, sixteen with AVX-512 and eight with AVX2,
up to four packs of them for every input value that is loaded; they read whole packs of input
channels, and numbers of input channels that are no multiple of four fall back on kernels half as
fast. So a layer of 50 channels takes what one of 64 takes, and one of 63 that another reads twice
that. The figures are our reading of what onnxruntime 1.27 does, measured with AVX-512 on one
thread; what plans take from them are ratios, and those are estimates.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from math import ceil, prod

import numpy as np

from onnx_relusv.core.blocks import Block, Floats, Geometry
from onnx_relusv.core.kinds import Shape, kind_of
from onnx_relusv.core.plans import Candidate
from onnx_relusv.rewrites.low_rank.forms import FORMS
from onnx_relusv.rewrites.low_rank.method import LayerItem

# What a layer does, counted in a vector of these; a product is a multiply-accumulate.
WORK = (
    "products of a 2-D Conv",
    "products of a matrix",
    "bytes of weights",
    "numbers written",
    "nodes",
    "products of integers",
    "patches of integers",
    "numbers written by integers",
)
# What each takes, in the time of one multiply-accumulate of the fastest kernels. Where patches of
# integers are gathered, that is for a position.
PRICES = (1.0, 1.0, 3.3, 7.0, 200_000.0, 0.2, 3_000.0, 3.5)
# Of a number that is written, for what is computed by itself before.
_WRITTEN = PRICES[3]
# Packs of output channels that are computed together, and what fewer of them take.
_TOGETHER = 4
_FEWER = (0.0, 1.6, 2.4, 3.3)
# Input channels come in multiples of it, or a Conv is computed by slower kernels.
_ALIGNED = 4
_UNALIGNED = 2.0
# Fewer input channels than a pack are read one by one, which kernels of 1x1 do badly.
_POINTWISE_OF_FEW = 4.0
# Kernels that make a matrix of patches first: those of one or three axes, and of groups of few.
_BY_PATCHES, _OF_GROUPS = 2.0, 6.0
_DEPTHWISE = 1.2
# A depthwise Conv does little with a number before it writes it.
_DEPTHWISE_OUTPUT = 15.0


def layer_work(
    geometry: Geometry, source_shape: Shape, batch: int, pack: int, *, integers: bool
) -> Floats:
    """What one layer does, by a model of its kernel.

    Args:
        geometry: The layer's.
        source_shape: Of its input, for one sample.
        batch: Samples in a run.
        pack: Channels that the kernels of a 2-D Conv compute at once.
        integers: Whether it is computed with 8-bit integers.

    Returns:
        (work,) float64, in the order of `WORK`; times `PRICES`, multiply-accumulates of the fastest
        kernels, an estimate.
    """
    kind = kind_of(geometry)
    positions = batch * kind.positions(kind.output_shape(geometry, source_shape))
    numbers, outputs = geometry.numbers, positions * geometry.out_channels
    if integers:
        patches = positions * bool(geometry.kernel)
        return np.array((0, 0, numbers, 0, 1, positions * numbers, patches, outputs), np.float64)
    if len(geometry.kernel) != 2:
        slower = _BY_PATCHES if geometry.kernel else 1.0
        products = slower * positions * numbers
        return np.array((0, products, 4 * numbers, outputs, 1, 0, 0, 0), np.float64)
    products, written = _conv_work(geometry, pack)
    found = (positions * products, 0, 4 * numbers, positions * written, 1, 0, 0, 0)
    return np.array(found, np.float64)


def _conv_work(geometry: Geometry, pack: int) -> tuple[float, float]:
    """What a 2-D Conv computes for one output position, and how many numbers it writes."""
    taps, groups = prod(geometry.kernel), geometry.groups
    inputs, outputs = geometry.in_channels // groups, geometry.rows
    if geometry.is_depthwise:
        channels = pack * ceil(geometry.out_channels / pack)
        return channels * _DEPTHWISE * taps, channels * _DEPTHWISE_OUTPUT / _WRITTEN
    whole, fewer = divmod(ceil(outputs / pack), _TOGETHER)
    packs = _TOGETHER * whole + _FEWER[fewer]
    products = groups * taps * inputs * pack * packs
    written = groups * pack * ceil(outputs / pack)
    if groups > 1 and (inputs % pack or outputs % pack):
        return _OF_GROUPS * taps * inputs * geometry.out_channels, written
    if inputs < pack:
        return products * (_POINTWISE_OF_FEW if taps == 1 else 1.0), written
    if inputs % _ALIGNED:
        return _UNALIGNED * products, written
    return products * (pack * ceil(inputs / pack) / inputs), written


@dataclass(frozen=True)
class Kernels:
    """The kernels of a machine, and how many samples they run on.

    Attributes:
        batch: Samples in a run.
        pack: Channels that the kernels of a 2-D Conv compute at once.
        prices: (work,) of all that layers do.
    """

    batch: int
    pack: int
    prices: tuple[float, ...] = PRICES

    def of(self, block: Block, layer: Candidate | None = None) -> float:
        """What a block takes as it is, or as what it may become, in the unit of the prices."""
        if layer is None:
            return self.of_form(block, None, None, integers=False)
        return self.of_form(block, layer.form, layer.rank, integers=layer.is_int8)

    def of_form(self, block: Block, form: str | None, rank: int | None, *, integers: bool) -> float:
        """The same of a form and rank; None for the block as it is."""
        layers = layers_of(block.geometry, form, rank)
        shape = block.source_shape
        return _priced(layers, shape, self.batch, self.pack, self.prices, integers=integers)

    def work(self, block: Block, form: str | None, rank: int | None, *, integers: bool) -> Floats:
        """(work,) of it, in the order of `WORK`."""
        layers = layers_of(block.geometry, form, rank)
        return layers_work(layers, block.source_shape, self.batch, self.pack, integers=integers)


@dataclass(frozen=True, eq=False)
class ModelledTimes:
    """What the blocks of a model take, whatever becomes of them.

    Attributes:
        kernels: What computes them; its prices say in which unit times are.
        blocks: All of them, whole, by key.
        factors: What times of a block are multiplied by, by its key and whether integers compute
            it; 1 where there is none.
        rest: What the model takes besides its blocks.
    """

    kernels: Kernels
    blocks: Mapping[str, Block]
    factors: Mapping[tuple[str, bool], float] = field(default_factory=dict)
    rest: float = 0.0

    def of(self, block: Block, layer: Candidate | None = None) -> float:
        """What a block, or what is left of it, takes as it is, or as what it may become."""
        integers = layer is not None and layer.is_int8
        return self.factors.get((block.key, integers), 1.0) * self.kernels.of(block, layer)

    def on(self, item: LayerItem) -> LayerItem:
        """A block with the times of all that it may become."""
        layers = [replace(layer, latency=self.of(item.block, layer)) for layer in item.candidates]
        return item.timed(layers, self.of(item.block))

    @property
    def total(self) -> float:
        """Of the model as it is."""
        return self.rest + sum(map(self.of, self.blocks.values()))


def layers_of(geometry: Geometry, form: str | None, rank: int | None) -> tuple[Geometry, ...]:
    """The layers of a form at a rank; the block's own where there is none."""
    if form is None or rank is None:
        return (geometry,)
    return FORMS[form].layers(geometry, rank)


def layers_work(
    layers: Sequence[Geometry], shape: Shape, batch: int, pack: int, *, integers: bool
) -> Floats:
    """(work,) of layers that run one behind the other; arguments as of `layer_work`."""
    total = np.zeros(len(WORK))
    for layer in layers:
        total += layer_work(layer, shape, batch, pack, integers=integers)
        shape = kind_of(layer).output_shape(layer, shape)
    return total


@lru_cache(maxsize=1 << 16)
def _priced(
    layers: tuple[Geometry, ...],
    shape: Shape,
    batch: int,
    pack: int,
    prices: tuple[float, ...],
    *,
    integers: bool,
) -> float:
    return float(np.dot(layers_work(layers, shape, batch, pack, integers=integers), prices))
