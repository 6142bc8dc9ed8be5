"""From a plan to a checked file: factors, surgery, validation, and only then the name."""

import json
from collections.abc import Callable
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path

import numpy as np

from onnx_relusv import forms
from onnx_relusv.decisions import Plan
from onnx_relusv.errors import BudgetError, InputError
from onnx_relusv.factors import as_stored, composed_level
from onnx_relusv.fit import fit
from onnx_relusv.fitted import Change
from onnx_relusv.graph.model import Model, read_model
from onnx_relusv.graph.surgery import rewrite
from onnx_relusv.graph.writing import publish, staged, write_staged
from onnx_relusv.opened import BlockMoments, Opened
from onnx_relusv.progress import Progress
from onnx_relusv.records import LinearMap
from onnx_relusv.results import Verdict
from onnx_relusv.validate import Claim, check_stated_level, validate


def write_planned(
    opened: Opened,
    plan: Plan,
    moments: BlockMoments,
    output: Path,
    progress: Progress,
    before_publishing: Callable[[Model, Verdict, dict[str, float]], None],
) -> None:
    """Carries a plan out.

    Args:
        opened: The model.
        plan: For this model.
        moments: Of the blocks' inputs.
        output: Where the file goes, once it has passed all checks.
        progress: Told of the stages.
        before_publishing: Called with the staged model, its verdict and the level that every
            changed block reaches; whatever else is to be written is written there, and an error
            leaves no model behind.

    Raises:
        InputError: The plan names blocks or ranks that the model does not have.
        BudgetError: The plan changes nothing, or the file is over its size budget.
        ValidationError: A check failed.
    """
    changed = _changed(opened, plan)
    if not changed:
        raise BudgetError(
            f"at a level of {plan.level:.4g} no block can be made smaller; nothing was written. "
            "Allow a higher --tolerance or a --size."
        )
    fitted = fit(opened, changed, moments, progress)
    factors = {key: found.factors for key, found in fitted.items()}
    dense: dict[str, LinearMap] = {}
    levels: dict[str, float] = {}
    for change in changed:
        key = change.block.key
        dense[key] = as_stored(change.block, factors[key])
        check_stated_level(change, fitted[key], dense[key])
        levels[key] = composed_level(opened.folding(change.block), dense[key].weight, moments[key])
    proto = rewrite(opened.model, opened.blocks, factors, _provenance(opened, plan))
    with staged(output) as folder:
        path = write_staged(proto, opened.model, folder, output.name)
        with progress.stage("Validation", 1) as advance:
            verdict = validate(
                opened.model,
                path,
                Claim(opened.blocks, dense, levels),
                opened.samples,
                provider=opened.provider,
                rng=np.random.default_rng(opened.options.seed),
            )
            advance(1)
        written = read_model(path)
        _check_size(opened, plan, written)
        before_publishing(written, verdict, levels)
        publish(path, output)


def _changed(opened: Opened, plan: Plan) -> list[Change]:
    """What a plan changes, checked against the model, in topological order."""
    choices = {choice.key: choice for choice in plan.choices if choice.action != "keep"}
    unknown = set(choices) - {block.key for block in opened.blocks}
    if unknown:
        raise InputError(f"the plan changes {min(unknown)}, which is no block of this model.")
    changed: list[Change] = []
    for block in opened.blocks:
        choice = choices.get(block.key)
        if choice is None or choice.form is None or choice.rank is None:
            continue
        form, rank = choice.form, choice.rank
        if form not in forms.available_forms(block.geometry):
            raise InputError(f"the plan gives {block.key} the form {form}, which it lacks.")
        largest = forms.largest_rank(form, block.geometry)
        if not 1 <= rank <= largest:
            raise InputError(
                f"the plan gives {block.key} rank {rank}; it has to be from 1 to {largest}."
            )
        changed.append(Change(block, form, rank))
    return changed


def _check_size(opened: Opened, plan: Plan, written: Model) -> None:
    limit = plan.budgets.size
    if limit is not None and written.bytes > limit * opened.model.bytes:
        raise BudgetError(
            f"the file has {written.bytes / opened.model.bytes:.4g} of the bytes, "
            f"over the budget of {limit:.4g}; nothing was written."
        )


def _provenance(opened: Opened, plan: Plan) -> str:
    """What the file itself says about where it comes from."""
    return json.dumps(
        {
            "version": version("onnx-relusv"),
            "original_sha256": opened.model.sha256,
            "samples_sha256": None if opened.samples is None else opened.samples.sha256,
            "method": plan.method,
            "level": plan.level,
            "budgets": asdict(plan.budgets),
            "seed": opened.options.seed,
        }
    )
