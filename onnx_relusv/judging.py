"""What a smaller model loses on samples set aside: answers that are counted, or of a metric."""

from collections.abc import Callable

from onnx_relusv.drop_limit import DropLimit
from onnx_relusv.held_out import HeldOut
from onnx_relusv.held_out_metric import HeldOutMetric
from onnx_relusv.loss import Loss
from onnx_relusv.opened import Opened
from onnx_relusv.records import Runnable
from onnx_relusv.samples import Samples


def judge(opened: Opened, samples: Samples, limit: DropLimit) -> Callable[[Runnable], Loss]:
    """Runs the original, and gives a function that tells what a smaller model loses against it.

    Args:
        opened: The original.
        samples: A part of its samples.
        limit: What may be lost.

    Raises:
        InputError: A metric fails.
    """
    if opened.metric is not None:
        return HeldOutMetric(opened, samples, opened.metric).loss
    assert limit.scores is not None  # without a metric, drop_limit has found them
    return HeldOut(opened, samples, limit.scores).discordance
