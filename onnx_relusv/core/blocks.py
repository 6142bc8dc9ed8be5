"""The frozen records that travel between the stages.

Records with arrays compare by identity, and their arrays are read-only: a stage that wants
something else makes a new record. Tensors are named as in the ONNX file; a block's key is the name
of the tensor that leaves it. Items are what a plan decides on, whatever method of rewriting they
come from.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from math import prod
from pathlib import Path
from typing import Annotated, ClassVar, Literal, Self

import numpy as np
import numpy.typing as npt

from onnx_relusv.core.codec import FINITE, Axes, Count, Limits

Floats = npt.NDArray[np.float64]
ActivationKind = Literal["relu", "clip", "leaky_relu", "prelu", "none"]
# Where the statistics of a block's input come from; with none, its covariance is the identity.
StatisticsSource = Literal["samples", "batch_normalization", "synthetic", "none"]


class ReadOnlyArrays:
    """Mixin: makes every array, and tuple of arrays, of a dataclass read-only once it is made."""

    def __post_init__(self) -> None:
        for field in fields(self):  # type: ignore[arg-type]
            value = getattr(self, field.name)
            if isinstance(value, np.ndarray):
                object.__setattr__(self, field.name, _read_only(value))
            elif isinstance(value, tuple) and any(isinstance(one, np.ndarray) for one in value):
                object.__setattr__(self, field.name, tuple(map(_read_only, value)))


def _read_only(values: np.ndarray) -> np.ndarray:
    view = values.view()
    view.flags.writeable = False
    return view


@dataclass(frozen=True, eq=False, kw_only=True)
class Activation(ReadOnlyArrays):
    """The nonlinearity phi behind a block's linear map.

    Attributes:
        kind: Which one; ``none`` for a linear block.
        slopes: (1,) or (out,) float64; the slope for negative arguments (0 for Relu and Clip).
        ceiling: The upper bound of a Clip from 0, otherwise None.
    """

    kind: ActivationKind
    slopes: Floats
    ceiling: float | None = None

    @property
    def homogeneous(self) -> bool:
        """Whether phi(ct) = c phi(t) for c > 0."""
        return self.ceiling is None


@dataclass(frozen=True, kw_only=True)
class Geometry:
    """How a linear map meets its input.

    A Conv's weight acts on patches: in every group its kernel is a matrix of shape
    (out_channels / groups, columns), the columns in the order channel, kernel row, kernel column.

    Attributes:
        kind: Name of the kind of block (`core/kinds`).
        in_channels: Input channels, or features of a Gemm or MatMul.
        out_channels: Output channels or features.
        groups: Groups of a Conv.
        kernel: One or two lengths for a Conv, otherwise empty, as are the next three.
        strides: One per spatial axis.
        dilations: One per spatial axis.
        pads: All begins, then all ends; counts only where auto_pad is NOTSET.
        auto_pad: NOTSET, VALID, SAME_UPPER or SAME_LOWER.
    """

    kind: str
    in_channels: int
    out_channels: int
    groups: int = 1
    kernel: tuple[int, ...] = ()
    strides: tuple[int, ...] = ()
    dilations: tuple[int, ...] = ()
    pads: tuple[int, ...] = ()
    auto_pad: str = "NOTSET"

    @property
    def rows(self) -> int:
        """Rows of the weight matrix of one group."""
        return self.out_channels // self.groups

    @property
    def columns(self) -> int:
        """Columns of the weight matrix of one group."""
        return self.in_channels // self.groups * prod(self.kernel)

    @property
    def numbers(self) -> int:
        """Numbers in the weight, of all groups."""
        return self.groups * self.rows * self.columns

    @property
    def is_depthwise(self) -> bool:
        """Whether every input channel is a group of its own."""
        return self.groups > 1 and self.in_channels == self.groups

    @property
    def largest_rank(self) -> int:
        """The rank that a group's weight matrix cannot exceed."""
        return min(self.rows, self.columns)


