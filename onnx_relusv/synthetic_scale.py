"""How large a model's inputs are, where nothing in front of them says so.

A network that is fitted to inputs of another scale than its own is spoilt. What tells it, the first
of these that there is:

    the constants that the model shifts and scales an input by at its front
    a declared range, of which a quarter is taken as the standard deviation
    the file's BatchNormalization statistics: of some conventions, the one by which the channels of
        synthetic inputs are most like what the file says of them
    the habit of frameworks that normalise outside of the file: mean 0, variance 1

Our reading: none of it is certain.
"""

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from onnx_relusv.graph.normalisation import NOTHING, Normalisation, normalisation
from onnx_relusv.graph.statistics import ChannelStatistics, channel_statistics
from onnx_relusv.graph.view import View
from onnx_relusv.opened import Opened
from onnx_relusv.records import Floats
from onnx_relusv.samples import Samples, open_samples
from onnx_relusv.spectra.rectified import activated_gaussian

# Mean and standard deviation: normalised, pixels from 0 to 1 and from -1 to 1, bytes, bytes less
# their mean.
CONVENTIONS = ((0.0, 1.0), (0.5, 0.25), (0.0, 0.5), (127.5, 64.0), (0.0, 64.0))
# Standard deviations of a channel lie between a multiple of the others' and no more than that.
_LEAST_VARIANCE = 1e-3
_BATCH = 4

Normalisations = Mapping[str, Normalisation]


def input_normalisations(
    opened: Opened,
    seen: View,
    input_range: tuple[float, float] | None,
    folder: Path,
    write: Callable[[Path, Normalisations], None],
) -> tuple[dict[str, Normalisation], bool]:
    """How inputs are taken to be normalised, by name, and whether anything told so.

    Args:
        opened: The model.
        seen: Its graph.
        input_range: What was declared of its inputs, or None.
        folder: Takes a file while conventions are tried.
        write: Writes a few synthetic samples, given such normalisations.
    """
    model = opened.model
    found = {spec.name: normalisation(model, seen, spec.name) for spec in model.inputs}
    bare = [name for name, one in found.items() if one is NOTHING]
    if input_range is not None:
        low, high = input_range
        return found | dict.fromkeys(bare, _of((low + high) / 2, (high - low) / 4)), True
    sources = {block.source for block in opened.blocks}
    known = channel_statistics(model, seen, sources, activated_gaussian)
    if not bare or not known:
        return found, not bare
    tried = []
    for mean, deviation in CONVENTIONS:
        path = folder / "tried.npz"
        normalised = found | dict.fromkeys(bare, _of(mean, deviation))
        write(path, normalised)
        tried.append((_distance(opened, known, open_samples(path, model.inputs)), normalised))
    return min(tried, key=lambda one: one[0])[1], True


def _of(mean: float, deviation: float) -> Normalisation:
    return Normalisation(np.array(1 / deviation), np.array(-mean / deviation))


def _distance(opened: Opened, known: Mapping[str, ChannelStatistics], samples: Samples) -> float:
    """How unlike the samples' channels are to what the file says of them.

    Returns:
        The median over tensors of the mean over channels of the Kullback-Leibler divergence of two
        Gaussians, infinite where a number is not finite.
    """
    session = opened.session(known)
    sums = {name: np.zeros((3, len(one.mean))) for name, one in known.items()}
    for batch in samples.batches(_BATCH):
        values = session.run(batch.feeds)
        for name, total in sums.items():
            total += _sums(values[name][: batch.count].astype(np.float64), total.shape[1])
    distances = []
    for name, (count, first, second) in sums.items():
        mean = first / count
        variance = second / count - mean**2
        distances.append(_divergence(mean, variance, known[name]))
    return float(np.median(distances))


def _sums(values: np.ndarray, channels: int) -> Floats:
    """(3, channels): how many numbers there are, their sum and that of their squares."""
    by_channel = values.reshape(len(values), channels, -1)
    count = np.full(channels, by_channel.shape[0] * by_channel.shape[2], np.float64)
    return np.stack([count, by_channel.sum((0, 2)), (by_channel**2).sum((0, 2))])


def _divergence(mean: Floats, variance: Floats, known: ChannelStatistics) -> float:
    if not (np.isfinite(mean).all() and np.isfinite(variance).all()):
        return float("inf")
    least = _LEAST_VARIANCE * known.variance.mean() + np.finfo(np.float64).tiny
    told = np.maximum(known.variance, least)
    ratio = np.maximum(variance, least) / told
    return float(np.mean(ratio - 1 - np.log(ratio) + (mean - known.mean) ** 2 / told) / 2)
