"""Synthetic inputs of several kinds and scales: what a smaller model changes without samples.

How large real inputs are is known where the file normalises them at its front, or where their range
was declared; elsewhere several scales are tried. An input of one number a sample is a setting, a
threshold or a rate: it takes a magnitude of its own, since what it masks may be all there is.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from onnx_relusv.graph.normalisation import NOTHING, Normalisation
from onnx_relusv.records import Floats
from onnx_relusv.synthetic import image_axes, smooth

Feeds = dict[str, np.ndarray]
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
    """What inputs hold: floats, whole numbers below a bound."""

    words: str
    draw: _Draw
    bound: int


# Of inputs whose scale nothing tells.
_KINDS = (
    _Kind("normal, deviation 1", _normal(1), 2),
    _Kind("from 0 to 1", _between(0, 1), 10),
    _Kind("smooth, deviation 1", _smooth, 100),
    _Kind("from 0 to 255", _between(0, 255), 256),
    _Kind("normal, deviation 10", _normal(10), 1000),
)
# Of such as are normalised, and of such as lie in a declared range once that is taken to -2 to 2.
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
    """A feed, and what it is in words."""

    words: str
    feeds: Feeds
    samples: int


def varied_feeds(
    example: Mapping[str, np.ndarray],
    normalisations: Mapping[str, Normalisation],
    input_range: tuple[float, float] | None,
    seed: int,
    repeats: int = 1,
    runs: Callable[[Feeds], bool] = lambda feeds: True,
) -> Iterator[VariedFeed]:
    """One feed of every kind that runs.

    Whole numbers may be places in a table, of which nobody knows how long it is: where those of a
    feed do not run, they are as in the example. So is text.

    Args:
        example: A feed that runs, whose shapes and types the feeds have.
        normalisations: By input name, what the model does to its inputs at its front.
        input_range: Between which numbers all inputs lie, or None.
        seed: Draws the values.
        repeats: How often the example's first axis is repeated.
        runs: Whether a feed runs.
    """
    floats = [name for name, values in example.items() if values.dtype.kind in "fV"]
    known = input_range is not None or (
        bool(floats) and all(normalisations.get(name, NOTHING) is not NOTHING for name in floats)
    )
    settings = [name for name in floats if _is_setting(example[name])]
    settings = settings if len(settings) < len(example) else []
    for number, kind in enumerate(_NORMALISED if known else _KINDS):
        rng = np.random.default_rng([seed, number])
        drawn: Feeds = {}
        for name, values in example.items():
            shape = (len(values) * repeats, *values.shape[1:]) if values.ndim else ()
            if name in settings:
                place = (number + 2 * settings.index(name)) % len(_MAGNITUDES)
                found: np.ndarray = _MAGNITUDES[place] * rng.uniform(0.5, 1.5, shape)
            elif name in floats:
                normalised = normalisations.get(name, NOTHING)
                found = _raw(kind.draw(shape, rng), normalised, input_range)
            elif values.dtype.kind == "b":
                found = rng.integers(0, 2, shape)
            elif values.dtype.kind in "iu":
                found = rng.integers(0, min(kind.bound, np.iinfo(values.dtype).max), shape)
            else:
                found = _repeated(values, repeats)
            drawn[name] = np.asarray(found).astype(values.dtype)
        cautious = {
            name: values if name in floats else _repeated(example[name], repeats)
            for name, values in drawn.items()
        }
        for feeds in (drawn, cautious):
            if runs(feeds):
                yield VariedFeed(kind.words, feeds, _samples(feeds))
                break


def _is_setting(values: np.ndarray) -> bool:
    return values.size == (len(values) if values.ndim else 1)


def _samples(feeds: Mapping[str, np.ndarray]) -> int:
    return next((len(values) for values in feeds.values() if values.ndim > 1), 1)


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


def _repeated(values: np.ndarray, repeats: int) -> np.ndarray:
    return np.concatenate([values] * repeats) if values.ndim else values


def repeatable(example: Mapping[str, np.ndarray], dynamic: Sequence[str]) -> bool:
    """Whether several samples may be put together: all inputs with axes have one of samples."""
    return all(name in dynamic for name, values in example.items() if values.ndim)
