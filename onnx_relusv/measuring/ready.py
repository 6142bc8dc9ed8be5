"""A model made ready to run: what its inputs are, and a first run, with samples or without.

The resulting inputs have a number of axes, the axis of the samples, and a fixed batch where the
model runs with no other, whatever its file declares; such a batch is then treated like one that the
file fixes.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from onnx_relusv.core.arguments import parsed_shape, shape_text
from onnx_relusv.core.blocks import InputSpec
from onnx_relusv.core.errors import InputError, UsageError
from onnx_relusv.core.options import MeasureOptions
from onnx_relusv.graph.channels.input_axes import axis_rules
from onnx_relusv.graph.model import Model
from onnx_relusv.measuring.trials import (
    Axes,
    Trial,
    Trials,
    bytes_of,
    fixed_batches,
    input_axes,
    refusal,
    sizes_text,
    with_batch,
)
from onnx_relusv.runtime.session import Session
from onnx_relusv.samples.feeds import Feeds, batch_of
from onnx_relusv.samples.samples import Samples, open_samples, ranked
from onnx_relusv.samples.sources import SampleSource
from onnx_relusv.samples.split import drawn

# Numbers of axes tried where the file leaves that of an input open; a matrix is the likeliest.
_RANKS = (2, 3, 4, 1, 5)
# Larger inputs are tried short before two samples of them are run.
_SHORT_BYTES = 128 << 10


@dataclass(frozen=True, eq=False)
class Ready:
    """A model that runs.

    Attributes:
        model: The model, its inputs as they are fed.
        samples: The samples that it is measured on, or None.
        example: A feed of one sample, or of one batch where that is fixed; random values without
            samples.
        values: The session's outputs for it.
        session: The model, opened.
    """

    model: Model
    samples: Samples | None
    example: Feeds
    values: dict[str, np.ndarray]
    session: Session

    @property
    def batch(self) -> int:
        """Samples in the example."""
        return batch_of(self.model.inputs, self.example)


def made_ready(
    model: Model,
    open_session: Callable[[], Session],
    samples: SampleSource | Path | None,
    options: MeasureOptions,
    *,
    any_labels: bool = False,
) -> Ready:
    """Runs a model once, or until something runs.

    Args:
        model: The model, as it was read.
        open_session: Opens it, once the samples are known to fit.
        samples: Where samples come from, as of `open_samples`; None without.
        options: The seed, the memory, how many samples count, and shapes of inputs.
        any_labels: As of `open_samples`.

    Raises:
        InputError: The samples cannot be read or do not fit, or nothing that was tried runs.
        UsageError: A requested shape does not fit the inputs.
    """
    model = replace(model, inputs=with_requested(model.inputs, options.input_shape))
    if samples is None:
        return _without_samples(open_session(), model, options)
    whole, axes = _opened(samples, replace(model, inputs=ranked(samples, model.inputs)), any_labels)
    part = drawn(whole, options.max_samples, options.seed)
    return _with_samples(open_session(), model, axes, part)


def with_requested(inputs: Sequence[InputSpec], texts: Sequence[str]) -> tuple[InputSpec, ...]:
    """Inputs with the shapes that --input-shape requests.

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


def _opened(source: SampleSource | Path, model: Model, any_labels: bool) -> tuple[Samples, Axes]:
    """Samples, by the first reading of the model's inputs that they fit."""
    problems: list[InputError] = []
    for axes in input_axes(model):
        try:
            return open_samples(source, axes.inputs, any_labels=any_labels), axes
        except InputError as error:
            problems.append(error)
    # There is one reading at least, and what is wrong by the first one is said.
    raise problems[0]


def _with_samples(session: Session, model: Model, axes: Axes, samples: Samples) -> Ready:
    problem: InputError | None = None
    batches = () if samples.fixed_batch is not None else fixed_batches(axes)
    for batch in (None, *batches):
        inputs = axes.inputs if batch is None else with_batch(axes.inputs, batch)
        fed = replace(samples, inputs=inputs)
        example = fed.first()
        try:
            values = session.run(example)
        except InputError as error:
            problem = problem or error
            continue
        if fed.fixed_batch is None and not _two_run(session, axes, example):
            inputs = with_batch(inputs, 1)
        return Ready(
            replace(model, inputs=inputs), replace(samples, inputs=inputs), example, values, session
        )
    raise InputError(f"{samples.name}: the model does not run on its first sample. {problem}")


