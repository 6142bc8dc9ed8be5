"""Options of a run: records whose fields declare the options, checked when they are made.

The command line, --config files and the settings that a report states (`core/results`) are made of
these fields. A field's help says what it means; docstrings add what holds for Python alone.
"""

import math
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Final, Literal

from onnx_relusv.core.arguments import (
    Option,
    Options,
    Selection,
    Target,
    check_type,
    is_allowed,
    parsed_shape,
)
from onnx_relusv.core.codec import Count, Limits, Whole
from onnx_relusv.core.errors import UsageError
from onnx_relusv.core.metric import Metric
from onnx_relusv.core.plans import (
    KEPT,
    Budgets,
    Effort,
    Int8Format,
    Method,
    Plan,
    Precision,
    WithPrecision,
)

# The value of options that are settled by what is found.
AUTO: Final = "auto"

# `auto`, or that of any execution provider that the installed onnxruntime offers, in any case.
ProviderName = str
AllocationName = Literal["auto", "level", "damage"]
DivergenceName = Literal["auto", "kl", "l2", "metric"]

# MiB. Enough for the moments of a ResNet-50 in one pass over the samples.
DEFAULT_MEMORY = 2048
LEAST_MEMORY = 256
# MiB that Python, numpy, onnx, onnxruntime and this package take by themselves.
_LIBRARIES = 192
# Numbers of channels that are left to choose of.
_LEAST_STEPS = 32


_EFFORT_HELP = (
    "What a run may cost. quick: a part of the samples, fewer tries, fits in closed form, and no "
    "look at time beyond a --latency; the file is checked and judged as ever."
)


@dataclass(frozen=True, kw_only=True)
class _RunOptions(Options):
    """What measuring and applying have in common."""

    provider: Annotated[
        ProviderName,
        Option(
            "Where models run: auto takes CUDA where it works; or cpu, cuda, or by its name any "
            "other execution provider that the installed onnxruntime offers: openvino, directml, "
            "coreml, tensorrt.",
            metavar="NAME",
        ),
    ] = AUTO
    seed: Annotated[Whole | None, Option("Makes a run repeatable.  [default: the plan's]")] = None
    effort: Annotated[Effort | None, Option(f"{_EFFORT_HELP}  [default: the plan's]")] = None
    memory: Annotated[
        int,
        Limits(least=LEAST_MEMORY),
        Option(
            "Memory for measuring, besides the model itself and what its largest block needs. "
            "With less, samples run through the model more often and fewer blocks are measured at "
            "once; a block whose covariance alone exceeds it is measured by a factored one.",
            metavar="MIB",
        ),
    ] = DEFAULT_MEMORY
    cache: Annotated[
        Path | None,
        Option(
            "Keep the results of long work in this folder and use those that are there: a run "
            "that was interrupted continues where it stopped.",
            metavar="DIR",
            stated=False,  # it changes no result
        ),
    ] = None
    max_samples: Annotated[
        Count | None,
        Option(
            "Draw at most this many of the samples, by the seed; groups stay whole.",
            metavar="N",
        ),
    ] = None
    input_shape: Annotated[
        tuple[str, ...],
        Option(
            "The shape of an input where the model is run without samples; found if not given. "
            "Repeat it for further inputs.",
            metavar="NAME=1x80x200",
        ),
    ] = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        for text in self.input_shape:
            parsed_shape(text)


@dataclass(frozen=True, kw_only=True)
class MeasureOptions(_RunOptions):
    """How blocks are measured."""

    seed: Annotated[Whole, Option("Makes a run repeatable.")] = 0
    effort: Annotated[Effort, Option(_EFFORT_HELP)] = "normal"

    @property
    def working_bytes(self) -> int:
        """Bytes of `memory` that are left for data."""
        return (self.memory - _LIBRARIES) << 20


@dataclass(frozen=True, kw_only=True)
class ApplyOptions(_RunOptions):
    """How a plan is applied: seed, effort, samples drawn and shapes are the plan's unless set."""

    def for_plan(self, plan: Plan) -> MeasureOptions:
        """The options in force, with what the plan was made with where nothing is set."""
        return MeasureOptions(
            provider=self.provider,
            seed=plan.seed if self.seed is None else self.seed,
            effort=self.effort or plan.effort,
            memory=self.memory,
            cache=self.cache,
            max_samples=plan.max_samples if self.max_samples is None else self.max_samples,
            input_shape=self.input_shape or plan.input_shape,
        )


# Which blocks may change, of a plan and of a sweep.
Include = Annotated[
    tuple[str, ...],
    Option(
        "Change only blocks that this matches: a glob on a block's key or on the name of one of "
        "its nodes, or op: and an operator, as in op:Conv. Units are removed only where all "
        "blocks that write and read them may change. A pattern that matches nothing is an error.",
        metavar="PATTERN",
    ),
]
Exclude = Annotated[
    tuple[str, ...],
    Option(
        "Keep what this matches, patterns as of --include. It wins over --include.",
        metavar="PATTERN",
    ),
]


