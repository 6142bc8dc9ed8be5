"""What a written file says about where it comes from, in one entry of its metadata.

What a rewritten file claims to be, which validation holds it to.
"""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from types import MappingProxyType

import numpy as np
from onnx import ModelProto

from onnx_relusv.core.blocks import Block, LinearMap, ReadOnlyArrays, Runnable
from onnx_relusv.core.plans import KEPT, Budgets, Factors, Int8Format, Plan, Precision
from onnx_relusv.core.reduction import ActivationScale, Change, FittedPlan
from onnx_relusv.graph import writing
from onnx_relusv.graph.channels.walk import Channels
from onnx_relusv.graph.checks import PROVENANCE_KEY
from onnx_relusv.graph.model import Model
from onnx_relusv.graph.protos import first_output, set_metadata
from onnx_relusv.graph.reference import reference
from onnx_relusv.measuring.case import Case, Workspace
from onnx_relusv.measuring.inputs import Inputs
from onnx_relusv.rewrites.changes import changes_of
from onnx_relusv.rewrites.fp16.conversion import in_half
from onnx_relusv.rewrites.int8.activations import in_integers, quantized_tensors
from onnx_relusv.rewrites.low_rank.factors import ComposedMaps
from onnx_relusv.rewrites.methods import REWRITES
from onnx_relusv.rewrites.prune.cutting import staying, zeroed
from onnx_relusv.rewrites.prune.units import Mask, removed_mask


@dataclass(frozen=True, eq=False)
class Cut(ReadOnlyArrays):
    """Units that were removed.

    Attributes:
        channels: The original's units.
        removed: (units,) bool.
    """

    channels: Channels
    removed: Mask

    def reference(self, model: Model) -> tuple[Model, dict[str, np.ndarray]]:
        """The model with consumers' entries of removed units zeroed, and arrays of its stubs."""
        proto, arrays = zeroed(model, self.channels, self.removed)
        return replace(model, proto=proto), arrays

    def whole(self, names: Iterable[str]) -> bool:
        """Whether nothing is cut of some of the original's tensors."""
        found = (self.channels.tensors.get(name) for name in names)
        return all(axis is None or staying(axis.units, self.removed).all() for axis in found)

    def left(self, name: str, values: np.ndarray) -> np.ndarray:
        """What is left of a tensor of the original."""
        axis = self.channels.tensors.get(name)
        if axis is None:
            return values
        return np.compress(staying(axis.units, self.removed), values, axis=axis.axis)


@dataclass(frozen=True)
class Claim:
    """What the rewritten file claims to be.

    Attributes:
        blocks: The original's blocks.
        dense: By key of every changed block, its composed kernel and bias as stored.
        levels: By key, the level that was stated for it.
        cut: What was removed of the graph; None where all units stay.
    """

    blocks: Sequence[Block]
    dense: Mapping[str, LinearMap]
    levels: Mapping[str, float]
    cut: Cut | None = None


# A level of as many digits as one has.
_LONGEST = 0.00012345678901234567


def provenance_text(case: Case, inputs: Inputs, workspace: Workspace, plan: Plan) -> str:
    """The entry's value for a plan's file."""
    return _text(
        case,
        inputs,
        workspace,
        plan.method,
        plan.level,
        plan.budgets,
        plan.input_range,
        precision=KEPT if plan.precision == "int8" and not plan.uses_int8 else plan.precision,
    )


def provenance_bytes(
    case: Case,
    inputs: Inputs,
    workspace: Workspace,
    method: str,
    budgets: Budgets,
    input_range: tuple[float, float] | None,
    *,
    precision: Precision,
) -> int:
    """What the entry adds to a file at most; an older one that it replaces counts against it."""
    longest = _text(
        case, inputs, workspace, method, _LONGEST, budgets, input_range, precision=precision
    )
    replaced = sum(
        writing.entry(entry.ByteSize())
        for entry in case.model.proto.metadata_props
        if entry.key == PROVENANCE_KEY
    )
    return writing.entry(writing.text(PROVENANCE_KEY) + writing.text(longest)) - replaced


