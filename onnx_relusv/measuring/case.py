"""A model that was read and searched for blocks, and the moments of their inputs."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import scipy

from onnx_relusv.core.arguments import select
from onnx_relusv.core.blocks import Block, LinearMap, Moments, Refusal
from onnx_relusv.core.errors import InputError
from onnx_relusv.core.kinds import kind_of
from onnx_relusv.core.linear_algebra import UnusableValuesError
from onnx_relusv.core.metric import Metric
from onnx_relusv.core.options import MeasureOptions, PlanOptions
from onnx_relusv.core.results import ModelFacts
from onnx_relusv.graph.blocks import find_blocks, measured_tensors, targets
from onnx_relusv.graph.channels.walk import Channels
from onnx_relusv.graph.deciding import counted_sources, has_known_lengths
from onnx_relusv.graph.model import Model, read_model, with_opset
from onnx_relusv.graph.nodes import Folding, view
from onnx_relusv.graph.reference import model_facts, runnable
from onnx_relusv.measuring.inputs import Inputs
from onnx_relusv.measuring.origins import explained, numbers_of
from onnx_relusv.measuring.provenance import versions
from onnx_relusv.measuring.ready import made_ready
from onnx_relusv.rewrites.low_rank.candidates import LEAST_OPSET
from onnx_relusv.runtime.differences import same_answers
from onnx_relusv.runtime.kernels.moments import patches_kernel, products_kernel
from onnx_relusv.runtime.providers import choose_provider, warn_of_cpu_nodes
from onnx_relusv.runtime.session import Session, shapes_for_one
from onnx_relusv.samples.feeds import batch_of
from onnx_relusv.samples.samples import Samples
from onnx_relusv.samples.sources import SampleSource
from onnx_relusv.samples.split import SetAside, nothing_aside, split
from onnx_relusv.spectra.moments import (
    ENOUGH,
    Enough,
    MomentsKey,
    StoredMoments,
    measure_moments,
    moments_key,
    moments_on_disk,
)
from onnx_relusv.spectra.passes import Passes, plan_passes
from onnx_relusv.work.cache import NO_CACHE, Cache, Fields, code_digest
from onnx_relusv.work.effort import SPENDING, Spending
from onnx_relusv.work.executors import Advance, Progress
from onnx_relusv.work.temporary_files import remove_leftovers

BlockMoments = Mapping[str, Moments | None]

_COUNTED = (
    "how many rows it works on depends on the answers of blocks before it, so nothing can be "
    "fitted row by row"
)


@dataclass(frozen=True, eq=False)
class Case:
    """A model file that was read, run once, and searched for blocks.

    Attributes:
        model: The file.
        facts: Its size and cost.
        blocks: In topological order.
        refusals: What was left alone.
        folding: Reads a block's linear map.
        example: A feed of one sample, or of one batch where that is fixed; random values without
            samples.
        channels: The units that may be removed, where that was looked into.
        unit_shapes: By name, for one sample, of the tensors that they were looked for in.
    """

    model: Model
    facts: ModelFacts
    blocks: tuple[Block, ...]
    refusals: tuple[Refusal, ...]
    folding: Callable[[Block], LinearMap]
    example: Mapping[str, np.ndarray]
    channels: Channels | None = None
    unit_shapes: Mapping[str, tuple[int, ...]] | None = None

    @property
    def example_batch(self) -> int:
        """Samples in the example."""
        return batch_of(self.model.inputs, self.example)

    def knowing(self, samples: Samples) -> Samples:
        """Samples that know whether what the model makes of each can be put together."""
        # What a Conv reads has samples along its first axis then, of which there is one in a run.
        single = all(
            block.source_shape[0] == 1 for block in self.blocks if kind_of(block.geometry).spatial
        )
        return replace(samples, alike=single and has_known_lengths(self.model))


# Of a converted model: its nodes may do in two steps what one did.
_ROUNDINGS = 16.0
# What a session that rewrites and packs weights holds besides them, in weights; measured.
_COPIES = 2
# The share of the memory for measuring that these copies may take.
_COPIES_SHARE = 4


@dataclass(frozen=True, eq=False)
class Workspace:
    """Where a model is worked on.

    Attributes:
        provider: The execution provider in force.
        options: The seed, the memory and what else was asked for.
        cache: Where long work is kept for the next run.
    """

    provider: str
    options: MeasureOptions
    cache: Cache = NO_CACHE

    @property
    def spending(self) -> Spending:
        """What is done for a better file."""
        return SPENDING[self.options.effort]

    @property
    def enough(self) -> Enough:
        """How many rows moments and fits take."""
        return ENOUGH.share(self.spending.rows_share)

    def session(self, model: Model, exposed: Iterable[str] = ()) -> Session:
        """Opens a model with some of its tensors as further outputs, to measure on the way.

        Weights are rewritten and packed for speed only where the copies are small beside the
        memory that there is for measuring; otherwise they are read where they lie.
        """
        source = runnable(model, exposed=exposed)
        return Session(source, self.provider, lean=self.is_lean(model), alone=False)

    def is_lean(self, model: Model) -> bool:
        """Whether sessions read weights where they lie, since copies would take too much memory."""
        return _COPIES_SHARE * _COPIES * model.bytes > self.options.working_bytes

    def free_bytes(self, model: Model) -> int:
        """What of the memory for measuring is left besides a session's copies of the weights."""
        copies = 0 if self.is_lean(model) else _COPIES * model.bytes
        return self.options.working_bytes - copies


