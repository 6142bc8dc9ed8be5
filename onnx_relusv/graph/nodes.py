"""Reads single nodes: which linear map, bias, normalisation or activation a node is.

`view` is the graph as onnx-graphsurgeon sees it, checked against the file before anything relies on
it. Every reader answers None, or raises `Refused`, for what it does not fully understand. `Folding`
is the one linear map that a block's nodes compute: a BatchNormalization is y -> (y - mean) * scale
+ shift with scale = gamma / sqrt(var + epsilon), so a row of the weight is multiplied by its
channel's scale and the bias follows suit.
"""

import logging
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_graphsurgeon as gs
from onnx import AttributeProto, GraphProto, NodeProto, TensorProto, helper
from onnx_graphsurgeon.exporters.onnx_exporter import OnnxExporter
from onnx_graphsurgeon.logger import G_LOGGER

from onnx_relusv.core.blocks import Activation, Block, Floats, Geometry, LinearMap
from onnx_relusv.core.errors import InputError
from onnx_relusv.core.kinds import LINEAR_OPERATORS, Refused, kind_of
from onnx_relusv.core.linear_algebra import problem_of
from onnx_relusv.graph.constants import Constants
from onnx_relusv.graph.model import Model, all_tensors
from onnx_relusv.graph.protos import initialized, known_constant, node_label, operators

# Its notes on colours and default opsets are no news to our users; its errors are raised.
G_LOGGER.severity = G_LOGGER.CRITICAL
logging.getLogger("onnx_graphsurgeon").setLevel(logging.CRITICAL)

Shape = tuple[int, ...]

_TYPES = (AttributeProto.TYPE_PROTO, AttributeProto.TYPE_PROTOS)
_LISTS = (AttributeProto.INTS, AttributeProto.FLOATS, AttributeProto.STRINGS)

FLOAT_TYPES = (
    TensorProto.FLOAT,
    TensorProto.FLOAT16,
    TensorProto.BFLOAT16,
    TensorProto.DOUBLE,
)
# Operators that multiply with a weight and that are refused by name; `core/kinds` has the others.
OTHER_WEIGHTED_OPERATORS = operators(
    "ConvInteger ConvTranspose DeformConv Einsum FusedConv FusedGemm FusedMatMul GRU LSTM "
    "MatMulInteger MatMulNBits QLinearConv QLinearMatMul RNN"
)


@dataclass(frozen=True, eq=False)
class View:
    """A graphsurgeon graph whose node i is node i of the file.

    Attributes:
        graph: The graph; its tensors know their producers and users, inside bodies of If, Loop
            and Scan nodes too.
        outputs: Names of the graph's outputs.
        index: Position of every node of the main graph by its id().
    """

    graph: gs.Graph
    outputs: frozenset[str]
    index: dict[int, int]


def view(model: Model) -> View:
    """Imports a model and compares the import node by node with the file.

    Raises:
        InputError: graphsurgeon does not see what the file says.
    """
    try:
        graph = gs.import_onnx(model.proto)
    except Exception as error:  # it lets those of the decoders below it through
        raise InputError(
            f"{model.name}: onnx-graphsurgeon cannot import it ({error}), "
            "so this model is not touched."
        ) from error
    _drop_empty_lists(graph)
    # An export writes names into the very tensors of the file, and empty ones where it has none.
    unnamed = [t for t in all_tensors(model.proto.graph) if not t.HasField("name")]
    try:
        pairs = zip(graph.nodes, model.proto.graph.node, strict=True)
        for index, (node, original) in enumerate(pairs):
            # A Constant, some of whose kinds of values it does not know, is copied from the file.
            if original.op_type != "Constant" and not _survives(node, original):
                name = original.name or f"number {index}"
                raise InputError(
                    f"{model.name}: node {name} ({original.op_type}) does not survive an import by "
                    "onnx-graphsurgeon unchanged, so this model is not touched."
                )
    finally:
        for tensor in unnamed:
            tensor.ClearField("name")
    indices = {id(node): index for index, node in enumerate(graph.nodes)}
    return View(graph, frozenset(model.output_names), indices)


