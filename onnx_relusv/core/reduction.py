"""A block of which some input and output channels are gone, and how it stands in the whole one.

The removed inputs are reproduced from the kept ones as well as a linear map can: with C the
covariance of the input, K the kept columns and R the removed ones,

    L = W_K + W_R C_RK C_KK^(-1),    b' = b + W mean - L mean_K,

which has the least |(W - L) C^(1/2)| of all maps of the kept inputs; the bias absorbs the mean. A
removed input that always equals a kept one needs no covariance: its column is added to that one's.
One that is always zero needs nothing in its place and tells nothing of others, whatever is assumed
of its variance. In the whole block's shape the columns of removed inputs are zero, and so are the
rows and biases of removed outputs, which are no longer read.

The frozen records of a fit: what is to be replaced, and what was found for it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from math import prod

import numpy as np
import numpy.typing as npt

from onnx_relusv.core.blocks import (
    Activation,
    Block,
    FactoredCovariance,
    Floats,
    Geometry,
    LinearMap,
    Moments,
)
from onnx_relusv.core.kinds import kind_of
from onnx_relusv.core.linear_algebra import of_factored, reproduced
from onnx_relusv.core.plans import ChannelMask, Factors, Int8Format, Plan, Ranges, Rounding

Places = npt.NDArray[np.int64]


def masked_geometry(geometry: Geometry, kept: ChannelMask | None) -> Geometry:
    """The geometry of what is left."""
    if kept is None:
        return geometry
    groups = len(kept_groups(geometry, kept))
    return replace(
        geometry,
        in_channels=groups * len(kept.inputs),
        out_channels=len(kept.outputs),
        groups=groups,
    )


def masked_block(block: Block, kept: ChannelMask | None) -> Block:
    """The block as if the removed channels had never been there; its nodes are the whole one's."""
    if kept is None:
        return block
    geometry = masked_geometry(block.geometry, kept)
    axis = kind_of(geometry).channel_axis
    return replace(
        block,
        geometry=geometry,
        activation=masked_activation(block.activation, kept),
        source_shape=_with_length(block.source_shape, axis, geometry.in_channels),
        output_shape=_with_length(block.output_shape, axis, geometry.out_channels),
    )


def block_of_size(block: Block, inputs: int, outputs: int) -> Block:
    """A block with so many channels left; which ones does not count."""
    geometry = block.geometry
    if (inputs * geometry.groups, outputs) == (geometry.in_channels, geometry.out_channels):
        return block
    return masked_block(block, ChannelMask(inputs=np.arange(inputs), outputs=np.arange(outputs)))


def masked_activation(activation: Activation, kept: ChannelMask | None) -> Activation:
    """The activation of the outputs that are left."""
    if kept is None or len(activation.slopes) == 1:
        return activation
    return replace(activation, slopes=activation.slopes[kept.outputs])


def kept_groups(geometry: Geometry, kept: ChannelMask) -> Places:
    """(groups,) of what is left: all, but where each channel is a group and goes with it."""
    return kept.outputs if geometry.is_depthwise else np.arange(geometry.groups)


def kept_columns(geometry: Geometry, kept: ChannelMask) -> Places:
    """(columns,) of what is left, among the columns of one group of the whole block."""
    return columns_of(geometry, kept.inputs)


def columns_of(geometry: Geometry, inputs: Places) -> Places:
    """(columns,): where the weight of one group reads some of its input channels."""
    values = prod(geometry.kernel)
    found: Places = (inputs[:, None] * values + np.arange(values)).reshape(-1)
    return found


def of_inputs(geometry: Geometry, linear: LinearMap, inputs: Places) -> LinearMap:
    """A map of some of its input channels alone."""
    return LinearMap(linear.weight[:, :, columns_of(geometry, inputs)], linear.bias)


def restrict(geometry: Geometry, linear: LinearMap, kept: ChannelMask | None) -> LinearMap:
    """What is left of a whole map, as it is; the inverse of `embed`."""
    if kept is None:
        return linear
    return of_inputs(geometry, kept_outputs(geometry, linear, kept), kept.inputs)


def kept_rows(geometry: Geometry, kept: ChannelMask) -> Places:
    """(groups, rows) of what is left, among the rows of each group of the whole block."""
    groups = len(kept_groups(geometry, kept))
    found: Places = kept.outputs.reshape(groups, -1) % geometry.rows
    return found


