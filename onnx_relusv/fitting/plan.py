"""Fits what a plan changes, and checks that every block keeps the level that is stated for it."""

import numpy as np
from onnx import helper

from onnx_relusv.core.blocks import LinearMap
from onnx_relusv.core.errors import BudgetError, ValidationError
from onnx_relusv.core.plans import Factors, Plan
from onnx_relusv.core.reduction import (
    Change,
    Fitted,
    FittedPlan,
    kept_outputs,
    restrict,
)
from onnx_relusv.fitting.calibration import with_activations, with_float_nodes
from onnx_relusv.fitting.fit import fit, fit_tasks, fitted_alike
from onnx_relusv.measuring.answers import fitted_to_scores
from onnx_relusv.measuring.case import BlockMoments, Case, Workspace
from onnx_relusv.measuring.inputs import Inputs
from onnx_relusv.rewrites.changes import changes_of
from onnx_relusv.rewrites.low_rank.candidates import candidate_at
from onnx_relusv.rewrites.low_rank.factors import as_stored, composed_level
from onnx_relusv.rewrites.low_rank.forms import FORMS
from onnx_relusv.rewrites.prune.units import removes_units
from onnx_relusv.runtime.differences import epsilon
from onnx_relusv.work.executors import Done, Known, Progress, Tasks, run

# A level is a ratio of spectral norms of float32 weights.
LEVEL_TOLERANCE = 1e-3


def check_stated_level(change: Change, fitted: Fitted, dense: LinearMap) -> float | None:
    """Checks that a composed kernel as stored is as near to its target as the form promises.

    Returns:
        The level that it reaches of its target; None where the form promises none.

    Args:
        change: What was asked for.
        fitted: The factors and the linear map that they stand for.
        dense: The factors as stored, composed; in the whole block's shape.

    Raises:
        ValidationError: It is farther away by more than rounding, or not finite.
    """
    block = change.block
    dtype = helper.tensor_dtype_to_np_dtype(block.weight_type)
    if not (np.isfinite(dense.weight).all() and np.isfinite(dense.bias).all()):
        raise ValidationError(
            f"block {block.key}: its factors leave the range of {dtype}. Exclude this block."
        )
    if fitted.refined or FORMS[change.form].one_layer:
        # Its factors were moved on purpose, or have every rank that there is; the level is
        # reported as reached, not checked.
        return None
    stated = candidate_at(
        change.reduced, fitted.target, fitted.moments, change.form, change.rank
    ).level
    left = restrict(block.geometry, dense, change.kept)
    reached = composed_level(fitted.target, fitted.weighted(left).weight, fitted.moments)
    rounding = 4 * epsilon(dtype)
    if not reached <= stated * (1 + LEVEL_TOLERANCE) + rounding:
        raise ValidationError(
            f"block {block.key}: the factors reach a level of {reached:.4g}, "
            f"but {stated:.4g} was stated."
        )
    return reached


def fit_plan(
    case: Case,
    inputs: Inputs,
    workspace: Workspace,
    plan: Plan,
    moments: BlockMoments,
    progress: Progress,
    earlier: FittedPlan | None = None,
) -> FittedPlan:
    """Finds the factors that carry a plan out.

    Args:
        case: The model.
        inputs: Its samples.
        workspace: Where it runs, and what is kept.
        plan: For this model.
        moments: Of the blocks' inputs.
        progress: Shows the fit.
        earlier: Another plan of this model; what its fit found for blocks that nothing before has
            changed for is taken from it.

    Raises:
        InputError: The plan names blocks or ranks that the model does not have.
        BudgetError: The plan changes nothing.
        ValidationError: Factors as stored are not what they were fitted to be.
    """
    changed = changes_of(case, inputs, plan)
    if not changed and not removes_units(plan) and not plan.uses_fp16:
        raise BudgetError(
            f"at a level of {plan.level:.4g} no block can be made smaller; nothing was written. "
            "Allow a higher --tolerance or a --size."
        )
    levels: dict[str, float] = {}
    known: dict[str, Factors] = {}
    if earlier is not None:
        same = fitted_alike(case.model, changes_of(case, inputs, earlier.plan), changed)
        known = {key: earlier.factors[key] for key in same}

    def walk(
        tasks: Tasks[str, Factors], known: Known[str, Factors], done: Done[str, Factors]
    ) -> None:
        def keep(change: Change, fitted: Fitted) -> None:
            reached = check_stated_level(change, fitted, as_stored(change.block, fitted.factors))
            # What is fitted to no samples stands for the block itself, in the very moments.
            if reached is not None and inputs.split is None and change.kept is None:
                levels[change.block.key] = reached
            done(change.block.key, fitted.factors)

        fit(
            case,
            inputs,
            workspace,
            changed,
            moments,
            progress,
            keep,
            known,
            fitted_to_scores(case, inputs, workspace, plan),
        )

    found = run(fit_tasks(case, inputs, workspace, changed), walk, workspace.cache, known=known)
    for block in (change.block for change in changed):
        if block.key in levels:
            continue
        dense = as_stored(block, found[block.key])
        left = found[block.key].kept
        own, other = (
            kept_outputs(block.geometry, linear, left) for linear in (case.folding(block), dense)
        )
        levels[block.key] = composed_level(own, other.weight, moments[block.key])
    fitted = FittedPlan(plan, found, {key: levels[key] for key in found})
    fitted = with_activations(case, inputs, workspace, fitted, progress)
    return with_float_nodes(case, inputs, workspace, fitted, progress)
