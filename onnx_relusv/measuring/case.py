"""A model opened for work: its blocks, its samples, and where graphs run."""

import platform
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path

import numpy as np
import onnx
import scipy

from onnx_relusv.core.arguments import select
from onnx_relusv.core.blocks import Block, LinearMap, Moments, Refusal
from onnx_relusv.core.errors import InputError, UsageError
from onnx_relusv.core.linear_algebra import UnusableValuesError
from onnx_relusv.core.metric import Metric
from onnx_relusv.core.options import NO_SETTINGS, MeasureOptions, PlanOptions, Settings, settings_of
from onnx_relusv.core.results import ModelFacts, Provenance
from onnx_relusv.graph.blocks import find_blocks, measured_tensors, targets
from onnx_relusv.graph.channels.walk import Channels
from onnx_relusv.graph.deciding import counted_sources
from onnx_relusv.graph.model import Model, read_model
from onnx_relusv.graph.nodes import Folding
from onnx_relusv.graph.reference import model_facts, runnable
from onnx_relusv.graph.view import view
from onnx_relusv.measuring.origins import explained, numbers_of
from onnx_relusv.measuring.ready import made_ready
from onnx_relusv.runtime.kernels.moments import patches_kernel, products_kernel
from onnx_relusv.runtime.session import Session, choose_provider, runtime_version, shapes_for_one
from onnx_relusv.samples.feeds import batch_of
from onnx_relusv.samples.samples import Samples
from onnx_relusv.samples.split import Split
from onnx_relusv.spectra.moments import MomentsKey, measure_moments, moments_key
from onnx_relusv.spectra.passes import Passes, plan_passes
from onnx_relusv.spectra.stored_moments import StoredMoments, moments_on_disk
from onnx_relusv.work.cache import NO_CACHE, Cache, Fields, code_digest
from onnx_relusv.work.executors import Advance, Progress
from onnx_relusv.work.temporary_files import remove_leftovers

BlockMoments = Mapping[str, Moments | None]

_COUNTED = (
    "how many rows it works on depends on the answers of blocks before it, so nothing can be "
    "fitted row by row"
)
# What a session that rewrites and packs weights holds besides them, in weights; measured.
_COPIES = 2
# The share of the memory for measuring that these copies may take.
_COPIES_SHARE = 4


@dataclass(frozen=True, eq=False)
class Opened:
    """A model that was read, run once, and searched for blocks.

    Attributes:
        model: The file.
        facts: Its size and cost.
        blocks: In topological order.
        refusals: What was left alone.
        folding: Reads a block's linear map.
        samples: What to measure on, or None; synthetic where blind.
        provider: The execution provider in force.
        options: As asked for.
        example: A feed of one sample, or of one batch where that is fixed; random values without
            samples.
        split: The samples' parts where a plan is made or carried out; None where all are measured.
        cache: Where long work is kept for the next run.
        metric: What outputs are judged by in place of top-1, or None.
        blind: Whether no samples were given, and blocks are measured on what can be assumed.
        scale_told: Whether anything told how large the model's inputs are, where samples are
            synthetic.
        channels: The units that may be removed, where that was looked into.
        unusable: Why nothing can be planned on the samples, whatever blocks there are: what the
            model makes of them is no use. None where it is.
        unit_shapes: By name, for one sample, of the tensors that they were looked for in.
    """

    model: Model
    facts: ModelFacts
    blocks: tuple[Block, ...]
    refusals: tuple[Refusal, ...]
    folding: Callable[[Block], LinearMap]
    samples: Samples | None
    provider: str
    options: MeasureOptions
    example: Mapping[str, np.ndarray]
    split: Split | None = None
    cache: Cache = NO_CACHE
    metric: Metric | None = None
    blind: bool = False
    scale_told: bool = True
    channels: Channels | None = None
    unusable: str | None = None
    unit_shapes: Mapping[str, tuple[int, ...]] | None = None

    @property
    def identity(self) -> Fields:
        """What decides all that is measured and fitted; every entry of the cache is kept under it.

        Not the number of cores: on another machine, numbers agree to the rounding of sums.
        """
        parts = self.split
        counts = None
        if parts is not None:
            counts = [part and part.count for part in (parts.fit, parts.select, parts.certify)]
        return {
            "versions": {**versions(), "scipy": scipy.__version__},
            "code": code_digest(),
            "model": self.model.sha256,
            "samples": None if self.samples is None else self.samples.sha256,
            "drawn": self.drawn,
            "split": counts,
            "blind": self.blind,
            "seed": self.options.seed,
            "provider": self.provider,
            "memory": self.options.memory,
            "input_shape": list(self.options.input_shape),
        }

    @property
    def example_batch(self) -> int:
        """Samples in the example."""
        return batch_of(self.model.inputs, self.example)

    @property
    def given(self) -> Samples | None:
        """The user's own samples, None where there are none."""
        return None if self.blind else self.samples

    @property
    def drawn(self) -> int | None:
        """How many of the user's samples were drawn; None where all are taken, or none given."""
        given = self.given
        return None if given is None or given.count == given.total else given.count

    @property
    def fitted(self) -> Samples | None:
        """The samples that moments are taken of."""
        return self.samples if self.split is None else self.split.fit

    @property
    def has_selection(self) -> bool:
        """Whether there is a selection set."""
        return self.split is not None and self.split.select is not None

    @property
    def selection(self) -> Samples:
        """The selection set: samples that nothing is fitted to, and choices are made by.

        Raises:
            UsageError: There is none: too few samples were given, or none.
        """
        if self.split is None or self.split.select is None:
            raise UsageError("what changes do to the outputs takes --samples, two at least.")
        return self.split.select

    def session(self, exposed: Iterable[str] = ()) -> Session:
        """Opens the model with some of its tensors as further outputs, to measure on the way.

        Weights are rewritten and packed for speed only where the copies are small beside the
        memory that there is for measuring; otherwise they are read where they lie.
        """
        source = runnable(self.model, exposed=exposed)
        return Session(source, self.provider, lean=self._is_lean, alone=False)

    @property
    def free_bytes(self) -> int:
        """What of the memory for measuring is left besides a session's copies of the weights."""
        copies = 0 if self._is_lean else _COPIES * self.model.bytes
        return self.options.working_bytes - copies

    @property
    def lean(self) -> bool:
        """Whether sessions read weights where they lie, since copies would take too much memory."""
        return self._is_lean

    @property
    def _is_lean(self) -> bool:
        return _COPIES_SHARE * _COPIES * self.model.bytes > self.options.working_bytes


