"""What plans are for, and what their budgets allow."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from onnx_relusv.core.plans import (
    COST_BUDGETS,
    Budget,
    Budgets,
    Cost,
    Int8Format,
    Method,
    Precision,
    WithPrecision,
)

# Bytes of a number in half precision, as a share of those of a float32.
HALF = 0.5


@dataclass(frozen=True)
class Origin(WithPrecision):
    """What a plan was made for.

    Attributes:
        model_sha256: Of the model.
        samples_sha256: Of the samples, or None.
        total: What the whole original costs; `bytes` with everything that cannot shrink.
        added_bytes: What the file gains besides blocks (provenance, refits), an upper bound.
        precision: As asked for.
        int8_format: What layers of 8-bit integers read.
        halved_bytes: What half precision takes off the original's bytes; 0 where it is not used.
        reserved_bytes: What of it is for refits, of all blocks together.
        seed: In force.
        method: In force.
        batch: Samples in a run that latency is measured at.
        assumed: Whether relative errors are measured on assumed statistics, for want of samples.
        input_range: Between which numbers all inputs lie; None where that was not declared.
    """

    model_sha256: str
    samples_sha256: str | None
    total: Cost
    added_bytes: int
    seed: int
    method: Method
    batch: int = 1
    assumed: bool = False
    input_range: tuple[float, float] | None = None
    reserved_bytes: int = 0
    int8_format: Int8Format = "u8s8"
    precision: Precision = "keep"
    halved_bytes: int = 0

    @property
    def number_share(self) -> float:
        """Bytes of a number in the file, as a share of those in the original."""
        return HALF if self.uses_fp16 else 1.0


def limits(budgets: Budgets, total: Cost) -> dict[str, float]:
    """What the budgets that are set allow, by the name of the cost; `total` is the original's."""
    return {
        budget.cost: share * getattr(total, budget.cost) for budget, share in budgets.shares.items()
    }


def shares_of(cost: Cost, total: Cost) -> dict[Budget, float]:
    """What the model costs as shares of the original's; of the costs that are known."""
    known = {budget: getattr(total, budget.cost) for budget in COST_BUDGETS}
    return {
        budget: getattr(cost, budget.cost) / (whole or 1)
        for budget, whole in known.items()
        if not math.isnan(whole) and not math.isnan(getattr(cost, budget.cost))
    }


def in_words(shares: Mapping[Budget, float], *, planned: bool = False) -> str:
    """Shares of costs, in words; of a plan, those that are estimates are called so."""
    return " and ".join(
        f"{'an estimated ' * (planned and budget.estimated)}{share:.4g} of the {budget.words}"
        for budget, share in shares.items()
    )


def how_far(cost: Cost, budgets: Budgets, total: Cost) -> str:
    """Says that budgets cannot be reached, and how far one gets."""
    limit = budgets.tolerance
    within = "" if limit is None else f" within a relative error of {limit:.4g}"
    return (
        f"{in_words(budgets.shares)} cannot be reached{within}: the least is "
        f"{in_words(shares_of(cost, total), planned=True)}. Ask for less, or allow more blocks."
    )