def _survives(node: gs.Node, original: NodeProto) -> bool:
    try:
        exported = OnnxExporter.export_node(node)
    except Exception:  # whatever it cannot write, it does not keep
        return False
    return same_node(exported, original)


def _drop_empty_lists(graph: gs.Graph) -> None:
    """Takes away attributes without values, which graphsurgeon imports but cannot export."""
    for node in graph.nodes:
        for name, value in list(node.attrs.items()):
            if isinstance(value, list) and not value:
                del node.attrs[name]
            elif isinstance(value, gs.Graph):
                _drop_empty_lists(value)


def same_node(exported: NodeProto, original: NodeProto) -> bool:
    """Whether two nodes mean the same.

    Names, doc strings, the order of attributes and attributes that are empty lists mean nothing.
    Types, such as that of an Optional's value, graphsurgeon drops; a node that has one is none of a
    block's, and stands in a written file as it did.
    """
    return (
        exported.op_type == original.op_type
        and exported.domain == original.domain
        and list(exported.input) == list(original.input)
        and list(exported.output) == list(original.output)
        and _meanings(exported) == _meanings(original)
    )


def _meanings(node: NodeProto) -> dict[str, object]:
    kept = (each for each in node.attribute if each.type not in _TYPES)
    return {
        each.name: _meaning(each)
        for each in kept
        if each.type not in _LISTS or helper.get_attribute_value(each)
    }


def _meaning(attribute: AttributeProto) -> object:
    """An attribute without what the import is free to rearrange inside a body."""
    if attribute.type == AttributeProto.GRAPH:
        return [
            (node.op_type, node.domain, tuple(node.input), tuple(node.output))
            for node in attribute.g.node
        ]
    if attribute.type == AttributeProto.TENSOR:
        return attribute.t.data_type, tuple(attribute.t.dims)
    plain = AttributeProto()
    plain.CopyFrom(attribute)
    plain.ClearField("doc_string")
    return plain.SerializeToString(deterministic=True)


def is_standard(node: gs.Node | NodeProto) -> bool:
    """Whether a node's operator is from the default operator set."""
    return node.domain in (None, "", "ai.onnx")


def linear_geometry(
    node: gs.Node, weight: np.ndarray, source_rank: int, constants: Constants
) -> Geometry:
    """The geometry of one of `LINEAR_OPERATORS` with a constant weight.

    Raises:
        Refused: With the reason.
    """
    kind = LINEAR_OPERATORS[node.op]
    geometry = kind.read(node.attrs, weight.shape, source_rank)
    if has_input(node, 2):
        bias = constants.array(node.inputs[2].name)
        if bias is None:
            raise Refused(constants.why_not(node.inputs[2].name, "bias"))
        if not np.isfinite(bias).all():
            raise Refused("its bias contains NaN or infinite values")
        if kind.bias(bias, node.attrs, geometry.out_channels) is None:
            raise Refused(f"its bias of shape {bias.shape} depends on the sample")
    return geometry


def has_input(node: gs.Node | NodeProto, slot: int) -> bool:
    """Whether an optional input is there."""
    if isinstance(node, NodeProto):
        return len(node.input) > slot and node.input[slot] != ""
    return len(node.inputs) > slot and not node.inputs[slot].is_empty()


def node_attributes(node: NodeProto) -> dict[str, Any]:
    """A node's attributes by name, as Python values; texts are bytes."""
    return {each.name: helper.get_attribute_value(each) for each in node.attribute}


def attribute(node: NodeProto, name: str, default: Any = None) -> Any:
    """An attribute's value."""
    values = (helper.get_attribute_value(each) for each in node.attribute if each.name == name)
    return next(values, default)


def whole(node: NodeProto, name: str, default: int) -> int:
    """A whole number among the attributes."""
    return int(attribute(node, name, default))