# Of a plan and of a sweep.
Pack = Annotated[
    int | Literal["auto"],
    Limits(least=1),
    Option(
        "Channels that kernels of 2-D Convs compute at once on the processor that is to run the "
        "file, 16 with AVX-512 and 8 with AVX2; with 1, plans do not look at them. auto: as "
        "measured on this one."
    ),
]

Times = Annotated[
    Path | None,
    Option(
        "Plan by what measure-latency has timed, on the machine that is to run the file, in place "
        "of times from here.",
        metavar="FILE",
    ),
]


@dataclass(frozen=True, kw_only=True)
class PlanOptions(WithPrecision, Options):
    """What a plan may do.

    Attributes:
        budgets: Size, MACs, latency, tolerance, and the largest drop; all that are set hold.
        selection: What the patterns mean in a model, found when it is opened; not for callers.
    """

    budgets: Budgets = field(default_factory=Budgets)
    method: Annotated[
        Method,
        Option(
            "double-layer lowers ranks. harmonic removes neurons and channels, in balance over "
            "all groups that share them. auto does both, by the damage that each does for the "
            "bytes that it saves, where damage is measured, and makes double layers elsewhere.",
        ),
    ] = "auto"
    allocation: Annotated[
        AllocationName,
        Option(
            "level: one limit on the relative error of all blocks. damage: the least total damage "
            "to the model's outputs, measured on a part of the samples. auto: damage where there "
            "are samples, or with --method harmonic synthetic ones, and a --size, --macs or "
            "--latency.",
        ),
    ] = "auto"
    include: Include = ()
    exclude: Exclude = ()
    divergence: Annotated[
        DivergenceName,
        Option(
            "How damage is measured. kl: by the Kullback-Leibler divergence of class scores. l2: "
            "by the squared relative error of all outputs. metric: by what the --metric loses. "
            "auto: kl where there are class scores."
        ),
    ] = "auto"
    metric: Annotated[
        Metric | None,
        Option(
            "Judge by function(outputs, labels) -> float, higher is better, in place of top-1: all "
            "outputs in the graph's order as (samples, ...) arrays, and the labels, or None. The "
            "file's code is executed. With plan, it counts for --divergence metric alone.",
            metavar="FILE.py:FUNCTION",
        ),
    ] = None
    batch: Annotated[
        Count,
        Option(
            "Samples in a run that latency is measured at; a fixed batch of the model goes first."
        ),
    ] = 1
    round_to: Annotated[
        int | Literal["auto"],
        Limits(least=1),
        Option(
            "Where units are removed, leave a multiple of this many channels. auto: as many "
            "channels, and ranks, as this processor's kernels compute fast, and of plans that do "
            "as little damage the one that takes the least time."
        ),
    ] = AUTO
    keep_at_least: Annotated[
        Count, Option("Where units are removed, leave at least this many channels.")
    ] = 1
    input_range: Annotated[
        tuple[float, float] | None,
        Option(
            "Every value of the model's inputs lies between these; samples outside are refused. "
            "Without samples, the synthetic inputs that units are removed by have this scale.",
            metavar="LOW HIGH",
        ),
    ] = None
    precision: Annotated[
        Precision,
        Option(
            "What blocks are computed with. keep: the numbers of the file. int8: integers of 8 "
            "bits, weights and inputs alike, as onnxruntime runs them on a CPU; a block that they "
            "hurt may keep its numbers. Without samples, weights alone. fp16: half precision."
        ),
    ] = "keep"
    int8_format: Annotated[
        Int8Format,
        Option(
            "With --precision int8, what layers read beside signed weights. u8s8: unsigned "
            "integers with a zero point, as onnxruntime computes on a CPU. s8s8: signed integers, "
            "symmetric about 0, as TensorRT and many accelerators require. weights: floats, so "
            "that the file is smaller and computes as before; so it is without samples."
        ),
    ] = "u8s8"
    pack: Pack = AUTO
    times: Times = None
    selection: Selection | None = None

    def __post_init__(self) -> None:
        check_type("budgets", self.budgets, Budgets, "a Budgets")
        super().__post_init__()
        replace(self.budgets, max_drop=None).check()  # whose range depends on the metric
        self._check_method()
        self._check_range()
        self._check_drop()
        self._check_divergence()
        if self.budgets.latency is not None and (self.uses_fp16 or self.int8_format == "weights"):
            numbers = "--precision fp16" if self.uses_fp16 else "8-bit weights alone"
            raise UsageError(f"--latency does not go with {numbers}: use --size or --macs.")
        if self.int8_format != "u8s8" and not self.uses_int8:
            raise UsageError(f"--int8-format {self.int8_format}: add --precision int8, or drop it.")
        if self.allocation == "damage" and not self.has_budget:
            raise UsageError("--allocation damage needs a --size, --macs, --latency or --max-drop.")

    def _check_method(self) -> None:
        for name, value in (("round-to", self.round_to), ("keep-at-least", self.keep_at_least)):
            if value not in (AUTO, 1) and not self.removes_units:
                raise UsageError(f"--{name} is for units that are removed: use --method harmonic.")

    def _check_range(self) -> None:
        if self.input_range is None:
            return
        if len(self.input_range) != 2:
            count = len(self.input_range)
            raise UsageError(f"input_range has {count} numbers: use two, the lower one first.")
        low, high = self.input_range
        if not -math.inf < low < high < math.inf:
            raise UsageError(
                f"--input-range {low:g} {high:g}: use two finite numbers, the lower one first."
            )
        if not self.removes_units:
            raise UsageError("--input-range is for units that are removed: use --method harmonic.")

    @property
    def lowers_ranks(self) -> bool:
        """Whether blocks may become double layers."""
        return self.method != "harmonic"

    @property
    def removes_units(self) -> bool:
        """Whether units may be removed."""
        return self.method != "double-layer"

    @property
    def changes_precision_alone(self) -> bool:
        """Whether blocks keep their ranks and units, for no budget asks for less."""
        return self.precision != KEPT and not self.has_budget and self.budgets.tolerance is None

    def layers_alone(self) -> "PlanOptions":
        """The same for double layers alone, without what is said of units."""
        return replace(
            self,
            method="double-layer",
            round_to=AUTO if self.round_to == AUTO else 1,
            keep_at_least=1,
            input_range=None,
        )

    @property
    def goes_by_kernels(self) -> bool:
        """Whether plans go by what kernels compute fast, once their pack is known."""
        return self.round_to == AUTO and not self.uses_fp16

    @property
    def kernels_pack(self) -> int | None:
        """Channels that kernels compute at once; None where plans do not go by that, or not yet."""
        if not self.goes_by_kernels or self.pack == AUTO or self.pack == 1:
            return None
        return self.pack

    def multiple(self, length: int) -> int:
        """What numbers of channels, or ranks, out of so many have to be multiples of.

        Of what kernels compute at once it is all, a half or a quarter, so that 32 steps are left at
        least, and budgets can be used; where that is too much, any number will do.
        """
        if self.round_to != AUTO:
            return self.round_to
        pack = self.kernels_pack
        even = () if pack is None else (pack, pack // 2, pack // 4)
        return next((one for one in even if one and length >= _LEAST_STEPS * one), 1)

    @property
    def metric_file(self) -> Path | None:
        """The file that the metric comes from; None where there is none."""
        return None if self.metric is None else self.metric.path

    @property
    def has_budget(self) -> bool:
        """Whether there is something to share out among the blocks."""
        return bool(self.budgets.shares) or self.budgets.max_drop is not None

    def _check_drop(self) -> None:
        most, confidence = self.budgets.max_drop, self.budgets.confidence
        if self.metric is not None and most is not None and not 0 < most < math.inf:
            raise UsageError(f"--max-drop {most:g}: with a --metric, use its units, above 0.")
        if self.metric is None and most is not None and not 0 < most < 100:
            raise UsageError(f"--max-drop {most:g}: use points above 0 and below 100.")
        if most is not None and self.allocation == "level":
            raise UsageError(
                "--max-drop shares the loss out by damage; leave --allocation level away."
            )
        if confidence is not None and most is None:
            raise UsageError("--confidence is that of a --max-drop; give one.")
        if self.budgets.drop_by is not None and (most is None or self.metric is not None):
            raise UsageError(
                f"--drop-by {self.budgets.drop_by} says what a --max-drop without a --metric "
                "bounds; leave it away, or give a --max-drop alone."
            )

    def _check_divergence(self) -> None:
        name = self.divergence
        if name == "metric" and self.metric is None:
            raise UsageError("--divergence metric needs a --metric.")
        if name != "auto" and self.allocation == "level":
            raise UsageError(
                f"--divergence {name} says how damage is measured; leave --allocation level away."
            )
        if name != "auto" and not self.has_budget:
            raise UsageError(
                f"--divergence {name} says how damage is measured, which it is for a --size, "
                "--macs or --max-drop; give one."
            )

    def allows(self, key: str) -> bool:
        """Whether a block, or what writes a tensor, may be changed; by its key."""
        if self.selection is not None:
            return key not in self.selection.left_out
        return is_allowed(Target(key), self.include, self.exclude)

    @property
    def notes(self) -> tuple[str, ...]:
        """Sentences on patterns that match nothing but what is left alone anyway."""
        return () if self.selection is None else self.selection.notes

    def excludes(self, key: str) -> bool:
        """Whether what writes a tensor was excluded, and not merely not included."""
        return self.selection is not None and key in self.selection.excluded
