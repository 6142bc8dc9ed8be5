"""From a plan to a checked file: factors, surgery, validation, and only then the name."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
from onnx import ModelProto

from onnx_relusv import forms
from onnx_relusv.block_fit import is_reproduced
from onnx_relusv.claim import Claim, Cut
from onnx_relusv.composed_maps import ComposedMaps
from onnx_relusv.decisions import Kept, Plan
from onnx_relusv.errors import BudgetError, InputError
from onnx_relusv.factors import as_stored, composed_level
from onnx_relusv.fit import fit, fitted_alike
from onnx_relusv.fitted import Change, Fitted, FittedPlan
from onnx_relusv.graph.channel_records import Channels
from onnx_relusv.graph.cutting import cut
from onnx_relusv.graph.dependents import dependents
from onnx_relusv.graph.model import Model, read_model
from onnx_relusv.graph.reference import reference
from onnx_relusv.graph.surgery import rewrite
from onnx_relusv.graph.writing import publish, write_staged
from onnx_relusv.kept_fits import KeptFits
from onnx_relusv.opened import BlockMoments, Opened
from onnx_relusv.progress import Progress
from onnx_relusv.provenance_entry import provenance_text
from onnx_relusv.pruning.units import Mask, removed_units, removes_units, units_of_blocks
from onnx_relusv.publishing import Publication, staged
from onnx_relusv.records import Block, LinearMap, Runnable
from onnx_relusv.reduction import kept_outputs, reduced_block, reduced_geometry, without_dead
from onnx_relusv.results import Verdict
from onnx_relusv.scores import fitted_to_scores
from onnx_relusv.validate import check_stated_level, validate


def fit_plan(
    opened: Opened,
    plan: Plan,
    moments: BlockMoments,
    progress: Progress,
    earlier: FittedPlan | None = None,
) -> FittedPlan:
    """Finds the factors that carry a plan out.

    Args:
        opened: The model.
        plan: For this model.
        moments: Of the blocks' inputs.
        progress: Told of the fit.
        earlier: Another plan of this model; what its fit found for blocks that nothing before has
            changed for is taken from it.

    Raises:
        InputError: The plan names blocks or ranks that the model does not have.
        BudgetError: The plan changes nothing.
        ValidationError: Factors as stored are not what they were fitted to be.
    """
    changed = changes_of(opened, plan)
    if not changed and not removes_units(plan):
        raise BudgetError(
            f"at a level of {plan.level:.4g} no block can be made smaller; nothing was written. "
            "Allow a higher --tolerance or a --size."
        )
    kept = KeptFits(opened, changed)
    levels: dict[str, float] = {}

    def keep(change: Change, fitted: Fitted) -> None:
        reached = check_stated_level(change, fitted, as_stored(change.block, fitted.factors))
        # What is fitted to no samples stands for the block itself, in the very moments.
        if reached is not None and opened.split is None and change.kept is None:
            levels[change.block.key] = reached
        kept.put(change, fitted.factors)

    known = kept.known()
    if earlier is not None:
        same = fitted_alike(opened.model, changes_of(opened, earlier.plan), changed)
        known |= {key: earlier.factors[key] for key in same}
    scores = fitted_to_scores(opened, plan)
    found = fit(opened, changed, moments, progress, keep, known, scores)
    for block in (change.block for change in changed):
        if block.key in levels:
            continue
        dense = as_stored(block, found[block.key])
        left = found[block.key].kept
        own, other = (
            kept_outputs(block.geometry, without_dead(block.geometry, linear, left), left)
            for linear in (opened.folding(block), dense)
        )
        levels[block.key] = composed_level(own, other.weight, moments[block.key])
    keys = [change.block.key for change in changed]
    return FittedPlan(plan, {key: found[key] for key in keys}, {key: levels[key] for key in keys})


def dense_maps(opened: Opened, fitted: FittedPlan) -> dict[str, LinearMap]:
    """By key, the one linear map that each double layer composes to, as it is stored."""
    return dict(ComposedMaps(opened.blocks, fitted.factors))


def composed(opened: Opened, fitted: FittedPlan) -> Runnable:
    """The original with its changed blocks' dense maps, and zeros where removed units are read."""
    base, arrays = opened.model, dict[str, np.ndarray]()
    if fitted.plan.groups:
        assert opened.channels is not None  # kept_channels has looked
        base, arrays = Cut(opened.channels, _removed(opened.channels, fitted.plan)).reference(base)
    return reference(base, opened.blocks, dense_maps(opened, fitted), (), arrays)


def rewritten(opened: Opened, fitted: FittedPlan) -> ModelProto:
    """The smaller model, unchecked."""
    story, plan = provenance_text(opened, fitted.plan), fitted.plan
    model, blocks = opened.model, opened.blocks
    if plan.groups:
        assert opened.channels is not None  # kept_channels has looked
        proto = cut(model, opened.channels, _removed(opened.channels, plan))
        model = replace(model, proto=proto)
        blocks = _relocated(opened, proto, kept_channels(opened, plan))
    return rewrite(model, blocks, fitted.factors, story)


def _relocated(opened: Opened, proto: ModelProto, left: Mapping[str, Kept]) -> tuple[Block, ...]:
    """The blocks with what is left of them, their nodes numbered as in a cut model."""
    nodes = proto.graph.node
    places = {name: index for index, node in enumerate(nodes) for name in node.output}
    before = opened.model.proto.graph.node
    return tuple(
        replace(
            reduced_block(block, left.get(block.key)),
            nodes=tuple(places[before[index].output[0]] for index in block.nodes),
        )
        for block in opened.blocks
    )