@dataclass(frozen=True, eq=False, kw_only=True)
class Block:
    """A constant linear map, what follows it up to its activation, and where it sits.

    Attributes:
        key: The tensor that leaves the block, the activation's output.
        source: The tensor that the linear map reads.
        pre_activation: The tensor that enters the activation; equals `key` for a linear block.
        nodes: Indices, in the file's node list, of the linear map and of the bias Add,
            BatchNormalization and Identity nodes that belong to it. The activation is not
            among them.
        weight: Name of the linear map's weight as the node reads it.
        geometry: Its shape.
        activation: What follows.
        consumers: Operators that read `key`.
        source_shape: Shape of `source` for one sample (batch 1), as measured by a run.
        output_shape: Likewise of `pre_activation`.
        element_type: ONNX element type of the weight as the linear map reads it.
        original_bytes: What the weight, bias and BatchNormalization vectors that only this block
            uses occupy in the file, with what these are computed of.
        stored_type: ONNX element type in which the file has the weight's numbers, where a Cast
            stands behind them; None if it is the same.
        surplus_bytes: What of `original_bytes` goes beside the weight's own numbers as soon as
            another weight stands in its place: nodes that compute it, and more that they read.
        lists_initializers: Whether initializers are inputs of the graph too, as they had to be
            before IR version 4.
    """

    key: str
    source: str
    pre_activation: str
    nodes: tuple[int, ...]
    weight: str
    geometry: Geometry
    activation: Activation
    consumers: tuple[str, ...]
    source_shape: tuple[int, ...]
    output_shape: tuple[int, ...]
    element_type: int
    original_bytes: int
    stored_type: int | None = None
    surplus_bytes: int = 0
    lists_initializers: bool = False

    @property
    def weight_type(self) -> int:
        """ONNX element type in which weights that replace this one are stored."""
        return self.element_type if self.stored_type is None else self.stored_type


@dataclass(frozen=True)
class Refusal:
    """Something that looks like a block and stays as it is, with the reason why."""

    key: str
    reason: str


@dataclass(frozen=True, eq=False)
class LinearMap(ReadOnlyArrays):
    """A block's linear map with alpha, beta, bias and BatchNormalization folded in.

    Attributes:
        weight: (groups, rows, columns) float64.
        bias: (out_channels,) float64; zeros where the block has none.
    """

    weight: Floats
    bias: Floats


@dataclass(frozen=True, eq=False, kw_only=True)
class FunctionBounds(ReadOnlyArrays):
    """Certified bounds of a linear block's s_k with the activation that follows, bias included.

    Attributes:
        name: Of the activation.
        output: The tensor that holds what it gives.
        radius: Of the ball that they hold on, around the mean of the block's input, in its metric.
        holds: The least share of inputs within it, by Markov's inequality; 0 where unknown.
        lower: (r,) float64, 0 where nothing better is proved.
        upper: (r,) float64.
    """

    name: str
    output: str
    radius: float
    holds: float
    lower: Floats
    upper: Floats


@dataclass(frozen=True, eq=False)
class FactoredCovariance(ReadOnlyArrays):
    """A covariance F'F + diag(d), held without a square array of its columns.

    Attributes:
        factor: (terms, columns) float64 F; no terms for a diagonal covariance.
        diagonal: (columns,) float64 d, positive.
    """

    factor: Annotated[Floats, Axes(("terms", "columns")), FINITE]
    diagonal: Annotated[Floats, Axes(("columns",)), FINITE]

    def __len__(self) -> int:
        """Columns."""
        return len(self.diagonal)


Covariance = Floats | FactoredCovariance


@dataclass(frozen=True, eq=False, kw_only=True)
class Moments(ReadOnlyArrays):
    """First and second moments of what a block's weight is multiplied with, patches for a Conv.

    Attributes:
        mean: (groups, columns) float64.
        covariance: (groups, columns, columns) float64, centred, shrunk towards a multiple of the
            identity, hence positive definite; of a wide block, whose square array would not fit
            into the memory for measuring, one factored covariance a group.
        rows: How many patches or vectors were seen.
        samples: How many independent samples they came from: groups, where samples have some.
        shrinkage: (groups,) share of the multiple of the identity in the covariance.
        source: What they come from; ``batch_normalization`` where the file tells the mean and the
            variances, and synthetic samples nothing but the correlations.
    """

    mean: Annotated[Floats, Axes(("groups", "columns")), FINITE]
    covariance: (
        Annotated[Floats, Axes(("groups", "columns", "columns")), FINITE]
        | tuple[FactoredCovariance, ...]
    )
    rows: Count
    samples: Count
    shrinkage: Annotated[Floats, Axes(("groups",)), Limits(least=0, most=1)]
    source: StatisticsSource = "samples"

    def problem(self) -> str | None:
        """What is wrong with it as a whole."""
        held = self.covariance
        if len(held) != len(self.mean):
            return f"{len(held)} covariances; use {len(self.mean)}."
        if isinstance(held, tuple):
            variances = np.stack([one.diagonal for one in held])
        else:
            variances = np.diagonal(held, axis1=1, axis2=2)
        return None if (variances >= 0).all() else "a variance is negative."

    def of_group(self, group: int) -> Covariance:
        """The covariance of one group's columns."""
        found: Covariance = self.covariance[group]
        return found

    @property
    def factored(self) -> bool:
        """Whether covariances are factored, as those of a wide block are."""
        return isinstance(self.covariance, tuple)


