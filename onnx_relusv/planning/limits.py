"""What plans are for, and what their budgets allow."""

from dataclasses import dataclass

from onnx_relusv.core.plans import Budgets, Cost, Method


@dataclass(frozen=True)
class Origin:
    """What a plan was made for.

    Attributes:
        model_sha256: Of the model.
        samples_sha256: Of the samples, or None.
        total: What the whole original costs; `bytes` with everything that cannot shrink.
        added_bytes: What the file gains besides blocks (provenance, refits), an upper bound.
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


def limits(budgets: Budgets, total: Cost) -> dict[str, float]:
    """What the budgets that are given allow, by the name of the cost; `total` is the original's."""
    shares = {"bytes": budgets.size, "macs": budgets.macs, "latency": budgets.latency}
    return {
        name: share * getattr(total, name) for name, share in shares.items() if share is not None
    }


def how_far(cost: Cost, budgets: Budgets, total: Cost) -> str:
    """Says that budgets cannot be reached, and how far one gets."""
    asked = [
        f"{share:.4g} of the {name}"
        for name, share in (
            ("bytes", budgets.size),
            ("MACs", budgets.macs),
            ("latency", budgets.latency),
        )
        if share is not None
    ]
    limit = budgets.tolerance
    within = "" if limit is None else f" within a relative error of {limit:.4g}"
    least = (
        f"{cost.bytes / total.bytes:.4g} of the bytes and "
        f"{cost.macs / max(total.macs, 1):.4g} of the MACs"
    )
    if budgets.latency is not None:
        least += f", at an estimated {cost.latency / total.latency:.4g} of the latency"
    return (
        f"{' and '.join(asked)} cannot be reached{within}: the least is {least}. "
        "Ask for less, or allow more blocks."
    )