def write_fitted(
    opened: Opened,
    fitted: FittedPlan,
    output: Path,
    progress: Progress,
    before_publishing: Callable[[Model, Verdict, Publication], None],
    *,
    force: bool = False,
) -> None:
    """Writes a plan that was fitted.

    Args:
        opened: The model.
        fitted: The plan and its factors.
        output: Where the file goes, once it has passed all checks.
        progress: Told of the validation.
        before_publishing: Called with the staged model, its verdict, and what is published with
            it, in front of it: all of that or none. An error leaves no model behind.
        force: Whether files that are there may be replaced.

    Raises:
        BudgetError: The file is over its size budget.
        ValidationError: A check failed.
        UsageError: Something cannot be written, or may not be replaced.
    """
    with staged(output) as folder:
        path = write_staged(rewritten(opened, fitted), opened.model, folder, output.name)
        with progress.stage("Validation", 1) as advance:
            verdict = validate(
                opened.model,
                path,
                _claim(opened, fitted),
                opened.samples,
                provider=opened.provider,
                rng=np.random.default_rng(opened.options.seed),
                lean=opened.lean,
            )
            advance(1)
        written = read_model(path)
        _check_size(opened, fitted.plan, written)
        publication = Publication(force=force)
        before_publishing(written, verdict, publication)
        publish(path, output, publication)


def _claim(opened: Opened, fitted: FittedPlan) -> Claim:
    maps = ComposedMaps(opened.blocks, fitted.factors)
    # Composed anew for each use where all together would be too large, else once.
    claim = Claim(opened.blocks, maps if opened.lean else dict(maps), fitted.levels)
    if not fitted.plan.groups:
        return claim
    assert opened.channels is not None  # kept_channels has looked
    return replace(claim, cut=Cut(opened.channels, _removed(opened.channels, fitted.plan)))


def changes_of(opened: Opened, plan: Plan) -> list[Change]:
    """What a plan changes, checked against the model, in topological order.

    Raises:
        InputError: The plan names blocks or ranks that the model does not have.
    """
    choices = {choice.key: choice for choice in plan.choices if choice.action != "keep"}
    unknown = set(choices) - {block.key for block in opened.blocks}
    if unknown:
        raise InputError(f"the plan changes {min(unknown)}, which is no block of this model.")
    changed: list[Change] = []
    left = kept_channels(opened, plan)
    behind = dependents(opened.model, {*choices, *left})
    for block in opened.blocks:
        choice, kept = choices.get(block.key), left.get(block.key)
        if choice is None and kept is None:
            continue
        layer = choice is not None and choice.action == "double_layer"
        cut_alone = not layer and kept is not None and _gets_all(block, kept, behind)
        if cut_alone and not is_reproduced(opened, block, kept):
            # Its rows are cut, and no more is to be done.
            continue
        geometry = reduced_geometry(block.geometry, kept)
        if choice is None or choice.form is None or choice.rank is None or not layer:
            # What it loses follows from the groups, however a plan was edited.
            rank = forms.largest_rank("dense", geometry)
            changed.append(Change(block, "dense", rank, kept))
            continue
        form, rank = choice.form, choice.rank
        if form not in forms.available_forms(block.geometry):
            raise InputError(f"the plan gives {block.key} the form {form}, which it lacks.")
        largest = forms.largest_rank(form, geometry)
        if not 1 <= rank <= largest:
            raise InputError(
                f"the plan gives {block.key} rank {rank}; it has to be from 1 to {largest}."
            )
        changed.append(Change(block, form, rank, kept))
    return changed


def kept_channels(opened: Opened, plan: Plan) -> dict[str, Kept]:
    """By key, what a plan leaves of the blocks that lose channels.

    Raises:
        InputError: The plan removes units that the model does not have.
    """
    if not plan.groups:
        return {}
    assert opened.channels is not None  # whoever has a plan with groups has looked
    removed = _removed(opened.channels, plan)
    units = units_of_blocks(opened.channels, opened.blocks)
    found = {key: own.kept(removed) for key, own in units.items()}
    return {key: kept for key, kept in found.items() if kept is not None}


def _removed(channels: Channels, plan: Plan) -> Mask:
    known = {group.key: group for group in channels.groups}
    for choice in plan.groups:
        group = known.get(choice.key)
        if group is None:
            raise InputError(f"the plan cuts {choice.key}, which is no group of this model.")
        if choice.units != len(group.units) or not choice.kept or choice.kept[-1] >= choice.units:
            raise InputError(
                f"the plan keeps units of {choice.key} up to {max(choice.kept, default=-1)} of "
                f"{choice.units}, but it has {len(group.units)}. One at least has to stay."
            )
    return removed_units(channels, plan.groups)


def _gets_all(block: Block, kept: Kept, behind: Collection[str]) -> bool:
    """Whether a block gets what it got before; `behind` is what depends on changed blocks."""
    whole = len(kept.inputs) * block.geometry.groups == block.geometry.in_channels
    return whole and block.source not in behind


def _check_size(opened: Opened, plan: Plan, written: Model) -> None:
    limit = plan.budgets.size
    if limit is not None and written.bytes > limit * opened.model.bytes:
        raise BudgetError(
            f"the file has {written.bytes / opened.model.bytes:.4g} of the bytes, "
            f"over the budget of {limit:.4g}; nothing was written."
        )
