"""A sweep as it was asked for, and the command that makes each of its files again."""

import shlex
from dataclasses import dataclass, replace
from pathlib import Path

from onnx_relusv.core.errors import UsageError
from onnx_relusv.core.options import MeasureOptions
from onnx_relusv.core.plans import KEPT
from onnx_relusv.core.results import Settings, command_options, settings_of
from onnx_relusv.core.sweeps import SweepOptions
from onnx_relusv.graph.model_files import ModelFile
from onnx_relusv.samples.sources import SampleSource

_DEFAULTS = SweepOptions()


@dataclass(frozen=True, kw_only=True)
class SweepRequest:
    """A sweep of a model, and the command that makes each of its files again.

    Attributes:
        model: The original.
        samples: What is measured and fitted on.
        test: What files are judged on; None to set a part of the samples aside.
        sweeping: Which files are made.
        measuring: Provider, seed and memory.
        peers: A file with files of others, or None.
    """

    model: ModelFile
    samples: SampleSource
    test: SampleSource | None
    sweeping: SweepOptions
    measuring: MeasureOptions
    peers: Path | None = None

    @property
    def settings(self) -> Settings:
        """The settings that repeat the sweep, but for those of measuring."""
        found = settings_of(self.sweeping)
        if self.test is not None and self.test.setting is not None:
            found["test"] = self.test.setting
        if self.peers is not None:
            found["peers"] = str(self.peers.absolute())
        return found

    @property
    def notes(self) -> tuple[str, ...]:
        """What is to be said of the samples, once they were opened."""
        return (*self.samples.notes, *(() if self.test is None else self.test.notes))

    @property
    def ladder(self) -> list[float]:
        """The sizes, the largest first."""
        return sorted(self.sweeping.sizes, reverse=True)

    @property
    def pairs(self) -> list[tuple[str, float]]:
        """The methods and sizes of all points, in the order in which they are made."""
        return [(name, size) for name in self.sweeping.methods for size in self.ladder]

    def name(self, method: str, size: float) -> str:
        """What tells a point's file from the others, without an ending."""
        return f"{Path(self.model.name).stem}-{method}-{size!r}"

    def command(self, method: str, size: float) -> str:
        """The command line that makes a point's file again.

        That is `compress`; but where files are judged on a part of the samples, other parts are
        fitted to than there, and it takes a sweep of this one point. With external data the file
        has to have the same name to be the same. What came from Python is called by the argument's
        name there, and has to be saved first.
        """
        way, name = self.sweeping.ways[method], self.name(method, size)
        if self.test is None and way.on_samples:
            line = ["sweep", self.model.name, *self.samples.options]
            line += ["--report", name, "--sizes", repr(size), "--methods", method, "--keep"]
        else:
            line = ["compress", self.model.name, "--output", f"{name}.onnx"]
            line += ["--size", repr(size), "--method", way.method, "--allocation", way.allocation]
            if way.precision != KEPT:
                line += ["--precision", way.precision]
            line += self.samples.options if way.on_samples else []
        if way.int8_format != _DEFAULTS.int8_format:
            line += ["--int8-format", way.int8_format]
        stated = replace(
            _DEFAULTS,
            include=self.sweeping.include,
            exclude=self.sweeping.exclude,
            pack=self.sweeping.pack,
            times=self.sweeping.times,
        )
        # The seed is stated even where it is the default.
        seed = ["--seed", str(self.measuring.seed)]
        others = command_options(replace(self.measuring, seed=0))
        return shlex.join(["onnx-relusv", *line, *seed, *others, *command_options(stated)])

    def for_worker(self, method: str, size: float) -> "SweepRequest":
        """The sweep of one point, for a process in any folder that sees the same files.

        Raises:
            UsageError: Samples lie in this process alone, or there is no cache.
        """
        if self.measuring.cache is None:
            raise UsageError(
                "a sweep on workers needs --cache: a folder that this process and all workers see "
                "under the same path, through which they get what was measured."
            )
        sweeping = replace(self.sweeping, sizes=(size,), methods=(method,), int8_format="u8s8")
        if sweeping.uses_int8:
            sweeping = replace(sweeping, int8_format=self.sweeping.int8_format)
        if sweeping.times is not None:
            sweeping = replace(sweeping, times=sweeping.times.absolute())
        return replace(
            self,
            model=replace(self.model, path=self.model.path.absolute()),
            samples=_for_worker(self.samples),
            test=None if self.test is None else _for_worker(self.test),
            sweeping=sweeping,
            measuring=replace(self.measuring, cache=self.measuring.cache.absolute()),
            peers=None,
        )


def _for_worker(source: SampleSource) -> SampleSource:
    found = source.elsewhere()
    if found is None:
        raise UsageError(
            f"{source.name}: {source.described} lie in this process alone. Workers open samples by "
            "their path: save them as .npz, and give that."
        )
    return found
