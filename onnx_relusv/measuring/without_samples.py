"""What blocks are measured on without samples: statistics in the file, and synthetic samples.

Synthetic samples run through the model, and their moments are taken as those of real ones would be.
They tell how the channels and positions of a block's input hang together because of the layers in
front. How large each is on real inputs the file may tell: behind a BatchNormalization, means and
variances are its own (graph/channels/statistics), and the synthetic ones only say how they
correlate.

Half of what is between the columns is then taken away: it is unknown whether real
inputs correlate so. Without either, the covariance stays the identity.

How large a model's inputs are, where nothing in front of them says so.

A network that is fitted to inputs of another scale than its own is spoilt. What tells it, the first
of these that there is:

    the constants that the model shifts and scales an input by at its front
    a declared range, of which a quarter is taken as the standard deviation
    the file's BatchNormalization statistics: of some conventions, the one by which the channels of
        synthetic inputs are most like what the file says of them
    the habit of frameworks that normalise outside of the file: mean 0, variance 1

Our reading: none of it is certain.

Synthetic samples in place of real ones, for what has to be fitted where there are none.

Where units are removed, consumers and kept units have to be fitted anew. Synthetic samples then
stand in for real ones in all stages; what is made of them is blind all the same.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np

from onnx_relusv.core.blocks import Block, FactoredCovariance, Floats, Moments
from onnx_relusv.core.errors import InputError
from onnx_relusv.core.kinds import kind_of
from onnx_relusv.core.linear_algebra import shrunk, variances
from onnx_relusv.core.results import BlockReport
from onnx_relusv.graph.channels.operator import NOTHING, ChannelStatistics, Normalisation
from onnx_relusv.graph.channels.operators import (
    channel_statistics,
    normalisation,
)
from onnx_relusv.graph.nodes import View, view
from onnx_relusv.measuring.case import BlockMoments, Case, MomentsByBlock, Workspace, block_moments
from onnx_relusv.measuring.inputs import Inputs
from onnx_relusv.rewrites.low_rank.candidates import block_macs
from onnx_relusv.runtime.outputs import output_value
from onnx_relusv.samples.samples import Samples, open_samples
from onnx_relusv.samples.synthetic import (
    affordable_count,
    varied_count,
    write_synthetic,
)
from onnx_relusv.spectra.mean_widths import activated_gaussian
from onnx_relusv.spectra.moments import ENOUGH, LEAST_VARIANCE, moments_key, moments_on_disk
from onnx_relusv.work.executors import Progress
from onnx_relusv.work.temporary_files import temporary_folder

# Mean and standard deviation: normalised, pixels from 0 to 1 and from -1 to 1, bytes, bytes less
# their mean.
CONVENTIONS = ((0.0, 1.0), (0.5, 0.25), (0.0, 0.5), (127.5, 64.0), (0.0, 64.0))
# Standard deviations of a channel lie between a multiple of the others' and no more than that.
_LEAST_VARIANCE = 1e-3
_BATCH = 4

Normalisations = Mapping[str, Normalisation]


def input_normalisations(
    case: Case,
    workspace: Workspace,
    seen: View,
    input_range: tuple[float, float] | None,
    folder: Path,
    write: Callable[[Path, Normalisations], None],
) -> tuple[dict[str, Normalisation], bool]:
    """How inputs are taken to be normalised, by name, and whether anything told so.

    Args:
        case: The model.
        workspace: Where it runs, and what is kept.
        seen: Its graph.
        input_range: What was declared of its inputs, or None.
        folder: Takes a file while conventions are tried.
        write: Writes a few synthetic samples, given such normalisations.
    """
    model = case.model
    found = {spec.name: normalisation(model, seen, spec.name) for spec in model.inputs}
    bare = [name for name, one in found.items() if one is NOTHING]
    if input_range is not None:
        low, high = input_range
        return found | dict.fromkeys(bare, _of((low + high) / 2, (high - low) / 4)), True
    sources = {block.source for block in case.blocks}
    known = channel_statistics(model, seen, sources, activated_gaussian)
    if not bare or not known:
        return found, not bare
    tried = []
    for mean, deviation in CONVENTIONS:
        path = folder / "tried.npz"
        normalised = found | dict.fromkeys(bare, _of(mean, deviation))
        write(path, normalised)
        tried.append(
            (_distance(case, workspace, known, open_samples(path, model.inputs)), normalised)
        )
    return min(tried, key=lambda one: one[0])[1], True


def _of(mean: float, deviation: float) -> Normalisation:
    return Normalisation(np.array(1 / deviation), np.array(-mean / deviation))


def _distance(
    case: Case, workspace: Workspace, known: Mapping[str, ChannelStatistics], samples: Samples
) -> float:
    """How unlike the samples' channels are to what the file says of them.

    Returns:
        The median over tensors of the mean over channels of the Kullback-Leibler divergence of two
        Gaussians, infinite where a number is not finite.
    """
    session = workspace.session(case.model, known)
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


# Synthetic samples that tell how large inputs are.
_TRIED = 64


@contextmanager
def samples_where_units_go(
    case: Case,
    inputs: Inputs,
    workspace: Workspace,
    input_range: tuple[float, float] | None,
    *,
    go: bool,
) -> Iterator[Inputs]:
    """Samples of a model; synthetic ones, in a folder that is gone afterwards, if it has none.

    What is made of these is blind all the same. They are as they were where no units go, where an
    input is of whole numbers, and where synthetic inputs lead to numbers that are not finite.

    Args:
        case: The model.
        inputs: Its samples.
        workspace: Where it runs.
        input_range: What was declared of its inputs, or None.
        go: Whether units are to be removed.
    """
    example = synthetic_example(case) if go and inputs.samples is None else None
    if example is None:
        yield inputs
        return

    def write(path: Path, normalised: Normalisations, count: int = _TRIED) -> None:
        write_synthetic(
            path,
            example,
            normalised,
            workspace.options.seed,
            count,
            varied=True,
            input_range=input_range,
        )

    with temporary_folder() as folder:
        seen = view(case.model)
        normalised, told = input_normalisations(case, workspace, seen, input_range, folder, write)
        path = folder / "synthetic.npz"
        write(path, normalised, varied_count(example))
        samples = case.knowing(open_samples(path, case.model.inputs))
        if not _runs(case, workspace, samples):
            yield inputs
            return
        yield replace(inputs, samples=samples, data_free=True, scale_known=told)


def _runs(case: Case, workspace: Workspace, samples: Samples) -> bool:
    session = workspace.session(case.model, (block.source for block in case.blocks))
    batch = next(iter(samples.batches(_BATCH, limit=_BATCH)))
    try:
        answers = session.run(batch.feeds).values()
    except InputError:  # of more samples than the one that was tried
        return False
    arrays = [values for value in answers for values in output_value(value).arrays]
    return all(np.isfinite(values).all() for values in arrays if values.dtype.kind == "f")


def synthetic_example(case: Case) -> Mapping[str, np.ndarray] | None:
    """A sample of a size that runs, the axis of samples first.

    Args:
        case: The model.

    Returns:
        By input; None where one is no tensor of floats, but means something.
    """
    inputs = case.model.inputs
    if any(spec.dtype.kind in "iubO" or not spec.shape for spec in inputs):
        return None
    return {
        spec.name: case.example[spec.name][None]
        if spec.samples_axis is None
        else np.moveaxis(case.example[spec.name], spec.samples_axis, 0)[:1]
        for spec in inputs
    }


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
def planning_moments(
    case: Case, inputs: Inputs, workspace: Workspace, progress: Progress
) -> Iterator[BlockMoments]:
    """The moments of every block's input by key, assumed ones where the model is measured blind.

    Of the samples, they are what `block_moments` gives. Blind ones lie in a temporary file
    likewise; None where there are no inputs to assume, or the memory is too small.

    Args:
        case: The model; blind where its samples are synthetic or there are none.
        inputs: Its samples.
        workspace: Where it runs, and what is kept.
        progress: Shows the samples.
    """
    if inputs.samples is not None:
        with block_moments(case, inputs, workspace, progress) as moments:
            yield _Synthetic(moments) if inputs.data_free else moments
        return
    seen = view(case.model)
    example = synthetic_example(case)
    if example is None:
        yield dict.fromkeys((block.key for block in case.blocks), None)
        return
    known = channel_statistics(
        case.model, seen, {block.source for block in case.blocks}, activated_gaussian
    )
    with moments_on_disk() as stored:
        # Synthetic inputs may lead where real ones never do; the unit ball is left then.
        try:
            with (
                _on_synthetic(case, inputs, workspace, seen, example) as drawn,
                block_moments(case, drawn, workspace, progress, lenient=True) as found,
            ):
                for block in case.blocks:
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
            yield MomentsByBlock(case.blocks, stored)
        else:
            yield dict.fromkeys((block.key for block in case.blocks), None)


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


def blind_warnings(inputs: Inputs, rows: Sequence[BlockReport]) -> tuple[str, ...]:
    """That the choice was blind, in a sentence for the user.

    Args:
        inputs: The model.
        rows: What was measured.
    """
    if not inputs.data_free:
        return ()
    used = {row.statistics for row in rows}
    listed = ", ".join(text for source, text in _SOURCES.items() if source in used)
    found = (
        f"No samples: blocks were measured on {listed or 'nothing'}; "
        "what it costs in accuracy is not known."
    )
    return (found,) if inputs.scale_known else (found, _SCALE)


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
    geometry = block.geometry
    repeats = kind_of(geometry).columns_of_channel(
        geometry, len(block.source_shape), len(known.mean), flattened=known.flattened
    )
    if repeats is None:
        return None
    shape = (geometry.groups, geometry.columns)
    mean, variance = (
        np.repeat(values, repeats).reshape(shape) for values in (known.mean, known.variance)
    )
    return mean, variance


@contextmanager
def _on_synthetic(
    case: Case,
    inputs: Inputs,
    workspace: Workspace,
    seen: View,
    example: Mapping[str, np.ndarray],
) -> Iterator[Inputs]:
    """Synthetic samples of a model, in a folder that is gone afterwards."""
    model = case.model
    normalised = {spec.name: normalisation(model, seen, spec.name) for spec in model.inputs}
    with temporary_folder() as folder:
        path = folder / "synthetic.npz"
        enough = max((ENOUGH.samples(block) for block in case.blocks), default=0)
        count = affordable_count(sum(map(block_macs, case.blocks)), enough)
        write_synthetic(path, example, normalised, workspace.options.seed, count)
        samples = case.knowing(open_samples(path, case.model.inputs))
        yield replace(inputs, samples=samples, data_free=False)
