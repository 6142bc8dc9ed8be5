"""What changes do to the network's outputs: tried in a block's place, nothing rewritten.

Samples flow through the model once, from cut to cut. At every block's source the tail behind it is
run for each linear map that is tried; nothing before the block runs again. A change that no block's
place can hold is tried as a whole model, which takes a pass.

That way a few options of every item are tried, each by itself; between them damage follows the
relative error, which is known of all (`core.blocks.interpolated`).
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

import numpy as np

from onnx_relusv.core.blocks import Block, LinearMap, Runnable, Site
from onnx_relusv.core.plans import Int8Format
from onnx_relusv.graph.reference import runnable, with_dense
from onnx_relusv.graph.segments import cuts, segment, tail
from onnx_relusv.measuring.answers import judged_answers
from onnx_relusv.measuring.blocks import Ground
from onnx_relusv.measuring.case import Case, Workspace, run_identity
from onnx_relusv.planning.objective import DamageMeasure, DivergenceMeasure
from onnx_relusv.rewrites.int8.ranges import observed_scales, quantizers
from onnx_relusv.runtime.session import Session
from onnx_relusv.runtime.streams import Stream
from onnx_relusv.samples.samples import Samples
from onnx_relusv.spectra.passes import batch_length
from onnx_relusv.work.cache import NO_CACHE
from onnx_relusv.work.executors import Advance, Done, Known, Progress, Task, Tasks, run


def segment_session(
    case: Case,
    workspace: Workspace,
    stream: Stream,
    live: tuple[str, ...],
    dense: Mapping[str, LinearMap],
) -> Session | None:
    """The part of a model from where a stream is to a cut behind it.

    Args:
        case: The model.
        workspace: Where it runs, and what is kept.
        stream: What is alive now.
        live: What is alive at the cut.
        dense: Linear maps that stand in blocks' places, by key; the others stay as they are.

    Returns:
        None where all of it is there already.
    """
    example = stream.example
    if all(name in example for name in live):
        return None
    proto, arrays = with_dense(case.model, case.blocks, dense)
    part = segment(case.model, proto, example, live, arrays)
    return Session(part, workspace.provider, alone=False)


Found = TypeVar("Found")
# Told a linear map, says the damage to the outputs with it in the block's place.
Try = Callable[[LinearMap], float]
# The same of several blocks at once, by their keys.
TryTogether = Callable[[Mapping[str, LinearMap]], float]


@dataclass(frozen=True)
class ProbeSite:
    """Blocks for which linear maps are tried together.

    Attributes:
        key: What its findings are kept under.
        blocks: In topological order.
        quantized: As what 8-bit integers the first of them reads; None for floats.
    """

    key: str
    blocks: tuple[Block, ...]
    quantized: Int8Format | None = None


def probe(
    case: Case,
    workspace: Workspace,
    samples: Samples,
    blocks: Sequence[Block],
    others: Mapping[str, LinearMap],
    examine: Callable[[Block, Try], Found],
    advance: Advance,
    measure: DamageMeasure | None = None,
    known: Mapping[str, Found] | None = None,
) -> dict[str, Found]:
    """Examines blocks one by one, in topological order.

    Args:
        case: The model.
        workspace: Where it runs, and what is kept.
        samples: What runs through it.
        blocks: The blocks to examine.
        others: Linear maps that stand in other blocks' places all the while, by key.
        examine: Called with a block and a function that tries linear maps in its place; its result
            is kept.
        advance: Called after every try.
        measure: What damage is; the divergence that fits the outputs if None.
        known: What was found by an earlier run; these blocks are not examined again, and nothing
            runs behind the last of the others.

    Returns:
        What `examine` found, by block key.
    """

    def alone(site: ProbeSite, divergence: TryTogether) -> Found:
        (block,) = site.blocks
        return examine(block, lambda dense: divergence({block.key: dense}))

    sites = [ProbeSite(block.key, (block,)) for block in blocks]
    return probe_together(case, workspace, samples, sites, others, alone, advance, measure, known)


def probe_together(
    case: Case,
    workspace: Workspace,
    samples: Samples,
    sites: Sequence[ProbeSite],
    others: Mapping[str, LinearMap],
    examine: Callable[[ProbeSite, TryTogether], Found],
    advance: Advance,
    measure: DamageMeasure | None = None,
    known: Mapping[str, Found] | None = None,
) -> dict[str, Found]:
    """The same for blocks that are examined several at a time; arguments as of `probe`."""
    found = dict(known or {})
    if all(site.key in found for site in sites):
        return found
    return _Probing(case, workspace, samples, others, advance, measure).run(sites, examine, found)


class _Probing:
    def __init__(
        self,
        case: Case,
        workspace: Workspace,
        samples: Samples,
        others: Mapping[str, LinearMap],
        advance: Advance,
        measure: DamageMeasure | None,
    ) -> None:
        self._case = case
        self._workspace = workspace
        self._samples = samples
        self._others = others
        self._advance = advance
        self._length = batch_length(case.blocks, workspace.options.working_bytes)
        self._sizes: list[tuple[int, int]] = []
        if measure is None:
            measure = DivergenceMeasure(
                judged_answers(case, workspace, next(samples.batches(self._length)))
            )
        self._names = measure.outputs
        self._stream = Stream(self._feeds(), stacked=samples.stacks)
        original = Session(
            runnable(case.model, exposed=self._names), workspace.provider, alone=False
        )
        self._exact = self._stream.advanced(original, self._names, lambda steps: None)
        self._begin = measure.distances(samples, self._exact, self._sizes)

    def run(
        self,
        sites: Sequence[ProbeSite],
        examine: Callable[[ProbeSite, TryTogether], Found],
        found: dict[str, Found],
    ) -> dict[str, Found]:
        stream = self._stream
        model = self._case.model
        sources = [site.blocks[0].source for site in sites]
        # Outputs that are made before a block are compared too, and other blocks may change them.
        for place in cuts(model, sources, self._names):
            session = segment_session(self._case, self._workspace, stream, place.live, self._others)
            moved = stream.advanced(session, place.live, lambda steps: None)
            stream.drop()
            stream = moved
            for site in sites:
                if site.blocks[0].source in place.sources and site.key not in found:
                    found[site.key] = examine(site, self._trying(site, stream))
            if all(site.key in found for site in sites):
                break
        return found

    def _feeds(self) -> Iterator[dict[str, np.ndarray]]:
        for batch in self._samples.batches(self._length, stacked=True):
            self._sizes.append((batch.count, batch.size))
            yield batch.feeds

    def _trying(self, site: ProbeSite, stream: Stream) -> TryTogether:
        model, example = self._case.model, stream.example
        # An output that does not depend on the block may be alive at the cut, even all may be.
        behind = [name for name in self._names if name not in example]
        made = tail(model, site.blocks, self._others, self._case.blocks, example, behind)
        session = None
        if behind:
            session = Session(made.runnable, self._workspace.provider, alone=False)
        # A block that leads to no output is not in its tail, nor are its constants.
        taken = [] if session is None else session.input_names
        if site.quantized is not None:
            scales = observed_scales(stream, [site.blocks[0].source], site.quantized)
            stream = stream.through(quantizers(scales))

        def divergence(dense: Mapping[str, LinearMap]) -> float:
            fed = made.feeds(dense)
            constants = {name: values for name, values in fed.items() if name in taken}
            found = self._begin()
            changed = stream.ran(session, constants)
            for sizes, values, exact in zip(self._sizes, changed, self._exact, strict=True):
                found.add(exact, values, *sizes)
            self._advance(1)
            return found.value

        return divergence


def whole_damages(
    case: Case,
    workspace: Workspace,
    samples: Samples,
    changed: Iterable[Runnable],
    measure: DamageMeasure,
    advance: Advance,
) -> tuple[float, ...]:
    """What changed models do to the outputs, one after the other; each takes a pass.

    Args:
        case: The original.
        workspace: Where it runs, and what is kept.
        samples: What runs through it and through them.
        changed: Models with the outputs that the measure compares.
        measure: What damage is.
        advance: Called after every model.
    """
    names, sizes = measure.outputs, list[tuple[int, int]]()

    def feeds() -> Iterator[dict[str, np.ndarray]]:
        length = batch_length(case.blocks, workspace.options.working_bytes)
        for batch in samples.batches(length, stacked=True):
            sizes.append((batch.count, batch.size))
            yield batch.feeds

    found = []
    stream = Stream(feeds(), stacked=samples.stacks)
    original = Session(runnable(case.model, exposed=names), workspace.provider, alone=False)
    exact = stream.advanced(original, names, lambda steps: None)
    begin = measure.distances(samples, exact, sizes)
    for source in changed:
        session, distance = Session(source, workspace.provider, alone=False), begin()
        ran = stream.ran(session if names else None)
        for size, values, right in zip(sizes, ran, exact, strict=True):
            distance.add(right, values, *size)
        found.append(distance.value)
        advance(1)
    return tuple(found)


# What all tries together may cost, in passes of all samples through the model; and how few samples
# still tell damages apart.
_MOST_PASSES, _FEWEST = 2, 100

# Of the tries of one site, in their order.
Damages = tuple[float, ...]


def measured_damages(
    ground: Ground,
    sites: Sequence[Site],
    measure: DamageMeasure,
    progress: Progress,
    title: str,
    int8_format: Int8Format = "u8s8",
) -> dict[str, dict[tuple[str | int, ...], float]]:
    """Measures what is tried at all sites, in one walk through the model.

    Args:
        ground: The model.
        sites: Where something is tried.
        measure: What damage is.
        progress: Shows the tries.
        title: Of what is shown.
        int8_format: As what integers blocks read where sites quantize it.

    Returns:
        By key of the item and mark of the try.
    """
    tries = sum(len(site.tried) for site in sites)
    samples = thinned(ground, tries)
    case, inputs, workspace = ground.case, ground.inputs, ground.workspace
    by_key = {site.key: site for site in sites}
    reads_integers = int8_format != "weights"
    tasks: dict[str, Task[Damages]] = {
        site.key: Task(
            kind="damage",
            key={
                **run_identity(case, inputs, workspace),
                "count": samples.count,
                "measure": measure.words,
                # Which others are tried decides how the model is cut, and so how it rounds.
                "items": list(by_key),
                "item": site.key,
                "tried": [list(mark) for mark in site.tried],
                **({"quantized": int8_format} if site.quantized and reads_integers else {}),
            },
            result=Damages,
            fits=partial(_are_of, site),
            steps=len(site.tried),
        )
        for site in sites
    }

    def walk(
        tasks: Tasks[str, Damages], known: Known[str, Damages], done: Done[str, Damages]
    ) -> None:
        def keep(key: str, damages: Iterable[float]) -> Damages:
            found = tuple(damages)
            done(key, found)
            return found

        def examine(place: ProbeSite, divergence: TryTogether) -> Damages:
            return keep(place.key, map(divergence, by_key[place.key].maps()))

        no_others: Mapping[str, LinearMap] = {}
        places = [
            ProbeSite(
                site.key, site.blocks, int8_format if site.quantized and reads_integers else None
            )
            for site in sites
            if site.models is None
        ]
        probe_together(
            case, workspace, samples, places, no_others, examine, advance, measure, known
        )
        for site in sites:
            if site.models is not None and site.key not in known:
                models = site.models(measure.outputs)
                keep(site.key, whole_damages(case, workspace, samples, models, measure, advance))

    cache = workspace.cache if measure.repeats else NO_CACHE
    with progress.stage(title, tries) as advance:
        found = run(tasks, walk, cache, advance)
    return {
        key: dict(zip(by_key[key].tried, damages, strict=True)) for key, damages in found.items()
    }


def _are_of(site: Site, damages: Damages) -> bool:
    return len(damages) == len(site.tried)


def thinned(ground: Ground, tries: int) -> Samples:
    """As many of the selection set as tries may cost, evenly taken: a try is half a pass."""
    samples = ground.inputs.selection
    whole = ground.inputs.samples
    total = samples.count if whole is None else whole.count
    total = min(total, ground.spending.most_samples or total)
    affordable = int(2 * _MOST_PASSES * total / max(tries, 1))
    count = min(samples.count, max(_FEWEST, affordable))
    return samples.part(np.linspace(0, samples.count - 1, count).round().astype(int))
