"""Settings of a run, checked when they are made.

Shapes that a user gives inputs where a model is run without samples: NAME=1x80x200.

The settings of a run by the long names of their options.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, is_dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal, Protocol, get_args, runtime_checkable

from onnx_relusv.core.arguments import (
    Selection,
    Target,
    as_numbers,
    as_optional_path,
    as_texts,
    as_whole,
    check_type,
    is_allowed,
    put,
)
from onnx_relusv.core.blocks import InputSpec
from onnx_relusv.core.errors import UsageError
from onnx_relusv.core.metric import Metric
from onnx_relusv.core.plans import Budgets, Method

_SCALAR = "scalar"


def parsed_shape(text: str) -> tuple[str, tuple[int, ...]]:
    """An input's name and shape out of the text of an --input-shape.

    Raises:
        UsageError: It is of another form.
    """
    name, sign, shape = text.rpartition("=")
    lengths = [] if shape == _SCALAR else shape.split("x")
    if not (sign and name) or not all(one.isascii() and one.isdigit() for one in lengths):
        raise UsageError(
            f"--input-shape {text}: use an input's name and its lengths, as in NAME=1x80x200, or "
            f"NAME={_SCALAR}."
        )
    if any(int(one) < 1 for one in lengths):
        raise UsageError(f"--input-shape {text}: every length is 1 or more.")
    return name, tuple(map(int, lengths))


def shape_text(shape: Sequence[int | None]) -> str:
    """A shape as in --input-shape; ? where an axis is dynamic."""
    return "x".join("?" if one is None else str(one) for one in shape) or _SCALAR


def with_requested(inputs: Sequence[InputSpec], texts: Sequence[str]) -> tuple[InputSpec, ...]:
    """Inputs with the shapes that were asked for.

    Args:
        inputs: A model's inputs.
        texts: Of the options.

    Raises:
        UsageError: An input is unknown or named twice, or a shape does not fit it or another one.
    """
    wanted: dict[str, tuple[int, ...]] = {}
    listed = ", ".join(
        f"{spec.name} {shape_text(spec.shape) if spec.has_rank else 'of any shape'}"
        for spec in inputs
    )
    for text in texts:
        name, shape = parsed_shape(text)
        spec = next((one for one in inputs if one.name == name), None)
        if spec is None:
            raise UsageError(
                f"--input-shape {text}: the model has no input {name}; its inputs are {listed}."
            )
        if name in wanted:
            raise UsageError(f"--input-shape {text}: {name} has a shape already; give one.")
        fits = not spec.has_rank or (
            len(shape) == len(spec.shape)
            and all(known in (None, own) for known, own in zip(spec.shape, shape, strict=True))
        )
        if not fits:
            raise UsageError(
                f"--input-shape {text}: this is not a shape of the model's input {name}; its "
                f"inputs are {listed}."
            )
        wanted[name] = shape
    _check_names(inputs, wanted, listed)
    return tuple(replace(spec, requested=wanted.get(spec.name)) for spec in inputs)


def _check_names(
    inputs: Sequence[InputSpec], wanted: dict[str, tuple[int, ...]], listed: str
) -> None:
    """Axes with one name have one length."""
    known: dict[str, int] = {}
    for spec in inputs:
        for name, length in zip(spec.named, wanted.get(spec.name, ()), strict=False):
            if name is not None and known.setdefault(name, length) != length:
                raise UsageError(
                    f"--input-shape: the axis {name} is {known[name]} and {length} long; axes "
                    f"with one name have one length. The model's inputs are {listed}."
                )


AllocationName = Literal["auto", "level", "damage"]
ProviderName = Literal["auto", "cuda", "cpu"]
DivergenceName = Literal["auto", "kl", "l2", "metric"]

# MiB. Enough for the moments of a ResNet-50 in one pass over the samples.
DEFAULT_MEMORY = 2048
LEAST_MEMORY = 256
# MiB that Python, numpy, onnx, onnxruntime and this package take by themselves.
_LIBRARIES = 192


@dataclass(frozen=True, kw_only=True)
class MeasureOptions:
    """How blocks are measured.

    Attributes:
        provider: Where graphs run; ``auto`` takes CUDA where it works.
        seed: Draws starts, positions and synthetic inputs.
        memory: MiB that measuring may take besides the model itself and what its largest block
            needs.
        cache: Folder for what long work has found, for the next run; None to keep nothing.
        max_samples: Draw so many of the samples by the seed, groups whole; None to take all.
        input_shape: Shapes of inputs where the model is run without samples, each as
            ``NAME=1x80x200``; those of other inputs are found.
    """

    provider: ProviderName = "auto"
    seed: int = 0
    memory: int = DEFAULT_MEMORY
    cache: Path | None = None
    max_samples: int | None = None
    input_shape: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        check_type("provider", self.provider, str, "auto, cuda or cpu")
        put(self, "seed", as_whole("seed", self.seed))
        put(self, "memory", as_whole("memory", self.memory))
        put(self, "cache", as_optional_path("cache", self.cache))
        put(self, "input_shape", as_texts("input_shape", self.input_shape))
        if self.max_samples is not None:
            put(self, "max_samples", as_whole("max_samples", self.max_samples))
        if self.provider not in ("auto", "cuda", "cpu"):
            raise UsageError(f"provider {self.provider!r}: use auto, cuda or cpu.")
        if self.seed < 0:
            raise UsageError(f"seed {self.seed}: use a number from 0 on.")
        if self.memory < LEAST_MEMORY:
            raise UsageError(f"memory {self.memory} MiB: use {LEAST_MEMORY} or more.")
        if self.max_samples is not None and self.max_samples < 1:
            raise UsageError(f"--max-samples {self.max_samples}: use a number from 1 on.")
        for text in self.input_shape:
            parsed_shape(text)

    @property
    def working_bytes(self) -> int:
        """Bytes of `memory` that are left for data."""
        return (self.memory - _LIBRARIES) << 20


@dataclass(frozen=True, kw_only=True)
class PlanOptions:
    """What a plan may do.

    Attributes:
        budgets: Size, MACs, latency, tolerance, and the largest drop; all that are given hold.
        allocation: ``level`` gives all blocks one common level; ``damage`` measures what each of
            their forms does to the outputs; ``auto`` takes damage where there are samples and a
            budget on size, MACs, latency or the drop. A largest drop goes with damage alone.
        method: ``double-layer`` prunes ranks, ``harmonic`` removes neurons and channels; ``auto``
            weighs both by their damage where that is measured and no latency is asked for, and is
            double-layer elsewhere.
        include: Patterns of the blocks that may change, all if empty: globs or exact names, of a
            block's key or of one of its nodes, or ``op:`` and the operator, as in ``op:Conv``. A
            group of units may change where all blocks that write or read them may.
        exclude: Patterns of what is kept.
        divergence: What damage is: ``kl`` the Kullback-Leibler divergence of class scores, ``l2``
            the squared relative error of all outputs, ``metric`` the metric's loss; ``auto`` takes
            kl where there are class scores.
        metric: What outputs are judged by in place of top-1.
        round_to: Channels that are left are multiples of it, where some are removed.
        keep_at_least: Channels that are left are no fewer.
        input_range: Between which numbers all inputs of the model lie, both among them. Synthetic
            inputs are drawn from it, and samples outside of it are refused. None where nothing is
            declared.
        batch: Samples in a run that latency is measured at; a model with a fixed batch uses its
            own.
        selection: What the patterns mean in a model, found when it is opened; not for callers.
    """

    budgets: Budgets = field(default_factory=Budgets)
    method: Method = "auto"
    allocation: AllocationName = "auto"
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    divergence: DivergenceName = "auto"
    metric: Metric | None = None
    batch: int = 1
    round_to: int = 1
    keep_at_least: int = 1
    input_range: tuple[float, float] | None = None
    selection: Selection | None = None

    def __post_init__(self) -> None:
        check_type("budgets", self.budgets, Budgets, "a Budgets")
        check_type("metric", self.metric, (Metric, type(None)), "a Metric, or None")
        for name in ("method", "allocation", "divergence"):
            check_type(name, getattr(self, name), str, "a text")
        for name in ("include", "exclude"):
            put(self, name, as_texts(name, getattr(self, name)))
        for name in ("batch", "round_to", "keep_at_least"):
            put(self, name, as_whole(name, getattr(self, name)))
        if self.batch < 1:
            raise UsageError(f"--batch {self.batch}: use a number from 1 on.")
        self._check_method()
        self._check_range()
        if self.allocation not in ("auto", "level", "damage"):
            raise UsageError(f"allocation {self.allocation!r}: use auto, level or damage.")
        for name in ("size", "macs", "latency", "tolerance"):
            share = getattr(self.budgets, name)
            if share is not None and not 0 < share < 1:
                raise UsageError(f"--{name} {share:g}: use a number above 0 and below 1.")
        self._check_drop()
        self._check_divergence()
        if self.allocation == "damage" and not self.has_budget:
            raise UsageError("--allocation damage needs a --size, --macs, --latency or --max-drop.")

    def _check_method(self) -> None:
        if self.method not in get_args(Method):
            raise UsageError(f"method {self.method!r}: use {', '.join(get_args(Method))}.")
        for name, value in (("round-to", self.round_to), ("keep-at-least", self.keep_at_least)):
            if value < 1:
                raise UsageError(f"--{name} {value}: use a number from 1 on.")
            if value > 1 and self.method == "double-layer":
                raise UsageError(f"--{name} is for units that are removed: use --method harmonic.")
        if self.method == "harmonic" and self.budgets.latency is not None:
            raise UsageError(
                "--latency goes with double layers alone: use --method double-layer, or --macs."
            )

    def _check_range(self) -> None:
        if self.input_range is None:
            return
        ends = as_numbers("input_range", self.input_range)
        if len(ends) != 2:
            raise UsageError(f"input_range has {len(ends)} numbers: use two, the lower one first.")
        put(self, "input_range", ends)
        low, high = ends
        if not -math.inf < low < high < math.inf:
            raise UsageError(
                f"--input-range {low:g} {high:g}: use two finite numbers, the lower one first."
            )
        if self.method == "double-layer":
            raise UsageError("--input-range is for units that are removed: use --method harmonic.")

    @property
    def has_budget(self) -> bool:
        """Whether there is something to share out among the blocks."""
        budgets = self.budgets
        own = (budgets.size, budgets.macs, budgets.latency, budgets.max_drop)
        return any(budget is not None for budget in own)

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
        if confidence is not None and not 0.5 < confidence < 1:
            raise UsageError(f"--confidence {confidence:g}: use a number above 0.5 and below 1.")

    def _check_divergence(self) -> None:
        name = self.divergence
        if name not in ("auto", "kl", "l2", "metric"):
            raise UsageError(f"divergence {name!r}: use auto, kl, l2 or metric.")
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


Setting = str | int | float | bool | list[str] | list[float]
Settings = Mapping[str, Setting]
NO_SETTINGS: Settings = MappingProxyType({})


@runtime_checkable
class Named(Protocol):
    """What is one option, though it has parts."""

    @property
    def option(self) -> str:
        """As it is written on the command line."""
        ...


# Where results are kept changes none of them; what patterns mean follows from them.
_LEFT_OUT = ("cache", "selection")


def settings_of(record: Any) -> dict[str, Setting]:
    """The fields of a record of options, and of the records in it, that are set.

    Args:
        record: A dataclass whose fields are named as options are.

    Returns:
        By long name without dashes. Paths are absolute: the settings may be used from anywhere.
    """
    found: dict[str, Setting] = {}
    for one in fields(record):
        value = getattr(record, one.name)
        if one.name in _LEFT_OUT or value is None or value == ():
            continue
        if isinstance(value, Named):
            found[one.name] = value.option
        elif is_dataclass(value):
            found |= settings_of(value)
        else:
            found[one.name.replace("_", "-")] = _setting(value)
    return found


def _setting(value: Any) -> Setting:
    if isinstance(value, tuple):
        if all(isinstance(each, int | float) for each in value):
            return [float(each) for each in value]
        return [str(each) for each in value]
    if isinstance(value, Path):
        return str(value.absolute())
    setting: Setting = value
    return setting