def compensated_map(
    geometry: Geometry, linear: LinearMap, moments: Moments | None, kept: ChannelMask | None
) -> LinearMap:
    """The map of the kept inputs that comes nearest to the whole one.

    Args:
        geometry: The whole block's.
        linear: Its linear map.
        moments: Of its input; without any, removed inputs count as independent of the kept ones,
            with a mean of zero.
        kept: What is left.
    """
    if kept is None:
        return linear
    columns, rows = kept_columns(geometry, kept), kept_rows(geometry, kept)
    into = _equal_inputs(geometry, kept)
    gone = np.setdiff1d(np.flatnonzero(into == np.arange(geometry.columns)), columns)
    weights, biases = [], []
    for group, own in zip(kept_groups(geometry, kept), rows, strict=True):
        W = _added_up(linear.weight[group], into)
        L, bias = W[:, columns], linear.bias.reshape(geometry.groups, -1)[group]
        if moments is not None and len(gone):
            C, mean = moments.of_group(group), moments.mean[group]
            L += reproduced(W[:, gone], C, columns, gone)
            bias = bias + W @ mean - L @ mean[columns]
        weights.append(L[own])
        biases.append(bias[own])
    return LinearMap(np.stack(weights), np.concatenate(biases))


def _equal_inputs(geometry: Geometry, kept: ChannelMask) -> Places:
    """(columns,): where every column's input is read from: itself, or one that equals it.

    Of equal channels the first that is kept stands for all, or the first if none is.
    """
    channels = geometry.in_channels // geometry.groups
    stands = np.arange(channels)
    if kept.duplicates is not None:
        is_kept = np.zeros(channels, np.bool_)
        is_kept[kept.inputs] = True
        # From the last to the first, kept ones last of all, so that these have the last word.
        for place in sorted(range(channels), key=lambda place: (is_kept[place], -place)):
            stands[kept.duplicates[place]] = place
        stands = np.where(is_kept, np.arange(channels), stands[kept.duplicates])
    values = prod(geometry.kernel)
    found: Places = (stands[:, None] * values + np.arange(values)).reshape(-1)
    return found


def _added_up(weight: Floats, into: Places) -> Floats:
    """A weight whose columns are moved to those that stand for them; (rows, columns)."""
    if np.array_equal(into, np.arange(len(into))):
        return weight
    found = np.zeros_like(weight)
    np.add.at(found.T, into, weight.T)
    return found


def masked_moments(
    geometry: Geometry, moments: Moments | None, kept: ChannelMask | None
) -> Moments | None:
    """The moments of the kept inputs."""
    if moments is None or kept is None:
        return moments
    groups, columns = kept_groups(geometry, kept), kept_columns(geometry, kept)
    return replace(
        moments,
        mean=moments.mean[np.ix_(groups, columns)],
        covariance=_of_columns(moments, groups, columns),
        shrinkage=moments.shrinkage[groups],
    )


def _of_columns(
    moments: Moments, groups: Places, columns: Places
) -> Floats | tuple[FactoredCovariance, ...]:
    covariance = moments.covariance
    if isinstance(covariance, tuple):
        return tuple(of_factored(covariance[group], columns) for group in groups)
    return np.asarray(covariance[np.ix_(groups, columns, columns)])


def embed(geometry: Geometry, reduced: LinearMap, kept: ChannelMask | None) -> LinearMap:
    """A map of what is left in the shape of the whole block."""
    if kept is None:
        return reduced
    columns, rows = kept_columns(geometry, kept), kept_rows(geometry, kept)
    weight = np.zeros((geometry.groups, geometry.rows, geometry.columns))
    groups = kept_groups(geometry, kept)
    for group, own, matrix in zip(groups, rows, reduced.weight, strict=True):
        weight[group][np.ix_(own, columns)] = matrix
    bias = np.zeros(geometry.out_channels)
    bias[kept.outputs] = reduced.bias
    return LinearMap(weight, bias)


def kept_outputs(geometry: Geometry, linear: LinearMap, kept: ChannelMask | None) -> LinearMap:
    """The rows of a whole map that are left, over all columns."""
    if kept is None:
        return linear
    groups, rows = kept_groups(geometry, kept), kept_rows(geometry, kept)
    weight = np.take_along_axis(linear.weight[groups], rows[:, :, None], axis=1)
    return LinearMap(weight, linear.bias[kept.outputs])


