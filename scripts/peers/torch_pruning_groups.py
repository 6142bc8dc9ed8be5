"""Torch-Pruning: whole channels by its dependency graph, without the training that follows it.

    python scripts/peers/torch_pruning_groups.py MODEL.onnx CALIBRATION.npz SHARE OUTPUT.onnx

Four ways: the group's L2 norm or its Taylor expansion of the cross-entropy with the original's
own answers, each with one ratio for all layers or one ranking over all of them. Each of them also
with BatchNormalization's statistics measured anew, which is ours and no part of Torch-Pruning.
"""

import copy
from collections.abc import Iterator
from functools import partial

import onnx
import torch
import torch_pruning as tp
from batch_statistics import also_reestimated
from duplicate import duplicate, to_onnx
from task import Offer, Task, largest_within, run
from torch import fx, nn

_CHECKED = 256
_BATCH = 250


def offers(task: Task) -> Iterator[Offer]:
    """Every variant, its ratio bisected."""
    torch.set_num_threads(1)
    module = duplicate(task.model, task.images[:_CHECKED])
    _accumulate_gradients(module, task)
    for importance in (
        tp.importance.GroupMagnitudeImportance(p=2),
        tp.importance.TaylorImportance(),
    ):
        for ranking in ("uniform", "global"):
            name = type(importance).__name__.removeprefix("Group").removesuffix("Importance")
            make = partial(_pruned, task, module, importance, ranking == "global")
            offer = largest_within(task, f"{name}, {ranking}".lower(), make)
            yield from also_reestimated(offer, task)


def _accumulate_gradients(module: fx.GraphModule, task: Task) -> None:
    """Leaves in every parameter the gradient that Taylor importance multiplies it with."""
    for start in range(0, len(task.images), _BATCH):
        images = torch.from_numpy(task.images[start : start + _BATCH])
        answers = torch.from_numpy(task.answers[start : start + _BATCH])
        nn.functional.cross_entropy(module(images), answers, reduction="sum").backward()


def _pruned(
    task: Task,
    module: fx.GraphModule,
    importance: tp.importance.Importance,
    together: bool,
    kept: float,
) -> onnx.ModelProto:
    """The model with a share of its channels kept."""
    copied = copy.deepcopy(module)
    for own, copy_ in zip(module.parameters(), copied.parameters(), strict=True):
        copy_.grad = None if own.grad is None else own.grad.clone()
    linear = [layer for layer in copied.modules() if isinstance(layer, nn.Linear)]
    pruner = tp.pruner.BasePruner(
        copied,
        torch.from_numpy(task.images[:1]),
        importance=importance,
        global_pruning=together,
        pruning_ratio=1 - kept,
        ignored_layers=[linear[-1]],  # whose channels are the classes
    )
    pruner.step()
    return to_onnx(copied, task.model)


if __name__ == "__main__":
    run(offers)
