"""The frozen records of what was decided, and of the numbers that carry it out."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Literal

import numpy as np
import numpy.typing as npt

from onnx_relusv.core.arguments import as_number, put
from onnx_relusv.core.blocks import Floats, ReadOnlyArrays, StatisticsSource

# Dense is the block's own form, one layer with other values.
Form = Literal["pair", "channel", "spatial", "tucker", "dense"]
Action = Literal["keep", "refit", "prune", "double_layer"]
Allocation = Literal["level", "damage"]


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """One way to rewrite a block.

    Attributes:
        form: The double layer's form.
        rank: Its inner width, per group; of a tucker, that behind the core.
        level: |(W - L) C^(1/2)|_2 / |W C^(1/2)|_2 with L its composed kernel; interpolated at ranks
            that no level was computed at (`between_rungs`).
        bytes: What the new initializers and nodes occupy, an upper bound.
        macs: Multiply-accumulates for one sample.
        damage: Divergence of the network's outputs with this block alone changed; NaN where it
            was not measured.
        latency: Estimated seconds that it takes in one run of the model; NaN where nothing was
            timed.
    """

    form: Form
    rank: int
    level: float
    bytes: int
    macs: int
    damage: float = math.nan
    latency: float = math.nan


@dataclass(frozen=True, kw_only=True)
class DamageCurve:
    """What a form of a block, with every other block as it was, does to the outputs.

    Attributes:
        key: The block's.
        form: The form.
        ranks: Increasing; those that were measured.
        damages: Divergence of the outputs at each; measured on held-out samples, with factors
            that are best in the metric of the block's input.
    """

    key: str
    form: Form
    ranks: tuple[int, ...]
    damages: tuple[float, ...]


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
        form: None where it is kept.
        rank: None where it is kept.
        level: That of the candidate; 0 where it is kept.
        damage: What the candidate by itself does to the outputs; None where it was not measured.
        why: In words.
        statistics: What the block was measured on; None where a plan does not say.
        inputs: How many input channels are left; None where all are.
        outputs: How many output channels are left; None where all are.
    """

    key: str
    action: Action = "keep"
    form: Form | None = None
    rank: int | None = None
    level: float = 0.0
    damage: float | None = None
    why: str = ""
    statistics: StatisticsSource | None = None
    inputs: int | None = None
    outputs: int | None = None


@dataclass(frozen=True, kw_only=True)
class GroupCurve:
    """What the removal of a group's units, with everything else as it was, does to the outputs.

    Attributes:
        key: The group's.
        counts: Increasing: units that are kept; those that were measured.
        damages: Divergence of the outputs at each, with consumers that reproduce what is gone as
            well as they can; measured on held-out samples.
    """

    key: str
    counts: tuple[int, ...]
    damages: tuple[float, ...]


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
    units: int
    kept: tuple[int, ...]
    level: float
    producers: tuple[str, ...]
    consumers: tuple[str, ...]
    why: str
    damage: float | None = None


@dataclass(frozen=True, kw_only=True)
class Budgets:
    """What the user asked for; None where nothing was.

    Attributes:
        size: Share of the original's bytes.
        macs: Share of its multiply-accumulates.
        latency: Share of its measured time of a run.
        tolerance: The common level.
        max_drop: Points of accuracy that may be lost, or of answers that may change where there
            are no labels; where there is a metric, what it may lose, in its own units.
        confidence: With which that is certified.
    """

    size: float | None = None
    macs: float | None = None
    tolerance: float | None = None
    max_drop: float | None = None
    confidence: float | None = None
    latency: float | None = None

    def __post_init__(self) -> None:
        for each in fields(self):
            value = getattr(self, each.name)
            if value is not None:
                put(self, each.name, as_number(each.name, value))


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Decisions for every block, made for one model and one set of samples.

    Attributes:
        model_sha256: Of the model file and its external data.
        samples_sha256: Of the samples, or None where there were none.
        budgets: As asked for.
        method: double-layer, harmonic, or auto, which is both.
        seed: What drew positions and starts.
        allocation: Whether blocks share one level, or one multiplier over their damages.
        level: The common level tau that was found or asked for; by damage, the largest level.
        damage: Expected divergence of the outputs, the sum of the choices'; None by level.
        damage_measure: What damages are, in words; None by level.
        size: Expected share of the original's bytes, an upper bound.
        macs: Expected share of the original's MACs.
        choices: One a block, in topological order.
        curves: The damage curves that were measured; none by level.
        batch: Samples in a run that latency is measured at.
        latency: Expected share of the original's time of a run, an estimate; None where no budget
            on latency was given.
        groups: What becomes of every group of units; none where no units are removed.
        group_curves: The damage curves of groups that were measured.
        input_range: Between which numbers all inputs lie, as was declared; None where it was not.
        max_samples: How many of the samples at most were drawn; None where all were taken.
        warnings: Sentences for the user on what the samples can tell.
        edited: Sentences on what was edited in its file without any effect; not in the file.
    """

    model_sha256: str
    samples_sha256: str | None
    budgets: Budgets
    method: str
    seed: int
    allocation: Allocation
    level: float
    size: float
    macs: float
    choices: tuple[Choice, ...]
    damage: float | None = None
    damage_measure: str | None = None
    curves: tuple[DamageCurve, ...] = ()
    batch: int = 1
    latency: float | None = None
    groups: tuple[GroupChoice, ...] = ()
    group_curves: tuple[GroupCurve, ...] = ()
    input_range: tuple[float, float] | None = None
    max_samples: int | None = None
    warnings: tuple[str, ...] = ()
    edited: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class Kept(ReadOnlyArrays):
    """What is left of a block's channels.

    Attributes:
        inputs: (kept,) int64, increasing: places among the input channels of one group, the same
            in all groups.
        outputs: (kept,) int64, increasing: places among all output channels.
        twins: (input channels of one group,) int64, of the whole block: for every input channel
            the first one that it always equals, or itself; None where none does.
    """

    inputs: npt.NDArray[np.int64]
    outputs: npt.NDArray[np.int64]
    twins: npt.NDArray[np.int64] | None = None


@dataclass(frozen=True, eq=False, kw_only=True)
class Factors(ReadOnlyArrays):
    """A double layer in numbers, or other values for a block in its own form.

    Attributes:
        form: Its form.
        rank: Inner width, per group; of the dense form, the rank that it has at most.
        matrices: The factors in the order in which their layers run, float64, with the groups as
            their first axis: one of each of `forms.shapes`.
        bias: (out_channels,) float64, added by the last layer.
        kept: What is left of the block's channels, which shapes and bias are of; None where all
            are.
    """

    form: Form
    rank: int
    matrices: tuple[Floats, ...]
    bias: Floats
    kept: Kept | None = None

    @property
    def first(self) -> Floats:
        """(groups, rank, first columns); of a tucker (groups, p, input channels)."""
        return self.matrices[0]

    @property
    def second(self) -> Floats:
        """(groups, second rows, rank); of a tucker (groups, rows, r)."""
        return self.matrices[-1]

    @property
    def core(self) -> Floats | None:
        """(groups, r, p * kernel values) between the two, of a tucker alone."""
        return self.matrices[1] if self.form == "tucker" else None

    def with_matrices(self, matrices: Sequence[Floats]) -> "Factors":
        """Other factors of the same shapes, in the order of `matrices`."""
        return replace(self, matrices=tuple(matrices))
