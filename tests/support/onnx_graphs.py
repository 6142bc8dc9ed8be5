"""Small ONNX models for tests."""

from collections.abc import Mapping, Sequence

import numpy as np
from onnx import NodeProto, TensorProto, helper, numpy_helper

from onnx_relusv.core.blocks import Geometry, Runnable
from onnx_relusv.runtime.session import CPU, Session

OPSET = 17
Axes = Sequence[int | str | None]


def runnable(
    nodes: Sequence[NodeProto],
    inputs: Mapping[str, Axes],
    outputs: Sequence[str],
    constants: Mapping[str, np.ndarray] | None = None,
    *,
    element_type: int = TensorProto.FLOAT,
) -> Runnable:
    """A model with inputs of one element type, and outputs of any rank and that type."""
    graph = helper.make_graph(
        list(nodes),
        "graph",
        [helper.make_tensor_value_info(name, element_type, axes) for name, axes in inputs.items()],
        [helper.make_tensor_value_info(name, element_type, None) for name in outputs],
        [numpy_helper.from_array(value, name) for name, value in (constants or {}).items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=8)
    return Runnable(model.SerializeToString(), {})


def node(op: str, inputs: Sequence[str], output: str, **attributes: object) -> NodeProto:
    return helper.make_node(op, list(inputs), [output], **attributes)


def conv_node(
    inputs: Sequence[str], output: str, where: Geometry | object, groups: int
) -> NodeProto:
    """A Conv with the attributes of a geometry or of one layer of a double layer."""
    attributes = {
        "kernel_shape": where.kernel,
        "strides": where.strides,
        "dilations": where.dilations,
        "group": groups,
    }
    if where.auto_pad == "NOTSET":
        attributes["pads"] = where.pads
    else:
        attributes["auto_pad"] = where.auto_pad
    return node("Conv", inputs, output, **attributes)


def run(model: Runnable, **feeds: np.ndarray) -> dict[str, np.ndarray]:
    return Session(model, CPU).run(feeds)
