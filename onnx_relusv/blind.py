"""What blocks are measured on without samples: statistics in the file, and synthetic samples.

Synthetic samples run through the model, and their moments are taken as those of real ones would be.
They tell how the channels and positions of a block's input hang together because of the layers in
front. How large each is on real inputs the file may tell: behind a BatchNormalization, means and
variances are its own (graph/statistics), and the synthetic ones only say how they correlate.

Half of what is between the columns is then taken away: nobody knows whether real inputs
correlate so. Without either, the covariance stays the identity.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace

import numpy as np

from onnx_relusv.cost import block_macs
from onnx_relusv.covariance import shrunk, variances
from onnx_relusv.errors import InputError
from onnx_relusv.graph.normalisation import normalisation
from onnx_relusv.graph.statistics import ChannelStatistics, channel_statistics
from onnx_relusv.graph.view import View, view
from onnx_relusv.opened import BlockMoments, MomentsByBlock, Opened, block_moments
from onnx_relusv.progress import Progress
from onnx_relusv.records import Block, FactoredCovariance, Floats, Moments
from onnx_relusv.results import BlockRow
from onnx_relusv.samples import open_samples
from onnx_relusv.spectra.moments import LEAST_VARIANCE
from onnx_relusv.spectra.moments_key import moments_key
from onnx_relusv.spectra.rectified import activated_gaussian
from onnx_relusv.spectra.stored_moments import moments_on_disk
from onnx_relusv.synthetic import affordable_count, write_synthetic
from onnx_relusv.synthetic_samples import synthetic_example
from onnx_relusv.temporary_files import temporary_folder

# The share of the correlations that is taken away; measured in docs/how-it-works.md.
SHRINKAGE = 0.5
# The same where synthetic samples are fitted to.
_DOUBT = 0.01
_SOURCES = {
    "batch_normalization": "BatchNormalization statistics with synthetic correlations",
    "synthetic": "synthetic inputs",
    "none": "the unit ball",
}
_SCALE = (
    "Nothing in the file tells how large its inputs are; synthetic ones have mean 0, variance 1. "
    "Where real ones do not, say between which numbers they lie with --input-range."
)


@contextmanager
def planning_moments(opened: Opened, progress: Progress) -> Iterator[BlockMoments]:
    """The moments of every block's input by key, assumed ones where the model is measured blind.

    Of the samples, they are what `block_moments` gives. Blind ones lie in a temporary file
    likewise; None where there are no inputs to assume, or the memory is too small.

    Args:
        opened: The model; blind where its samples are synthetic or there are none.
        progress: Told of the samples.
    """
    if opened.samples is not None:
        with block_moments(opened, progress) as moments:
            yield _Synthetic(moments) if opened.blind else moments
        return
    seen = view(opened.model)
    example = synthetic_example(opened)
    if example is None:
        yield dict.fromkeys((block.key for block in opened.blocks), None)
        return
    known = channel_statistics(
        opened.model, seen, {block.source for block in opened.blocks}, activated_gaussian
    )
    with moments_on_disk() as stored:
        # Synthetic inputs may lead where real ones never do; the unit ball is left then.
        try:
            with (
                _on_synthetic(opened, seen, example) as drawn,
                block_moments(drawn, progress, lenient=True) as found,
            ):
                for block in opened.blocks:
                    synthetic = found[block.key]
                    if synthetic is not None and moments_key(block) not in stored:
                        assumed = assumed_moments(block, synthetic, known.get(block.source))
                        if assumed is not None:
                            stored.put(moments_key(block), assumed)
        except InputError:
            # It runs on one sample, but not on these: they are a help, and no need.
            is_assumed = False
        else:
            is_assumed = True
        if is_assumed:
            yield MomentsByBlock(opened.blocks, stored)
        else:
            yield dict.fromkeys((block.key for block in opened.blocks), None)


def assumed_moments(
    block: Block, synthetic: Moments, known: ChannelStatistics | None
) -> Moments | None:
    """What is assumed of a block's input.

    Args:
        block: The block.
        synthetic: Moments of its input on synthetic samples.
        known: What the file tells of the input's channels.

    Returns:
        With `SHRINKAGE` of every covariance replaced by its diagonal where means and variances
        are known, and by a multiple of the identity where they are synthetic too. None where
        synthetic samples lead to numbers that are not finite.
    """
    if not _is_finite(synthetic):
        return None
    columns = None if known is None else _by_column(block, known)
    if columns is None:
        return _shrunk(synthetic, SHRINKAGE)
    mean, own = columns
    # A channel that is never active on the training data still keeps the matrix definite.
    least = LEAST_VARIANCE * own.mean(axis=1, keepdims=True) + np.finfo(np.float64).tiny
    deviations = np.sqrt(np.maximum(own, least))
    held = synthetic.covariance
    if isinstance(held, tuple):
        factored = tuple(map(_with_deviations, held, deviations))
        return replace(synthetic, mean=mean, covariance=factored, source="batch_normalization")
    covariance = held.copy()
    for group, wanted in zip(covariance, deviations, strict=True):
        scale = (1 - SHRINKAGE) ** 0.5 * wanted / np.sqrt(np.diagonal(group))
        group *= scale[:, None]
        group *= scale
        group[np.diag_indices_from(group)] = wanted**2
    return replace(synthetic, mean=mean, covariance=covariance, source="batch_normalization")


def blind_warnings(opened: Opened, rows: Sequence[BlockRow]) -> tuple[str, ...]:
    """That the choice was blind, in a sentence for the user.

    Args:
        opened: The model.
        rows: What was measured.
    """
    if not opened.blind:
        return ()
    used = {row.statistics for row in rows}
    listed = ", ".join(text for source, text in _SOURCES.items() if source in used)
    found = (
        f"No samples: blocks were measured on {listed or 'nothing'}; "
        "what it costs in accuracy is not known."
    )
    return (found,) if opened.scale_told else (found, _SCALE)


class _Synthetic(Mapping[str, Moments | None]):
    """Moments of synthetic samples: a column that never varies on them may do so on real ones."""

    def __init__(self, moments: BlockMoments) -> None:
        self._moments = moments

    def __getitem__(self, key: str) -> Moments | None:
        found = self._moments[key]
        return None if found is None else _shrunk(found, _DOUBT)

    def __iter__(self) -> Iterator[str]:
        return iter(self._moments)

    def __len__(self) -> int:
        return len(self._moments)


def _shrunk(synthetic: Moments, share: float) -> Moments:
    """With a share of every covariance replaced by a multiple of the identity."""
    held = synthetic.covariance
    if isinstance(held, tuple):
        factored = tuple(shrunk(one, share) for one in held)
        return replace(synthetic, covariance=factored, source="synthetic")
    covariance = held.copy()
    for group in covariance:
        diagonal = np.diag_indices_from(group)
        variance = float(group[diagonal].mean())
        group *= 1 - share
        group[diagonal] += share * variance
    return replace(synthetic, covariance=covariance, source="synthetic")


def _with_deviations(synthetic: FactoredCovariance, wanted: Floats) -> FactoredCovariance:
    """The correlations of synthetic samples, without `SHRINKAGE` of them, at known deviations."""
    scale = (1 - SHRINKAGE) ** 0.5 * wanted / np.sqrt(variances(synthetic))
    factor = synthetic.factor * scale
    told = np.einsum("nc,nc->c", factor, factor)
    return FactoredCovariance(factor, wanted**2 - told)


def _is_finite(moments: Moments) -> bool:
    held = moments.covariance
    parts = (
        [values for one in held for values in (one.factor, one.diagonal)]
        if isinstance(held, tuple)
        else [held]
    )
    return all(np.isfinite(values).all() for values in (moments.mean, *parts))


def _by_column(block: Block, known: ChannelStatistics) -> tuple[Floats, Floats] | None:
    """Mean and variance of every column, (groups, columns); None where they do not fit."""
    geometry, channels = block.geometry, len(known.mean)
    if geometry.kind == "conv":
        repeats = geometry.columns * geometry.groups // geometry.in_channels
        fits = channels == geometry.in_channels and not known.flattened
    else:
        # Behind a Flatten a channel's positions follow each other; otherwise the channels are
        # axis 1, which is the axis of features of a matrix only.
        repeats = geometry.in_channels // channels
        fits = len(block.source_shape) == 2 and repeats * channels == geometry.in_channels
        fits = fits and (known.flattened or repeats == 1)
    if not fits:
        return None
    shape = (geometry.groups, geometry.columns)
    mean, variance = (
        np.repeat(values, repeats).reshape(shape) for values in (known.mean, known.variance)
    )
    return mean, variance


@contextmanager
def _on_synthetic(
    opened: Opened, seen: View, example: Mapping[str, np.ndarray]
) -> Iterator[Opened]:
    """The model with synthetic samples, in a folder that is gone afterwards."""
    model = opened.model
    normalised = {spec.name: normalisation(model, seen, spec.name) for spec in model.inputs}
    with temporary_folder() as folder:
        path = folder / "synthetic.npz"
        count = affordable_count(sum(map(block_macs, opened.blocks)))
        write_synthetic(path, example, normalised, opened.options.seed, count)
        yield replace(opened, samples=open_samples(path, opened.model.inputs), blind=False)
