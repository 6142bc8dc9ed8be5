"""Synthetic feeds: inputs to try a model on, and inputs of several kinds and scales.

How large real inputs are is known where the file normalises them at its front, or where their range
was declared; elsewhere several scales are tried. An input of one number a sample is a setting, a
threshold or a rate: it takes a magnitude of its own, since most of the rest may be masked by it.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from onnx_relusv.core.blocks import Floats, InputSpec
from onnx_relusv.graph.channels.operator import NOTHING, Normalisation
from onnx_relusv.samples.synthetic import image_axes, smooth

Feeds = dict[str, np.ndarray]
# Lengths tried, until the model runs, for dynamic axes of otherwise unknown length. Convolutional
# networks need enough pixels to survive their strides, sequence models do with few, and raw audio
# takes thousands of samples.
DYNAMIC_LENGTHS = (224, 64, 256, 32, 128, 16, 8, 1, 512, 1024, 4096, 16000)
# Contents of inputs of whole numbers, truth values and text: whether they are indices into tables,
# masks, lengths, rates or flags is found by trying.
Contents = Literal["mixed", "zeros", "ones", "lengths", "compared"]
_TEXTS = {"mixed": ("1", "2"), "zeros": ("", ""), "ones": ("a", "b")}


def synthetic_feeds(
    inputs: Sequence[InputSpec],
    lengths: Mapping[str, int],
    rng: np.random.Generator,
    contents: Contents = "mixed",
    numbers: Mapping[str, int] | None = None,
) -> Feeds:
    """Random inputs: standard normal floats, and for the rest the requested contents.

    Args:
        inputs: The model's inputs.
        lengths: Of their dynamic axes, by name; axes that are missing here have a length of 1.
        rng: Draws the values.
        contents: Of all that is no float: 0 and 1 at random, zeros, ones, the longest length in
            inputs of at most one axis, or `numbers`.
        numbers: By input, for ``compared``; other inputs are ``mixed`` there.
    """
    longest = max((length for spec in inputs for length in shape_of(spec, lengths)[1:]), default=1)

    def drawn(spec: InputSpec, shape: tuple[int, ...]) -> np.ndarray:
        kind = spec.dtype.kind
        if kind == "O":
            # Numbers first: a model that parses numbers fails on anything else.
            texts = np.array(_TEXTS.get(contents, _TEXTS["mixed"]), object)
            return np.asarray(texts[rng.integers(0, len(texts), shape)])
        if kind not in "iub":
            return np.asarray(rng.standard_normal(shape))
        if contents in ("zeros", "ones"):
            return np.full(shape, int(contents == "ones"))
        if contents == "lengths" and kind != "b":
            return np.full(shape, longest if len(shape) < 2 else 1)
        if contents == "compared" and spec.name in (numbers or {}):
            return np.full(shape, (numbers or {})[spec.name])
        return np.asarray(rng.integers(0, 2, shape))

    return {spec.name: drawn(spec, shape_of(spec, lengths)).astype(spec.dtype) for spec in inputs}


def shape_of(spec: InputSpec, lengths: Mapping[str, int]) -> tuple[int, ...]:
    """An input's shape where its dynamic axes have these lengths."""
    if spec.requested is not None and not spec.shape:
        return spec.requested
    return tuple(
        lengths.get(name, 1) if known is None else known
        for name, known in zip(spec.axis_names, spec.shape, strict=True)
    )


def batch_of(inputs: Sequence[InputSpec], feeds: Mapping[str, np.ndarray]) -> int:
    """How many samples feeds hold; 1 where no input has an axis of samples.

    Args:
        inputs: The model's inputs.
        feeds: By input name.
    """
    for spec in inputs:
        if spec.samples_axis is not None and feeds[spec.name].ndim > spec.samples_axis:
            return int(feeds[spec.name].shape[spec.samples_axis])
    return 1


_Draw = Callable[[tuple[int, ...], np.random.Generator], Floats]


def _normal(deviation: float) -> _Draw:
    return lambda shape, rng: deviation * rng.standard_normal(shape)


def _between(low: float, high: float) -> _Draw:
    return lambda shape, rng: rng.uniform(low, high, shape)


def _smooth(shape: tuple[int, ...], rng: np.random.Generator) -> Floats:
    noise, axes = rng.standard_normal(shape), image_axes(shape)
    return noise if axes is None else smooth(noise, axes)


@dataclass(frozen=True)
class _Kind:
    """The contents of inputs: floats of a distribution, whole numbers below a bound."""

    words: str
    draw: _Draw
    bound: int


