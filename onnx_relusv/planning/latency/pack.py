"""How many channels this processor's kernels compute at once, found by timing a few small Convs.

Where kernels take a pack of sixteen, a Conv to 17 channels takes what one to 32 takes; where they
take eight, it is a quarter less, and 25 take what 32 take. The times are those of undisturbed runs,
and what is told apart is far apart, so a busy machine finds the same.
"""

from collections.abc import Sequence
from dataclasses import replace
from functools import cache

import numpy as np
from onnx import TensorProto, helper, numpy_helper

from onnx_relusv.core.blocks import Runnable
from onnx_relusv.core.options import AUTO, PlanOptions
from onnx_relusv.measuring.case import Workspace
from onnx_relusv.planning.latency.times_file import read_times
from onnx_relusv.runtime.latency import undisturbed_latencies
from onnx_relusv.runtime.session import CPU, Session

# From the largest on; how many output channels are timed, and the side of the picture.
PACKS = (16, 8)
_OUTPUTS, _SIDE = 32, 14
# Of the time of all outputs: a Conv that takes less does not compute the whole last pack.
_SAME = 0.93
# So often all of them are timed, for so long each: what disturbs one does not last. It is done
# again until what is found, by all that was timed so far, is the same so often.
_TIMES, _SECONDS = 4, 0.02
_AGREE, _MOST_TIMES = 4, 12


def with_pack(workspace: Workspace, planning: PlanOptions) -> PlanOptions:
    """Options with what kernels compute at once, where plans are to go by it."""
    if not planning.goes_by_kernels or planning.pack != AUTO:
        return planning
    if planning.times is not None:
        return replace(planning, pack=read_times(planning.times).pack or 1)
    return replace(planning, pack=measured_pack(workspace.provider) or 1)


@cache
def measured_pack(provider: str) -> int | None:
    """Channels that the kernels of a 2-D Conv compute at once.

    Args:
        provider: The execution provider.

    Returns:
        One of `PACKS`; None where times do not show any, or not on a CPU.
    """
    if provider != CPU:
        return None
    counts = (_OUTPUTS, *(_OUTPUTS - pack + 1 for pack in PACKS))
    x = np.random.default_rng(0).standard_normal((1, 4 * max(PACKS), _SIDE, _SIDE), np.float32)
    # One thread waits for no other.
    sessions = [Session(_conv(count, x), provider, threads=1) for count in counts]
    timed: list[tuple[float, ...]] = []
    found: list[int | None] = []
    while len(found) < _MOST_TIMES and (len(found) < _AGREE or len(set(found[-_AGREE:])) > 1):
        timed += [undisturbed_latencies(sessions, {"x": x}, _SECONDS) for _ in range(_TIMES)]
        whole, *fewer = map(min, zip(*timed, strict=True))
        found.append(pack_of(whole, fewer))
    return found[-1]


def pack_of(whole: float, fewer: Sequence[float]) -> int | None:
    """The largest pack that times show.

    Args:
        whole: What the Conv takes to all of its output channels.
        fewer: What it takes to one channel more than the last of each of `PACKS` has not.
    """
    timed = zip(PACKS, fewer, strict=True)
    return next((pack for pack, time in timed if time > _SAME * whole), None)


def _conv(outputs: int, x: np.ndarray) -> Runnable:
    """A 3x3 Conv to some output channels, with weights of no meaning."""
    rng = np.random.default_rng(outputs)
    weight = rng.standard_normal((outputs, x.shape[1], 3, 3), np.float32)
    graph = helper.make_graph(
        [helper.make_node("Conv", ["x", "w"], ["y"], pads=[1] * 4)],
        "conv",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, list(x.shape))],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(weight, "w")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    return Runnable(model.SerializeToString(), {})
