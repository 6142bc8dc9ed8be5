"""Synthetic inputs: what a model is run on where there are no samples, or besides them."""

from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np

from onnx_relusv.records import InputSpec

Feeds = dict[str, np.ndarray]
# Lengths tried for dynamic axes that nothing else tells, until the model runs. Convolutional
# networks need enough pixels to survive their strides, sequence models do with few, and raw audio
# takes thousands of samples.
DYNAMIC_LENGTHS = (224, 64, 256, 32, 128, 16, 8, 1, 512, 1024, 4096, 16000)
# What inputs of whole numbers, truth values and text hold: indices into tables, masks, lengths,
# rates and flags are told apart by trying.
Contents = Literal["mixed", "zeros", "ones", "lengths", "compared"]
_TEXTS = {"mixed": ("1", "2"), "zeros": ("", ""), "ones": ("a", "b")}


def synthetic_feeds(
    inputs: Sequence[InputSpec],
    lengths: Mapping[str, int],
    rng: np.random.Generator,
    contents: Contents = "mixed",
    numbers: Mapping[str, int] | None = None,
) -> Feeds:
    """Random inputs: standard normal floats, and for the rest what is called for.

    Args:
        inputs: The model's inputs.
        lengths: Of their dynamic axes, by name; those that are not there have a length of 1.
        rng: Draws the values.
        contents: Of all that is no float: 0 and 1 at random, zeros, ones, the longest length in
            inputs of one axis or none, or what `numbers` says.
        numbers: By input, for ``compared``; other inputs are ``mixed`` there.
    """
    longest = max((length for spec in inputs for length in shape_of(spec, lengths)[1:]), default=1)
    feeds = {}
    for spec in inputs:
        shape = shape_of(spec, lengths)
        if spec.dtype.kind == "O":
            # Numbers first: what reads numbers out of text fails on anything else.
            texts = np.array(_TEXTS.get(contents, _TEXTS["mixed"]), object)
            values: np.ndarray = texts[rng.integers(0, len(texts), shape)]
        elif spec.dtype.kind in "iub":
            values = _whole(spec, shape, rng, contents, longest, numbers or {})
        else:
            values = rng.standard_normal(shape)
        feeds[spec.name] = np.asarray(values).astype(spec.dtype)
    return feeds


def _whole(
    spec: InputSpec,
    shape: tuple[int, ...],
    rng: np.random.Generator,
    contents: Contents,
    longest: int,
    numbers: Mapping[str, int],
) -> np.ndarray:
    if contents == "zeros" or contents == "ones":
        return np.full(shape, int(contents == "ones"))
    if contents == "lengths" and spec.dtype.kind != "b":
        return np.full(shape, longest if len(shape) < 2 else 1)
    if contents == "compared" and spec.name in numbers:
        return np.full(shape, numbers[spec.name])
    return rng.integers(0, 2, shape)


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