def open_model(
    path: Path, samples_path: Path | None, options: MeasureOptions, metric: Metric | None = None
) -> Opened:
    """Reads a model and its samples, runs it once and finds its blocks.

    With a metric, labels are the metric's business and may be any array.

    Raises:
        InputError: The model or the samples cannot be read, do not fit, or do not run.
        UsageError: The provider that was asked for does not work, or the cache cannot be written.
    """
    remove_leftovers()
    cache = Cache(options.cache)
    provider = choose_provider(options.provider)
    read = read_model(path)
    if not read.inputs:
        raise InputError(f"{path}: the model has no inputs, so there is nothing to run.")
    tensors = measured_tensors(read.proto)
    ready = made_ready(
        read,
        lambda: _shape_session(read, tensors, provider),
        samples_path,
        options,
        any_labels=metric is not None,
    )
    model, samples, session = ready.model, ready.samples, ready.session
    shapes = shapes_for_one(ready.values, ready.example, ready.batch)
    blocks, refusals = find_blocks(model, view(model), shapes)
    unusable = None
    if samples is not None:
        numbers = numbers_of(model, blocks, session, samples, provider)
        blocks = [block for block in blocks if block.key not in numbers.reasons]
        refusals += [Refusal(key, reason) for key, reason in numbers.reasons.items()]
        # Its rows are no pairs any more once blocks before it have changed.
        counted = counted_sources(model, blocks)
        refusals += [Refusal(block.key, _COUNTED) for block in blocks if block.source in counted]
        blocks = [block for block in blocks if block.source not in counted]
        unusable = numbers.problem
    example = ready.example
    del session, ready  # its weights need not be held any longer
    return Opened(
        model=model,
        facts=model_facts(model, shapes),
        blocks=tuple(blocks),
        refusals=tuple(refusals),
        folding=Folding(model),
        samples=samples,
        provider=provider,
        options=options,
        example=example,
        cache=cache,
        metric=metric,
        unusable=unusable,
    )


def selected(opened: Opened, planning: PlanOptions) -> PlanOptions:
    """Settings that know what their patterns mean in a model.

    Raises:
        UsageError: A pattern matches neither a block nor what was refused.
    """
    known = targets(opened.model.proto, opened.blocks, opened.refusals)
    return replace(planning, selection=select(known, planning.include, planning.exclude))


def facts_of(
    model: Model, provider: str, example: Mapping[str, np.ndarray], batch: int
) -> ModelFacts:
    """Size and cost of a model, whose blocks are not of interest.

    Args:
        model: The model.
        provider: Execution provider.
        example: A feed that it runs on.
        batch: How many samples that holds.
    """
    tensors = measured_tensors(model.proto)
    return model_facts(model, shapes_of(model, tensors, provider, example, batch))


