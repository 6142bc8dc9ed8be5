"""What single inputs do in a model: one run of the samples, measured block by block on the way."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from math import prod

import numpy as np

from onnx_relusv.checking.evaluate import Confidence, ConfidenceReader
from onnx_relusv.core.arguments import StrPath, as_optional_path, as_record
from onnx_relusv.core.blocks import Block, Refusal
from onnx_relusv.core.linear_algebra import UnusableValuesError, check_usable
from onnx_relusv.core.options import MeasureOptions
from onnx_relusv.core.traces import BlockTrace, Trace, Truths
from onnx_relusv.graph.model_files import ModelLike, as_model, model_file
from onnx_relusv.graph.writing import check_places
from onnx_relusv.measuring.case import Case, Workspace, open_model
from onnx_relusv.measuring.inputs import Inputs
from onnx_relusv.measuring.origins import explained
from onnx_relusv.measuring.provenance import provenance
from onnx_relusv.measuring.separation import separate
from onnx_relusv.report.files import write_report
from onnx_relusv.runtime.outputs import check_labels, class_scores, real_rows
from onnx_relusv.runtime.session import as_array
from onnx_relusv.samples.samples import Batch, Samples
from onnx_relusv.samples.sources import SamplesLike, as_source
from onnx_relusv.spectra.activated import BlockRecorder
from onnx_relusv.work.executors import Progress, Silent

# What can be read off the device, and whose softmax means something.
_SCORE_TYPES = ("tensor(float)", "tensor(double)", "tensor(float16)")
# The share of memory that a batch may take; about as much leads to it, and is made of it.
_BATCH_SHARE = 4


@dataclass(frozen=True)
class TraceSettings:
    """How far a trace goes.

    Attributes:
        largest_units: Units of a block at most. Its G lies on the device in float32; of more units
            it would be over half a gigabyte.
        largest_batch: Samples at most that run together.
    """

    largest_units: int = 11_000
    largest_batch: int = 64

    def refusal(self, block: Block) -> str | None:
        """Why a block is not traced; None if it is."""
        if block.activation.kind == "none":
            return "it has no activation, so its operator is the same for all inputs"
        if block.geometry.rows > self.largest_units:
            return f"it has {block.geometry.rows} units; up to {self.largest_units} are traced"
        return None

    def batch_length(self, blocks: Iterable[Block], memory: int) -> int:
        """Samples a batch; the blocks' pre-activations then take their share of memory's bytes."""
        bytes_per_sample = sum(4 * prod(block.output_shape) for block in blocks)
        fitting = memory // (_BATCH_SHARE * max(bytes_per_sample, 1))
        return max(1, min(self.largest_batch, fitting))


def trace_samples(
    case: Case,
    inputs: Inputs,
    workspace: Workspace,
    *,
    exact: bool,
    command: str,
    progress: Progress,
    settings: TraceSettings = TraceSettings(),
) -> Trace:
    """Runs all samples once and measures the activated operators of every block.

    Args:
        case: The model.
        inputs: Its samples.
        workspace: Where it runs, and what is kept.
        exact: Whether mean widths are computed, and not only bounded.
        command: Goes into the provenance.
        progress: Shown the run.
        settings: Which blocks are traced, and how many samples run together.

    Raises:
        InputError: The model does not run, a label is no class, or what was measured is not a
            number for some input.
    """
    samples = inputs.whole
    reasons = {block.key: settings.refusal(block) for block in case.blocks}
    traced = [block for block in case.blocks if reasons[block.key] is None]
    refused = [Refusal(key, reason) for key, reason in reasons.items() if reason is not None]
    run = _Run(case, inputs, workspace, samples, traced, exact)
    with progress.stage("Activated operators of the inputs", samples.count) as advance:
        length = settings.batch_length(traced, workspace.free_bytes(case.model))
        for batch in samples.batches(length):
            run.add(batch)
            advance(batch.count)
    blocks, confidence = run.blocks(), run.confidence()
    correct = None
    if confidence is not None and samples.labels is not None:
        correct = confidence.top == samples.labels
    separation = None
    if confidence is not None and correct is not None:
        separation = separate(
            blocks,
            confidence.max_softmax,
            confidence.entropy,
            correct,
            seed=workspace.options.seed,
        )
    return Trace(
        model=case.facts,
        blocks=blocks,
        refusals=(*case.refusals, *refused, *run.refusals),
        max_softmax=None if confidence is None else confidence.max_softmax,
        entropy=None if confidence is None else confidence.entropy,
        correct=correct,
        separation=separation,
        warnings=(
            *samples.source.notes,
            *_warnings(blocks, confidence, samples, correct),
        ),
        provenance=provenance(
            workspace.provider, workspace.options, samples, command, {"exact": exact}
        ),
    )


class _Run:
    """The samples on their way through the model, whose blocks and answers are recorded.

    Args:
        case: The model.
        inputs: Its samples.
        workspace: Where it runs, and what is kept.
        samples: The samples.
        traced: The blocks to measure.
        exact: Whether mean widths are computed.

    Attributes:
        refusals: Blocks whose pre-activation turned out to be unreadable.
    """

    def __init__(
        self,
        case: Case,
        inputs: Inputs,
        workspace: Workspace,
        samples: Samples,
        traced: Iterable[Block],
        exact: bool,
    ) -> None:
        self.refusals: list[Refusal] = []
        self._case = case
        self._inputs = inputs
        self._workspace = workspace
        self._samples = samples
        self._recorders = [
            BlockRecorder(
                block,
                case.folding(block),
                samples.count,
                provider=workspace.provider,
                seed=workspace.options.seed,
                exact=exact,
            )
            for block in traced
        ]
        exposed = [recorder.block.pre_activation for recorder in self._recorders]
        self._session = workspace.session(case.model, exposed)
        # Those that may hold class scores; after the first batch only the one that does.
        self._outputs = [
            name
            for name in case.model.output_names
            if self._session.output_types[name] in _SCORE_TYPES
        ]
        self._scores: str | None = None
        self._reader = ConfidenceReader()

    def add(self, batch: Batch) -> None:
        """Runs a batch and records it.

        Raises:
            InputError: The model does not run, a label is no class, or a pre-activation holds
                numbers that cannot be worked with.
        """
        tensors = [recorder.block.pre_activation for recorder in self._recorders]
        names = list(dict.fromkeys([*tensors, *self._outputs]))
        values = self._session.run_on_device(batch.feeds, names) if names else {}
        self._read({name: as_array(values[name]) for name in self._outputs}, batch)
        for recorder in self._recorders:
            name = recorder.block.pre_activation
            try:
                check_usable(name, as_array(values[name]), batch.start, batch.count, batch.size)
            except UnusableValuesError as error:
                raise explained(
                    error,
                    self._case.model,
                    self._samples,
                    self._workspace.provider,
                    blind=self._inputs.data_free,
                ) from error
        for recorder in list(self._recorders):
            reason = recorder.add(values[recorder.block.pre_activation], batch)
            if reason is not None:
                self.refusals.append(Refusal(recorder.block.key, reason))
                self._recorders.remove(recorder)

    def _read(self, outputs: dict[str, np.ndarray], batch: Batch) -> None:
        real = real_rows(outputs, batch.count, batch.size)
        if batch.start == 0:
            self._scores = class_scores(real, batch.count)
            self._outputs = [] if self._scores is None else [self._scores]
        if self._scores is None:
            return
        scores = real[self._scores]
        check_labels(self._samples, scores.shape[1])
        self._reader.add(scores)

    def blocks(self) -> tuple[BlockTrace, ...]:
        """What was recorded of the blocks."""
        return tuple(recorder.trace() for recorder in self._recorders)

    def confidence(self) -> Confidence | None:
        """What was read off the class scores; None without any."""
        return None if self._scores is None else self._reader.result()


def _warnings(
    blocks: Sequence[BlockTrace],
    confidence: Confidence | None,
    samples: Samples,
    correct: Truths | None,
) -> Iterator[str]:
    if not blocks:
        yield "No block was traced; the refusals say why."
    if confidence is None:
        yield (
            "No output has class scores, one row an input, so nothing is said of how sure or how "
            "right the answers are."
        )
    if samples.labels is None:
        yield "The samples have no labels, so nothing is said of right and wrong answers."
    if correct is None:
        return
    for name, count in (("right", int(correct.sum())), ("wrong", int((~correct).sum()))):
        if count < 2:
            yield (
                f"{count} of {len(correct)} answers are {name}; scores are compared from 1 on, "
                "and combined from 2 on."
            )


def trace(
    model: ModelLike,
    *,
    samples: SamplesLike,
    exact: bool = False,
    measuring: MeasureOptions | None = None,
    report: StrPath | None = None,
    json: StrPath | None = None,
    force: bool = False,
    command: str = "onnx_relusv.trace",
    progress: Progress | None = None,
) -> Trace:
    """Measures what every input does in every block, and how well that tells wrong answers.

    Args:
        model: The path of an ONNX file or of its folder, or a ModelProto.
        samples: The inputs, as of `inspect`; with `labels`, right and wrong answers are compared.
        exact: Whether mean widths are computed by quadrature, one eigendecomposition an input and
            output position, and not only bounded.
        measuring: Provider and seed.
        report: Folder for report.json and report.html.
        json: File for what is in report.json.
        force: Overwrite existing outputs.
        command: Goes into the provenance.
        progress: Shown the stages.

    Raises:
        InputError: The model or the samples cannot be read or do not fit.
        UsageError: The provider does not work, or an output exists or cannot be written.
    """
    given, source = as_model("model", model), as_source("samples", samples, progress)
    report, json = as_optional_path("report", report), as_optional_path("json", json)
    measuring, progress = as_record("measuring", measuring, MeasureOptions), progress or Silent()
    with model_file("model", given) as file:
        check_places({"--json": json}, report, models=[file.path], read=[source.path], force=force)
        case, inputs, workspace = open_model(file.path, source, measuring, name=file.name)
        found = trace_samples(
            case, inputs, workspace, exact=exact, command=command, progress=progress
        )
        write_report(found, report, json, force=force)
    return found
