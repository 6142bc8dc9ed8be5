"""Kinds of blocks: by operator, how a linear map meets its input and how a file holds it.

A kind says, in one class, what the operator's attributes and weight mean as a matrix (and back),
where channels and positions lie in its input and output, which patches of its input the matrix
acts on, and what that costs. Everything else works on matrices, geometries and patches, and asks
the kind of a geometry: `kind_of`.

A Conv acts on patches, taken by an index into the padded input; a Gemm or MatMul on the last axis.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from math import ceil, prod
from types import MappingProxyType
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from onnx_relusv.core.blocks import Geometry

Integers = npt.NDArray[np.int64]
Array = npt.NDArray[Any]
Shape = tuple[int, ...]
# Of a node, by name, as Python values.
Attributes = Mapping[str, Any]
_NONE: Attributes = MappingProxyType({})


class Refused(Exception):  # noqa: N818 - it is an answer with a reason, not an error
    """A node looks like a block's linear map but stays as it is; the message is the reason."""


class BlockKind(ABC):
    """An operator as a linear map. A shape is that of a batch, a block's own that of one sample.

    Attributes:
        name: In reports, and in the records.
        operator: ONNX's.
        spatial: Whether inputs and outputs have spatial axes behind their channels, so that the
            map acts on patches, the positions of every sample are the same, and its double layers
            are convolutions.
        channel_axis: Of input and output.
        patches: How they are taken: kinds that take them alike share the moments of one input.
        folded: Attributes that scale weight or bias, and are gone once they are folded in.
        adds_bias: Whether the operator adds a bias by itself.
        needs_bias: Whether it has to have one, in some operator set.
        unbiased_operator: What computes the same where there is no bias.
    """

    name: ClassVar[str]
    operator: ClassVar[str]
    spatial: ClassVar[bool]
    channel_axis: ClassVar[int]
    patches: ClassVar[str]
    folded: ClassVar[tuple[str, ...]] = ()
    adds_bias: ClassVar[bool] = True
    needs_bias: ClassVar[bool] = False
    unbiased_operator: ClassVar[str]

    @abstractmethod
    def read(self, attributes: Attributes, weight: Shape, source_rank: int) -> Geometry:
        """The geometry of a node.

        Args:
            attributes: The node's.
            weight: Shape of its weight.
            source_rank: Axes of its input.

        Raises:
            Refused: With the reason.
        """

    @abstractmethod
    def matrix(self, weight: Array, attributes: Attributes) -> Array:
        """A node's weight as (out_channels, columns), before `scale`; a view where it can be."""

    @abstractmethod
    def stored(self, geometry: Geometry, matrix: Array, attributes: Attributes = _NONE) -> Array:
        """A (groups, rows, columns) matrix as a node with these attributes reads its weight."""

    def stored_shape(self, geometry: Geometry) -> Shape:
        """The shape of that, for a node without attributes that change it."""
        return (geometry.columns, geometry.rows)

    def output_axis(self, attributes: Attributes) -> int:
        """Of output channels in what `stored` gives."""
        return int(not self.spatial and not attributes.get("transB", 0))

    def scale(self, attributes: Attributes) -> float:
        """What a node multiplies its weight with."""
        return 1.0

    def bias(self, values: Array, attributes: Attributes, outputs: int) -> Array | None:
        """(out_channels,) of what a node adds by itself; None where it depends on the sample."""
        return values

    def attributes(self, geometry: Geometry) -> dict[str, int | str | tuple[int, ...]]:
        """The attributes of a new node."""
        return {}

    @abstractmethod
    def positions(self, shape: Shape, samples: int = 1) -> int:
        """How many positions a sample has in an input or output of this shape, of a batch."""

    @abstractmethod
    def output_shape(self, geometry: Geometry, shape: Shape) -> Shape:
        """The shape of the output for an input of this shape."""

    def macs(self, geometry: Geometry, source_shape: Shape) -> int:
        """Multiply-accumulates for one sample, whose input has this shape at batch 1."""
        return geometry.numbers * self.positions(self.output_shape(geometry, source_shape))

    @abstractmethod
    def picked(
        self, geometry: Geometry, shape: Shape, real: int, samples: int, each: int
    ) -> tuple[int, int, int]:
        """How many places are drawn of a batch.

        Args:
            geometry: Of the block.
            shape: Of its input.
            real: How many samples of the batch count; the rest pads a fixed batch.
            samples: How many it has.
            each: Patches that are wanted of a sample, at most.

        Returns:
            Places that there are, places that are taken, and patches that these are.
        """

    @abstractmethod
    def patch_feeds(
        self, geometry: Geometry, shape: Shape, real: int, places: Array
    ) -> dict[str, Array]:
        """The inputs of a kernel of `runtime/kernels/moments` that say which patches it takes.

        Args:
            geometry: Of the block.
            shape: Of its input, of a batch.
            real: How many samples of the batch count.
            places: (p,) int64; spatial: output positions, the same of every sample; otherwise
                rows of the input flattened to (rows, columns).
        """

    @abstractmethod
    def answers(self, geometry: Geometry, values: Array, places: Array, real: int) -> Array:
        """(groups, patches, rows) of a tensor of the output's shape, in the order of patches."""

    @abstractmethod
    def columns_of_channel(
        self, geometry: Geometry, rank: int, channels: int, *, flattened: bool
    ) -> int | None:
        """How many columns, one behind the other, each of the channels of an input has.

        Args:
            geometry: Of the block.
            rank: Axes of its input.
            channels: Of the tensor that the input is.
            flattened: Whether axis 1 holds every channel's positions, one channel behind the other.

        Returns:
            None where axis 1 is not that of the map's channels, or columns are something else.
        """

    @abstractmethod
    def of_channels(self, geometry: Geometry, values: Array, inputs: Array) -> Array:
        """An input with some channels alone, `inputs` of every group."""