@dataclass(frozen=True)
class InputSpec:
    """An input of a model.

    Attributes:
        name: The tensor.
        dtype: Its numpy type; object where it is of text.
        shape: Lengths, None where an axis is dynamic.
        named: Names of the axes in the file, None where one has none; fewer where nothing is named.
            Axes with one name have one length.
        has_rank: Whether the file tells the number of axes; `shape` is empty where it does not.
        samples_axis: The axis of the samples: where a batch lies. None where the input has none,
            so that samples run one by one.
        requested: The shape that it has where the model is run without samples; None to find one.
    """

    name: str
    dtype: np.dtype[np.generic]
    shape: tuple[int | None, ...]
    named: tuple[str | None, ...] = ()
    has_rank: bool = True
    samples_axis: int | None = 0
    requested: tuple[int, ...] | None = None

    @property
    def axis_names(self) -> tuple[str, ...]:
        """A name for every axis: the file's, or one made of the input's name and the place."""
        own = (*self.named, *[None] * len(self.shape))[: len(self.shape)]
        return tuple(name or f"{self.name}, axis {place}" for place, name in enumerate(own))

    @property
    def sample_shape(self) -> tuple[int | None, ...]:
        """The shape of one sample: that of the input without the axis of the samples."""
        if self.samples_axis is None:
            return self.shape
        return (*self.shape[: self.samples_axis], *self.shape[self.samples_axis + 1 :])


@dataclass(frozen=True)
class Runnable:
    """A model that onnxruntime can open.

    Attributes:
        model: Serialised ModelProto; the data of external initializers is not in it.
        arrays: Values of such initializers by name; a session copies them.
        folder: Where the files lie that all others name; a session maps them into memory.
    """

    model: bytes
    arrays: dict[str, np.ndarray]
    folder: Path | None = None


# Below it relative errors and damages are nothing.
SMALLEST = 1e-12


@dataclass(frozen=True, eq=False, kw_only=True)
class Item(ReadOnlyArrays, ABC):
    """A block or a group of units, and what may become of it; the first option is to stay.

    Attributes:
        key: Of the block or group.
        errors: (options,) float64: relative errors, 0 of the first.
        damages: (options,) float64: what each by itself does to the outputs, 0 of the first; NaN
            where that was not measured.
    """

    key: str
    errors: Floats
    damages: Floats
    # Of what changed items save on average: by one common error, an item that saves less stays.
    least_saving: ClassVar[float] = 0.0

    @property
    @abstractmethod
    def sizes(self) -> Floats:
        """(options,) float64, positive: what options are told apart by, from the largest down."""

    @abstractmethod
    def some(self, places: Sequence[int]) -> Self:
        """With these options alone; the first one has to be among them."""

    def within(self, tolerance: float | None) -> Self:
        """With the options whose relative error is at most a limit; all of them without one."""
        if tolerance is None:
            return self
        return self.some(np.flatnonzero(self.errors <= tolerance).tolist())

    def scaled(self, factor: float) -> Self:
        """With damages multiplied by a factor."""
        return replace(self, damages=factor * self.damages)


@dataclass(frozen=True, eq=False)
class Site:
    """Where options of an item are tried, to find out what they do to the outputs.

    Attributes:
        key: Of the item.
        blocks: In whose places linear maps are tried, in topological order; none where whole
            models are run.
        tried: What tells the tries apart, in JSON's types.
        maps: Makes, for one try after the other, the maps by block key.
        models: The same for whole models that give some named tensors; None where blocks are.
        quantized: Whether what the blocks read is quantized to 8-bit integers all the while.
    """

    key: str
    blocks: tuple[Block, ...]
    tried: tuple[tuple[str | int, ...], ...]
    maps: Callable[[], Iterator[Mapping[str, LinearMap]]]
    models: Callable[[tuple[str, ...]], Iterator[Runnable]] | None = None
    quantized: bool = False


def interpolated(errors: Floats, known: Floats, measured: Floats) -> Floats:
    """Damages by relative errors: straight lines in logarithms through what was measured.

    Beyond what was measured damage goes with the square of the error, as small errors do. A larger
    error never does less: what says otherwise is noise of the samples.

    Args:
        errors: (options,) float64, of all options.
        known: (tries,) float64, of those that were measured.
        measured: (tries,) float64, their damages.

    Returns:
        (options,) float64.
    """
    order = np.argsort(known, kind="stable")
    rising = np.minimum.accumulate(np.maximum(measured[order], SMALLEST)[::-1])[::-1]
    places, first = np.unique(np.log(np.maximum(known[order], SMALLEST)), return_index=True)
    sought = np.log(np.maximum(errors, SMALLEST))
    inside = np.interp(sought, places, np.log(rising[first]))
    below, above = np.minimum(sought - places[0], 0), np.maximum(sought - places[-1], 0)
    return np.asarray(np.exp(inside + 2 * (below + above)))
