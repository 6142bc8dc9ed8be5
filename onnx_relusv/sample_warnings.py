"""Says where samples can tell little: too few, all alike, of one group, of another scale.

What is fitted to such samples may go wrong on others, and nothing else would show it: what is
measured on them may be as good as ever.
"""

from collections.abc import Sequence
from functools import partial
from math import ceil, prod

import numpy as np

from onnx_relusv.covariance import variances
from onnx_relusv.graph.normalisation import NOTHING, Normalisation, normalisation
from onnx_relusv.graph.statistics import channel_statistics
from onnx_relusv.graph.view import view
from onnx_relusv.opened import BlockMoments, Opened
from onnx_relusv.progress import Progress
from onnx_relusv.records import Block, Floats
from onnx_relusv.sample_facts import SampleFacts, sample_facts
from onnx_relusv.samples import Samples
from onnx_relusv.spectra.rectified import activated_gaussian

# A few samples that are there twice do no harm.
_REPEATED_SHARE = 0.01
# Networks are trained on inputs that are about 0 on average with a deviation of about 1 once they
# are normalised. Pictures from 0 to 1 in place of bytes are off by a factor of 255.
_DEVIATIONS = (0.05, 20.0)
_LARGEST_MEAN = 10.0
# The same of variances, of what the file's first BatchNormalization statistics tell.
_VARIANCES = (1e-3, 1e3)
_SCALE_ADVICE = "Scale them as the model was trained."


def sample_warnings(opened: Opened, moments: BlockMoments, progress: Progress) -> tuple[str, ...]:
    """Sentences for the user on what the given samples can tell; none without samples.

    Args:
        opened: The model with its samples.
        moments: Of the blocks' inputs.
        progress: Told of the samples.
    """
    samples = opened.given
    if samples is None:
        return ()
    seen, model = view(opened.model), opened.model
    found = {spec.name: normalisation(model, seen, spec.name) for spec in model.inputs}
    normalised = {name: one for name, one in found.items() if one is not NOTHING}
    shown = {name: partial(_normalised, one) for name, one in normalised.items()}
    with progress.stage("Samples", samples.count) as advance:
        facts = sample_facts(samples, shown, advance)
    return (
        *_numbers(opened, samples),
        *_alike(samples, facts),
        *(scaled if (scaled := _scale(facts)) else _statistics(opened, moments)),
    )


def few_rows(blocks: Sequence[Block], samples: int) -> list[tuple[Block, int]]:
    """The blocks that get fewer rows than they have columns, each with its rows.

    Args:
        blocks: The blocks.
        samples: How many independent samples there are; a Conv sees a row at every output position.
    """
    rows = [(block, samples * _positions(block)) for block in blocks]
    return [(block, count) for block, count in rows if count < block.geometry.columns]


def _numbers(opened: Opened, samples: Samples) -> tuple[str, ...]:
    if samples.independent == 1:
        what = "There is one sample" if samples.count == 1 else f"All {samples.count} samples are"
        what += "" if samples.count == 1 else " of one group"
        return (
            f"{what}: what is found may not hold for any other, and nothing is left to choose or "
            "to judge on. Give some hundreds.",
        )
    fitted = opened.fitted
    assert fitted is not None  # there are samples
    short = few_rows(opened.blocks, fitted.independent)
    if not short:
        return ()
    worst, rows = min(short, key=lambda one: one[1] / one[0].geometry.columns)
    columns = worst.geometry.columns
    enough = ceil(columns / _positions(worst) * samples.independent / fitted.independent)
    groups = "" if samples.groups is None else f" in {fitted.independent} groups"
    more = len(short) - 1
    others = f", and too few to {more} other block{'s' if more > 1 else ''}" if more else ""
    unit = "samples" if samples.groups is None else "groups"
    return (
        f"Measured and fitted on {fitted.count} samples{groups}: they give {rows} independent rows "
        f"to {worst.key}, which has {columns} columns{others}. What is fitted to so few may not "
        f"hold for others; give {enough} {unit} or more.",
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


def _normalised(one: Normalisation, values: np.ndarray) -> Floats:
    found: Floats = one.scale * values.astype(np.float64) + one.shift
    return found


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


def _statistics(opened: Opened, moments: BlockMoments) -> tuple[str, ...]:
    """Whether the first block behind a BatchNormalization sees what the file says that it does."""
    sources = {block.source for block in opened.blocks}
    known = channel_statistics(opened.model, view(opened.model), sources, activated_gaussian)
    for block in opened.blocks:
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
