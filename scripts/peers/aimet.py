"""AIMET: spatial SVD and weight SVD with greedily selected ranks.

    python scripts/peers/aimet.py MODEL.onnx CALIBRATION.npz SHARE OUTPUT.onnx

Two ways: weight SVD of all layers; weight SVD of the Gemms to one of a few shares, then spatial SVD
of the Convs. Each also with BatchNormalization's statistics measured anew. The score that AIMET's
greedy selection asks for is the agreement with the original on the first images; it is measured
layer by layer on the original and kept for all shares, since it hangs on none.
"""

import os
import sys
from collections.abc import Iterator
from decimal import Decimal
from functools import partial
from pathlib import Path
from types import ModuleType

import onnx
import torch
from batch_statistics import also_reestimated
from duplicate import duplicate, to_onnx
from task import Offer, Task, largest_within, run
from torch import fx, nn


def _stand_in(name: str, **members: object) -> ModuleType:
    module = ModuleType(name)
    for member, value in members.items():
        setattr(module, member, value)
    sys.modules[name] = module
    return module


# AIMET imports torchvision for what nothing here uses, and torchvision's wheels do not load beside
# every build of torch.
_stand_in(
    "torchvision",
    datasets=_stand_in("torchvision.datasets"),
    transforms=_stand_in("torchvision.transforms", Resize=type("Resize", (nn.Module,), {})),
    ops=_stand_in("torchvision.ops", RoIPool=type("RoIPool", (nn.Module,), {})),
)

from aimet_torch.common.defs import (  # noqa: E402
    CompressionScheme,
    CostMetric,
    GreedySelectionParameters,
    RankSelectScheme,
)
from aimet_torch.compress import ModelCompressor  # noqa: E402
from aimet_torch.defs import SpatialSvdParameters, WeightSvdParameters  # noqa: E402

_CHECKED = 256
# Every layer is scored at nine ratios, which is what AIMET spends its time on.
_SCORED = 1000
_BATCH = 250
# AIMET chooses among nine ratios a layer, so that a finer target changes little.
_STEPS = 8
_LINEAR_SHARES = (0.1, 0.2, 0.4)
# Gemms that hold less than this share of the weights are left alone.
_WORTH_CUTTING = 0.01
# Where AIMET keeps its scores, below the current folder.
_SCORES = Path("data/greedy_selection_eval_scores_dict.pkl")

Layers = list[nn.Conv2d | nn.Linear]


def offers(task: Task) -> Iterator[Offer]:
    """Weight SVD; and both, one for every share of the Gemms."""
    torch.set_num_threads(1)
    os.chdir(task.folder)  # AIMET writes into the current folder.
    module = duplicate(task.model, task.images[:_CHECKED])
    weight = Greedy(task, module, "weight", [])
    bases = {"spatial": module}
    linear, convolutions = _layers(module, nn.Linear), _layers(module, nn.Conv2d)
    share = _weights(linear) / (_weights(linear) + _weights(convolutions))
    if share > _WORTH_CUTTING:
        gemms = Greedy(task, module, "weight", convolutions)
        for kept in _LINEAR_SHARES:
            # AIMET's target is one of the whole network.
            base = gemms.compressed(module, 1 - share + kept * share)
            bases[f"spatial, Gemms by weight to {kept:g}"] = base
    spatial = Greedy(task, module, "spatial", [])
    ways = {"weight": partial(weight.model, module)} | {
        name: partial(spatial.model, base) for name, base in bases.items()
    }
    for variant, make in ways.items():
        yield from also_reestimated(largest_within(task, variant, make, _STEPS), task)


class Greedy:
    """AIMET's greedy selection by one scheme, its layers scored once."""

    def __init__(self, task: Task, module: fx.GraphModule, scheme: str, ignored: Layers) -> None:
        """Scores the layers, unless their scores are kept already.

        Args:
            task: What to make smaller.
            module: Its duplicate.
            scheme: `weight` or `spatial`.
            ignored: Layers of `module` that are left alone.
        """
        self._task = task
        self._scheme = scheme
        modules = dict(module.named_modules())
        self._ignored = [name for name, layer in modules.items() if layer in ignored]
        self._scores: Path | None = None
        # Beside the folders of the shares, which have them in common.
        kept = task.folder.parent / f"aimet-{scheme}{'-gemms' if ignored else ''}.pkl"
        if not kept.exists():
            self.compressed(module, 0.5)
            os.replace(_SCORES, kept)
        self._scores = kept

    def model(self, module: fx.GraphModule, target: float) -> onnx.ModelProto:
        """What is left of a module at a target share of the memory, as ONNX."""
        return to_onnx(self.compressed(module, target), self._task.model)

    def compressed(self, module: fx.GraphModule, target: float) -> fx.GraphModule:
        """What is left of a module at a target share of the memory."""
        greedy = GreedySelectionParameters(
            target_comp_ratio=Decimal(target),
            saved_eval_scores_dict=None if self._scores is None else str(self._scores),
        )
        ignored = [module.get_submodule(name) for name in self._ignored]
        if self._scheme == "spatial":
            scheme = CompressionScheme.spatial_svd
            parameters = SpatialSvdParameters(
                SpatialSvdParameters.Mode.auto,
                SpatialSvdParameters.AutoModeParams(greedy, ignored),
            )
        else:
            scheme = CompressionScheme.weight_svd
            parameters = WeightSvdParameters(
                WeightSvdParameters.Mode.auto,
                WeightSvdParameters.AutoModeParams(RankSelectScheme.greedy, greedy, ignored),
            )
        smaller, _ = ModelCompressor.compress_model(
            module,
            eval_callback=self._agreement if self._scores is None else _no_score,
            eval_iterations=None,
            input_shape=(1, *self._task.images.shape[1:]),
            compress_scheme=scheme,
            cost_metric=CostMetric.memory,
            parameters=parameters,
        )
        return smaller

    def _agreement(self, module: nn.Module, iterations: object, use_cuda: bool) -> float:
        """How often a module agrees with the original, the score that AIMET asks for."""
        same = 0
        with torch.no_grad():
            for start in range(0, _SCORED, _BATCH):
                images = torch.from_numpy(self._task.images[start : start + _BATCH])
                found = module(images).argmax(dim=1).numpy()
                same += int((found == self._task.answers[start : start + _BATCH]).sum())
        return same / _SCORED


def _no_score(module: nn.Module, iterations: object, use_cuda: bool) -> float:
    """For what AIMET measures after its choice, which nobody reads here."""
    return 0.0


def _layers(module: nn.Module, kind: type[nn.Conv2d] | type[nn.Linear]) -> Layers:
    return [layer for layer in module.modules() if isinstance(layer, kind)]


def _weights(layers: Layers) -> int:
    return sum(layer.weight.numel() for layer in layers)


if __name__ == "__main__":
    run(offers)
