"""What budgets allow: limits of the whole model's costs, and which candidates may be taken."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from onnx_relusv.cost import block_cost
from onnx_relusv.decisions import Budgets, Candidate, Cost
from onnx_relusv.records import Block

# By how much a block's time may seem to grow without its being slower: timings vary.
TIMING_NOISE = 0.05


def limits(budgets: Budgets, total: Cost) -> dict[str, float]:
    """What the budgets that are given allow, by the name of the cost; `total` is the original's."""
    shares = {"bytes": budgets.size, "macs": budgets.macs, "latency": budgets.latency}
    return {
        name: share * getattr(total, name) for name, share in shares.items() if share is not None
    }


def cost_now(block: Block, latencies: Mapping[str, float]) -> Cost:
    """What a block costs as it is; `latencies` are those of the blocks that were timed, by key."""
    return replace(block_cost(block), latency=latencies.get(block.key, 0.0))


def fast_enough(
    block: Block, offered: Sequence[Candidate], budgets: Budgets, latencies: Mapping[str, float]
) -> list[Candidate]:
    """Those of a block's candidates that do not make it slower; all without a budget on latency."""
    if budgets.latency is None or not offered:
        return list(offered)
    most = latencies[block.key] * (1 + TIMING_NOISE)
    return [candidate for candidate in offered if candidate.latency <= most]


def allowed(
    block: Block, offered: Sequence[Candidate], budgets: Budgets, latencies: Mapping[str, float]
) -> list[Candidate]:
    """Those of a block's candidates that a plan may take: fast enough, and within the tolerance."""
    fast = fast_enough(block, offered, budgets, latencies)
    limit = budgets.tolerance
    return [candidate for candidate in fast if limit is None or candidate.level <= limit]


def why_none_taken(fast: Sequence[Candidate]) -> str:
    """Why a block stays whose candidates, those that are fast enough, are all beyond the level."""
    if not fast:
        return "every smaller form is slower"
    needed = min(candidate.level for candidate in fast)
    return f"a smaller form needs a level of at least {needed:.4g}"
