"""What onnxruntime's CPU kernels take for a layer, by a model of them: nothing is timed.

A kernel multiplies, streams its weights through the caches, writes its outputs, and starts. A 2-D
Conv's kernels compute a pack of output channels at once, sixteen with AVX-512 and eight with AVX2,
up to four packs of them for every input value that is loaded; they read whole packs of input
channels, and numbers of input channels that are no multiple of four fall back on kernels half as
fast. So a layer of 50 channels takes what one of 64 takes, and one of 63 that another reads twice
that. The figures are our reading of what onnxruntime 1.27 does, measured with AVX-512 on one
thread; what plans take from them are ratios, and those are estimates.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from math import ceil, prod

from onnx_relusv.core.blocks import Block, Geometry
from onnx_relusv.core.kinds import Shape, kind_of
from onnx_relusv.core.plans import Candidate
from onnx_relusv.rewrites.low_rank.forms import FORMS
from onnx_relusv.rewrites.low_rank.method import LayerItem

# In the time of one multiply-accumulate of the fastest kernels: of a weight's byte that is read,
# of a number that is written, and of a node that starts.
_BYTE, _OUTPUT, _NODE = 3.3, 7.0, 200_000.0
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
# 8-bit integers: of the multiply-accumulates, and what gathering the patch of a position takes.
_INTEGERS, _INTEGER_PATCH = 0.2, 3_000.0
# A depthwise Conv does little with a number before it writes it.
_DEPTHWISE_OUTPUT = 15.0


def layer_work(
    geometry: Geometry, source_shape: Shape, batch: int, pack: int, *, integers: bool
) -> float:
    """What one layer takes, in multiply-accumulates of the fastest kernels; an estimate.

    Args:
        geometry: The layer's.
        source_shape: Of its input, for one sample.
        batch: Samples in a run.
        pack: Channels that the kernels of a 2-D Conv compute at once.
        integers: Whether it is computed with 8-bit integers.
    """
    kind = kind_of(geometry)
    positions = batch * kind.positions(kind.output_shape(geometry, source_shape))
    item = 1 if integers else 4
    streamed = _BYTE * item * geometry.numbers + _NODE
    written = _OUTPUT * positions * geometry.out_channels
    if integers:
        gathered = _INTEGER_PATCH * positions * bool(geometry.kernel)
        return _INTEGERS * positions * geometry.numbers + gathered + written / 2 + streamed
    if len(geometry.kernel) != 2:
        slower = _BY_PATCHES if geometry.kernel else 1.0
        return slower * positions * geometry.numbers + written + streamed
    return positions * _conv_work(geometry, pack) + streamed


def _conv_work(geometry: Geometry, pack: int) -> float:
    """What a 2-D Conv takes for one output position, and to write it."""
    taps, groups = prod(geometry.kernel), geometry.groups
    inputs, outputs = geometry.in_channels // groups, geometry.rows
    if geometry.is_depthwise:
        channels = pack * ceil(geometry.out_channels / pack)
        return channels * (_DEPTHWISE * taps + _DEPTHWISE_OUTPUT)
    whole, fewer = divmod(ceil(outputs / pack), _TOGETHER)
    packs = _TOGETHER * whole + _FEWER[fewer]
    products = groups * taps * inputs * pack * packs
    written = _OUTPUT * groups * pack * ceil(outputs / pack)
    if groups > 1 and (inputs % pack or outputs % pack):
        return _OF_GROUPS * taps * inputs * geometry.out_channels + written
    if inputs < pack:
        return products * (_POINTWISE_OF_FEW if taps == 1 else 1.0) + written
    if inputs % _ALIGNED:
        return _UNALIGNED * products + written
    return products * (pack * ceil(inputs / pack) / inputs) + written


@dataclass(frozen=True)
class Kernels:
    """The kernels of a machine, and how many samples they run on.

    Attributes:
        batch: Samples in a run.
        pack: Channels that the kernels of a 2-D Conv compute at once.
    """

    batch: int
    pack: int

    def of(self, block: Block, layer: Candidate | None = None) -> float:
        """What a block takes as it is, or as what it may become; see `layer_work`."""
        layers: tuple[Geometry, ...] = (block.geometry,)
        if layer is not None:
            layers = FORMS[layer.form].layers(block.geometry, layer.rank)
        integers = layer is not None and layer.is_int8
        return _layers_work(layers, block.source_shape, self.batch, self.pack, integers=integers)


@dataclass(frozen=True, eq=False)
class ModelledTimes:
    """What the blocks of a model take, whatever becomes of them; see `layer_work` for the unit.

    Attributes:
        kernels: What computes them.
        blocks: All of them, whole, by key.
    """

    kernels: Kernels
    blocks: Mapping[str, Block]

    def on(self, item: LayerItem) -> LayerItem:
        """A block with the times of all that it may become."""
        of = self.kernels.of
        layers = [replace(layer, latency=of(item.block, layer)) for layer in item.candidates]
        return item.timed(layers, of(item.block))

    @property
    def total(self) -> float:
        """Of all blocks as they are."""
        return sum(map(self.kernels.of, self.blocks.values()))


@lru_cache(maxsize=1 << 16)
def _layers_work(
    layers: tuple[Geometry, ...], shape: Shape, batch: int, pack: int, *, integers: bool
) -> float:
    total = 0.0
    for layer in layers:
        total += layer_work(layer, shape, batch, pack, integers=integers)
        shape = kind_of(layer).output_shape(layer, shape)
    return total
