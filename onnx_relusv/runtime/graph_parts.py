"""Parts of the graphs that measure, which are built as ONNX models; opset 17."""

from typing import Any

from onnx import GraphProto, NodeProto, TensorProto, ValueInfoProto, helper

from onnx_relusv.records import Runnable
from onnx_relusv.runtime.session import Session

OPSET = 17
FLOAT, DOUBLE, INT = TensorProto.FLOAT, TensorProto.DOUBLE, TensorProto.INT64


def node(op: str, inputs: list[str], output: str, **attributes: Any) -> NodeProto:
    """A node with one output."""
    return helper.make_node(op, inputs, [output], **attributes)


def value(name: str, element_type: int, rank: int) -> ValueInfoProto:
    """An input or output of any shape of a rank."""
    return helper.make_tensor_value_info(name, element_type, [None] * rank)


def open_kernel(graph: GraphProto, provider: str) -> Session:
    """Opens a graph on a provider."""
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=8)
    return Session(Runnable(model.SerializeToString(), {}), provider)