def shapes_of(
    model: Model,
    tensors: tuple[str, ...],
    provider: str,
    example: Mapping[str, np.ndarray],
    batch: int,
) -> dict[str, tuple[int, ...]]:
    """The shapes of some tensors for one sample, as a run shows them.

    Args:
        model: The model.
        tensors: Their names.
        provider: Execution provider.
        example: A feed that it runs on.
        batch: How many samples that holds.
    """
    session = _shape_session(model, tensors, provider)
    wanted = [name for name in tensors if name in set(session.output_names)]
    # An empty list would mean all outputs to onnxruntime.
    return shapes_for_one(session.run(example, wanted or None), example, batch)


def _shape_session(model: Model, tensors: tuple[str, ...], provider: str) -> Session:
    # For a single run, rewriting the graph and packing weights takes longer than it saves.
    return Session(runnable(model, exposed=tensors), provider, lean=True)


@contextmanager
def block_moments(
    opened: Opened, progress: Progress, *, lenient: bool = False
) -> Iterator[BlockMoments]:
    """The moments of every block's input by key.

    They lie in the cache, where none are measured again, or without one in a temporary file that
    is gone afterwards. None without samples, and for blocks whose moments exceed the memory that
    there is.

    Args:
        opened: The model.
        progress: Shows the samples.
        lenient: Whether blocks have none whose input holds numbers that cannot be worked with.

    Raises:
        InputError: An input does, and that is not lenient.
    """
    samples = opened.fitted
    if samples is None:
        yield dict.fromkeys((block.key for block in opened.blocks), None)
        return
    passes = plan_passes(opened.blocks, samples, opened.free_bytes)
    keys = {moments_key(block) for group in passes.groups for block in group}
    with _store(opened, keys) as stored:
        steps = len(passes.groups) * samples.count
        with progress.stage("Moments of the blocks' inputs", steps) as advance:
            left = [
                group
                for group in passes.groups
                if any(moments_key(block) not in stored for block in group)
            ]
            advance(steps - len(left) * samples.count)
            for group in left:
                _measure_pass(opened, samples, group, passes, advance, stored, lenient)
        # Their sessions keep the memory that the largest block took.
        patches_kernel.cache_clear()
        products_kernel.cache_clear()
        yield MomentsByBlock(opened.blocks, stored)


def _store(opened: Opened, keys: Iterable[MomentsKey]) -> AbstractContextManager[StoredMoments]:
    if opened.cache.folder is None:
        return moments_on_disk()
    return nullcontext(StoredMoments(opened.cache, opened.identity, keys))


def _measure_pass(
    opened: Opened,
    samples: Samples,
    blocks: Sequence[Block],
    passes: Passes,
    advance: Advance,
    stored: StoredMoments,
    lenient: bool,
) -> None:
    # Of all, also where some are known: what is exposed decides how onnxruntime fuses and rounds.
    session = opened.session(block.source for block in blocks)
    wanted = [block for block in blocks if moments_key(block) not in stored]
    seed = opened.options.seed
    try:
        for key, found in measure_moments(
            session,
            samples,
            wanted,
            length=passes.length,
            seed=seed,
            advance=advance,
            lenient=lenient,
            terms=passes.terms,
        ):
            stored.put(key, found)
            del found  # before the next ones are made
    except UnusableValuesError as error:
        raise explained(
            error, opened.model, samples, opened.provider, blind=opened.blind
        ) from error


class MomentsByBlock(Mapping[str, Moments | None]):
    """Stored moments by the keys of blocks; several may have the same ones."""

    def __init__(self, blocks: Iterable[Block], stored: Mapping[MomentsKey, Moments]) -> None:
        self._keys = {block.key: moments_key(block) for block in blocks}
        self._stored = stored

    def __getitem__(self, key: str) -> Moments | None:
        return self._stored.get(self._keys[key])

    def __iter__(self) -> Iterator[str]:
        return iter(self._keys)

    def __len__(self) -> int:
        return len(self._keys)


def provenance(
    provider: str,
    options: MeasureOptions,
    samples: Samples | None,
    command: str,
    further: Settings = NO_SETTINGS,
) -> Provenance:
    """Who makes a result, and from what.

    Args:
        provider: The execution provider in force.
        options: As asked for.
        samples: What was measured on.
        command: The command line, or the API call.
        further: The other settings of the run.
    """
    given: Settings = {} if samples is None else {"samples": str(samples.path.absolute())}
    return Provenance(
        versions=versions(),
        provider=provider,
        seed=options.seed,
        command=command,
        samples=None if samples is None else str(samples.path),
        samples_sha256=None if samples is None else samples.sha256,
        sample_count=0 if samples is None else samples.count,
        sample_groups=None if samples is None or samples.groups is None else samples.independent,
        settings={**given, **further, **settings_of(options)},
    )


def versions() -> dict[str, str]:
    """Versions of what a result depends on."""
    return {
        "onnx-relusv": version("onnx-relusv"),
        "python": platform.python_version(),
        "numpy": np.__version__,
        "onnx": onnx.__version__,
        "onnxruntime": runtime_version(),
    }
