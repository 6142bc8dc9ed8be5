"""BatchNormalization statistics measured anew, the cheapest repair without training or labels."""

from collections.abc import Iterator

import onnx
import torch
from duplicate import duplicate, to_onnx
from task import Offer, Task
from torch import nn

_CHECKED = 256
_BATCH = 250


def also_reestimated(offer: Offer, task: Task) -> Iterator[Offer]:
    """An offer as it is, and with the statistics of the calibration images."""
    yield offer
    if offer.model is not None:
        model = reestimated(offer.model, task)
        yield Offer(f"{offer.variant}, statistics anew", model, offer.least)


def reestimated(model: onnx.ModelProto, task: Task) -> onnx.ModelProto:
    """The same model with the means and variances that it has on the calibration images."""
    module = duplicate(model, task.images[:_CHECKED])
    layers = [layer for layer in module.modules() if isinstance(layer, nn.BatchNorm2d)]
    for layer in layers:
        layer.reset_running_stats()
        layer.momentum = None  # the plain average over all batches
        layer.train()
    with torch.no_grad():
        for start in range(0, len(task.images), _BATCH):
            module(torch.from_numpy(task.images[start : start + _BATCH]))
    return to_onnx(module.eval(), model)
