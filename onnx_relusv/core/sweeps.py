"""The frozen records of a sweep: the same model at many sizes, by several methods."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Annotated, Literal

from onnx_relusv.core.arguments import Option, Options
from onnx_relusv.core.codec import Limits, Share
from onnx_relusv.core.errors import UsageError
from onnx_relusv.core.options import AUTO, Exclude, Include, Pack, PlanOptions, Times
from onnx_relusv.core.plans import Allocation, Budgets, Int8Format, Method, Precision, WithPrecision
from onnx_relusv.core.results import Evaluation, ModelFacts, Provenance, TwoModels


@dataclass(frozen=True)
class SweepMethod(WithPrecision):
    """A method of a sweep.

    Attributes:
        meaning: What it does, in words.
        method: The `--method` of `compress` that does the same.
        allocation: Its `--allocation`, likewise.
        on_samples: Whether it is fitted to the samples.
        precision: Its `--precision`, likewise.
        int8_format: Its `--int8-format`, likewise.
    """

    meaning: str
    method: Method
    allocation: Allocation
    on_samples: bool = True
    precision: Precision = "keep"
    int8_format: Int8Format = "u8s8"

    def planning(self, blocks: PlanOptions, size: float) -> PlanOptions:
        """What plans of a size may do.

        Args:
            blocks: Which blocks may change.
            size: Share of the model's bytes.
        """
        budgets = Budgets(size=size)
        return replace(
            blocks,
            method=self.method,
            allocation=self.allocation,
            precision=self.precision,
            int8_format=self.int8_format,
            budgets=budgets,
        )


SWEEP_METHODS: Mapping[str, SweepMethod] = {
    "auto": SweepMethod(
        "double layers and removed units, by the least damage to the outputs, measured and fitted "
        "on samples, with a corrective round",
        "auto",
        "damage",
    ),
    "int8": SweepMethod(
        "the same, computed with 8-bit integers", "auto", "damage", precision="int8"
    ),
    "fp16": SweepMethod("the same, in half precision", "auto", "damage", precision="fp16"),
    "harmonic": SweepMethod("removed units alone, likewise", "harmonic", "damage"),
    "damage": SweepMethod("double layers alone, likewise", "double-layer", "damage"),
    "level": SweepMethod(
        "double layers of one common level, measured and fitted on samples",
        "double-layer",
        "level",
    ),
    "blind": SweepMethod(
        "double layers of one common level without any samples, on what can be assumed",
        "double-layer",
        "level",
        on_samples=False,
    ),
}


@dataclass(frozen=True, kw_only=True)
class SweepOptions(Options):
    """Which files a sweep makes."""

    # A geometric ladder, rounded to what is easily read.
    sizes: Annotated[
        tuple[Share, ...],
        Option(
            "Shares of the bytes to keep.",
            joined=True,
            metavar="SHARE,...",
        ),
    ] = (0.75, 0.525, 0.37, 0.26, 0.18, 0.125, 0.09, 0.0625)
    methods: Annotated[
        tuple[str, ...],
        Option(
            f"{'; '.join(f'{name}: {method.meaning}' for name, method in SWEEP_METHODS.items())}.",
            joined=True,
            metavar="NAME,...",
        ),
    ] = ("auto", "harmonic", "damage", "blind")
    include: Include = ()
    exclude: Exclude = ()
    int8_format: Annotated[
        Int8Format, Option("Of the files of int8, what layers read; as of compress.")
    ] = "u8s8"
    pack: Pack = AUTO
    times: Times = None

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in self.methods:
            if name not in SWEEP_METHODS:
                raise UsageError(f"--methods {name}: use some of {', '.join(SWEEP_METHODS)}.")
        for option_name, values in (("sizes", self.sizes), ("methods", self.methods)):
            if not values:
                raise UsageError(f"--{option_name}: give one at least.")
            if len(set(values)) < len(values):
                raise UsageError(f"--{option_name}: one of them is given twice.")
        if self.int8_format != "u8s8" and not self.uses_int8:
            raise UsageError(
                f"--int8-format {self.int8_format} is for the method int8: add it to --methods."
            )

    @property
    def uses_int8(self) -> bool:
        """Whether a method makes files that are computed with 8-bit integers."""
        return any(SWEEP_METHODS[name].uses_int8 for name in self.methods)

    @property
    def ways(self) -> dict[str, SweepMethod]:
        """The methods by name, with their format of integers."""
        found = {name: SWEEP_METHODS[name] for name in self.methods}
        return {
            name: replace(way, int8_format=self.int8_format) if way.uses_int8 else way
            for name, way in found.items()
        }


JudgedBy = Literal["accuracy", "agreement", "error"]

# Medians that were measured in turns differ by some per cent between runs of one and the same file.
SLOWER = 1.05


@dataclass(frozen=True, kw_only=True)
class PairedDrop:
    """What a file loses against the original on the same samples, in points, with its interval.

    Attributes:
        lost: Samples that the original alone has right; without labels, whose answers differ.
        gained: Samples that the smaller file alone has right; None without labels.
        points: Lost accuracy in points; without labels, answers that change in a hundred.
        lower: Lower end of a 95 % interval of the points; exact, for one point by itself.
        upper: Its upper end.
    """

    lost: int
    gained: int | None
    points: float
    lower: float
    upper: float


@dataclass(frozen=True, kw_only=True)
class SweepPoint(TwoModels):
    """One size by one method, written, validated and judged.

    Attributes:
        method: Name of the method.
        size: Share of the original's bytes that was requested.
        level: The common level tau; by damage, the largest planned level.
        damage: Expected divergence of the outputs; None where no damage was measured.
        evaluation: The original and the file side by side on the samples that judge.
        drop: None where no output has class scores.
        command: The command line that makes the same file again, byte by byte.
    """

    method: str
    size: float
    level: float
    damage: float | None
    evaluation: Evaluation
    drop: PairedDrop | None
    command: str

    @property
    def error(self) -> float:
        """Change of the output that changes most, relative L2 of numbers; infinite with a NaN."""
        return self.evaluation.change

    @property
    def loss(self) -> float:
        """What the curve is drawn of: the drop in points, or without class scores the error."""
        return self.error if self.drop is None else self.drop.points

    @property
    def ratios(self) -> dict[int, float]:
        """Time of a run over the original's, by batch size."""
        return {one.batch: one.after / one.before for one in self.evaluation.latencies}

    @property
    def slower_at(self) -> tuple[int, ...]:
        """Batch sizes at which the file is slower than the original, and not by chance alone."""
        return tuple(batch for batch, ratio in self.ratios.items() if ratio > SLOWER)