class _Matrix(BlockKind):
    """A matrix on the last axis; the transpose of what is stored, unless a node says otherwise."""

    spatial = False
    channel_axis = -1
    patches = "rows"
    unbiased_operator = "MatMul"

    def read(self, attributes: Attributes, weight: Shape, source_rank: int) -> Geometry:
        if len(weight) != 2:
            raise Refused(f"its weight has {len(weight)} axes; only matrices are understood")
        outputs, inputs = weight if attributes.get("transB", 0) else weight[::-1]
        return Geometry(kind=self.name, in_channels=inputs, out_channels=outputs)

    def matrix(self, weight: Array, attributes: Attributes) -> Array:
        return weight if attributes.get("transB", 0) else weight.T

    def stored(self, geometry: Geometry, matrix: Array, attributes: Attributes = _NONE) -> Array:
        (only,) = matrix
        return np.asarray(only if attributes.get("transB", 0) else only.T)

    def positions(self, shape: Shape, samples: int = 1) -> int:
        return prod(shape[:-1]) // samples

    def output_shape(self, geometry: Geometry, shape: Shape) -> Shape:
        return (*shape[:-1], geometry.out_channels)

    def picked(
        self, geometry: Geometry, shape: Shape, real: int, samples: int, each: int
    ) -> tuple[int, int, int]:
        available = prod(shape[:-1]) * real // samples
        count = min(available, real * each)
        return available, count, count

    def patch_feeds(
        self, geometry: Geometry, shape: Shape, real: int, places: Array
    ) -> dict[str, Array]:
        return {"index": places, "shape": np.array([1, -1, geometry.columns])}

    def answers(self, geometry: Geometry, values: Array, places: Array, real: int) -> Array:
        return np.asarray(values.reshape(-1, geometry.out_channels)[places][None])

    def columns_of_channel(
        self, geometry: Geometry, rank: int, channels: int, *, flattened: bool
    ) -> int | None:
        # Behind a Flatten a channel's positions follow each other; otherwise the channels are
        # axis 1, which is the axis of features of a matrix only.
        repeats = geometry.in_channels // channels
        fits = rank == 2 and repeats * channels == geometry.in_channels
        return repeats if fits and (flattened or repeats == 1) else None

    def of_channels(self, geometry: Geometry, values: Array, inputs: Array) -> Array:
        return np.ascontiguousarray(values[..., inputs])


class Gemm(_Matrix):
    """alpha A B + beta C; new nodes of it have a bias, and are MatMuls where there is none."""

    name = "gemm"
    operator = "Gemm"
    folded = ("alpha", "beta")
    needs_bias = True  # before opset 11

    def read(self, attributes: Attributes, weight: Shape, source_rank: int) -> Geometry:
        """A matrix, transposed or not."""
        geometry = super().read(attributes, weight, source_rank)
        if attributes.get("transA", 0):
            raise Refused("its input is transposed (transA)")
        return geometry

    def scale(self, attributes: Attributes) -> float:
        """Alpha."""
        return float(attributes.get("alpha", 1.0))

    def bias(self, values: Array, attributes: Attributes, outputs: int) -> Array | None:
        """Beta C, where C is one row or one number."""
        if values.ndim > 2 or (values.ndim == 2 and values.shape[0] != 1):
            return None
        if values.size not in (1, outputs):
            return None
        broadcast = np.broadcast_to(values.reshape(-1), (outputs,))
        return np.asarray(float(attributes.get("beta", 1.0)) * broadcast)


