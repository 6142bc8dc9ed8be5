"""Nodes that compute constants of constants: what type and shape they give, and which values.

Exporters leave such nodes in front of weights, biases and shapes: a Cast of weights in half
precision, a Transpose or Reshape of a weight, a scale that is multiplied with it. What they give is
computed by ONNX's own reference implementation, and only where it is not too large.
"""

from collections.abc import Mapping, Sequence
from math import prod

import numpy as np
import onnx
from onnx import NodeProto, SparseTensorProto, TensorProto, ValueInfoProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

# What a node may give at most, in bytes.
LARGEST = 2 << 30
# Numbers up to which a constant is looked at to learn what shape comes of it.
_FEW = 4096
_IR_VERSION = 10
# Operators that give every number of a tensor on as it is, somewhere else or in another type.
MOVING = frozenset(
    [
        "Cast",
        "CastLike",
        "Concat",
        "Flatten",
        "Gather",
        "Identity",
        "Reshape",
        "Slice",
        "Split",
        "Squeeze",
        "Transpose",
        "Unsqueeze",
    ]
)
# All that are computed. A DequantizeLinear is not: its weight is stored quantised, and stays so.
FOLDED = MOVING | frozenset(
    [
        "Abs",
        "Add",
        "And",
        "Ceil",
        "Clip",
        "ConstantOfShape",
        "DepthToSpace",
        "Div",
        "Equal",
        "Exp",
        "Expand",
        "Floor",
        "GatherElements",
        "Gemm",
        "Greater",
        "GreaterOrEqual",
        "Less",
        "LessOrEqual",
        "Log",
        "MatMul",
        "Max",
        "Min",
        "Mul",
        "Neg",
        "Not",
        "Or",
        "Pad",
        "Pow",
        "Range",
        "Reciprocal",
        "ReduceL1",
        "ReduceL2",
        "ReduceMax",
        "ReduceMean",
        "ReduceMin",
        "ReduceProd",
        "ReduceSum",
        "ReduceSumSquare",
        "Relu",
        "Shape",
        "Sigmoid",
        "Sign",
        "Size",
        "SpaceToDepth",
        "Sqrt",
        "Sub",
        "Sum",
        "Tanh",
        "Tile",
        "Trilu",
        "Where",
        "Xor",
    ]
)


def held(node: NodeProto) -> TensorProto | None:
    """The tensor that a Constant node holds; None for one that is stored sparse."""
    attribute = node.attribute[0]
    if attribute.name == "value":
        return attribute.t
    kinds = {
        "value_float": np.float32,
        "value_floats": np.float32,
        "value_int": np.int64,
        "value_ints": np.int64,
    }
    value = helper.get_attribute_value(attribute)
    if attribute.name in kinds:
        return numpy_helper.from_array(np.asarray(value, kinds[attribute.name]), node.output[0])
    if attribute.name in ("value_string", "value_strings"):
        texts = [value] if attribute.name == "value_string" else list(value)
        dims = () if attribute.name == "value_string" else (len(texts),)
        return helper.make_tensor(node.output[0], TensorProto.STRING, dims, texts)
    return None


def dense(sparse: SparseTensorProto) -> np.ndarray:
    """The values of a tensor that is stored sparse."""
    values = numpy_helper.to_array(sparse.values)
    places = numpy_helper.to_array(sparse.indices)
    found = np.zeros(tuple(sparse.dims), values.dtype)
    if places.ndim == 2:
        found[tuple(places.T)] = values
    else:
        found.reshape(-1)[places] = values
    return found


def outline_of(name: str, element_type: int, dims: Sequence[int]) -> TensorProto:
    """A tensor's name, type and shape, without values."""
    return TensorProto(name=name, data_type=element_type, dims=dims)


def given_outlines(
    node: NodeProto,
    opset: int,
    inputs: Mapping[str, TensorProto],
    values: Mapping[str, np.ndarray],
) -> dict[str, TensorProto]:
    """Type and shape of what a node gives, without computing it.

    Args:
        node: One of the `FOLDED` operators.
        opset: Of the default operators.
        inputs: Type and shape of its inputs.
        values: Those inputs' values that may tell a shape.

    Returns:
        By output; empty where that does not follow, or where one of them is too large.
    """
    kinds = {
        name: helper.make_tensor_type_proto(tensor.data_type, list(tensor.dims))
        for name, tensor in inputs.items()
    }
    known = {name: numpy_helper.from_array(array, name) for name, array in values.items()}
    imports = [helper.make_opsetid("", opset)]
    try:
        schema = onnx.defs.get_schema(node.op_type, opset, "")
        found = onnx.shape_inference.infer_node_outputs(
            schema, node, kinds, known, opset_imports=imports, ir_version=_IR_VERSION
        )
    except Exception:  # several unrelated types; then nothing is known
        return {}
    made: dict[str, TensorProto] = {}
    for name in filter(None, node.output):
        kind = found[name].tensor_type if name in found else None
        if kind is None or not kind.elem_type or not kind.HasField("shape"):
            return {}
        if not all(axis.HasField("dim_value") for axis in kind.shape.dim):
            return {}
        dims = [axis.dim_value for axis in kind.shape.dim]
        if item_bytes(kind.elem_type) * prod(dims) > LARGEST:
            return {}
        made[name] = outline_of(name, kind.elem_type, dims)
    return made


def computed(
    node: NodeProto, opset: int, inputs: Mapping[str, np.ndarray]
) -> dict[str, np.ndarray]:
    """What a node gives; empty where the reference implementation cannot say."""
    names = [name for name in node.output if name]
    graph = helper.make_graph(
        [node],
        "constants",
        [
            helper.make_tensor_value_info(
                name, helper.np_dtype_to_tensor_dtype(array.dtype), array.shape
            )
            for name, array in inputs.items()
        ],
        [ValueInfoProto(name=name) for name in names],
    )
    imports = [helper.make_opsetid("", opset)]
    model = helper.make_model(graph, opset_imports=imports, ir_version=_IR_VERSION)
    try:
        with np.errstate(all="ignore"):
            found = ReferenceEvaluator(model).run(None, dict(inputs))
    except Exception:  # several unrelated types
        return {}
    # Of a Transpose, it gives a view.
    return {name: np.asarray(values, order="C") for name, values in zip(names, found, strict=True)}


def is_small(tensor: TensorProto) -> bool:
    """Whether a tensor is small enough to be looked at whenever a shape may depend on it."""
    return prod(tensor.dims) <= _FEW


def item_bytes(element_type: int) -> int:
    """Bytes of one stored number; of those that share a byte, one."""
    return int(np.dtype(helper.tensor_dtype_to_np_dtype(element_type)).itemsize)