@dataclass(frozen=True, kw_only=True)
class PeerPoint:
    """A file that something else made of the same model, for comparison; as its maker says.

    Attributes:
        name: What made it.
        bytes: Share of the original's bytes that it has.
        accuracy: Share of right answers, on the samples that the sweep's files are judged on.
        drop: In its place what it loses, in the unit of the sweep: points of accuracy, answers in
            a hundred that change, or the relative output error.
        macs: Share of the original's multiply-accumulates.
        latency: Time of a run with one sample over the original's.
    """

    name: str
    bytes: Annotated[float, Limits(above=0)]
    accuracy: Annotated[float, Limits(least=0, most=1)] | None = None
    drop: float | None = None
    macs: Annotated[float, Limits(above=0)] | None = None
    latency: Annotated[float, Limits(above=0)] | None = None

    def problem(self) -> str | None:
        """What is wrong with it as a whole."""
        if not self.name.strip():
            return "name is empty; say what made the file."
        if (self.accuracy is None) == (self.drop is None):
            return "give accuracy, a share from 0 to 1, or drop, what is lost: one of them."
        return None


@dataclass(frozen=True, kw_only=True)
class MissedPoint:
    """A size that a method did not reach, or a file that failed its validation.

    Attributes:
        method: Name of the method.
        size: Share of the original's bytes that was asked for.
        failed: Whether a file was made and failed; otherwise there was none to make.
        reason: In words.
    """

    method: str
    size: float
    failed: bool
    reason: str


@dataclass(frozen=True, kw_only=True)
class Judges:
    """The samples that files are judged on; nothing was fitted to them or chosen on them.

    Attributes:
        path: Where they lie; in words where they come from Python.
        sha256: Of all that they are a part of, names and types included.
        count: How many.
        labelled: Whether they have labels.
        set_aside: Whether they are a part of the samples for fitting that was set aside.
        fit_samples: How many other samples factors were fitted to; 0 where no method fits any.
        select_samples: How many others ranks and factors were chosen on.
    """

    path: str
    sha256: str
    count: int
    labelled: bool
    set_aside: bool
    fit_samples: int
    select_samples: int


@dataclass(frozen=True, eq=False, kw_only=True)
class Sweep:
    """What `sweep` found.

    Attributes:
        model: The original.
        judged_by: What the points' loss is: points of accuracy, of answers that change, or the
            relative change of the output.
        judges: What they were judged on.
        meanings: What every method does, in words, by name.
        points: Method by method, each from its largest size down.
        knees: By method, the size that was asked for at its knee; None where it has none.
        missed: What is not among the points, with reasons.
        kept: Whether the files were kept.
        peers: Files of others, as they were given.
        provenance: Who made it.
        warnings: Sentences for the user.
    """

    model: ModelFacts
    judged_by: JudgedBy
    judges: Judges
    meanings: Mapping[str, str]
    points: tuple[SweepPoint, ...]
    knees: Mapping[str, float | None]
    missed: tuple[MissedPoint, ...]
    kept: bool
    peers: tuple[PeerPoint, ...] = ()
    provenance: Provenance
    warnings: tuple[str, ...] = ()

    def peer_loss(self, peer: PeerPoint) -> float:
        """What a file of others loses, as the curves have it."""
        if peer.drop is not None:
            return peer.drop
        before = self.points[0].evaluation.accuracy_before
        assert before is not None  # accuracies are refused where files are not judged by them
        assert peer.accuracy is not None
        return 100 * (before - peer.accuracy)

    def curve(self, method: str) -> tuple[SweepPoint, ...]:
        """The points of a method."""
        return tuple(point for point in self.points if point.method == method)

    def is_knee(self, point: SweepPoint) -> bool:
        """Whether a point is its method's knee."""
        return self.knees[point.method] == point.size