def wholes(node: NodeProto, name: str) -> list[int] | None:
    """Whole numbers among the attributes; None where there are none."""
    value = attribute(node, name)
    return None if value is None else [int(each) for each in value]


def added_bias(values: np.ndarray, geometry: Geometry, rank: int) -> np.ndarray | None:
    """What an Add of a constant adds to every output channel, as (out,), or None if it does not.

    A constant of shape (C,) behind a Conv broadcasts over the last spatial axis, whatever its
    length: it is no bias of the channels.

    Args:
        values: The constant.
        geometry: Of the linear map in front.
        rank: Axes of the linear map's output.
    """
    if values.ndim > rank:
        return None
    if values.size == 1:
        return np.broadcast_to(values.reshape(()), (geometry.out_channels,))
    return per_channel(values, geometry, rank)


def per_channel(values: np.ndarray, geometry: Geometry, rank: int) -> np.ndarray | None:
    """A constant that broadcasts along the channel axis alone, as (out,), otherwise None."""
    shape = (1,) * (rank - values.ndim) + values.shape
    wanted = [1] * rank
    wanted[kind_of(geometry).channel_axis] = geometry.out_channels
    return values.reshape(-1) if list(shape) == wanted else None


def foldable_batch_normalization(
    node: gs.Node, geometry: Geometry, rank: int, constants: Constants
) -> bool:
    """Whether a BatchNormalization is a constant scale and shift of the block's channels."""
    if node.op != "BatchNormalization" or not is_standard(node):
        return False
    if node.attrs.get("training_mode", 0) or not node.attrs.get("spatial", 1):
        return False
    if len([output for output in node.outputs if not output.is_empty()]) != 1:
        return False
    if kind_of(geometry).channel_axis % rank != 1:
        # It normalises axis 1, which of a map's output need not be that of its channels.
        return False
    vectors = [constants.array(tensor.name) for tensor in node.inputs[1:5]]
    shape = (geometry.out_channels,)
    if any(v is None or v.shape != shape or not np.isfinite(v).all() for v in vectors):
        return False
    variance = np.asarray(vectors[3], np.float64)
    return bool(np.all(variance + node.attrs.get("epsilon", 1e-5) > 0))


def read_activation(
    node: gs.Node, geometry: Geometry, rank: int, constants: Constants
) -> Activation | None:
    """The activation that a node is, or None if it is none that we understand."""
    if not is_standard(node):
        return None
    if node.op == "Relu":
        return Activation(kind="relu", slopes=np.zeros(1))
    if node.op == "LeakyRelu":
        slope = np.array([float(node.attrs.get("alpha", 0.01))])
        return Activation(kind="leaky_relu", slopes=slope) if problem_of(slope) is None else None
    if node.op == "PRelu":
        slopes = constants.array(node.inputs[1].name)
        if slopes is None or problem_of(slopes) is not None:
            return None
        channels = slopes.reshape(-1) if slopes.size == 1 else per_channel(slopes, geometry, rank)
        if channels is None:
            return None
        return Activation(kind="prelu", slopes=channels.astype(np.float64))
    if node.op == "Clip":
        floor, ceiling = _clip_bounds(node, constants)
        if floor == 0 and ceiling is not None and ceiling > 0:
            return Activation(kind="clip", slopes=np.zeros(1), ceiling=ceiling)
    return None


def _clip_bounds(node: gs.Node, constants: Constants) -> tuple[float | None, float | None]:
    """A Clip's bounds, attributes before opset 11 and inputs since; None where not constant."""
    largest = float(np.finfo(np.float32).max)
    if "min" in node.attrs or "max" in node.attrs:
        return float(node.attrs.get("min", -largest)), float(node.attrs.get("max", largest))
    floor = constants.scalar(node.inputs[1].name) if has_input(node, 1) else -largest
    ceiling = constants.scalar(node.inputs[2].name) if has_input(node, 2) else largest
    return floor, ceiling


