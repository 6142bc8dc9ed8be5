"""Where samples, or a model's answers to them, cannot be relied on.

What is fitted to too few samples, to samples that are all alike, of one group or of another scale
may go wrong on others, and no measurement on them would show it: `sample_warnings` says so, after
one pass over them in batches, of which a hash of eight bytes a sample is kept. `check_rewritable`
refuses models that answer the same input differently in two runs, since nothing made of them could
be judged, and models whose weights are integers already.
"""

import hashlib
from array import array
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from math import ceil, prod

import numpy as np

from onnx_relusv.core.blocks import Block, Floats
from onnx_relusv.core.errors import InputError
from onnx_relusv.core.linear_algebra import variances
from onnx_relusv.graph.channels.operator import NOTHING, Normalisation
from onnx_relusv.graph.channels.operators import (
    channel_statistics,
    normalisation,
)
from onnx_relusv.graph.nodes import integer_layer, view
from onnx_relusv.graph.reference import runnable
from onnx_relusv.graph.segments import random_node
from onnx_relusv.measuring.case import BlockMoments, Case, Workspace
from onnx_relusv.measuring.inputs import Inputs
from onnx_relusv.runtime.differences import same_answers
from onnx_relusv.runtime.session import Session
from onnx_relusv.samples.samples import Samples
from onnx_relusv.spectra.mean_widths import activated_gaussian
from onnx_relusv.work.executors import Progress


def check_rewritable(case: Case, workspace: Workspace) -> None:
    """Checks by its nodes, and by two runs on the same input, that a model can be rewritten.

    Raises:
        InputError: Its layers are computed with integers, it draws random numbers, or two runs
            differ.
    """
    integers = integer_layer(case.model.proto.graph)
    if integers is not None:
        raise InputError(
            f"{case.model.name}: the node {integers} is computed with integers, so the model is "
            "quantised already, and what it has lost by that cannot be told. Compress the model "
            "of floats that it was made from, then with --precision int8."
        )
    node = random_node(case.model.proto)
    if node is not None:
        raise InputError(
            f"{case.model.name}: the node {node} draws random numbers, so the model answers the "
            "same input differently in every run, and no result could be compared with it. Export "
            "it without that node, or with its numbers as an input."
        )
    session = Session(runnable(case.model), workspace.provider, lean=True, alone=False)
    first, again = (session.run(case.example) for _ in range(2))
    differing = [name for name in first if not same_answers(first[name], again[name])]
    if differing:
        raise InputError(
            f"{case.model.name}: two runs of the model on the same input give different "
            f"values of {', '.join(differing)}, so no result could be compared with it. "
            "Export it without whatever changes from run to run."
        )


_BATCH = 64

# By input name, the map of its values to those in front of the model's first layer.
Shown = Mapping[str, Callable[[np.ndarray], Floats]]


@dataclass(frozen=True)
class Spread:
    """Mean and standard deviation of all of an input's values."""

    mean: float
    deviation: float


@dataclass(frozen=True)
class SampleFacts:
    """Facts about samples.

    Attributes:
        constant: Names of the inputs that are the same in all samples.
        repeated: How many samples are equal to an earlier one in all inputs.
        spread: Of the requested inputs, by name.
    """

    constant: tuple[str, ...]
    repeated: int
    spread: Mapping[str, Spread]


def sample_facts(samples: Samples, shown: Shown, advance: Callable[[int], None]) -> SampleFacts:
    """Reads all samples once.

    Args:
        samples: The samples.
        shown: The inputs whose spread is measured, with the maps of their values before.
        advance: Called after every batch with the number of its samples.

    Raises:
        InputError: The file is damaged, or a value is NaN, infinite or out of range.
    """
    first: dict[str, np.ndarray] = {}
    varies: set[str] = set()
    hashes = array("Q")
    # By name: how many values, their sum, that of their squares.
    sums = {name: np.zeros(3) for name in shown}
    for batch in samples.batches(_BATCH, stacked=True):
        feeds = samples.rows(batch)
        for name, values in feeds.items():
            start = first.setdefault(name, values[0].copy())
            if name not in varies and not np.array_equal(
                values, np.broadcast_to(start, values.shape)
            ):
                varies.add(name)
        hashes.extend(
            _hash([values[row] for values in feeds.values()]) for row in range(batch.count)
        )
        for name, total in sums.items():
            values = shown[name](feeds[name])
            total += (values.size, values.sum(), np.square(values).sum())
        advance(batch.count)
    return SampleFacts(
        constant=tuple(name for name in first if name not in varies),
        repeated=len(hashes) - len(np.unique(np.frombuffer(hashes, np.uint64))),
        spread={name: _spread(*total) for name, total in sums.items()},
    )


def _hash(arrays: list[np.ndarray]) -> int:
    digest = hashlib.blake2b(digest_size=8)
    for values in arrays:
        # Arrays of text hold references.
        text = values.dtype.kind in "OUS"
        digest.update(repr(values.tolist()).encode() if text else values.tobytes())
    return int.from_bytes(digest.digest(), "little")


def _spread(count: float, total: float, squares: float) -> Spread:
    mean = total / count
    return Spread(float(mean), float(np.sqrt(max(squares / count - mean**2, 0.0))))


# A few repeated samples do no harm.
_REPEATED_SHARE = 0.01
# Networks are trained on inputs that are about 0 on average with a deviation of about 1 once they
# are normalised. Pictures from 0 to 1 in place of bytes are off by a factor of 255.
_DEVIATIONS = (0.05, 20.0)
_LARGEST_MEAN = 10.0
# The same of variances, as multiples of those of the file's first BatchNormalization.
_VARIANCES = (1e-3, 1e3)
_SCALE_ADVICE = "Scale them as the model was trained."