def _text(
    case: Case,
    inputs: Inputs,
    workspace: Workspace,
    method: str,
    level: float,
    budgets: Budgets,
    input_range: tuple[float, float] | None,
    *,
    precision: Precision,
) -> str:
    return json.dumps(
        {
            "version": version("onnx-relusv"),
            "original_sha256": case.model.sha256,
            "samples_sha256": None if inputs.user_samples is None else inputs.user_samples.sha256,
            "method": method,
            "level": level,
            # Those alone that were given: of a small file's bytes, names are many.
            "budgets": {name: one for name, one in asdict(budgets).items() if one is not None},
            "seed": workspace.options.seed,
            **({} if precision == KEPT else {"precision": precision}),
            # Outside of it the file may compute something else.
            **({} if input_range is None else {"input_range": input_range}),
            # What max_drop is of, where it is not top-1.
            **(
                {}
                if inputs.metric is None or budgets.max_drop is None
                else {"metric": inputs.metric.name}
            ),
        }
    )


def dense_maps(case: Case, fitted: FittedPlan) -> dict[str, LinearMap]:
    """By key, the one linear map that each double layer composes to, as it is stored."""
    return dict(ComposedMaps(case.blocks, fitted.factors))


def composed(case: Case, fitted: FittedPlan) -> Runnable:
    """The original with its changed blocks' dense maps, and zeros where removed units are read."""
    base, arrays = case.model, dict[str, np.ndarray]()
    if fitted.plan.groups and case.channels is not None:
        base, arrays = Cut(case.channels, removed_mask(case.channels, fitted.plan)).reference(base)
    return reference(base, case.blocks, dense_maps(case, fitted), (), arrays)


def float_blocks(case: Case, plan: Plan) -> set[str]:
    """The nodes of blocks that a plan in half precision leaves float32, by what they give."""
    half = {choice.key for choice in plan.choices if choice.is_fp16}
    return nodes_of(case, (block for block in case.blocks if block.key not in half))


def nodes_of(case: Case, blocks: Iterable[Block]) -> set[str]:
    """The nodes of some blocks, each by the first tensor that it gives."""
    nodes = case.model.proto.graph.node
    return {first_output(nodes[index]) for block in blocks for index in block.nodes}


def rewritten(case: Case, inputs: Inputs, workspace: Workspace, fitted: FittedPlan) -> ModelProto:
    """The smaller model, unchecked: what all methods of rewriting make of it, one after another."""
    model, blocks = case.model, case.blocks
    for rewrite in REWRITES.values():
        model, blocks = rewrite.apply(case, model, blocks, fitted)
    # Double layers, the last of them, write into no model that they get.
    result = model.proto
    # Where activations are to be quantized and have no scales yet, names are still wanted.
    if fitted.activations or (fitted.has_integers and not fitted.plan.quantizes_activations):
        result = in_integers(result, case.model.proto, fitted.activations)
    if fitted.plan.uses_fp16:
        untouched = float_blocks(case, fitted.plan)
        result = in_half(result, case.model, fitted.float_nodes, untouched)
    set_metadata(result, PROVENANCE_KEY, provenance_text(case, inputs, workspace, fitted.plan))
    return result


# Makes of the tensors that are quantized, each with the one whose scale it has, their scales.
ScalesOf = Callable[[Mapping[str, str], Int8Format], Mapping[str, ActivationScale]]


def unfitted(
    case: Case,
    inputs: Inputs,
    workspace: Workspace,
    plan: Plan,
    factors_of: Callable[[Change], Factors],
    scales_of: ScalesOf,
    float_nodes: Mapping[str, str] = MappingProxyType({}),
) -> ModelProto:
    """The file of a plan that was not fitted, of any numbers: for its bytes and for its time.

    Args:
        case: The model.
        inputs: Its samples.
        workspace: Where it runs, and what is kept.
        plan: For this model.
        factors_of: Makes the numbers of what changes.
        scales_of: Makes scales of tensors that are quantized.
        float_nodes: Those of the original that stay float32 in half precision.

    Raises:
        InputError: The plan names what the model does not have.
    """
    factors = {change.block.key: factors_of(change) for change in changes_of(case, inputs, plan)}
    fitted = FittedPlan(plan, factors, {}, float_nodes=float_nodes)
    proto = rewritten(case, inputs, workspace, fitted)
    if plan.quantizes_activations:
        scales = scales_of(quantized_tensors(proto), plan.int8_format)
        proto = in_integers(proto, case.model.proto, scales)
    return proto