class MatMul(_Matrix):
    """A product with a constant right factor; takes inputs of any rank, and adds no bias."""

    name = "matmul"
    operator = "MatMul"
    adds_bias = False

    def read(self, attributes: Attributes, weight: Shape, source_rank: int) -> Geometry:
        """The right factor, of a left one that is no vector."""
        geometry = super().read(attributes, weight, source_rank)
        if source_rank < 2:
            raise Refused("its input is a vector")
        return geometry


class Conv(BlockKind):
    """A convolution with one or two spatial axes."""

    name = "conv"
    operator = "Conv"
    unbiased_operator = "Conv"
    spatial = True
    channel_axis = 1
    patches = "windows"

    def read(self, attributes: Attributes, weight: Shape, source_rank: int) -> Geometry:
        """Pads and lengths as the node has them."""
        axes = len(weight) - 2
        if axes not in (1, 2):
            raise Refused(f"a Conv with {axes} spatial axes; only 1 and 2 are understood")
        groups = int(attributes.get("group", 1))
        auto_pad = attributes.get("auto_pad", "NOTSET")
        pads = tuple(attributes.get("pads", ())) if auto_pad == "NOTSET" else ()
        if any(pad < 0 for pad in pads):
            raise Refused("its pads are negative")
        return Geometry(
            kind=self.name,
            in_channels=weight[1] * groups,
            out_channels=weight[0],
            groups=groups,
            kernel=tuple(weight[2:]),
            strides=tuple(attributes.get("strides", (1,) * axes)),
            dilations=tuple(attributes.get("dilations", (1,) * axes)),
            pads=pads or (0,) * (2 * axes),
            auto_pad=auto_pad,
        )

    def matrix(self, weight: Array, attributes: Attributes) -> Array:
        """A row an output channel, its columns in the order channel, kernel row, kernel column."""
        return weight.reshape(len(weight), -1)

    def stored(self, geometry: Geometry, matrix: Array, attributes: Attributes = _NONE) -> Array:
        """The same numbers by channel and kernel value."""
        return matrix.reshape(self.stored_shape(geometry))

    def stored_shape(self, geometry: Geometry) -> Shape:
        """(out_channels, channels of a group, kernel)."""
        channels = geometry.in_channels // geometry.groups
        return (geometry.out_channels, channels, *geometry.kernel)

    def attributes(self, geometry: Geometry) -> dict[str, int | str | tuple[int, ...]]:
        """The kernel's lengths, and those that are not as the operator has them by default."""
        found: dict[str, int | str | tuple[int, ...]] = {"kernel_shape": geometry.kernel}
        lengths = {"strides": geometry.strides, "dilations": geometry.dilations}
        found |= {name: values for name, values in lengths.items() if max(values) > 1}
        if geometry.groups > 1:
            found["group"] = geometry.groups
        if geometry.auto_pad != "NOTSET":
            found["auto_pad"] = geometry.auto_pad
        elif any(geometry.pads):
            found["pads"] = geometry.pads
        return found

    def positions(self, shape: Shape, samples: int = 1) -> int:
        """Of one feature map."""
        return prod(shape[2:])

    def output_shape(self, geometry: Geometry, shape: Shape) -> Shape:
        """As long as kernel, strides, pads and dilations leave it."""
        return (shape[0], geometry.out_channels, *output_lengths(geometry, shape[2:]))

    def picked(
        self, geometry: Geometry, shape: Shape, real: int, samples: int, each: int
    ) -> tuple[int, int, int]:
        """Output positions, the same of all samples."""
        available = self.positions(self.output_shape(geometry, shape))
        count = min(available, each)
        return available, count, count * real

    def patch_feeds(
        self, geometry: Geometry, shape: Shape, real: int, places: Array
    ) -> dict[str, Array]:
        """Pads, and where a patch's values lie."""
        lengths = shape[2:]
        axes = len(lengths)
        pads = explicit_pads(geometry, lengths)
        channels, taps = geometry.in_channels // geometry.groups, prod(geometry.kernel)
        return {
            "count": np.array([real]),
            "pads": np.array((0, 0, *pads[:axes], 0, 0, *pads[axes:])),
            "index": patch_index(geometry, lengths, places).T.reshape(-1),
            "split": np.array([0, geometry.groups, channels, len(places), taps]),
            "shape": np.array([geometry.groups, -1, geometry.columns]),
        }

    def answers(self, geometry: Geometry, values: Array, places: Array, real: int) -> Array:
        """Channels at the output positions."""
        flat = values[:real].reshape(real, geometry.groups, geometry.rows, -1)
        picked = flat[..., places]
        return np.asarray(picked.transpose(1, 0, 3, 2).reshape(geometry.groups, -1, geometry.rows))

    def columns_of_channel(
        self, geometry: Geometry, rank: int, channels: int, *, flattened: bool
    ) -> int | None:
        """One a kernel value."""
        fits = channels == geometry.in_channels and not flattened
        return prod(geometry.kernel) if fits else None

    def of_channels(self, geometry: Geometry, values: Array, inputs: Array) -> Array:
        """Feature maps."""
        channels = geometry.in_channels // geometry.groups
        groups = np.arange(geometry.groups)[:, None] * channels
        return values[:, (groups + inputs).reshape(-1)]