def _with_length(shape: tuple[int, ...], axis: int, length: int) -> tuple[int, ...]:
    place = axis % len(shape)
    return (*shape[:place], length, *shape[place + 1 :])


@dataclass(frozen=True)
class Integers:
    """How a block is computed with 8-bit integers.

    Attributes:
        format: What its layers read.
        ranges: How far the integers of what they read reach.
        rounding: Of their weights; None for error feedback where the input's covariance is there.
    """

    format: Int8Format = "u8s8"
    ranges: Ranges = "least_squared_error"
    rounding: Rounding | None = None


@dataclass(frozen=True)
class Change:
    """A block that is to be replaced, and by what.

    Attributes:
        block: The whole block.
        form: Name of the form of what takes its place.
        rank: Its inner width, per group.
        kept: What is left of its channels; None where all are.
        integers: How it is computed with 8-bit integers; None where its weights are floats.
    """

    block: Block
    form: str
    rank: int
    kept: ChannelMask | None = None
    integers: Integers | None = None

    @property
    def is_int8(self) -> bool:
        """Whether its weights are 8-bit integers."""
        return self.integers is not None

    @property
    def reduced(self) -> Block:
        """The block with the channels that are left."""
        return masked_block(self.block, self.kept)


@dataclass(frozen=True, eq=False)
class Fitted:
    """Factors, and the linear map and moments that they were made from.

    Attributes:
        factors: The double layer.
        target: The map it stands for: the block's own, or the regression M.
        moments: Of the input in whose metric it does; None without samples.
        root: (out, out), what outputs were weighted with; None where all count alike.
        refined: Whether steps behind the activation moved the factors away from the best
            approximation of the target.
    """

    factors: Factors
    target: LinearMap
    moments: Moments | None
    root: Floats | None = None
    refined: bool = False

    def weighted(self, dense: LinearMap) -> LinearMap:
        """A dense map as the fit saw it: its outputs weighted by what the consumers feel."""
        return dense if self.root is None else weighted(self.root, dense)


@dataclass(frozen=True)
class ActivationScale:
    """How 8-bit integers stand for a tensor's numbers: (integer - zero point) scale.

    Attributes:
        scale: Positive, a float32.
        zero_point: The integer of 0, from 0 to 255; 0 where they are signed.
        signed: Whether integers go from -128 to 127, and not from 0 to 255.
    """

    scale: float
    zero_point: int
    signed: bool = False

    @property
    def steps(self) -> tuple[int, int]:
        """The least and the largest integer, less the zero point."""
        least = -128 if self.signed else 0
        return least - self.zero_point, least + 255 - self.zero_point

    @property
    def range(self) -> tuple[float, float]:
        """The least and the largest number that there is an integer for."""
        low, high = self.steps
        return low * self.scale, high * self.scale


@dataclass(frozen=True, eq=False)
class FittedPlan:
    """A plan in numbers, ready to be written.

    Attributes:
        plan: The plan.
        factors: By key, of every block that changes.
        levels: The level that each of them reaches as stored.
        activations: By tensor of the written graph, the scale of its 8-bit integers.
        float_nodes: In half precision, the nodes that stay float32 for what was seen of their
            numbers, each by the first tensor that it gives, with the reason.
    """

    plan: Plan
    factors: Mapping[str, Factors]
    levels: Mapping[str, float]
    activations: Mapping[str, ActivationScale] = field(default_factory=dict)
    float_nodes: Mapping[str, str] = field(default_factory=dict)

    def in_floats(self) -> "FittedPlan":
        """The same in the numbers of the original, of a plan in half precision."""
        choices = tuple(
            replace(choice, precision="keep") if choice.is_fp16 else choice
            for choice in self.plan.choices
        )
        plan = replace(self.plan, precision="keep", choices=choices)
        return replace(self, plan=plan, float_nodes={})

    @property
    def has_integers(self) -> bool:
        """Whether some weights are 8-bit integers."""
        return any(factors.are_integers for factors in self.factors.values())


def weighted(root: Floats, dense: LinearMap) -> LinearMap:
    """A linear map of one group with its outputs multiplied by a matrix."""
    return LinearMap((root @ dense.weight[0])[None], root @ dense.bias)
