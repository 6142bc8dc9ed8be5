"""Inputs that a model runs on without samples: sizes solved from the file, then tried by running.

The length of a dynamic axis follows, in this order, from `--input-shape`; from the weights that
read it, as far as a walk through the graph finds them (graph/channels/input_axes); from the name
that it shares with another axis; for the axis of samples, from a single sample; all others get a
few lengths that models of many kinds run at, in turn.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from math import prod
from time import monotonic

import numpy as np

from onnx_relusv.core.arguments import shape_text
from onnx_relusv.core.blocks import InputSpec
from onnx_relusv.core.errors import InputError
from onnx_relusv.graph.channels.input_axes import Solver, axis_rules, joined_axes
from onnx_relusv.graph.channels.lengths import AxisRules, Length, Rule
from onnx_relusv.graph.model import Model
from onnx_relusv.runtime.session import Session
from onnx_relusv.samples.feeds import DYNAMIC_LENGTHS, Contents, Feeds, shape_of, synthetic_feeds

# Samples in a run, where a single sample does not run.
_BATCHES = (1, 2, 4, 3, 8, 16)
# Lengths of dynamic axes at which several samples are tried at a time.
_SHORT = (8, 32, 64)
# Enough for every length at several batches; beyond that sizes are not the reason.
_MOST_TRIES = 96
_MOST_SECONDS = 120.0
_SHOWN = 6
# Of inputs, where sizes are free; pictures of thousands of pixels a side are never needed.
_MOST_BYTES, _MOST_TIMES = 16 << 20, 4


@dataclass(frozen=True, eq=False)
class Axes:
    """A model's input axes and the constraints on their lengths.

    Attributes:
        inputs: The inputs; axes that have one length have one name.
        solver: Finds lengths.
        batch: Names of the axes of samples.
        requested: Lengths that are fixed by `--input-shape`, by name.
        numbers: By input, the number that it is compared with.
    """

    inputs: tuple[InputSpec, ...]
    solver: Solver
    batch: frozenset[str]
    requested: Mapping[str, int]
    numbers: Mapping[str, int]

    def lengths(self, batch: int, length: int) -> dict[str, int]:
        """Lengths as near to a batch and to a length of all other axes as the model takes."""
        names = dict.fromkeys(
            name
            for spec in self.inputs
            for name, known in zip(spec.axis_names, spec.shape, strict=True)
            if known is None
        )
        targets = {name: batch if name in self.batch else length for name in names}
        movable = [name for name in reversed(names) if name not in self.batch]
        return {**self.solver.solved(targets, movable, sorted(self.batch)), **self.requested}

    @property
    def contents(self) -> tuple[Contents, ...]:
        """Contents of inputs that are no floats, in the order in which they are tried."""
        if all(spec.dtype.kind not in "iubO" for spec in self.inputs):
            return ("mixed",)
        compared: tuple[Contents, ...] = ("compared",) if self.numbers else ()
        return ("mixed", *compared, "zeros", "ones", "lengths")

    def feeds(
        self, lengths: Mapping[str, int], contents: Contents, rng: np.random.Generator
    ) -> Feeds:
        """Random inputs of some lengths."""
        return synthetic_feeds(self.inputs, lengths, rng, contents, self.numbers)


def input_axes(model: Model) -> Iterator[Axes]:
    """Readings of a model's input axes, the best first.

    In the second, if any, unnamed axes of inputs whose first axis is fixed are those of samples:
    the states of recurrent networks.

    Args:
        model: The model, whose inputs all have a number of axes.
    """
    rules = axis_rules(model, model.inputs)
    yield _axes(model.inputs, rules, [])
    first = _batch_names(model.inputs)
    states = [
        (first[0], name)
        for spec in model.inputs
        if first and spec.shape and spec.shape[0] is not None
        for place, (name, known) in enumerate(zip(spec.axis_names, spec.shape, strict=True))
        if known is None and (place >= len(spec.named) or spec.named[place] is None)
    ]
    if states:
        yield _axes(model.inputs, rules, states)


def _axes(
    inputs: Sequence[InputSpec], rules: AxisRules, further: Sequence[tuple[str, str]]
) -> Axes:
    first = _batch_names(inputs)
    joined = joined_axes([*rules.same, *further], first)
    named = tuple(_renamed(spec, joined) for spec in inputs)
    batch = frozenset(joined.get(name, name) for name in first)
    requested = {
        name: length
        for spec in named
        if spec.requested is not None
        for name, length, known in zip(spec.axis_names, spec.requested, spec.shape, strict=True)
        if known is None
    }
    return Axes(
        inputs=_with_samples_axes(named, batch),
        solver=Solver([_joined_rule(rule, joined) for rule in rules.rules]),
        batch=batch,
        requested=requested,
        # The largest: smaller numbers that a rate or a count is compared with select a branch.
        numbers={
            name: int(max(numbers))
            for name, numbers in rules.numbers.items()
            if numbers and max(numbers) < 1 << 31
        },
    )


def _joined_rule(rule: Rule, joined: Mapping[str, str]) -> Rule:
    parts = tuple(sorted(((joined.get(n, n), steps) for n, steps in rule.length.parts), key=repr))
    return replace(rule, length=Length(rule.length.scale, rule.length.divisor, parts))


def _renamed(spec: InputSpec, joined: Mapping[str, str]) -> InputSpec:
    return replace(spec, named=tuple(joined.get(name, name) for name in spec.axis_names))


def _batch_names(inputs: Sequence[InputSpec]) -> list[str]:
    """The axes of samples: every input's first, unless its name stands for other axes elsewhere.

    An axis called a batch is one wherever it stands; without one the first input's first axis is.
    """
    first = [spec.axis_names[0] for spec in inputs if spec.shape and spec.shape[0] is None]
    if not first:
        return []
    others = {name for spec in inputs for name in spec.axis_names[1:]}
    main = next((name for name in first if "batch" in name.lower()), first[0])
    return list(dict.fromkeys([main, *(name for name in first if name not in others)]))


def _with_samples_axes(inputs: Sequence[InputSpec], batch: frozenset[str]) -> tuple[InputSpec, ...]:
    fixed = {spec.shape[0] for spec in inputs if spec.shape and spec.shape[0] is not None}
    # Of fixed lengths that differ, or stand beside one that is open, only 1 can be a batch.
    alone = len(fixed) == 1 and not batch

    def of(spec: InputSpec) -> int | None:
        for place, (name, known) in enumerate(zip(spec.axis_names, spec.shape, strict=True)):
            if known is None and name in batch:
                return place
        if not spec.shape or spec.shape[0] is None:
            return None
        return 0 if alone or spec.shape[0] == 1 else None

    return tuple(replace(spec, samples_axis=of(spec)) for spec in inputs)


def with_batch(inputs: Sequence[InputSpec], batch: int) -> tuple[InputSpec, ...]:
    """Inputs whose axes of samples have a fixed length."""

    def of(spec: InputSpec) -> InputSpec:
        place = spec.samples_axis
        if place is None or spec.shape[place] is not None:
            return spec
        return replace(spec, shape=(*spec.shape[:place], batch, *spec.shape[place + 1 :]))

    return tuple(map(of, inputs))


@dataclass(frozen=True, eq=False)
class Trial:
    """A run that succeeded.

    Attributes:
        feeds: The inputs.
        values: The outputs.
        lengths: Of the feeds' dynamic axes, by name.
        contents: Of the inputs that are no floats.
    """

    feeds: Feeds
    values: dict[str, np.ndarray]
    lengths: Mapping[str, int]
    contents: Contents


def fixed_batches(axes: Axes) -> tuple[int, ...]:
    """Batches to try where a single sample does not run, those that follow from the file first."""
    solved = sorted(axes.solver.nearest(name, 1) for name in axes.batch)
    return tuple(dict.fromkeys([*(batch for batch in solved if batch > 1), *_BATCHES[1:]]))


class Trials:
    """Inputs of a model, tried by running it.

    Args:
        session: The model.
        axes: Of it.
        rng: Draws the values.
    """

    def __init__(self, session: Session, axes: Axes, rng: np.random.Generator) -> None:
        self._session = session
        self._axes = axes
        self._rng = rng
        self.tried: list[Mapping[str, int]] = []
        self.problem: InputError | None = None

    def values(self, feeds: Feeds) -> dict[str, np.ndarray] | None:
        """The model's outputs for feeds; None where it does not run. The first reason is kept."""
        try:
            return self._session.run(feeds)
        except InputError as error:
            self.problem = self.problem or error
            return None

    def of(self, lengths: Mapping[str, int]) -> Iterator[tuple[Feeds, Contents]]:
        """Feeds of some lengths, with every kind of contents in turn."""
        self.tried.append(lengths)
        for contents in self._axes.contents:
            yield self._axes.feeds(lengths, contents, self._rng), contents

    def _is_large(self, lengths: Mapping[str, int]) -> bool:
        least = bytes_of(self._axes.inputs, self._axes.lengths(1, 1))
        most = max(_MOST_BYTES, _MOST_TIMES * least)
        return bytes_of(self._axes.inputs, lengths) > most

    def first(self) -> "Trial | None":
        """The first feeds that the model runs on; None where it runs on nothing that is tried."""
        end = monotonic() + _MOST_SECONDS
        sizes = dict.fromkeys(
            tuple(self._axes.lengths(batch, length).items())
            for batch in _BATCHES
            for length in DYNAMIC_LENGTHS
        )
        tries = 0
        for size in sizes:
            lengths = dict(size)
            if self.tried and self._is_large(lengths):
                continue
            for feeds, contents in self.of(lengths):
                values = self.values(feeds)
                if values is not None:
                    return Trial(feeds, values, lengths, contents)
                tries += 1
                if tries == _MOST_TRIES or monotonic() > end:
                    return None
        return None

    def runs(self, batch: int, lengths: Mapping[str, int], contents: Contents) -> bool:
        """Whether so many samples of some lengths run at a time."""
        batched = {**lengths, **dict.fromkeys(self._axes.batch, batch)}
        return self.values(self._axes.feeds(batched, contents, self._rng)) is not None

    def runs_several(self, batch: int, contents: Contents) -> bool:
        """Whether so many short samples do; a run of long ones may take a minute."""
        short = (self._axes.lengths(batch, length) for length in _SHORT)
        return any(self.runs(batch, lengths, contents) for lengths in short)

    def several(self, batches: Sequence[int], count: int) -> Iterator[Feeds]:
        """Feeds of a few sizes that the model runs on.

        Args:
            batches: Samples in a run, in turn.
            count: How many sizes at most.
        """
        given, number = 0, 0
        failed: list[Mapping[str, int]] = []
        remaining = list(DYNAMIC_LENGTHS)
        while remaining and given < count:
            lengths = self._axes.lengths(batches[number % len(batches)], remaining.pop(0))
            number += 1
            if lengths in failed or (given and self._is_large(lengths)):
                continue
            running = (feeds for feeds, _ in self.of(lengths) if self.values(feeds) is not None)
            feeds = next(running, None)
            if feeds is not None:
                yield feeds
                given += 1
                continue
            if not failed:
                remaining = self._long_enough_first(remaining)
            failed.append(lengths)

    def _long_enough_first(self, lengths: Sequence[int]) -> list[int]:
        """Puts those lengths first at which no axis is shorter than in a trial that ran.

        On inputs that are shorter than a window onnxruntime may end the process, by a division by
        zero, and not only refuse them.
        """
        trial = self.first()
        if trial is None:
            return list(lengths)

        def is_short(length: int) -> bool:
            solved = self._axes.lengths(1, length)
            return any(solved[name] < least for name, least in trial.lengths.items())

        return sorted(lengths, key=is_short)