CONV = Conv()
_ALL: tuple[BlockKind, ...] = (CONV, Gemm(), MatMul())
KINDS: Mapping[str, BlockKind] = {kind.name: kind for kind in _ALL}
# By ONNX operator.
LINEAR_OPERATORS: Mapping[str, BlockKind] = {kind.operator: kind for kind in _ALL}


def kind_of(geometry: Geometry) -> BlockKind:
    """The kind of a block, or of a layer, with this geometry."""
    return KINDS[geometry.kind]


def explicit_pads(geometry: Geometry, lengths: tuple[int, ...]) -> tuple[int, ...]:
    """Pads as begins then ends, with auto_pad resolved for an input of these spatial lengths.

    SAME_UPPER and SAME_LOWER give ceil(length / stride) outputs; of an odd total pad, the larger
    half goes to the end or to the beginning.
    """
    if geometry.auto_pad == "NOTSET":
        return geometry.pads
    if geometry.auto_pad == "VALID":
        return (0,) * (2 * len(lengths))
    begins, ends = [], []
    for length, kernel, stride, dilation in zip(
        lengths, geometry.kernel, geometry.strides, geometry.dilations, strict=True
    ):
        reach = (kernel - 1) * dilation + 1
        total = max((ceil(length / stride) - 1) * stride + reach - length, 0)
        smaller, larger = total // 2, total - total // 2
        upper = geometry.auto_pad == "SAME_UPPER"
        begins.append(smaller if upper else larger)
        ends.append(larger if upper else smaller)
    return (*begins, *ends)


def output_lengths(geometry: Geometry, lengths: tuple[int, ...]) -> tuple[int, ...]:
    """Spatial lengths of the Conv's output for an input of these spatial lengths."""
    axes = len(lengths)
    pads = explicit_pads(geometry, lengths)
    return tuple(
        (length + pads[i] + pads[i + axes] - (kernel - 1) * dilation - 1) // stride + 1
        for i, (length, kernel, stride, dilation) in enumerate(
            zip(lengths, geometry.kernel, geometry.strides, geometry.dilations, strict=True)
        )
    )


def patch_index(geometry: Geometry, lengths: tuple[int, ...], positions: Integers) -> Integers:
    """Where the values of patches lie in the padded input with its spatial axes flattened.

    Args:
        geometry: Of a Conv with one or two spatial axes.
        lengths: Spatial lengths of the input before padding.
        positions: (p,) output positions, flattened in C order.

    Returns:
        (kernel values, p) int64; kernel values in the order in which ONNX stores a kernel.
    """
    axes = len(lengths)
    pads = explicit_pads(geometry, lengths)
    padded = tuple(lengths[i] + pads[i] + pads[i + axes] for i in range(axes))
    where = np.unravel_index(positions, output_lengths(geometry, lengths))
    taps = np.indices(geometry.kernel).reshape(axes, -1)
    index = np.zeros((taps.shape[1], len(positions)), np.int64)
    for axis in range(axes):
        along = (
            where[axis][None, :] * geometry.strides[axis]
            + taps[axis][:, None] * geometry.dilations[axis]
        )
        index = index * padded[axis] + along
    return index
