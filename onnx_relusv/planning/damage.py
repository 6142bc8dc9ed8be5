"""Damage curves: what each form of each block, by itself, does to the network's outputs.

A few ranks of every form are measured on held-out samples; between them damage follows the level,
which is known at every rank, along straight lines in logarithms. Beyond them it goes with the
square of the level, as small errors do.

What choices of a plan are offered for, and what their damages are in a compressed network.

Damage curves of groups: what the removal of units, by itself, does to the network's outputs.

A few counts of every group are tried on held-out samples, with consumers that reproduce what is
gone from what is kept; between them damage follows the level, as that of double layers does.
"""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial

import numpy as np

from onnx_relusv.core.blocks import Block, Floats, LinearMap, Runnable
from onnx_relusv.core.plans import Candidate, Choice, DamageCurve, GroupCurve
from onnx_relusv.core.reduction import reduced_map, whole_map
from onnx_relusv.graph.channels.walk import NO_UNIT
from onnx_relusv.graph.reference import reference
from onnx_relusv.measuring.case import BlockMoments, Case, Workspace, run_identity
from onnx_relusv.measuring.inputs import Inputs
from onnx_relusv.planning.objective import DamageMeasure
from onnx_relusv.planning.probe import (
    Opening,
    Try,
    TryTogether,
    probe,
    probe_together,
    whole_damages,
)
from onnx_relusv.rewrites.low_rank.candidates import undominated
from onnx_relusv.rewrites.low_rank.factors import as_stored
from onnx_relusv.rewrites.low_rank.forms import FORMS
from onnx_relusv.rewrites.prune.cutting import zeroed
from onnx_relusv.rewrites.prune.elimination import Elimination
from onnx_relusv.rewrites.prune.orders import Ordered
from onnx_relusv.rewrites.prune.units import BlockUnits, Mask
from onnx_relusv.samples.samples import Samples
from onnx_relusv.work.cache import NO_CACHE, Cache
from onnx_relusv.work.executors import Progress
from onnx_relusv.work.tasks import Done, Known, Task, Tasks, run

MOST_RANKS = 4
# Of a block's bytes: what lies outside is not worth a measurement.
_LEAST_RANKS, _MOST_RANKS = 0.02, 0.7
_SMALLEST = 1e-12
# What all tries together may cost, in passes of all samples through the model; and how few samples
# still tell damages apart.
_MOST_PASSES, _FEWEST = 2, 100

Candidates = Mapping[str, Sequence[Candidate]]
# Of one block, one a form.
Curves = tuple[DamageCurve, ...]


def damage_curves(
    case: Case,
    inputs: Inputs,
    workspace: Workspace,
    samples: Samples,
    candidates: Candidates,
    moments: BlockMoments,
    progress: Progress,
    measure: DamageMeasure | None = None,
) -> dict[str, Curves]:
    """Measures the damage curves of all blocks that have candidates.

    Args:
        case: The model.
        inputs: Its samples.
        workspace: Where it runs, and what is kept.
        samples: Held out from what the moments are of.
        candidates: By block key.
        moments: Of the blocks' inputs, in whose metric the tried factors are best.
        progress: Shows the batches.
        measure: What damage is; the divergence that fits the outputs if None.

    Returns:
        By block key, one curve a form, of those that no other form beats.
    """
    blocks = [block for block in case.blocks if candidates.get(block.key)]
    measured = {
        block.key: ranks_to_measure(block, _worth_measuring(block, candidates[block.key]))
        for block in blocks
    }
    tries = sum(len(ranks) for forms in measured.values() for ranks in forms.values())
    few = thinned(inputs, samples, tries)
    tasks: dict[str, Task[Curves]] = {
        key: Task(
            kind="damage",
            key={
                **run_identity(case, inputs, workspace),
                "count": few.count,
                "measure": None if measure is None else measure.words,
                # Which other blocks are examined decides how the model is cut, and so how it
                # rounds.
                "blocks": list(measured),
                "block": key,
                "ranks": list(ranks.items()),
            },
            result=Curves,
            fits=partial(_are_of, ranks),
            steps=sum(map(len, ranks.values())),
        )
        for key, ranks in measured.items()
    }

    def walk(tasks: Tasks[str, Curves], known: Known[str, Curves], done: Done[str, Curves]) -> None:
        def examine(block: Block, divergence: Try) -> Curves:
            linear, seen = case.folding(block), moments[block.key]
            curves = []
            for form, ranks in measured[block.key].items():
                factors = FORMS[form].factors(block.geometry, linear, seen, ranks)
                damages = tuple(divergence(as_stored(block, one)) for one in factors)
                curves.append(DamageCurve(key=block.key, form=form, ranks=ranks, damages=damages))
            done(block.key, tuple(curves))
            return tuple(curves)

        probe(case, workspace, few, blocks, {}, examine, advance, measure, known)

    with progress.stage("Damage of the blocks' forms", tries) as advance:
        return run(tasks, walk, _cache(workspace, measure), advance)