def bytes_of(inputs: Sequence[InputSpec], lengths: Mapping[str, int]) -> int:
    """Bytes of inputs whose dynamic axes have some lengths."""
    return sum(prod(shape_of(spec, lengths)) * spec.dtype.itemsize for spec in inputs)


def sizes_text(inputs: Sequence[InputSpec], lengths: Mapping[str, int]) -> str:
    """The shapes of inputs, for a reader."""
    return ", ".join(f"{spec.name} {shape_text(shape_of(spec, lengths))}" for spec in inputs)


def refusal(model: Model, tried: Sequence[str], problem: InputError | None) -> str:
    """Why a model is not run without samples, and what to do.

    Args:
        model: The model.
        tried: Sizes that it does not run on.
        problem: The error for the first.
    """
    unique = list(dict.fromkeys(tried))
    shown = "; ".join(unique[:_SHOWN])
    if len(unique) > _SHOWN:
        shown += f"; and {len(unique) - _SHOWN} more"
    texts = [spec.name for spec in model.inputs if spec.dtype.kind == "O"]
    of_text = ""
    if texts:
        of_text = f" Its input {', '.join(texts)} is of text, and made-up text means nothing to it."
    first = model.inputs[0].name
    return (
        f"{model.name}: without samples it runs on none of the inputs that were tried: {shown}."
        f"{of_text} Give inputs that it runs on with --samples, or say their shape with "
        f"--input-shape {first}=1x80x200. ({problem})"
    )


def further_feeds(
    session: Session, model: Model, rng: np.random.Generator, count: int
) -> Iterator[Feeds]:
    """Random inputs of several sizes that a model runs on, where its axes are dynamic.

    Args:
        session: The model, opened.
        model: The model, as `made_ready` returns it.
        rng: Draws the values.
        count: How many at most.
    """
    yield from Trials(session, next(input_axes(model)), rng).several((1, 3, 2), count)


def batch_feeds(session: Session, model: Model, rng: np.random.Generator, batch: int) -> Feeds:
    """Random inputs of some samples.

    Args:
        session: The model, opened.
        model: The model, as `made_ready` returns it.
        rng: Draws the values.
        batch: How many samples, where the model leaves it open.

    Raises:
        InputError: It runs on nothing that was tried.
    """
    trials = Trials(session, next(input_axes(model)), rng)
    for feeds in trials.several((batch,), 1):
        return feeds
    tried = [sizes_text(model.inputs, lengths) for lengths in trials.tried]
    raise InputError(refusal(model, tried, trials.problem))
