"""The frozen records of what was decided, and of the numbers that carry it out."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Annotated, Literal

import numpy as np
import numpy.typing as npt

from onnx_relusv.core.arguments import Option, Options
from onnx_relusv.core.blocks import Floats, ReadOnlyArrays, StatisticsSource
from onnx_relusv.core.codec import (
    FINITE,
    INCREASING,
    UNSTORED,
    Axes,
    Count,
    Limits,
    NonNegative,
    Share,
    Whole,
)
from onnx_relusv.core.measures import DamageCurve, GroupCurve, IntegerDamage, ModelledTime

Action = Literal["keep", "refit", "prune", "double_layer"]
Allocation = Literal["level", "damage"]
Method = Literal["auto", "double-layer", "harmonic"]
Effort = Literal["quick", "normal"]
# The numbers that a block is computed with: those of the file, 8-bit integers, or half precision.
Precision = Literal["keep", "int8", "fp16"]
# Of these, the file's own; an action has the same word.
KEPT: Precision = "keep"
# What layers of 8-bit integers read, beside weights that are signed: unsigned integers with a zero
# point, signed ones whose zero point is 0, or floats.
Int8Format = Literal["u8s8", "s8s8", "weights"]
# How weights become integers: columns make up for what others have lost, or each by itself.
Rounding = Literal["error_feedback", "nearest"]
# How far the integers of a tensor reach, of what was seen of it.
Ranges = Literal["least_squared_error", "min_max"]


class WithPrecision:
    """A record that says what files are computed with."""

    precision: Precision

    @property
    def uses_int8(self) -> bool:
        """Whether blocks may be computed with 8-bit integers."""
        return self.precision == "int8"

    @property
    def uses_fp16(self) -> bool:
        """Whether the file is computed in half precision."""
        return self.precision == "fp16"


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """One way to rewrite a block.

    Attributes:
        form: Name of the double layer's form.
        rank: Its inner width, per group; of a tucker, that behind the core.
        level: |(W - L) C^(1/2)|_2 / |W C^(1/2)|_2 with L its composed kernel; interpolated at ranks
            that no level was computed at (`between_ranks`).
        bytes: What the new initializers and nodes occupy, an upper bound.
        macs: Multiply-accumulates for one sample.
        latency: Estimated seconds that it takes in one run of the model; NaN where nothing was
            timed.
        precision: What it is computed with.
    """

    form: str
    rank: Count
    level: NonNegative
    bytes: Whole
    macs: Whole
    latency: float = math.nan
    precision: Precision = "keep"

    @property
    def is_int8(self) -> bool:
        """Whether it is computed with 8-bit integers."""
        return self.precision == "int8"


@dataclass(frozen=True, kw_only=True)
class Cost:
    """What a block, or a model, costs.

    Attributes:
        bytes: In the file.
        macs: Multiply-accumulates for one sample.
        latency: Seconds that it takes in one run of the model; NaN where nothing was timed.
    """

    bytes: int
    macs: int
    latency: float = math.nan


@dataclass(frozen=True, kw_only=True)
class Choice:
    """What the plan does with one block.

    Attributes:
        key: The block's.
        action: What is done; ``refit`` gives the block other values in its own form, ``prune``
            fewer channels, and other values where inputs are among them or samples say which
            tell the readers more. A ``double_layer`` may have fewer channels too.
        form: Name of the form; None where it is kept.
        rank: None where it is kept.
        level: That of the candidate; 0 where it is kept.
        damage: What the candidate by itself does to the outputs; None where it was not measured.
        why: In words.
        statistics: What the block was measured on; None where a plan does not say.
        inputs: How many input channels are left; None where all are.
        outputs: How many output channels are left; None where all are.
        precision: What it is computed with.
        rounding: Of its weights, where these are integers; None where they are not, or a plan
            does not say.
    """

    key: str
    action: Action = "keep"
    form: str | None = None
    rank: Count | None = None
    level: NonNegative = 0.0
    damage: NonNegative | None = None
    why: str = ""
    statistics: StatisticsSource | None = None
    inputs: Count | None = None
    outputs: Count | None = None
    precision: Precision = "keep"
    rounding: Rounding | None = None

    @property
    def is_kept(self) -> bool:
        """Whether the block stays as it is."""
        return self.action == "keep"

    @property
    def loses_channels(self) -> bool:
        """Whether channels of the block are removed, and it stays one layer."""
        return self.action == "prune"

    @property
    def is_double_layer(self) -> bool:
        """Whether the block becomes a double layer."""
        return self.action == "double_layer"

    @property
    def is_int8(self) -> bool:
        """Whether the block is computed with 8-bit integers."""
        return self.precision == "int8"

    @property
    def is_fp16(self) -> bool:
        """Whether the block is computed in half precision."""
        return self.precision == "fp16"

    def problem(self) -> str | None:
        """What is wrong with it as a whole."""
        if self.is_kept and self.is_int8:
            return "a block that is kept has the precision int8; use the action refit."
        if self.rounding is not None and not self.is_int8:
            return "a rounding is that of integers; use the precision int8, or null."
        return None


@dataclass(frozen=True, kw_only=True)
class GroupChoice:
    """What the plan does with a group of units that share channels.

    Attributes:
        key: The tensor that its first producer writes.
        units: How many units it has.
        kept: Increasing: which of them stay, numbered in the order of that producer's channels.
        level: w(W R^(1/2)) / w(W C^(1/2)), what the kept ones cannot reproduce as the consumers
            see it; 0 where all are kept.
        damage: What the removal by itself does to the outputs; None where it was not measured.
        producers: Tensors whose weighted nodes lose rows.
        consumers: Tensors whose weighted nodes lose columns.
        why: In words.
    """

    key: str
    units: Count
    kept: Annotated[tuple[Whole, ...], INCREASING]
    level: NonNegative
    producers: tuple[str, ...]
    consumers: tuple[str, ...]
    why: str
    damage: NonNegative | None = None

    def problem(self) -> str | None:
        """What is wrong with it as a whole."""
        if not self.kept:
            return "kept is empty; one unit at least has to stay."
        if self.kept[-1] >= self.units:
            return f"kept has {self.kept[-1]}, but its units are 0 to {self.units - 1}."
        return None


@dataclass(frozen=True)
class Budget:
    """A budget on what the whole model costs, as a share of what the original does.

    Attributes:
        option: Field of `Budgets`, and of `Plan`, which expects a share.
        cost: Field of `Cost`.
        title: What it is called.
        words: What the share is of.
        estimated: Whether what a plan takes of it is an estimate, and not counted.
    """

    option: str
    cost: str
    title: str
    words: str
    estimated: bool = False


COST_BUDGETS = (
    Budget("size", "bytes", "size", "bytes"),
    Budget("macs", "macs", "MACs", "MACs"),
    Budget("latency", "latency", "latency", "latency", estimated=True),
)


@dataclass(frozen=True, kw_only=True)
class Budgets(Options):
    """What the user requires of a smaller model; None where nothing is required."""

    size: Annotated[Share | None, Option("Share of the bytes to keep, external data included.")] = (
        None
    )
    macs: Annotated[Share | None, Option("Share of the multiply-accumulates to keep.")] = None
    tolerance: Annotated[
        Share | None,
        Option(
            "Largest relative error of any block, one limit for all.  [default without a budget: "
            "0.02, or 0.1 where nothing is known of the inputs]",
        ),
    ] = None
    max_drop: Annotated[
        Annotated[float, Limits(above=0, below=100)] | None,
        Option(
            "Find the smallest file that loses at most this many points of accuracy, certified on "
            "a part of the samples. Without labels: the smallest in which at most this many "
            "answers in a hundred change. With a --metric: that loses at most this much of it, in "
            "its own units and not in points; that is estimated, not exact.",
            metavar="POINTS",
        ),
    ] = None
    confidence: Annotated[
        Annotated[float, Limits(above=0.5, below=1)] | None,
        Option("The probability with which --max-drop has to hold.  [default: 0.95]"),
    ] = None
    drop_by: Annotated[
        Literal["answers", "probabilities"] | None,
        Option(
            "What --max-drop bounds without labels: all answers that change, or the points that "
            "these cost by the original's class probabilities, which are presumed to be right on "
            "average there, or too far apart.  [default: answers]"
        ),
    ] = None
    latency: Annotated[
        Share | None,
        Option("Share of the time of a run to keep, measured with onnxruntime's own settings."),
    ] = None

    def __post_init__(self) -> None:
        # Not their ranges: a plan may be made for what is no share, as sizes tried are.
        self.convert()

    @property
    def shares(self) -> dict[Budget, float]:
        """The budgets on costs that are set, each with its share."""
        found = {budget: getattr(self, budget.option) for budget in COST_BUDGETS}
        return {budget: share for budget, share in found.items() if share is not None}


@dataclass(frozen=True, kw_only=True)
class TimedOn:
    """Where variants of a model were timed, for plans to go by.

    Attributes:
        machine: Its name.
        processor: Its kind.
        onnxruntime: The version.
        provider: The execution provider.
        threads: Of one operator, as onnxruntime chose; None where that cannot be seen.
        from_file: Whether times were read from a file, so that the machine may be another.
    """

    machine: str
    processor: str
    onnxruntime: str
    provider: str
    threads: Count | None
    from_file: bool = False


@dataclass(frozen=True, kw_only=True)
class Plan(WithPrecision):
    """Decisions for every block, made for one model and one set of samples.

    Attributes:
        model_sha256: Of the model file and its external data.
        samples_sha256: Of the samples, or None where there were none.
        budgets: As asked for.
        method: double-layer, harmonic, or auto, which is both.
        seed: What drew positions and starts.
        effort: What it might cost to make.
        allocation: Whether blocks share one level, or one multiplier over their damages.
        level: The common level tau that was found or asked for; by damage, the largest level.
        damage: Expected divergence of the outputs, the sum of the choices'; None by level.
        damage_measure: What damages are, in words; None by level.
        size: Expected share of the original's bytes, an upper bound.
        macs: Expected share of the original's MACs.
        choices: One a block, in topological order.
        curves: The damage curves that were measured; none by level.
        batch: Samples in a run that latency is measured at.
        pack: Channels that kernels compute at once, by whose times the plan was made; None where it
            was not made by them.
        timed_on: Whose times it went by; None where nothing was timed.
        latency: Expected share of the original's time of a run: with a budget on it as measured
            before anything is fitted, else by a model of the kernels; None where there is none.
        groups: What becomes of every group of units; none where no units are removed.
        group_curves: The damage curves of groups that were measured.
        int8_damages: Of the blocks that may be computed with 8-bit integers, the largest first.
        int8_format: What those of them that are computed with 8-bit integers read.
        int8_ranges: How far these integers reach.
        precision: As asked for.
        input_range: Between which numbers all inputs lie, as was declared; None where it was not.
        max_samples: How many of the samples at most were drawn; None where all were taken.
        input_shape: Shapes of inputs that were set, each as ``NAME=1x80x200``.
        warnings: Sentences for the user on what the samples can tell.
        edited: Sentences on what was edited in its file without any effect; not in the file.
        many: With many samples in a run, where that was looked at when it was made; likewise. It is
            nothing that was decided, so plans that differ in it are equal.
    """

    model_sha256: str
    samples_sha256: str | None
    budgets: Budgets
    method: Method
    seed: Whole
    effort: Effort = "normal"
    allocation: Allocation
    level: NonNegative
    size: NonNegative
    macs: NonNegative
    choices: tuple[Choice, ...]
    damage: NonNegative | None
    damage_measure: str | None = None
    curves: tuple[DamageCurve, ...]
    batch: Count = 1
    pack: Count | None = None
    timed_on: TimedOn | None = None
    latency: NonNegative | None = None
    groups: tuple[GroupChoice, ...] = ()
    group_curves: tuple[GroupCurve, ...] = ()
    int8_damages: tuple[IntegerDamage, ...] = ()
    int8_format: Int8Format = "u8s8"
    int8_ranges: Ranges = "least_squared_error"
    precision: Precision = "keep"
    input_range: Annotated[tuple[float, float], INCREASING] | None = None
    max_samples: Count | None = None
    input_shape: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    edited: tuple[str, ...] = field(default=(), metadata=UNSTORED)
    many: ModelledTime | None = field(default=None, compare=False, metadata=UNSTORED)

    @property
    def uses_int8(self) -> bool:
        """Whether some blocks are computed with 8-bit integers."""
        return any(choice.is_int8 for choice in self.choices)

    @property
    def quantizes_activations(self) -> bool:
        """Whether these blocks read 8-bit integers too, and not floats."""
        return self.uses_int8 and self.int8_format != "weights"

    def problem(self) -> str | None:
        """What is wrong with it as a whole."""
        possible = ("keep", "fp16" if self.uses_fp16 else "int8")
        other = next((one for one in self.choices if one.precision not in possible), None)
        if other is not None:
            return f"block {other.key} is {other.precision}, and the plan is {self.precision}."
        for what, listed in (("block", self.choices), ("group", self.groups)):
            keys = [one.key for one in listed]
            twice = sorted({key for key in keys if keys.count(key) > 1})
            if twice:
                return f"{what} {twice[0]} is listed twice."
        return None


@dataclass(frozen=True, eq=False)
class ChannelMask(ReadOnlyArrays):
    """What is left of a block's channels.

    Attributes:
        inputs: (kept,) int64, increasing: places among the input channels of one group, the same
            in all groups.
        outputs: (kept,) int64, increasing: places among all output channels.
        duplicates: (input channels of one group,) int64, of the whole block: for every input
            channel the first one that it always equals, or itself; None where none does.
    """

    inputs: Annotated[npt.NDArray[np.int64], Axes(("kept inputs",))]
    outputs: Annotated[npt.NDArray[np.int64], Axes(("outputs",))]
    duplicates: Annotated[npt.NDArray[np.int64], Axes(("inputs",))] | None = None


@dataclass(frozen=True, eq=False, kw_only=True)
class Factors(ReadOnlyArrays):
    """A double layer in numbers, or other values for a block in its own form.

    Attributes:
        form: Name of its form.
        rank: Inner width, per group; of the dense form, the rank that it has at most.
        matrices: The factors in the order in which their layers run, float64, with the groups as
            their first axis: one of each of `Form.shapes`.
        bias: (out_channels,) float64, added by the last layer.
        kept: What is left of the block's channels, which shapes and bias are of; None where all
            are.
        scales: Of the layers' weights, where these are integers times a scale of their row: one
            (groups, rows of the layer) float64 a layer, each a float32. Empty where they are not.
    """

    form: str
    rank: Count
    matrices: tuple[Annotated[Floats, FINITE], ...]
    bias: Annotated[Floats, Axes(("outputs",)), FINITE]
    kept: ChannelMask | None = None
    scales: tuple[Annotated[Floats, FINITE], ...] = ()

    @property
    def are_integers(self) -> bool:
        """Whether the weights are 8-bit integers times scales."""
        return bool(self.scales)

    def with_matrices(self, matrices: Sequence[Floats]) -> "Factors":
        """Other factors of the same shapes, in the order of `matrices`."""
        return replace(self, matrices=tuple(matrices))