class Folding:
    """Reads the linear maps of a model's blocks, one at a time so that not all are in memory."""

    def __init__(self, model: Model) -> None:
        self._nodes = model.proto.graph.node
        self._constants = Constants(model)

    def __call__(self, block: Block) -> LinearMap:
        """The block's linear map in float64."""
        nodes = [self._nodes[index] for index in block.nodes]
        geometry, kind = block.geometry, kind_of(block.geometry)
        attributes = node_attributes(nodes[0])
        weight = kind.matrix(self._vector(nodes[0].input[1]), attributes)
        factor = kind.scale(attributes)
        # Of a large weight a copy is no small thing.
        weight = weight if factor == 1 else factor * weight
        bias = self._bias(nodes[0], geometry)
        for node in nodes[1:]:
            if node.op_type == "Add":
                bias = bias + self._added(node, block)
            elif node.op_type == "BatchNormalization":
                scale, shift = self._normalization(node)
                weight, bias = weight * scale[:, None], bias * scale + shift
        return LinearMap(weight.reshape(geometry.groups, geometry.rows, geometry.columns), bias)

    def largest(self, block: Block) -> float:
        """An upper bound of what the linear map's numbers reach; infinite or NaN where they do.

        The weight is read for its extremes, and not copied.
        """
        nodes = [self._nodes[index] for index in block.nodes]
        weight = self._array(nodes[0].input[1])
        factor = kind_of(block.geometry).scale(node_attributes(nodes[0]))
        scale = factor * np.ones(block.geometry.out_channels)
        bias = self._bias(nodes[0], block.geometry)
        # What leaves float64 is infinite or NaN, and the bound says so.
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
            for node in nodes[1:]:
                if node.op_type == "Add":
                    bias = bias + self._added(node, block)
                elif node.op_type == "BatchNormalization":
                    own, shift = self._normalization(node)
                    scale, bias = scale * own, bias * own + shift
            ends = max(abs(float(weight.min())), abs(float(weight.max())))
            return float(np.maximum(ends * np.abs(scale).max(), np.abs(bias).max()))

    def _bias(self, node: NodeProto, geometry: Geometry) -> Floats:
        """What a linear operator adds by itself, (out,)."""
        if not has_input(node, 2):
            return np.zeros(geometry.out_channels)
        values, attributes = self._vector(node.input[2]), node_attributes(node)
        constant = kind_of(geometry).bias(values, attributes, geometry.out_channels)
        assert constant is not None  # the block would have been refused
        return constant

    def _added(self, node: NodeProto, block: Block) -> Floats:
        # Of an Add's two inputs the constant one is the bias; the other is the chain.
        name = next(name for name in node.input if self._constants.tensor(name) is not None)
        values = added_bias(self._vector(name), block.geometry, len(block.output_shape))
        assert values is not None  # the Add would not be part of the block
        return values

    def _normalization(self, node: NodeProto) -> tuple[Floats, Floats]:
        gamma, beta, mean, variance = (self._vector(name) for name in node.input[1:5])
        scale = gamma / np.sqrt(variance + attribute(node, "epsilon", 1e-5))
        return scale, beta - mean * scale

    def _vector(self, name: str) -> Floats:
        return self._array(name).astype(np.float64)

    def _array(self, name: str) -> np.ndarray:
        return known_constant(self._constants.array(name), name)


# Linear layers that are computed with integers, and what makes floats of their weights.
_INTEGER_LAYERS = ("QLinearConv", "QLinearMatMul", "ConvInteger", "MatMulInteger", "QGemm")
_DEQUANTIZE = "DequantizeLinear"


def integer_layer(graph: GraphProto) -> str | None:
    """A linear layer that is computed with integers, as it is called in a message; None for none.

    One is also a layer of floats whose weight is made of integers that the file has.
    """
    stored = set(initialized(graph))
    weights = {
        node.output[0]
        for node in graph.node
        if node.op_type == _DEQUANTIZE and node.input[0] in stored
    }
    for node in graph.node:
        layer = node.op_type in LINEAR_OPERATORS and any(name in weights for name in node.input)
        if layer or node.op_type in _INTEGER_LAYERS:
            return node_label(node)
    return None
