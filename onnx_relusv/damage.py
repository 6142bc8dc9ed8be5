"""Damage curves: what each form of each block, by itself, does to the network's outputs.

A few ranks of every form are measured on held-out samples; between them damage follows the level,
which is known at every rank, along straight lines in logarithms. Beyond them it goes with the
square of the level, as small errors do.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from onnx_relusv.cache import NO_CACHE, Fields
from onnx_relusv.damage_measure import DamageMeasure
from onnx_relusv.decisions import Candidate, DamageCurve, Form
from onnx_relusv.dominance import undominated
from onnx_relusv.entries.curves import curves_arrays, curves_of
from onnx_relusv.factors import as_stored, double_layers
from onnx_relusv.opened import BlockMoments, Opened
from onnx_relusv.probing import Try, probe
from onnx_relusv.progress import Progress
from onnx_relusv.records import Block, Floats
from onnx_relusv.samples import Samples

MOST_MEASURED = 4
# Of a block's bytes: what lies outside is not worth a measurement.
_LEAST_SHARE, _MOST_SHARE = 0.02, 0.7
_SMALLEST = 1e-12
# What all tries together may cost, in passes of all samples through the model; and how few samples
# still tell damages apart.
_MOST_PASSES, _FEWEST = 2, 100

Candidates = Mapping[str, Sequence[Candidate]]
_KIND = "damage"


def damage_curves(
    opened: Opened,
    samples: Samples,
    candidates: Candidates,
    moments: BlockMoments,
    progress: Progress,
    measure: DamageMeasure | None = None,
) -> dict[str, tuple[DamageCurve, ...]]:
    """Measures the damage curves of all blocks that have candidates.

    Args:
        opened: The model.
        samples: Held out from what the moments are of.
        candidates: By block key.
        moments: Of the blocks' inputs, in whose metric the tried factors are best.
        progress: Told of the batches.
        measure: What damage is; the divergence that fits the outputs if None.

    Returns:
        By block key, one curve a form, of those that no other form beats.
    """
    blocks = [block for block in opened.blocks if candidates.get(block.key)]
    measured = {
        block.key: ranks_to_measure(block, _worth_measuring(block, candidates[block.key]))
        for block in blocks
    }
    tries = sum(len(ranks) for forms in measured.values() for ranks in forms.values())
    few = thinned(opened, samples, tries)
    # Nobody knows what somebody else's code depends on.
    kept = opened.cache if measure is None or measure.metric is None else NO_CACHE

    def fields(key: str) -> Fields:
        # Which other blocks are examined decides how the model is cut, and so how it rounds.
        return {
            **opened.identity,
            "count": few.count,
            "measure": None if measure is None else measure.words,
            "blocks": list(measured),
            "block": key,
            "ranks": list(measured[key].items()),
        }

    def examine(block: Block, divergence: Try) -> tuple[DamageCurve, ...]:
        linear, seen = opened.folding(block), moments[block.key]
        curves = []
        for form, ranks in measured[block.key].items():
            factors = double_layers(form, block.geometry, linear, seen, ranks)
            damages = tuple(divergence(as_stored(block, one)) for one in factors)
            curves.append(DamageCurve(key=block.key, form=form, ranks=ranks, damages=damages))
        kept.put(_KIND, fields(block.key), curves_arrays(curves))
        return tuple(curves)

    known = {
        key: curves
        for key, ranks in measured.items()
        if (arrays := kept.get(_KIND, fields(key))) is not None
        and (curves := curves_of(arrays, key, ranks)) is not None
    }
    with progress.stage("Damage of the blocks' forms", tries) as advance:
        advance(sum(len(curve.ranks) for curves in known.values() for curve in curves))
        return probe(opened, few, blocks, {}, examine, advance, known=known, measure=measure)


def thinned(opened: Opened, samples: Samples, tries: int) -> Samples:
    """As many samples as tries may cost, evenly taken: a try is half a pass, on average."""
    assert opened.samples is not None  # these are a part of them
    affordable = int(2 * _MOST_PASSES * opened.samples.count / max(tries, 1))
    count = min(samples.count, max(_FEWEST, affordable))
    return samples.part(np.linspace(0, samples.count - 1, count).round().astype(int))


def _worth_measuring(block: Block, offered: Sequence[Candidate]) -> list[Candidate]:
    least, most = (share * block.original_bytes for share in (_LEAST_SHARE, _MOST_SHARE))
    return undominated(offered, least, most)


def ranks_to_measure(block: Block, offered: Sequence[Candidate]) -> dict[Form, tuple[int, ...]]:
    """Of every form, increasing: a geometric ladder over the sizes worth having."""
    found: dict[Form, tuple[int, ...]] = {}
    for form in dict.fromkeys(candidate.form for candidate in offered):
        own = [candidate for candidate in offered if candidate.form == form]
        shares = np.array([candidate.bytes for candidate in own]) / block.original_bytes
        wanted = np.geomspace(
            max(_LEAST_SHARE, shares.min()), min(_MOST_SHARE, shares.max()), MOST_MEASURED
        )
        places = {int(np.argmin(np.abs(np.log(shares / share)))) for share in wanted}
        found[form] = tuple(sorted(own[place].rank for place in places))
    return found


def with_damage(offered: Sequence[Candidate], curves: Sequence[DamageCurve]) -> list[Candidate]:
    """A block's candidates, of the forms that have a curve, with their damages."""
    found: list[Candidate] = []
    for curve in curves:
        own = [candidate for candidate in offered if candidate.form == curve.form]
        damages = _interpolated(curve, own)
        found.extend(
            replace(candidate, damage=float(damage))
            for candidate, damage in zip(own, damages, strict=True)
        )
    return found


def _interpolated(curve: DamageCurve, own: Sequence[Candidate]) -> Floats:
    by_rank = {candidate.rank: candidate.level for candidate in own}
    known = np.log(np.maximum([by_rank[rank] for rank in curve.ranks], _SMALLEST))[::-1]
    # More ranks never hurt; what says otherwise is noise of the samples.
    damages = np.minimum.accumulate(np.maximum(curve.damages, _SMALLEST))[::-1]
    logarithms = np.log(damages)
    levels = np.log(np.maximum([candidate.level for candidate in own], _SMALLEST))
    inside = np.interp(levels, known, logarithms)
    below = np.minimum(levels - known[0], 0)
    above = np.maximum(levels - known[-1], 0)
    return np.asarray(np.exp(inside + 2 * (below + above)))
