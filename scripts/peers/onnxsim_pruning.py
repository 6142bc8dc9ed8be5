"""onnxsim: channels by Wanda's calibrated ranking or by norm, then ridge recovery of the Gemms.

    python scripts/peers/onnxsim_pruning.py MODEL.onnx CALIBRATION.npz SHARE OUTPUT.onnx

Four variants: Wanda or L2 norm, one ratio for all chains or one ranking over all. The two of them
that agree best with the original are also offered after `apply_pruning_finetune`, its closed-form
recovery. BatchNormalization is folded by onnxsim first, as its pruning wants it.
"""

from collections.abc import Iterator
from functools import partial

import numpy as np
import onnx
import onnxsim
from task import Offer, Task, largest_within, run

_BATCH = 250
_STEPS = 9
# Enough for the norms of the activations; every step of the bisection measures them again.
_RANKED = 1000
# Recovery fits all calibration images, which takes long.
_RECOVERED = 2

Batches = list[dict[str, np.ndarray]]


def offers(task: Task) -> Iterator[Offer]:
    """Every variant, its sparsity bisected, and the best of them after recovery."""
    folded, _ = onnxsim.simplify(task.model)
    name = task.model.graph.input[0].name
    batches = [
        {name: task.images[start : start + _BATCH]} for start in range(0, len(task.images), _BATCH)
    ]
    ranked = batches[: _RANKED // _BATCH]
    found = []
    for ranking in ("uniform", "global"):
        for criterion in ("wanda", "l2"):
            make = partial(_pruned, folded, ranked, criterion == "wanda", ranking == "global")
            found.append(largest_within(task, f"{criterion}, {ranking}", make, _STEPS))
    yield from found
    scores = [(task.agreement(offer.model), offer) for offer in found if offer.model is not None]
    scores.sort(key=lambda scored: scored[0], reverse=True)
    for _, offer in scores[:_RECOVERED]:
        recovered = onnxsim.apply_pruning_finetune(folded, offer.model, batches)
        yield Offer(f"{offer.variant}, ridge", recovered, offer.least)


def _pruned(
    folded: onnx.ModelProto, batches: Batches, calibrated: bool, together: bool, kept: float
) -> onnx.ModelProto:
    if calibrated:
        return onnxsim.apply_structured_wanda_pruning(
            folded, batches, sparsity=1 - kept, global_sparsity=together
        )
    return onnxsim.apply_structured_pruning(folded, sparsity=1 - kept, global_sparsity=together)


if __name__ == "__main__":
    run(offers)
