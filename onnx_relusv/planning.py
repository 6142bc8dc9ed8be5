"""From measured blocks to a plan: by one level, or by the damage that is measured."""

from dataclasses import replace

from onnx_relusv.allocation import Origin, make_plan
from onnx_relusv.damage import damage_curves, with_damage
from onnx_relusv.decisions import Cost, Plan
from onnx_relusv.errors import UsageError
from onnx_relusv.multiplier import make_damage_plan
from onnx_relusv.opened import BlockMoments, Opened
from onnx_relusv.options import PlanOptions
from onnx_relusv.progress import Progress
from onnx_relusv.rows import Measured
from onnx_relusv.samples import Samples
from onnx_relusv.split import split

# The provenance entry that a file gains, with its names and hashes.
_PROVENANCE_BYTES = 700


def divided(opened: Opened) -> Opened:
    """With the samples split into their parts."""
    if opened.samples is None:
        return opened
    return replace(opened, split=split(opened.samples, opened.options.seed))


def decide(
    opened: Opened,
    measured: Measured,
    moments: BlockMoments,
    planning: PlanOptions,
    progress: Progress,
) -> Plan:
    """The plan for a model that was measured.

    Args:
        opened: The model, its samples split.
        measured: Its blocks' candidates.
        moments: Of the blocks' inputs.
        planning: What the plan may do.
        progress: Told of the batches that damage is measured on.

    Raises:
        BudgetError: The budgets cannot be reached.
        UsageError: Damage was asked for without samples.
    """
    candidates = {key: found for key, found in measured.candidates.items() if planning.allows(key)}
    origin = Origin(
        model_sha256=opened.model.sha256,
        samples_sha256=None if opened.samples is None else opened.samples.sha256,
        total=Cost(bytes=opened.model.bytes, macs=opened.facts.macs),
        added_bytes=_PROVENANCE_BYTES,
        seed=opened.options.seed,
        method="double-layer",
    )
    select = None if opened.split is None else opened.split.select
    if not _by_damage(planning, select):
        return make_plan(opened.blocks, candidates, planning.budgets, origin)
    assert select is not None
    curves = damage_curves(opened, select, candidates, moments, progress)
    known = {key: with_damage(found, curves.get(key, ())) for key, found in candidates.items()}
    listed = [curve for own in curves.values() for curve in own]
    return make_damage_plan(opened.blocks, known, listed, planning.budgets, origin)


def _by_damage(planning: PlanOptions, select: Samples | None) -> bool:
    if planning.allocation == "damage" and select is None:
        raise UsageError("--allocation damage needs --samples, two at least.")
    has_budget = planning.budgets.size is not None or planning.budgets.macs is not None
    return planning.allocation != "level" and select is not None and has_budget
