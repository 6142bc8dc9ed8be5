"""Rewrites blocks as double layers: graphsurgeon edits, the original file keeps everything else.

graphsurgeon's own export loses metadata, doc strings and value infos. So only its order of nodes
is used: nodes that were in the file are copied from the file, byte for byte, and new nodes and
initializers are put beside them.

A block by itself, as a model that reads the block's input and gives its output.

Dense, it consists of the block's own nodes and its activation; as a double layer, of the nodes that
surgery would put in their place. So each can be run, and timed, without the rest of the model.

Factors of any values: for the time that a double layer takes, values do not count.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

import numpy as np
import onnx_graphsurgeon as gs
from onnx import ModelProto, NodeProto, helper, numpy_helper
from onnx_graphsurgeon.exporters.onnx_exporter import OnnxExporter

from onnx_relusv.core.blocks import Block, Floats, Geometry, LinearMap, Runnable
from onnx_relusv.core.plans import Factors, Form
from onnx_relusv.graph.checks import PROVENANCE_KEY
from onnx_relusv.graph.model import Model
from onnx_relusv.graph.protos import FreshNames, set_metadata
from onnx_relusv.graph.reference import runnable
from onnx_relusv.graph.segments import segment
from onnx_relusv.graph.view import view
from onnx_relusv.graph.writing import transplant
from onnx_relusv.rewrites.low_rank import forms


@dataclass
class _DoubleLayer:
    """New nodes in their order and the constants that they bring along."""

    nodes: list[gs.Node]
    constants: list[gs.Constant]


class _Stored:
    """The constants of what replaces a block, and the Casts behind those that are stored narrow."""

    def __init__(self, block: Block, names: FreshNames) -> None:
        self._block, self._names = block, names
        self.constants: list[gs.Constant] = []
        self.casts: list[gs.Node] = []

    def weight(self, role: str, values: Floats) -> gs.Tensor:
        """A weight as its node reads it."""
        block = self._block
        stored = self._constant(role, values, block.weight_type)
        if block.weight_type == block.element_type:
            return stored
        read = gs.Variable(self._names(f"{block.key}/{role}_read"))
        self.casts.append(
            gs.Node(
                "Cast",
                self._names(f"{block.key}/{role}_cast"),
                attrs={"to": int(block.element_type)},
                inputs=[stored],
                outputs=[read],
            )
        )
        return read

    def bias(self, values: Floats) -> gs.Tensor:
        """A bias, in the type in which it is added."""
        return self._constant("bias", values, self._block.element_type)

    def _constant(self, role: str, values: Floats, element_type: int) -> gs.Constant:
        dtype = helper.tensor_dtype_to_np_dtype(element_type)
        stored = np.ascontiguousarray(values.astype(dtype))
        self.constants.append(gs.Constant(self._names(f"{self._block.key}/{role}"), stored))
        return self.constants[-1]


def rewrite(
    model: Model, blocks: Iterable[Block], factors: Mapping[str, Factors], provenance: str
) -> ModelProto:
    """Replaces blocks by double layers, or by themselves with other values.

    Args:
        model: The original; it is not changed.
        blocks: Its blocks.
        factors: By block key, what replaces it; blocks without an entry stay.
        provenance: Stored in the metadata under ``onnx_relusv``.

    Returns:
        The new model. Tensors that were external still point to the original's data.
    """
    graph = view(model).graph
    names = FreshNames(model.proto.graph)
    layers: dict[int, _DoubleLayer] = {}
    removed: set[int] = set()
    for block in blocks:
        if block.key in factors:
            removed.update(block.nodes)
            linear, own = graph.nodes[block.nodes[0]], factors[block.key]
            make = _dense_layer if own.form == "dense" else _double_layer
            layers[block.nodes[0]] = make(linear, block, own, names)
    nodes: list[NodeProto] = []
    for index, original in enumerate(model.proto.graph.node):
        if index in layers:
            nodes.extend(OnnxExporter.export_node(node) for node in layers[index].nodes)
        elif index not in removed:
            nodes.append(original)
    constants = [constant for layer in layers.values() for constant in layer.constants]
    added = [numpy_helper.from_array(constant.values, constant.name) for constant in constants]
    result = transplant(model.proto, nodes, added)
    set_metadata(result, PROVENANCE_KEY, provenance)
    return result


def _double_layer(
    linear: gs.Node, block: Block, factors: Factors, names: FreshNames
) -> _DoubleLayer:
    """The nodes that compute the pre-activation from the source in linear layers."""
    key, source = block.key, linear.inputs[0]
    stored = _Stored(block, names)

    def node(
        role: str, op: str, inputs: list[gs.Tensor], output: gs.Tensor, **attrs: object
    ) -> gs.Node:
        return gs.Node(op, names(f"{key}/{role}"), attrs=attrs, inputs=inputs, outputs=[output])

    inner = gs.Variable(names(f"{key}/inner"))
    output = gs.Variable(block.pre_activation)
    roles = ("first", "second") if factors.core is None else ("first", "core", "second")
    weights = [
        stored.weight(f"{role}_weight", weight)
        for role, weight in zip(roles, stored_weights(block, factors), strict=True)
    ]
    # A bias of nothing but zeros is left out, as in the original.
    bias = [stored.bias(factors.bias)] if np.any(factors.bias) else []
    if block.geometry.kind == "conv":
        layers = forms.conv_layers(factors.form, block.geometry)
        groups = block.geometry.groups
        between = [inner]
        if factors.core is not None:
            between.append(gs.Variable(names(f"{key}/core_inner")))
        nodes = [
            node(role, "Conv", [read, weight], made, **forms.conv_attributes(layer, groups))
            for role, read, weight, made, layer in zip(
                roles, [source, *between], weights, [*between, output], layers, strict=True
            )
        ]
        nodes[-1].inputs.extend(bias)
        return _DoubleLayer([*stored.casts, *nodes], stored.constants)
    first, second = weights
    # A MatMul takes inputs of any rank and needs no bias, which a Gemm does before opset 11.
    nodes = [node("first", "MatMul", [source, first], inner)]
    if block.geometry.kind == "gemm" and bias:
        nodes.append(node("second", "Gemm", [inner, second, *bias], output))
    elif bias:
        product = gs.Variable(names(f"{key}/product"))
        nodes.append(node("second", "MatMul", [inner, second], product))
        nodes.append(node("sum", "Add", [product, *bias], output))
    else:
        nodes.append(node("second", "MatMul", [inner, second], output))
    return _DoubleLayer([*stored.casts, *nodes], stored.constants)


def _dense_layer(
    linear: gs.Node, block: Block, factors: Factors, names: FreshNames
) -> _DoubleLayer:
    """The block's linear map with other values; what was folded into it is gone."""
    stored = _Stored(block, names)
    attributes = {k: value for k, value in linear.attrs.items() if k not in ("alpha", "beta")}
    matrix = factors.first
    if block.geometry.kind == "conv":
        channels = block.geometry.in_channels // block.geometry.groups
        shape = (block.geometry.out_channels, channels, *block.geometry.kernel)
        weight = stored.weight("weight", matrix.reshape(shape))
    else:
        transposed = attributes.get("transB", 0)
        weight = stored.weight("weight", matrix[0] if transposed else matrix[0].T)
    output = gs.Variable(block.pre_activation)
    inputs = [linear.inputs[0], weight]
    # Before opset 11 a Gemm has to have a bias.
    needed = np.any(factors.bias) or linear.op == "Gemm"
    bias = [stored.bias(factors.bias)] if needed else []
    if linear.op == "MatMul" and bias:
        product = gs.Variable(names(f"{block.key}/product"))
        made = gs.Node("MatMul", linear.name, inputs=inputs, outputs=[product])
        added = gs.Node("Add", names(f"{block.key}/sum"), inputs=[product, *bias], outputs=[output])
        return _DoubleLayer([*stored.casts, made, added], stored.constants)
    made = gs.Node(
        linear.op, linear.name, attrs=attributes, inputs=[*inputs, *bias], outputs=[output]
    )
    return _DoubleLayer([*stored.casts, made], stored.constants)