def run_identity(case: Case, inputs: Inputs, workspace: Workspace) -> Fields:
    """What decides all that is measured and fitted; every entry of the cache is kept under it.

    Not the number of cores: on another machine, numbers agree to the rounding of sums.
    """
    parts, options = inputs.split, workspace.options
    counts = None
    if parts is not None:
        counts = [part and part.count for part in (parts.fit, parts.select, parts.certify)]
    return {
        "versions": {**versions(), "scipy": scipy.__version__},
        "code": code_digest(),
        "model": case.model.sha256,
        "samples": None if inputs.samples is None else inputs.samples.sha256,
        "drawn": inputs.drawn,
        "split": counts,
        "blind": inputs.data_free,
        "seed": options.seed,
        "effort": options.effort,
        "provider": workspace.provider,
        "memory": options.memory,
        "input_shape": list(options.input_shape),
    }


def open_model(
    path: Path,
    samples_from: SampleSource | Path | None,
    options: MeasureOptions,
    metric: Metric | None = None,
    *,
    for_integers: bool = False,
    name: str = "",
) -> tuple[Case, Inputs, Workspace]:
    """Reads a model and its samples, runs it once and finds its blocks.

    With a metric, labels are the metric's business and may be any array. Where blocks may be
    computed with 8-bit integers (`for_integers`), depthwise Convs are among them, and a model of an
    older operator set than that takes is converted, if it then answers as before. `name` is what
    messages and reports call the model, its path if empty.

    Raises:
        InputError: The model or the samples cannot be read, do not fit, or do not run.
        UsageError: The provider that was asked for does not work, or the cache cannot be written.
    """
    remove_leftovers()
    cache = Cache(options.cache)
    provider = choose_provider(options.provider)
    original = read_model(path, name=name)
    read = (with_opset(original, LEAST_OPSET) if for_integers else None) or original
    if not read.inputs:
        raise InputError(f"{read.name}: the model has no inputs, so there is nothing to run.")
    tensors = measured_tensors(read.proto)
    ready = made_ready(
        read,
        lambda: _shape_session(read, tensors, provider),
        samples_from,
        options,
        any_labels=metric is not None,
    )
    if read is not original and not _answers_alike(original, read, ready.example, provider):
        return open_model(path, samples_from, options, metric, name=name)
    warn_of_cpu_nodes(runnable(ready.model), provider, ready.example)
    model, samples, session = ready.model, ready.samples, ready.session
    shapes = shapes_for_one(ready.values, ready.example, ready.batch)
    depthwise = for_integers and model.opset >= LEAST_OPSET
    blocks, refusals = find_blocks(model, view(model), shapes, depthwise=depthwise)
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
    case = Case(
        model=model,
        facts=replace(model_facts(model, shapes), opset=original.opset),
        blocks=tuple(blocks),
        refusals=tuple(refusals),
        folding=Folding(model),
        example=example,
    )
    inputs = Inputs(samples and case.knowing(samples), metric, unusable=unusable)
    return case, inputs, Workspace(provider, options, cache)


