"""The frozen records that travel between the stages.

Records with arrays compare by identity, and their arrays are read-only: a stage that wants
something else makes a new record. Tensors are named as in the ONNX file; a block's key is the name
of the tensor that leaves it.
"""

from dataclasses import dataclass, fields
from math import prod
from typing import Literal

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
ActivationKind = Literal["relu", "clip", "leaky_relu", "prelu", "none"]
BlockKind = Literal["gemm", "matmul", "conv"]
Form = Literal["pair", "channel", "spatial"]
Action = Literal["keep", "double_layer"]


class ReadOnlyArrays:
    """Mixin: makes every array field of a dataclass read-only once it is constructed."""

    def __post_init__(self) -> None:
        for field in fields(self):  # type: ignore[arg-type]
            value = getattr(self, field.name)
            if isinstance(value, np.ndarray):
                view = value.view()
                view.flags.writeable = False
                object.__setattr__(self, field.name, view)


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


@dataclass(frozen=True, kw_only=True)
class Geometry:
    """How a linear map meets its input.

    A Conv's weight acts on patches: in every group its kernel is a matrix of shape
    (out_channels / groups, columns), the columns in the order channel, kernel row, kernel column.

    Attributes:
        kind: The operator.
        in_channels: Input channels, or features of a Gemm or MatMul.
        out_channels: Output channels or features.
        groups: Groups of a Conv.
        kernel: One or two lengths for a Conv, otherwise empty, as are the next three.
        strides: One per spatial axis.
        dilations: One per spatial axis.
        pads: All begins, then all ends; counts only where auto_pad is NOTSET.
        auto_pad: NOTSET, VALID, SAME_UPPER or SAME_LOWER.
    """

    kind: BlockKind
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
        element_type: ONNX element type of the weight.
        original_bytes: What the weight, bias and BatchNormalization vectors that only this block
            uses occupy in the file.
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
class Moments(ReadOnlyArrays):
    """First and second moments of what a block's weight is multiplied with, patches for a Conv.

    Attributes:
        mean: (groups, columns) float64.
        covariance: (groups, columns, columns) float64, centred, shrunk towards a multiple of the
            identity, hence positive definite.
        rows: How many patches or vectors were seen.
        samples: How many samples they came from.
        shrinkage: (groups,) share of the multiple of the identity in the covariance.
    """

    mean: Floats
    covariance: Floats
    rows: int
    samples: int
    shrinkage: Floats


@dataclass(frozen=True, eq=False, kw_only=True)
class Spectrum(ReadOnlyArrays):
    """What is known of a block's ReLU singular values and mean widths.

    With moments, all of it is about the linear map seen through the centred covariance C of its
    input, W C^(1/2); without, about W. Grouped Conv: the largest over the groups.

    Attributes:
        sigma: (r,) ordinary singular values, descending.
        lower: (r,) certified lower bounds of s_0 .. s_(r-1) on the unit ball, without bias.
        upper: (r,) certified upper bounds.
        estimate: (r,) estimates found by ascent, clipped into the bracket; neither bound. NaN
            where none was computed.
        mean_width: Gaussian mean width of the linear image of the unit ball.
        relu_mean_width_lower: Certified lower bound of the width after the activation; NaN where
            none is proved.
        relu_mean_width_upper: Certified upper bound; NaN where none is proved.
        relu_mean_width: Monte Carlo estimate from below; NaN where not computed.
        relu_mean_width_error: Standard error of that estimate from the sampling of g alone.
        in_data_metric: Whether samples shaped the metric.
        iterations: Steps of the ascent.
        seed: What drew its starts.
        provider: The execution provider that ran it.
    """

    sigma: Floats
    lower: Floats
    upper: Floats
    estimate: Floats
    mean_width: float
    relu_mean_width_lower: float
    relu_mean_width_upper: float
    relu_mean_width: float
    relu_mean_width_error: float
    in_data_metric: bool
    iterations: int
    seed: int
    provider: str

    @property
    def stable_rank(self) -> float:
        """Sum of the squared singular values over the largest one squared; 0 for a zero map."""
        return float(np.sum(self.sigma**2) / self.sigma[0] ** 2) if self.sigma[0] > 0 else 0.0


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """One way to rewrite a block.

    Attributes:
        form: The double layer's form.
        rank: Its inner width, per group.
        level: |(W - L) C^(1/2)|_2 / |W C^(1/2)|_2 with L its composed kernel.
        bytes: What the new initializers and nodes occupy, an upper bound.
        macs: Multiply-accumulates for one sample.
    """

    form: Form
    rank: int
    level: float
    bytes: int
    macs: int


@dataclass(frozen=True, kw_only=True)
class Cost:
    """What a block, or a model, costs: bytes in the file and multiply-accumulates a sample."""

    bytes: int
    macs: int


@dataclass(frozen=True, kw_only=True)
class Choice:
    """What the plan does with one block; `rank` and `form` are None where it is kept."""

    key: str
    action: Action = "keep"
    form: Form | None = None
    rank: int | None = None
    level: float = 0.0
    why: str = ""


@dataclass(frozen=True, kw_only=True)
class Budgets:
    """What the user asked for: shares of the original's bytes and MACs, and a common level."""

    size: float | None = None
    macs: float | None = None
    tolerance: float | None = None


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Decisions for every block, made for one model and one set of samples.

    Attributes:
        model_sha256: Of the model file and its external data.
        samples_sha256: Of the samples, or None where there were none.
        budgets: As asked for.
        method: double-layer.
        seed: What drew positions and starts.
        level: The common level tau that was found or asked for.
        size: Expected share of the original's bytes, an upper bound.
        macs: Expected share of the original's MACs.
        choices: One a block, in topological order.
    """

    model_sha256: str
    samples_sha256: str | None
    budgets: Budgets
    method: str
    seed: int
    level: float
    size: float
    macs: float
    choices: tuple[Choice, ...]


@dataclass(frozen=True, eq=False, kw_only=True)
class Factors(ReadOnlyArrays):
    """A double layer in numbers.

    Attributes:
        form: Its form.
        rank: Inner width, per group.
        first: (groups, rank, first columns) float64.
        second: (groups, second rows, rank) float64.
        bias: (out_channels,) float64, added by the last layer.
        level: The level its composed kernel reaches.
    """

    form: Form
    rank: int
    first: Floats
    second: Floats
    bias: Floats
    level: float


@dataclass(frozen=True)
class InputSpec:
    """An input of a model.

    Attributes:
        name: The tensor.
        dtype: Its numpy type.
        shape: Lengths, None where an axis is dynamic; axis 0 is the samples' axis.
    """

    name: str
    dtype: np.dtype[np.generic]
    shape: tuple[int | None, ...]


@dataclass(frozen=True)
class Runnable:
    """A model that onnxruntime can open.

    Attributes:
        model: Serialised ModelProto; the data of the initializers in `arrays` is not in it.
        arrays: Their values by name.
    """

    model: bytes
    arrays: dict[str, np.ndarray]