def sample_warnings(
    case: Case, inputs: Inputs, moments: BlockMoments, progress: Progress
) -> tuple[str, ...]:
    """Sentences for the user on how far samples can be relied on; none without samples.

    Args:
        case: The model with its samples.
        inputs: Its samples.
        moments: Of the blocks' inputs.
        progress: Shows the samples.
    """
    samples = inputs.user_samples
    if samples is None:
        return ()
    seen, model = view(case.model), case.model
    found = {spec.name: normalisation(model, seen, spec.name) for spec in model.inputs}
    shown = {
        name: partial(_normalised, each) for name, each in found.items() if each is not NOTHING
    }
    with progress.stage("Samples", samples.count) as advance:
        facts = sample_facts(samples, shown, advance)
    return (
        *samples.source.notes,
        *_numbers(case, inputs, samples),
        *_alike(samples, facts),
        *(scaled if (scaled := _scale(facts)) else _statistics(case, moments)),
    )


def few_rows(blocks: Sequence[Block], samples: int) -> list[tuple[Block, int]]:
    """The blocks that get fewer rows than they have columns, each with its rows.

    Args:
        blocks: The blocks.
        samples: How many independent samples there are; a Conv sees a row at every output position.
    """
    rows = [(block, samples * _positions(block)) for block in blocks]
    return [(block, count) for block, count in rows if count < block.geometry.columns]


def _numbers(case: Case, inputs: Inputs, samples: Samples) -> tuple[str, ...]:
    if samples.independent == 1:
        what = "There is one sample" if samples.count == 1 else f"All {samples.count} samples are"
        what += "" if samples.count == 1 else " of one group"
        return (
            f"{what}: what is found may not hold for any other, and nothing is left to choose or "
            "to judge on. Give some hundreds.",
        )
    fitted = samples if inputs.split is None else inputs.split.fit
    short = few_rows(case.blocks, fitted.independent)
    if not short:
        return ()
    worst, rows = min(short, key=lambda pair: pair[1] / pair[0].geometry.columns)
    columns = worst.geometry.columns
    enough = ceil(columns / _positions(worst) * samples.independent / fitted.independent)
    groups = "" if samples.groups is None else f" in {fitted.independent} groups"
    more = len(short) - 1
    others = f", and too few to {more} other block{'s' if more > 1 else ''}" if more else ""
    unit = "samples" if samples.groups is None else "groups"
    advice = f"give {enough} {unit} or more"
    if inputs.split is not None and inputs.split.judge is not None:
        advice = "a normal --effort fits to more of them"
    return (
        f"Measured and fitted on {fitted.count} samples{groups}: they give {rows} independent rows "
        f"to {worst.key}, which has {columns} columns{others}. What is fitted to so few may not "
        f"hold for others; {advice}.",
    )


def _positions(block: Block) -> int:
    return max(1, prod(block.output_shape) // max(block.geometry.out_channels, 1))


def _alike(samples: Samples, facts: SampleFacts) -> tuple[str, ...]:
    if samples.count == 1:
        return ()
    if facts.repeated == samples.count - 1:
        return (
            f"All {samples.count} samples are the same one: what is found may not hold for any "
            "other. Give different ones.",
        )
    found = []
    if facts.constant:
        are = "Input {} is" if len(facts.constant) == 1 else "Inputs {} are"
        found.append(
            f"{are.format(', '.join(facts.constant))} the same in all {samples.count} samples: "
            "what becomes of other values is not known."
        )
    if facts.repeated > _REPEATED_SHARE * samples.count:
        found.append(
            f"{facts.repeated} of {samples.count} samples repeat others. Where one is fitted to "
            "and its equal judges, the result looks better than it is; leave them out, or put "
            "equal ones into one of the `groups`."
        )
    return tuple(found)


def _normalised(by: Normalisation, values: np.ndarray) -> Floats:
    return np.asarray(by.scale * values.astype(np.float64) + by.shift)


def _scale(facts: SampleFacts) -> tuple[str, ...]:
    return tuple(
        f"The model normalises input {name}; behind that, the samples have a mean of "
        f"{spread.mean:.3g} and a standard deviation of {spread.deviation:.3g}, which should be "
        f"about 0 and 1. {_SCALE_ADVICE}"
        for name, spread in facts.spread.items()
        if name not in facts.constant
        and not (
            _DEVIATIONS[0] <= spread.deviation <= _DEVIATIONS[1]
            and abs(spread.mean) <= _LARGEST_MEAN
        )
    )


def _statistics(case: Case, moments: BlockMoments) -> tuple[str, ...]:
    """Whether the input of the first block behind a BatchNormalization has the file's variance."""
    sources = {block.source for block in case.blocks}
    known = channel_statistics(case.model, view(case.model), sources, activated_gaussian)
    for block in case.blocks:
        told, seen = known.get(block.source), moments[block.key]
        if told is None or seen is None:
            continue
        expected = float(told.variance.mean())
        # The columns of a Conv are its channels, each as often as the kernel has values.
        found = float(np.mean([variances(group).mean() for group in seen.covariance]))
        if expected > 0 and not _VARIANCES[0] <= found / expected <= _VARIANCES[1]:
            return (
                f"On these samples the input of {block.key} has {found / expected:.3g} times the "
                "variance that the BatchNormalization in front of it was trained for. "
                f"{_SCALE_ADVICE}",
            )
        break
    return ()
