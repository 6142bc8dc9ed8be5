"""In which range the numbers of every tensor lie, if those of the model's inputs lie in one.

Interval arithmetic, node by node and channel by channel: every term of a sum counts as if it took
its worst value by itself (Moore, Interval Analysis, 1966). Ends are moved outwards by what
onnxruntime's own rounding may add, so that they hold for what it computes. They are wide behind
many layers, and never too narrow. Nothing is known of what a node that is not listed here writes.
"""

from collections.abc import Callable, Mapping

import numpy as np
import scipy.special
from onnx import NodeProto

from onnx_relusv.graph.channels import range_operators as elementwise
from onnx_relusv.graph.channels import range_operators as shaping
from onnx_relusv.graph.channels import range_sums as sums
from onnx_relusv.graph.channels.intervals import Interval, RangeWalk, Unbounded, interval
from onnx_relusv.graph.model import Model
from onnx_relusv.graph.nodes import Shape, is_standard

Rule = Callable[[RangeWalk, NodeProto], Interval]

_RULES: dict[str, Rule] = {
    "Add": elementwise.add,
    "AveragePool": sums.average_pooling,
    "BatchNormalization": sums.normalization,
    "Cast": elementwise.cast,
    "Clip": elementwise.clip,
    "Concat": shaping.concat,
    "Conv": sums.conv,
    "Div": elementwise.divide,
    "Dropout": elementwise.dropout,
    "Flatten": shaping.reshape,
    "Gemm": sums.gemm,
    "GlobalAveragePool": sums.global_average,
    "GlobalMaxPool": shaping.max_pooling,
    "HardSigmoid": elementwise.hard_sigmoid,
    "HardSwish": elementwise.hard_swish,
    "Identity": elementwise.unchanged,
    "LeakyRelu": elementwise.leaky_relu,
    "MatMul": sums.matmul,
    "MaxPool": shaping.max_pooling,
    "Mul": elementwise.multiply,
    "PRelu": elementwise.prelu,
    "Pad": shaping.pad,
    "ReduceMean": sums.reduced_mean,
    "Relu": elementwise.relu,
    "Reshape": shaping.reshape,
    "Resize": shaping.resize,
    "Sigmoid": elementwise.monotone(scipy.special.expit),
    "Squeeze": shaping.squeeze,
    "Sub": elementwise.subtract,
    "Tanh": elementwise.monotone(np.tanh),
    "Transpose": shaping.transpose,
    "Unsqueeze": shaping.unsqueeze,
    "Upsample": shaping.resize,
}


def tensor_ranges(
    model: Model, shapes: Mapping[str, Shape], declared: tuple[float, float]
) -> dict[str, Interval]:
    """Where the numbers of tensors lie.

    Args:
        model: The model.
        shapes: Of the `channel_tensors` for one sample, as a run shows them.
        declared: Between which numbers all inputs lie, both among them.

    Returns:
        By tensor; without those of which nothing is known.
    """
    walk = RangeWalk(model, shapes)
    ends = np.array(declared)
    # As the input's own type rounds them.
    low, high = ends + walk.unit * np.abs(ends) * (-1, 1)
    for spec in model.inputs:
        if spec.dtype.kind in "fiu":
            walk.known[spec.name] = interval(low, high, whole=spec.dtype.kind != "f")
    for node in model.proto.graph.node:
        rule = _RULES.get(node.op_type) if is_standard(node) else None
        # What constants hold is read, and not estimated.
        if rule is None or walk.constants.tensor(node.output[0]) is not None:
            continue
        try:
            found = rule(walk, node)
        except Unbounded:
            continue
        if np.isfinite(found.low).any() or np.isfinite(found.high).any():
            walk.known[node.output[0]] = found
    return walk.known
