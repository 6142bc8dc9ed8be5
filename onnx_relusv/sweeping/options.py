"""What a sweep is asked for, checked when it is made, and the command that repeats each point."""

import shlex
from dataclasses import dataclass, field
from pathlib import Path

from onnx_relusv.arguments import as_numbers, as_texts, put
from onnx_relusv.errors import UsageError
from onnx_relusv.options import DEFAULT_MEMORY, MeasureOptions
from onnx_relusv.settings import Settings
from onnx_relusv.sweeping.methods import METHODS

# A geometric ladder, rounded to what is easily read.
DEFAULT_SIZES = (0.75, 0.525, 0.37, 0.26, 0.18, 0.125, 0.09, 0.0625)
DEFAULT_METHODS = ("auto", "harmonic", "damage", "blind")


@dataclass(frozen=True, kw_only=True)
class SweepOptions:
    """What a sweep does.

    Attributes:
        model: The original.
        samples: What is measured and fitted on.
        test: What files are judged on; None to set a part of the samples aside.
        sizes: Shares of the original's bytes.
        methods: Names of methods.
        include: Patterns of the blocks that may change, as in `PlanOptions`; all if empty.
        exclude: Patterns of what is kept.
        measuring: Provider, seed and memory.
    """

    model: Path
    samples: Path
    test: Path | None = None
    sizes: tuple[float, ...] = DEFAULT_SIZES
    methods: tuple[str, ...] = DEFAULT_METHODS
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    measuring: MeasureOptions = field(default_factory=MeasureOptions)

    def __post_init__(self) -> None:
        put(self, "sizes", as_numbers("sizes", self.sizes))
        for name in ("methods", "include", "exclude"):
            put(self, name, as_texts(name, getattr(self, name)))
        for size in self.sizes:
            if not 0 < size < 1:
                raise UsageError(f"--sizes {size:g}: use numbers above 0 and below 1.")
        known = ", ".join(METHODS)
        for method in self.methods:
            if method not in METHODS:
                raise UsageError(f"--methods {method}: use some of {known}.")
        for name, values in (("--sizes", self.sizes), ("--methods", self.methods)):
            if not values:
                raise UsageError(f"{name}: give one at least.")
            if len(set(values)) < len(values):
                raise UsageError(f"{name}: one of them is given twice.")

    @property
    def settings(self) -> Settings:
        """The settings that repeat the sweep, but for those of measuring."""
        found = {"sizes": ",".join(map(repr, self.sizes)), "methods": ",".join(self.methods)}
        test = {} if self.test is None else {"test": str(self.test.absolute())}
        globs = {"include": list(self.include), "exclude": list(self.exclude)}
        return {**found, **test, **{name: value for name, value in globs.items() if value}}

    @property
    def ladder(self) -> list[float]:
        """The sizes, the largest first."""
        return sorted(self.sizes, reverse=True)

    def name(self, method: str, size: float) -> str:
        """What tells a point's file from the others, without an ending."""
        return f"{self.model.stem}-{method}-{size!r}"

    def command(self, method: str, size: float) -> str:
        """The command line that makes a point's file again.

        That is `compress`; but where files are judged on a part of the samples, other parts are
        fitted to than there, and it takes a sweep of this one point. With external data the file
        has to have the same name to be the same.
        """
        way, name = METHODS[method], self.name(method, size)
        if self.test is None and way.on_samples:
            asked = ["sweep", str(self.model), "--samples", str(self.samples)]
            asked += ["--report", name, "--sizes", repr(size), "--methods", method, "--keep"]
        else:
            asked = ["compress", str(self.model), "--output", f"{name}.onnx"]
            asked += ["--size", repr(size), "--method", way.way, "--allocation", way.allocation]
            asked += ["--samples", str(self.samples)] if way.on_samples else []
        return shlex.join(["onnx-relusv", *asked, *self._shared_options()])

    def _shared_options(self) -> list[str]:
        measuring = self.measuring
        found = ["--seed", str(measuring.seed)]
        if measuring.provider != "auto":
            found += ["--provider", measuring.provider]
        if measuring.memory != DEFAULT_MEMORY:
            found += ["--memory", str(measuring.memory)]
        if measuring.max_samples is not None:
            found += ["--max-samples", str(measuring.max_samples)]
        for text in measuring.input_shape:
            found += ["--input-shape", text]
        for option, globs in (("--include", self.include), ("--exclude", self.exclude)):
            for glob in globs:
                found += [option, glob]
        return found
