"""What plans of a model are for: what the original costs, and what files gain besides blocks."""

import math
from collections.abc import Mapping

from onnx_relusv.core.errors import InputError
from onnx_relusv.core.kinds import kind_of
from onnx_relusv.core.options import PlanOptions
from onnx_relusv.core.plans import Budgets, Cost
from onnx_relusv.graph.model import external_location, external_tensors
from onnx_relusv.graph.writing import PAGE, SMALLEST_PAGED, all_bytes
from onnx_relusv.measuring.blocks import Ground
from onnx_relusv.measuring.case import Case
from onnx_relusv.planning.decisions import reserved_bytes
from onnx_relusv.planning.latency.timed import Timed
from onnx_relusv.planning.limits import Origin
from onnx_relusv.rewrites.apply import nodes_of, provenance_bytes
from onnx_relusv.rewrites.fp16.conversion import HalfPrecision

# What says where a tensor lies in external data.
_PLACE_BYTES = 200
# What a block's nodes and names, which half precision leaves as they are, take more, at most.
_LAYER_OVERHEAD = 512


def _padding(case: Case) -> int:
    """What beginning on pages adds at most to a file with external data, and naming where."""
    lengths = [external_location(one).length for one in external_tensors(case.model.proto)]
    if not lengths:
        return 0
    # A weight becomes two, of a Conv three; biases are small.
    further = [
        block.original_bytes
        for block in case.blocks
        for _ in range(2 if kind_of(block.geometry).spatial else 1)
    ]
    paged = sum(length >= SMALLEST_PAGED for length in (*lengths, *further))
    return PAGE * paged + _PLACE_BYTES * 2 * len(further)


def untouched(case: Case, planning: PlanOptions) -> set[str]:
    """The nodes of blocks that may not change, by what they give."""
    return nodes_of(case, (block for block in case.blocks if not planning.allows(block.key)))


def _halved_bytes(case: Case, planning: PlanOptions, staying: Mapping[str, str]) -> int:
    """What half precision takes off the original's bytes.

    Raises:
        InputError: It has no numbers that half precision would make smaller.
    """
    half = HalfPrecision(case.model.proto, case.model, staying, untouched(case, planning))
    if not half.constants:
        raise InputError(
            f"{case.model.name}: no weights of its are float32 and could be stored in half "
            "precision, so --precision fp16 changes nothing. Leave it away."
        )
    return all_bytes(case.model.proto) - all_bytes(half.converted())


def origin_of(
    ground: Ground, planning: PlanOptions, timed: Timed, float_nodes: Mapping[str, str]
) -> Origin:
    """What plans are for.

    Args:
        ground: The model.
        planning: What plans may do.
        timed: What plans know of time.
        float_nodes: The nodes of the original that stay float32 in half precision.

    Raises:
        InputError: Half precision would change nothing.
    """
    case, inputs = ground.case, ground.inputs
    reserved = reserved_bytes(case, inputs, planning) + _padding(case)
    halved = 0
    if planning.uses_fp16:
        halved = _halved_bytes(case, planning, float_nodes)
        reserved += _LAYER_OVERHEAD * len(case.blocks)
    rows = ground.measured.rows
    whole = math.nan if timed.times is None else timed.times.total
    return Origin(
        model_sha256=case.model.sha256,
        samples_sha256=None if inputs.user_samples is None else inputs.user_samples.sha256,
        total=Cost(bytes=case.model.bytes, macs=case.facts.macs, latency=whole),
        added_bytes=reserved + stated_bytes(ground, planning, planning.budgets),
        reserved_bytes=reserved,
        seed=ground.workspace.options.seed,
        method=planning.method,
        effort=ground.workspace.options.effort,
        batch=timed.batch,
        pack=None if timed.times is None else timed.times.kernels.pack,
        timed_on=timed.timed_on,
        assumed=inputs.data_free and any(row.statistics != "none" for row in rows),
        input_range=planning.input_range,
        precision=planning.precision,
        int8_format=planning.int8_format,
        halved_bytes=halved,
    )


def stated_bytes(ground: Ground, planning: PlanOptions, budgets: Budgets) -> int:
    """What a file takes to say where it comes from."""
    return provenance_bytes(
        ground.case,
        ground.inputs,
        ground.workspace,
        planning.method,
        budgets,
        planning.input_range,
        precision=planning.precision,
    )