def stored_weights(block: Block, factors: Factors) -> tuple[Floats, ...]:
    """The factors in the shapes in which their nodes read them."""
    geometry, rank = block.geometry, factors.rank
    if geometry.kind != "conv":
        return factors.first[0].T, factors.second[0].T
    layers = forms.conv_layers(factors.form, geometry)
    if factors.form == "spatial":
        kernel = factors.first.reshape(geometry.groups * rank, -1, *layers[0].kernel)
        # Rows of the spatial form's second factor are (output channel, kernel column).
        split = factors.second.reshape(geometry.out_channels, geometry.kernel[1], rank)
        return kernel, split.transpose(0, 2, 1)[:, :, None, :]
    return tuple(
        matrix.reshape(geometry.groups * matrix.shape[1], -1, *layer.kernel)
        for matrix, layer in zip(factors.matrices, layers, strict=True)
    )


@dataclass(frozen=True, eq=False)
class Isolated:
    """A block by itself; made by `isolated`.

    Attributes:
        model: The block's nodes as a model, which knows where the original's data lies.
        block: The block, its nodes numbered as in that model.
    """

    model: Model
    block: Block

    def dense(self) -> Runnable:
        """The block as it is."""
        return runnable(self.model)

    def double_layer(self, factors: Factors) -> Runnable:
        """The block with a double layer in its place."""
        proto = rewrite(self.model, [self.block], {self.block.key: factors}, "")
        return runnable(self.model, proto)


def isolated(model: Model, block: Block, example: np.ndarray) -> Isolated:
    """Takes a block out of its model.

    Args:
        model: The model.
        block: One of its blocks.
        example: A value of the block's input, whose type and rank count.
    """
    part = segment(model, model.proto, {block.source: example}, [block.key])
    proto = ModelProto.FromString(part.model)
    original = model.proto.graph.node
    made = proto.graph.node
    places = {name: index for index, node in enumerate(made) for name in node.output}
    nodes = tuple(places[original[index].output[0]] for index in block.nodes)
    return Isolated(replace(model, proto=proto), replace(block, nodes=nodes))


def stand_in(
    form: Form, geometry: Geometry, linear: LinearMap, rank: int, rng: np.random.Generator
) -> Factors:
    """Random factors about as large as their block, so that nothing overflows or fades away.

    Args:
        form: The form.
        geometry: The block's geometry.
        linear: Its linear map, whose Frobenius norm the factors have together, on average.
        rank: Inner width, per group.
        rng: Draws the factors.

    Returns:
        Factors whose `level`, which is not computed, is 1. Their bias is nowhere zero, since a
        fitted one hardly ever is.
    """
    norm = float(np.linalg.norm(linear.weight))
    drawn = []
    for rows, columns in forms.shapes(form, geometry, rank):
        drawn.append(rng.standard_normal((geometry.groups, rows, columns)) / np.sqrt(columns))
    drawn[-1] *= norm / np.sqrt(geometry.groups * drawn[-1].shape[1])
    bias = np.where(linear.bias == 0, 1e-3, linear.bias)
    return Factors(form=form, rank=rank, matrices=tuple(drawn), bias=bias)