def _two_run(session: Session, axes: Axes, example: Feeds) -> bool:
    """Whether a model runs on two samples at a time: short random ones, or the first one twice."""
    trials = Trials(session, axes, np.random.default_rng(0))
    twice = {
        spec.name: example[spec.name]
        if spec.samples_axis is None
        else np.repeat(example[spec.name], 2, spec.samples_axis)
        for spec in axes.inputs
    }
    short = _is_long(example) and trials.runs_several(2, "mixed")
    return short or trials.values(twice) is not None


def _is_long(example: Feeds) -> bool:
    """Whether a run may take long; short inputs need not be tried at other lengths than theirs."""
    return sum(values.nbytes for values in example.values()) > _SHORT_BYTES


def _without_samples(session: Session, model: Model, options: MeasureOptions) -> Ready:
    tried: list[str] = []
    problem: InputError | None = None
    for candidate in _with_ranks(model):
        for axes in input_axes(candidate):
            _check_bytes(candidate, axes, options.working_bytes)
            trials = Trials(session, axes, np.random.default_rng(options.seed))
            trial = trials.first()
            if trial is not None:
                inputs = _with_a_batch(trials, axes, trial)
                model = replace(candidate, inputs=inputs)
                return Ready(model, None, trial.feeds, trial.values, session)
            tried += [sizes_text(axes.inputs, lengths) for lengths in trials.tried]
            problem = problem or trials.problem
    raise InputError(refusal(model, tried, problem))


def _with_a_batch(trials: Trials, axes: Axes, trial: Trial) -> tuple[InputSpec, ...]:
    """The inputs, their batch fixed where no other batch runs than that of a trial."""
    batches = {trial.lengths[name] for name in axes.batch}
    if len(batches) != 1:
        return axes.inputs
    batch = batches.pop()
    if batch > 1 or any(spec.samples_axis is None for spec in axes.inputs):
        # A single sample does not run, or an input without an axis of samples differs in every run.
        return with_batch(axes.inputs, batch)
    short = _is_long(trial.feeds) and trials.runs_several(2, trial.contents)
    runs = short or trials.runs(2, trial.lengths, trial.contents)
    return axes.inputs if runs else with_batch(axes.inputs, 1)


def _with_ranks(model: Model) -> Iterator[Model]:
    """The model with every number of axes of its inputs that its nodes leave open.

    Raises:
        InputError: Neither the file nor the nodes say anything of it.
    """
    inputs = tuple(
        spec if spec.has_rank or spec.requested is None else _of_rank(spec, len(spec.requested))
        for spec in model.inputs
    )
    unknown = [spec for spec in inputs if not spec.has_rank and spec.requested is None]
    if not unknown:
        yield replace(model, inputs=inputs)
        return
    read = False
    for rank in _RANKS:
        guessed = tuple(_of_rank(spec, rank) if spec in unknown else spec for spec in inputs)
        rules = axis_rules(model, guessed)
        if rules.fits and rules.reads:
            read = True
            yield replace(model, inputs=guessed)
    if not read:
        names = ", ".join(spec.name for spec in unknown)
        raise InputError(
            f"{model.name}: the file does not say how many axes its input {names} has, and "
            "neither does what reads it. Give inputs with --samples, or a shape with "
            f"--input-shape {unknown[0].name}=1x3x224x224."
        )


def _of_rank(spec: InputSpec, rank: int) -> InputSpec:
    return replace(spec, shape=(None,) * rank, named=())


def _check_bytes(model: Model, axes: Axes, most_bytes: int) -> None:
    least = axes.lengths(1, 1)
    taken = bytes_of(axes.inputs, least)
    if taken > most_bytes:
        raise InputError(
            f"{model.name}: its inputs ({sizes_text(axes.inputs, least)}) take "
            f"{taken / 2**30:.1f} GiB for a single run, more than --memory leaves."
        )
