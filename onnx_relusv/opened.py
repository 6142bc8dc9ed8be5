"""A model opened for work: its blocks, its samples, and where graphs run."""

import platform
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import numpy as np
import onnx

from onnx_relusv.errors import InputError
from onnx_relusv.graph.blocks import find_blocks, measured_tensors
from onnx_relusv.graph.count import model_facts
from onnx_relusv.graph.expose import runnable
from onnx_relusv.graph.folding import Folding
from onnx_relusv.graph.model import Model, read_model
from onnx_relusv.graph.view import view
from onnx_relusv.options import MeasureOptions
from onnx_relusv.progress import Progress
from onnx_relusv.records import Block, LinearMap, Moments, Refusal
from onnx_relusv.results import ModelFacts, Provenance
from onnx_relusv.runtime.session import Session, choose_provider, runtime_version
from onnx_relusv.runtime.shapes import measured_shapes
from onnx_relusv.samples import Samples, open_samples
from onnx_relusv.spectra.moments import measure_moments, moments_key

# Moments of a block are kept in float64; above this many columns they would take over a gigabyte.
LARGEST_COLUMNS = 11_000

BlockMoments = Mapping[str, Moments | None]


@dataclass(frozen=True, eq=False)
class Opened:
    """A model that was read, run once, and searched for blocks.

    Attributes:
        model: The file.
        facts: Its size and cost.
        blocks: In topological order.
        refusals: What was left alone.
        folding: Reads a block's linear map.
        samples: What to measure on, or None.
        provider: The execution provider in force.
        options: As asked for.
        example: A feed of one sample, or None without samples.
    """

    model: Model
    facts: ModelFacts
    blocks: tuple[Block, ...]
    refusals: tuple[Refusal, ...]
    folding: Callable[[Block], LinearMap]
    samples: Samples | None
    provider: str
    options: MeasureOptions
    example: dict[str, np.ndarray] | None


def open_model(path: Path, samples_path: Path | None, options: MeasureOptions) -> Opened:
    """Reads a model and its samples, runs it once and finds its blocks.

    Raises:
        InputError: The model or the samples cannot be read, do not fit, or do not run.
        UsageError: The provider that was asked for does not work.
    """
    provider = choose_provider(options.provider)
    model = read_model(path)
    if not model.inputs:
        raise InputError(f"{path}: the model has no inputs, so there is nothing to run.")
    samples = None if samples_path is None else open_samples(samples_path, model.inputs)
    example = None if samples is None else samples.first()
    shapes = _shapes(model, provider, example, options.seed)
    blocks, refusals = find_blocks(model, view(model), shapes)
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
    )


def facts_of(
    model: Model, provider: str, example: dict[str, np.ndarray] | None, seed: int
) -> ModelFacts:
    """Size and cost of a model, whose blocks are not of interest."""
    return model_facts(model, _shapes(model, provider, example, seed))


def _shapes(
    model: Model, provider: str, example: dict[str, np.ndarray] | None, seed: int
) -> dict[str, tuple[int, ...]]:
    tensors = measured_tensors(model.proto)
    session = Session(runnable(model, exposed=tensors), provider)
    return measured_shapes(session, model.inputs, tensors, example, np.random.default_rng(seed))


def block_moments(opened: Opened, progress: Progress) -> BlockMoments:
    """The moments of every block's input by key; None without samples, or where too large."""
    measurable = [b for b in opened.blocks if b.geometry.columns <= LARGEST_COLUMNS]
    if opened.samples is None or not measurable:
        return {block.key: None for block in opened.blocks}
    exposed = runnable(opened.model, exposed=(block.source for block in measurable))
    session = Session(exposed, opened.provider)
    with progress.stage("Moments of the blocks' inputs", opened.samples.count) as advance:
        found = measure_moments(
            session, opened.samples, measurable, seed=opened.options.seed, advance=advance
        )
    return {block.key: found.get(moments_key(block)) for block in opened.blocks}


def provenance(provider: str, seed: int, samples: Samples | None, command: str) -> Provenance:
    """Who makes a result, and from what."""
    return Provenance(
        versions=versions(),
        provider=provider,
        seed=seed,
        command=command,
        samples=None if samples is None else str(samples.path),
        samples_sha256=None if samples is None else samples.sha256,
        sample_count=0 if samples is None else samples.count,
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