# Of inputs of unknown scale.
_KINDS = (
    _Kind("normal, deviation 1", _normal(1), 2),
    _Kind("from 0 to 1", _between(0, 1), 10),
    _Kind("smooth, deviation 1", _smooth, 100),
    _Kind("from 0 to 255", _between(0, 255), 256),
    _Kind("normal, deviation 10", _normal(10), 1000),
)
# Of inputs that are normalised, or lie in a declared range once that is mapped to -2 to 2.
_NORMALISED = (
    _Kind("normal, deviation 1", _normal(1), 2),
    _Kind("from -2 to 2", _between(-2, 2), 10),
    _Kind("smooth, deviation 1", _smooth, 100),
    _Kind("normal, deviation 0.3", _normal(0.3), 256),
    _Kind("normal, deviation 2", _normal(2), 1000),
)
# Of settings, in turn; of two of them the second is the larger one in most feeds.
_MAGNITUDES = (1.0, 10.0, 100.0, 1_000.0, 10_000.0)


@dataclass(frozen=True, eq=False)
class VariedFeed:
    """A feed, its kind in words, and how many samples it holds."""

    words: str
    feeds: Feeds
    samples: int


@dataclass(frozen=True, eq=False, kw_only=True)
class Drawing:
    """How feeds are drawn.

    Attributes:
        inputs: The model's inputs.
        example: A feed that runs, whose shapes and types the feeds have.
        normalisations: By input name, what the model does to its inputs at its front.
        input_range: Between which numbers all inputs lie, or None.
        seed: Draws the values.
        repeats: How many times as many samples as the example feeds hold.
    """

    inputs: Sequence[InputSpec]
    example: Mapping[str, np.ndarray]
    normalisations: Mapping[str, Normalisation]
    input_range: tuple[float, float] | None
    seed: int
    repeats: int = 1

    @property
    def floats(self) -> list[str]:
        """The inputs of floats, by name."""
        return [name for name, values in self.example.items() if values.dtype.kind in "fV"]

    @property
    def settings(self) -> list[str]:
        """Those of them that have one number a sample, beside other inputs."""
        batch = batch_of(self.inputs, self.example)
        names = [name for name in self.floats if self.example[name].size in (1, batch)]
        return names if len(names) < len(self.example) else []

    @property
    def kinds(self) -> tuple[_Kind, ...]:
        """The kinds of inputs to try: fewer scales where it is known."""
        known = [self.normalisations.get(name, NOTHING) is not NOTHING for name in self.floats]
        return _NORMALISED if self.input_range is not None or (known and all(known)) else _KINDS

    def repeated(self, name: str) -> np.ndarray:
        """The example's values of an input, for so many samples."""
        axis = next(spec.samples_axis for spec in self.inputs if spec.name == name)
        values = self.example[name]
        if axis is None or axis >= values.ndim:
            return values
        return np.concatenate([values] * self.repeats, axis=axis)


def varied_feeds(
    drawing: Drawing, runs: Callable[[Feeds], bool] = lambda feeds: True
) -> Iterator[VariedFeed]:
    """One feed of every kind that runs.

    Whole numbers may be indices into a table of unknown length: where those of a feed do not run,
    they are as in the example. So is text.

    Args:
        drawing: What feeds are drawn for.
        runs: Whether a feed runs.
    """
    for number, kind in enumerate(drawing.kinds):
        rng = np.random.default_rng([drawing.seed, number])
        drawn = {name: _values(drawing, kind, number, name, rng) for name in drawing.example}
        cautious = {
            name: values if name in drawing.floats else drawing.repeated(name)
            for name, values in drawn.items()
        }
        for feeds in (drawn, cautious):
            if runs(feeds):
                yield VariedFeed(kind.words, feeds, batch_of(drawing.inputs, feeds))
                break


def repeatable(inputs: Sequence[InputSpec]) -> bool:
    """Whether the model's file declares that it takes any number of samples."""
    lengths = [
        spec.shape[spec.samples_axis]
        for spec in inputs
        if spec.samples_axis is not None and spec.samples_axis < len(spec.shape)
    ]
    return bool(lengths) and all(length is None for length in lengths)


def _values(
    drawing: Drawing, kind: _Kind, number: int, name: str, rng: np.random.Generator
) -> np.ndarray:
    """An input's values in the feed of a kind."""
    example = drawing.repeated(name)
    values: np.ndarray = example
    if name in drawing.settings:
        place = (number + 2 * drawing.settings.index(name)) % len(_MAGNITUDES)
        values = np.asarray(_MAGNITUDES[place] * rng.uniform(0.5, 1.5, example.shape))
    elif name in drawing.floats:
        normalised = drawing.normalisations.get(name, NOTHING)
        values = _raw(kind.draw(example.shape, rng), normalised, drawing.input_range)
    elif example.dtype.kind in "biu":
        largest = 2 if example.dtype.kind == "b" else np.iinfo(example.dtype).max
        bound = min(2 if example.dtype.kind == "b" else kind.bound, largest)
        values = np.asarray(rng.integers(0, bound, example.shape))
    return np.asarray(values).astype(example.dtype)


def _raw(
    values: Floats, normalised: Normalisation, input_range: tuple[float, float] | None
) -> Floats:
    if normalised is not NOTHING:
        raw = np.asarray((values - normalised.shift) / normalised.scale)
    elif input_range is not None:
        low, high = input_range
        raw = (low + high) / 2 + values * (high - low) / 4
    else:
        raw = values
    return raw if input_range is None else np.clip(raw, *input_range)