def _are_of(ranks: Mapping[str, tuple[int, ...]], curves: Curves) -> bool:
    return {curve.form: curve.ranks for curve in curves} == ranks


def _cache(workspace: Workspace, measure: DamageMeasure | None) -> Cache:
    """Where damages are kept: a metric's nowhere, for what its code depends on is not known."""
    return workspace.cache if measure is None or measure.metric is None else NO_CACHE


def thinned(inputs: Inputs, samples: Samples, tries: int) -> Samples:
    """As many samples as tries may cost, evenly taken: a try is half a pass, on average."""
    assert inputs.samples is not None  # these are a part of them
    affordable = int(2 * _MOST_PASSES * inputs.samples.count / max(tries, 1))
    count = min(samples.count, max(_FEWEST, affordable))
    return samples.part(np.linspace(0, samples.count - 1, count).round().astype(int))


def _worth_measuring(block: Block, offered: Sequence[Candidate]) -> list[Candidate]:
    least, most = (share * block.original_bytes for share in (_LEAST_RANKS, _MOST_RANKS))
    return undominated(offered, least, most)


def ranks_to_measure(block: Block, offered: Sequence[Candidate]) -> dict[str, tuple[int, ...]]:
    """Of every form, increasing: a geometric ladder over the sizes worth having."""
    found: dict[str, tuple[int, ...]] = {}
    for form in dict.fromkeys(candidate.form for candidate in offered):
        own = [candidate for candidate in offered if candidate.form == form]
        shares = np.array([candidate.bytes for candidate in own]) / block.original_bytes
        wanted = np.geomspace(
            max(_LEAST_RANKS, shares.min()), min(_MOST_RANKS, shares.max()), MOST_RANKS
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


Offered = Mapping[str, Sequence[Candidate]]


def priced(choices: Iterable[Choice], offered: Offered) -> tuple[Choice, ...]:
    """Choices with the damages that their double layers are offered for.

    Args:
        choices: Made by whatever damages.
        offered: Double layers with their damages, by block key.
    """
    return tuple(
        _priced(choice, offered[choice.key]) if choice.action == "double_layer" else choice
        for choice in choices
    )


def _priced(choice: Choice, offered: Sequence[Candidate]) -> Choice:
    wanted = (choice.form, choice.rank)
    damage = next(one.damage for one in offered if (one.form, one.rank) == wanted)
    if damage == choice.damage:
        return choice
    why = f"least joint damage for the bytes, {damage:.3g} by itself"
    return replace(choice, damage=damage, why=why)


def scaled_damages(
    offered: Offered, layers: Mapping[str, float], others: float
) -> dict[str, list[Candidate]]:
    """Double layers with scaled damages.

    Args:
        offered: By block key.
        layers: By block key, what their damages are multiplied by.
        others: The same of the blocks that are not named.
    """
    return {
        key: [replace(one, damage=one.damage * layers.get(key, others)) for one in own]
        for key, own in offered.items()
    }


MOST_CUTS = 5
# Of a group's units: what lies outside is not worth a measurement.
_LEAST_CUT, _MOST_CUT = 0.08, 0.85


def counts_to_measure(units: int) -> tuple[int, ...]:
    """Increasing: a geometric ladder of units that are kept."""
    shares = np.geomspace(_LEAST_CUT, _MOST_CUT, MOST_CUTS)
    found = np.unique(np.clip(np.round(units * shares), 1, units - 1).astype(int))
    return tuple(int(count) for count in found)


def group_curves(
    case: Case,
    inputs: Inputs,
    workspace: Workspace,
    samples: Samples,
    ordered: Sequence[Ordered],
    units: Mapping[str, BlockUnits],
    total: int,
    moments: BlockMoments,
    progress: Progress,
    measure: DamageMeasure,
) -> dict[str, GroupCurve]:
    """Measures the damage curves of all groups that anything reads.

    What is no block, a ConvTranspose, gets nothing back: it is tried with zeros for what is gone.

    Args:
        case: The model.
        inputs: Its samples.
        workspace: Where it runs, and what is kept.
        samples: Held out from what the moments are of.
        ordered: The groups.
        units: Of the blocks' channels, by key.
        total: How many units the model has.
        moments: Of the blocks' inputs.
        progress: Shows the tries.
        measure: What damage is.

    Returns:
        By group key. A group that nothing reads does no damage.
    """
    read = {one.group.key: one for one in ordered if one.group.consumers and one.units > 1}
    counts = {key: counts_to_measure(one.units) for key, one in read.items()}
    tries = sum(map(len, counts.values()))
    few = thinned(inputs, samples, tries)
    tasks = {
        key: Task(
            kind="cuts",
            key={
                **run_identity(case, inputs, workspace),
                "measure": measure.words,
                # Which groups are examined decides how the model is cut, and so how it rounds.
                "groups": list(counts),
                "group": key,
                "counts": list(counts[key]),
                "order": hashlib.sha256(one.elimination.order.tobytes()).hexdigest(),
            },
            result=GroupCurve,
            fits=partial(_is_of, counts[key]),
            steps=len(counts[key]),
        )
        for key, one in read.items()
    }

    def walk(
        tasks: Tasks[str, GroupCurve], known: Known[str, GroupCurve], done: Done[str, GroupCurve]
    ) -> None:
        def found(key: str, damages: Iterable[float]) -> GroupCurve:
            curve = GroupCurve(key=key, counts=counts[key], damages=tuple(damages))
            done(key, curve)
            return curve

        def examine(opening: Opening, divergence: TryTogether) -> GroupCurve:
            one = read[opening.key]
            cuts = (one.removed(total, count) for count in counts[opening.key])
            changed = (_without(case, one, units, removed, moments) for removed in cuts)
            return found(opening.key, map(divergence, changed))

        fitted = [one for one in read.values() if one.is_read_by_blocks]
        openings = [Opening(one.group.key, one.consumers) for one in fitted]
        probe_together(case, workspace, few, openings, {}, examine, advance, measure, known)
        for key, one in read.items():
            if key not in known and not one.is_read_by_blocks:
                cuts = (one.removed(total, count) for count in counts[key])
                names = measure.answers.outputs
                whole = (_zeroed(case, one, units, removed, moments, names) for removed in cuts)
                found(key, whole_damages(case, workspace, few, whole, measure, advance))

    with progress.stage("Damage of the groups' cuts", tries) as advance:
        return run(tasks, walk, _cache(workspace, measure), advance)


def _is_of(counts: tuple[int, ...], curve: GroupCurve) -> bool:
    return curve.counts == counts


def _zeroed(
    case: Case,
    one: Ordered,
    units: Mapping[str, BlockUnits],
    removed: Mask,
    moments: BlockMoments,
    exposed: tuple[str, ...],
) -> Runnable:
    """The model with zeros for what is gone, and blocks that make do without it."""
    assert case.channels is not None  # an order was made of them
    proto, arrays = zeroed(case.model, case.channels, removed)
    dense = _without(case, one, units, removed, moments)
    return reference(replace(case.model, proto=proto), case.blocks, dense, exposed, arrays)


def _without(
    case: Case,
    one: Ordered,
    units: Mapping[str, BlockUnits],
    removed: Mask,
    moments: BlockMoments,
) -> dict[str, LinearMap]:
    """The consumers' maps that make do without some units, in the whole blocks' shapes."""
    found: dict[str, LinearMap] = {}
    for block in one.consumers:
        own = units[block.key]
        # The rows of a consumer that is a producer of the same group stay: they are not seen.
        kept = replace(own, outputs=np.full_like(own.outputs, NO_UNIT)).kept(removed)
        linear = case.folding(block)
        reduced = reduced_map(block.geometry, linear, moments[block.key], kept)
        found[block.key] = whole_map(block.geometry, reduced, kept)
    return found


def damages(curve: GroupCurve | None, elimination: Elimination, units: int) -> Floats:
    """(units + 1,) float64: the damage with so many units gone.

    Args:
        curve: What was measured; None where nothing reads the units.
        elimination: The group's order.
        units: How many it has.
    """
    if curve is None:
        return np.zeros(units + 1)
    levels = np.log(np.maximum(elimination.levels, _SMALLEST))
    gone = units - np.array(curve.counts[::-1])
    # More units never hurt; what says otherwise is noise of the samples.
    measured = np.maximum.accumulate(np.maximum(curve.damages[::-1], _SMALLEST))
    known, increasing = np.unique(levels[gone], return_index=True)
    logarithms = np.log(measured[increasing])
    inside = np.interp(levels, known, logarithms)
    below, above = np.minimum(levels - known[0], 0), np.maximum(levels - known[-1], 0)
    found = np.exp(inside + 2 * (below + above))
    found[elimination.levels <= _SMALLEST] = 0.0
    return np.asarray(np.maximum.accumulate(found))