def _answers_alike(
    first: Model, second: Model, example: Mapping[str, np.ndarray], provider: str
) -> bool:
    """Whether two models answer an example alike, but for rounding."""
    sources = (runnable(model) for model in (first, second))
    one, other = (Session(each, provider, optimized=False).run(example) for each in sources)
    return all(same_answers(one[name], other[name], _ROUNDINGS) for name in one)


def split_inputs(
    case: Case, inputs: Inputs, options: MeasureOptions, aside: SetAside = nothing_aside
) -> Inputs:
    """The samples split into their parts; without any, blocks are measured data-free.

    Args:
        case: The model.
        inputs: Its samples, whole.
        options: Their seed decides which sample goes to which part, their effort how many of them
            are fitted to and chosen on.
        aside: How many of them are set aside.

    Raises:
        InputError: What the model makes of the samples cannot be worked with.
    """
    if inputs.unusable is not None and inputs.user_samples is not None:
        raise InputError(
            f"{case.model.name}: on {inputs.user_samples.name} {inputs.unusable}. Mend the model, "
            "or scale the samples as it expects them."
        )
    if inputs.samples is None:
        return replace(inputs, data_free=True)
    most, seed = SPENDING[options.effort].most_samples, options.seed
    return replace(inputs, split=split(inputs.samples, seed, aside).fewer(most, seed))


def selected(case: Case, planning: PlanOptions) -> PlanOptions:
    """Settings that know what their patterns mean in a model.

    Raises:
        UsageError: A pattern matches neither a block nor what was refused.
    """
    known = targets(case.model.proto, case.blocks, case.refusals)
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
    return Session(runnable(model, exposed=tensors), provider, lean=True, alone=False)


@contextmanager
def block_moments(
    case: Case, inputs: Inputs, workspace: Workspace, progress: Progress, *, lenient: bool = False
) -> Iterator[BlockMoments]:
    """The moments of every block's input by key.

    They lie in the cache, where none are measured again, or without one in a temporary file that
    is gone afterwards. None without samples, and for blocks whose moments exceed the memory that
    there is.

    Args:
        case: The model.
        inputs: Its samples.
        workspace: Where it runs, and what is kept.
        progress: Shows the samples.
        lenient: Whether blocks have none whose input holds numbers that cannot be worked with.

    Raises:
        InputError: An input does, and that is not lenient.
    """
    samples = inputs.calibration
    if samples is None:
        yield dict.fromkeys((block.key for block in case.blocks), None)
        return
    passes = plan_passes(case.blocks, samples, workspace.free_bytes(case.model))
    keys = {moments_key(block) for group in passes.groups for block in group}
    with _store(case, inputs, workspace, keys) as stored:
        steps = len(passes.groups) * samples.count
        with progress.stage("Moments of the blocks' inputs", steps) as advance:
            left = [
                group
                for group in passes.groups
                if any(moments_key(block) not in stored for block in group)
            ]
            advance(steps - len(left) * samples.count)
            for group in left:
                _measure_pass(
                    case, inputs, workspace, samples, group, passes, advance, stored, lenient
                )
        # Their sessions keep the memory that the largest block took.
        patches_kernel.cache_clear()
        products_kernel.cache_clear()
        yield MomentsByBlock(case.blocks, stored)


def _store(
    case: Case, inputs: Inputs, workspace: Workspace, keys: Iterable[MomentsKey]
) -> AbstractContextManager[StoredMoments]:
    if workspace.cache.folder is None:
        return moments_on_disk()
    return nullcontext(StoredMoments(workspace.cache, run_identity(case, inputs, workspace), keys))


def _measure_pass(
    case: Case,
    inputs: Inputs,
    workspace: Workspace,
    samples: Samples,
    blocks: Sequence[Block],
    passes: Passes,
    advance: Advance,
    stored: StoredMoments,
    lenient: bool,
) -> None:
    # Of all, also where some are known: what is exposed decides how onnxruntime fuses and rounds.
    session = workspace.session(case.model, (block.source for block in blocks))
    wanted = [block for block in blocks if moments_key(block) not in stored]
    seed = workspace.options.seed
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
            enough=workspace.enough,
        ):
            stored.put(key, found)
            del found  # before the next ones are made
    except UnusableValuesError as error:
        raise explained(
            error, case.model, samples, workspace.provider, blind=inputs.data_free
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
