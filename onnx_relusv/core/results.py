"""The frozen records of what commands found: checks, facts, evaluations, and the whole of it.

The settings that these state: the options that are set, and how they stand in a command line.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal

from onnx_relusv.core.arguments import nested_records, options_of
from onnx_relusv.core.blocks import Block, FunctionBounds, Refusal, StatisticsSource
from onnx_relusv.core.errors import Coverage
from onnx_relusv.core.measures import (
    ConfidenceInterval,
    Correction,
    FeedChange,
    Latency,
    LatencyOutcome,
    OutputChange,
    SampleCounts,
    Spectrum,
)
from onnx_relusv.core.metric import LossBound, Metric, MetricChange
from onnx_relusv.core.plans import Choice, Cost, GroupChoice, Plan

if TYPE_CHECKING:  # the command line shows its help without onnx
    from onnx import ModelProto

Setting = str | int | float | bool | list[str] | list[float]
Settings = Mapping[str, Setting]
NO_SETTINGS: Settings = MappingProxyType({})


def settings_of(record: Any) -> dict[str, Setting]:
    """The options of a record, and of the records in it, that are set and may decide a result.

    Returns:
        By long name without dashes. Paths are absolute: the settings may be used from anywhere.
    """
    found: dict[str, Setting] = {}
    for each in fields(record):
        value = getattr(record, each.name)
        declared = options_of(type(record)).get(each.name)
        if each.name in nested_records(type(record)):
            found |= settings_of(value)
        elif declared is not None and declared.stated and value not in (None, ()):
            found[declared.name] = _setting(value, joined=declared.joined)
    return found


def _setting(value: Any, *, joined: bool) -> Setting:
    if joined:
        return joined_text(value)
    setting: Setting = value
    if isinstance(value, tuple):
        setting = [each if isinstance(each, str) else float(each) for each in value]  # type: ignore[assignment]
    elif isinstance(value, Path):
        setting = str(value.absolute())
    elif isinstance(value, Metric):
        setting = value.option
    return setting


def joined_text(values: Sequence[str | float]) -> str:
    """Several values as one text, as `--sizes` and `--methods` take them."""
    return ",".join(value if isinstance(value, str) else repr(value) for value in values)


def command_options(record: Any) -> list[str]:
    """The options of a record that are not its defaults, as they stand in a command line."""
    found: list[str] = []
    for name, declared in options_of(type(record)).items():
        value = getattr(record, name)
        if declared.stated and value != declared.default:
            for each in value if isinstance(value, tuple) else (value,):
                found += [f"--{declared.name}", str(each)]
    return found


# What a result is judged on; see `Assessment`.
JudgedPart = Literal["test", "certifying", "choosing", "fitting", "synthetic"]


@dataclass(frozen=True)
class Check:
    """One point of the validation: what was checked, and the figures it was judged by."""

    name: str
    detail: str


@dataclass(frozen=True)
class Verdict:
    """All checks of the validation, each of them passed.

    Attributes:
        checks: In their order.
        output_error: Relative L2 change of every output on the first samples, or on one batch of
            random inputs where there were none; an `Assessment` says what a result costs.
    """

    checks: tuple[Check, ...]
    output_error: dict[str, float]


@dataclass(frozen=True, kw_only=True)
class ModelFacts:
    """What a model file is, for reports.

    Attributes:
        path: Where it was read or written; where it came from Python, the argument's name, and
            ``result`` where it went there.
        bytes: Of the file and its external data.
        parameters: Floating-point numbers in initializers and Constant nodes.
        macs: Of all Conv, ConvTranspose, Gemm and MatMul nodes for one sample.
        sha256: Of the file and its external data.
        opset: Version of the default operator set.
    """

    path: Path
    bytes: int
    parameters: int
    macs: int
    sha256: str
    opset: int


@dataclass(frozen=True, kw_only=True)
class Shares:
    """What is left of a model, as shares from 0 on; None where it had nothing."""

    size: float | None
    macs: float | None
    parameters: float | None


@dataclass(frozen=True, eq=False, kw_only=True)
class TwoModels:
    """A model and what stands in its place: a smaller one, or one that it is compared with."""

    before: ModelFacts
    after: ModelFacts

    @property
    def shares(self) -> Shares:
        """What is left of the first one."""
        before, after = self.before, self.after
        return Shares(
            size=after.bytes / before.bytes if before.bytes else None,
            macs=after.macs / before.macs if before.macs else None,
            parameters=after.parameters / before.parameters if before.parameters else None,
        )


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """Two models side by side on samples.

    Attributes:
        samples: How many.
        agreement: Share of samples with equal answers, where a NaN among the scores is none; None
            where no output has answers, one a sample.
        accuracy_before: Share of right answers of the first model; None without labels, and where
            a metric is in its place.
        accuracy_after: Likewise of the second.
        outputs: How far every output is from the first model's.
        latencies: One a batch size.
        provider: The execution provider that ran both.
        metric: What a metric says of both; it takes the place of the accuracy.
        agreement_interval: An exact 95 % interval of the agreement, after Clopper and
            Pearson; None where samples depend on each other, or there is no agreement.
        drop_interval: Likewise of the lost accuracy in points, of paired answers.
    """

    samples: int
    agreement: float | None
    accuracy_before: float | None
    accuracy_after: float | None
    outputs: tuple[OutputChange, ...]
    latencies: tuple[Latency, ...]
    provider: str
    metric: MetricChange | None = None
    agreement_interval: ConfidenceInterval | None = None
    drop_interval: ConfidenceInterval | None = None

    @property
    def change(self) -> float:
        """That of the output that changes most; see `OutputChange.change`."""
        return max((one.change for one in self.outputs), default=0.0)

    @property
    def drop(self) -> float | None:
        """Lost accuracy in points; None without labels."""
        if self.accuracy_before is None or self.accuracy_after is None:
            return None
        return 100 * (self.accuracy_before - self.accuracy_after)


@dataclass(frozen=True, kw_only=True)
class Assessment:
    """What a smaller model costs, measured on the written file.

    Attributes:
        part: What it was measured on: samples of a file of their own, or those that were set aside
            for certifying, which nothing was fitted to or chosen on; those for choosing, which
            nothing was fitted to; those for fitting, where there are no others; or synthetic feeds.
        evaluation: Both models side by side. On synthetic feeds, every output on the feed on which
            it changes most.
        feeds: The synthetic feeds one by one; none with samples.
        withheld: Outputs whose change tells nothing on these inputs, by name, with the reason.
        latency: Of one run of both models.
        alarms: Sentences for the user, where so much changes that the result may be of no use.
        conclusion: What it costs and what to do next, in plain words.
    """

    part: JudgedPart
    evaluation: Evaluation
    feeds: tuple[FeedChange, ...] = ()
    withheld: Mapping[str, str] = field(default_factory=dict)
    latency: Latency
    alarms: tuple[str, ...] = ()
    conclusion: str = ""

    @property
    def change(self) -> float | None:
        """That of the output that changes most; None where no output tells anything."""
        told = [one.change for one in self.evaluation.outputs if one.name not in self.withheld]
        return max(told, default=None)


@dataclass(frozen=True, eq=False, kw_only=True)
class RankSaving:
    """What the cheapest form at a tolerance would save of a block.

    Attributes:
        tolerance: The level.
        form: The form, or None where none makes the block smaller at that level.
        rank: Its rank, or None.
        saved_bytes: Bytes it saves.
        saved_macs: Multiply-accumulates it saves for one sample.
    """

    tolerance: float
    form: str | None
    rank: int | None
    saved_bytes: int
    saved_macs: int


@dataclass(frozen=True, eq=False, kw_only=True)
class BlockReport:
    """All that is known of one block.

    Attributes:
        block: The block.
        parameters: Numbers in its weight and bias.
        cost: What it costs as it is.
        spectrum: Its measures.
        savings: At a few tolerances.
        statistics: What it was measured on.
        choice: What the plan does; None in an inspection.
        unfolding: Where the choice's rank is of another matrix than that of the spectrum, of which,
            in words; empty otherwise.
        level: The level that the written factors reach; 0 where the block is kept.
        cost_after: What it costs in the written file, its bytes an upper bound that is off by a
            few hundred; None in an inspection.
        latency_before: Seconds that the block takes by itself, as it was; None where it is kept.
        latency_after: Likewise in the form that it was given.
        sensitivity: What half of its weights, gone in the way that does least, would do to the
            outputs with every other block as it was, estimated; None where it was not measured.
        behind: Of the block with what follows, where that is one of `spectra.ACTIVATIONS` which a
            double layer does not see; otherwise None.
    """

    block: Block
    parameters: int
    cost: Cost
    spectrum: Spectrum
    savings: tuple[RankSaving, ...]
    statistics: StatisticsSource = "none"
    choice: Choice | None = None
    unfolding: str = ""
    level: float = 0.0
    cost_after: Cost | None = None
    latency_before: float | None = None
    latency_after: float | None = None
    sensitivity: float | None = None
    behind: FunctionBounds | None = None


@dataclass(frozen=True, kw_only=True)
class GroupReport:
    """What became of a group of units that share channels.

    Attributes:
        choice: What the plan does with it.
        operators: What lies between its producers and its consumers, in topological order, each
            once; none where that was not determined.
    """

    choice: GroupChoice
    operators: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class ChannelRefusal:
    """A node with a weight whose output channels all stay.

    Attributes:
        key: The tensor that it writes.
        operator: Its own.
        reason: In words.
    """

    key: str
    operator: str
    reason: str


@dataclass(frozen=True, kw_only=True)
class Provenance:
    """Who made a result, and from what.

    Attributes:
        versions: Of this package, Python, numpy, onnx, onnxruntime.
        provider: The execution provider that ran the graphs.
        seed: In force.
        command: The command line that repeats the run, or the name of the API call.
        samples: Path of the samples, in words where they come from Python; None without any.
        samples_sha256: Of their names, types and values, or None.
        sample_count: How many, 0 without.
        sample_groups: In how many groups, of which each depends on no other; None where every
            sample is by itself.
        settings: All options of measuring and planning in force, and the samples, by long name.
    """

    versions: dict[str, str]
    provider: str
    seed: int
    command: str
    samples: str | None
    samples_sha256: str | None
    sample_count: int
    sample_groups: int | None = None
    settings: Settings = field(default_factory=dict)


@dataclass(frozen=True, eq=False, kw_only=True)
class Inspection:
    """What `inspect` found; the warnings are sentences for the user.

    Where the model's bytes lie is None where that was not looked into.
    """

    model: ModelFacts
    rows: tuple[BlockReport, ...]
    refusals: tuple[Refusal, ...]
    provenance: Provenance
    warnings: tuple[str, ...] = ()
    coverage: Coverage | None = None


@dataclass(frozen=True, kw_only=True)
class StoredNumbers:
    """What numbers occupy in a file, in bytes.

    Attributes:
        key: The block's that reads them; None for what is in the file besides the blocks' numbers.
        integers: Weights of 8-bit integers.
        scales: Scales and zero points, of tensors that several blocks read at the first of them.
        floats: Biases, and weights that are floats.
        others: Scales of tensors between blocks, other constants, nodes and names.
    """

    key: str | None
    integers: int = 0
    scales: int = 0
    floats: int = 0
    others: int = 0

    @property
    def bytes(self) -> int:
        """All of it."""
        return self.integers + self.scales + self.floats + self.others


@dataclass(frozen=True, eq=False, kw_only=True)
class Compression(TwoModels):
    """What `compress` and `apply` did to the original, of which the second model is left.

    Attributes:
        plan: What was decided.
        rows: One a block.
        refusals: What was left alone, with reasons.
        groups: One a group of units, in topological order; none where no units are removed.
        channel_refusals: Whose output channels stay, with reasons, where units are removed.
        stored: What the file's numbers occupy, by block; none where none are 8-bit integers.
        verdict: The validation.
        bound: How much is lost at most, exact or estimated; None where that was not requested.
        correction: What became of the corrective round; None where there was none.
        metric: What a metric says of both models; None where none was given.
        batch: Samples in a run that blocks were timed with.
        latency: What came of a budget on latency; None without one.
        assessment: What it costs.
        samples: How many there were, and what for; None without.
        warnings: Sentences for the user, the alarms of the assessment first.
        provenance: Who made it.
        model: The smaller model, where no output was given to write it to; None elsewhere.
    """

    plan: Plan
    rows: tuple[BlockReport, ...]
    refusals: tuple[Refusal, ...]
    groups: tuple[GroupReport, ...] = ()
    channel_refusals: tuple[ChannelRefusal, ...] = ()
    stored: tuple[StoredNumbers, ...] = ()
    verdict: Verdict
    bound: LossBound | None = None
    correction: Correction | None = None
    metric: MetricChange | None = None
    batch: int = 1
    latency: LatencyOutcome | None = None
    assessment: Assessment
    samples: SampleCounts | None = None
    warnings: tuple[str, ...]
    provenance: Provenance
    model: "ModelProto | None" = None

    @property
    def evaluation(self) -> Evaluation:
        """Both models side by side, as they were assessed."""
        return self.assessment.evaluation


@dataclass(frozen=True, eq=False, kw_only=True)
class Comparison(TwoModels):
    """What `compare` found; the warnings are sentences for the user."""

    evaluation: Evaluation
    provenance: Provenance
    warnings: tuple[str, ...] = ()
