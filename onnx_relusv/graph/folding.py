"""The one linear map that a block's nodes compute: alpha, beta, biases and normalisation folded.

A BatchNormalization is y -> (y - mean) * scale + shift with scale = gamma / sqrt(var + epsilon), so
a row of the weight is multiplied by its channel's scale and the bias follows suit.
"""

import numpy as np
from onnx import NodeProto, helper

from onnx_relusv.graph.constants import Constants
from onnx_relusv.graph.model import Model
from onnx_relusv.graph.operators import added_bias, gemm_bias
from onnx_relusv.records import Block, Floats, Geometry, LinearMap


class Folding:
    """Reads the linear maps of a model's blocks, one at a time so that not all are in memory."""

    def __init__(self, model: Model) -> None:
        self._nodes = model.proto.graph.node
        self._constants = Constants(model)

    def __call__(self, block: Block) -> LinearMap:
        """The block's linear map in float64."""
        nodes = [self._nodes[index] for index in block.nodes]
        weight, bias = self._linear(nodes[0], block.geometry)
        for node in nodes[1:]:
            if node.op_type == "Add":
                bias = bias + self._added(node, block)
            elif node.op_type == "BatchNormalization":
                scale, shift = self._normalization(node)
                weight, bias = weight * scale[:, None], bias * scale + shift
        geometry = block.geometry
        return LinearMap(weight.reshape(geometry.groups, geometry.rows, geometry.columns), bias)

    def _linear(self, node: NodeProto, geometry: Geometry) -> tuple[Floats, Floats]:
        weight = self._vector(node.input[1])
        bias = np.zeros(geometry.out_channels)
        has_bias = len(node.input) > 2 and node.input[2] != ""
        if node.op_type == "Conv":
            weight = weight.reshape(geometry.out_channels, -1)
            return weight, self._vector(node.input[2]) if has_bias else bias
        if node.op_type == "MatMul":
            return weight.T, bias
        attributes = {a.name: helper.get_attribute_value(a) for a in node.attribute}
        weight = weight if attributes.get("transB", 0) else weight.T
        if has_bias:
            constant = gemm_bias(self._vector(node.input[2]), geometry.out_channels)
            assert constant is not None  # the block would have been refused
            bias = attributes.get("beta", 1.0) * constant
        return attributes.get("alpha", 1.0) * weight, bias

    def _added(self, node: NodeProto, block: Block) -> Floats:
        # Of an Add's two inputs the constant one is the bias; the other is the chain.
        name = next(name for name in node.input if self._constants.tensor(name) is not None)
        values = added_bias(self._vector(name), block.geometry, len(block.output_shape))
        assert values is not None  # the Add would not be part of the block
        return values

    def _normalization(self, node: NodeProto) -> tuple[Floats, Floats]:
        gamma, beta, mean, variance = (self._vector(name) for name in node.input[1:5])
        attributes = {a.name: helper.get_attribute_value(a) for a in node.attribute}
        scale = gamma / np.sqrt(variance + attributes.get("epsilon", 1e-5))
        return scale, beta - mean * scale

    def _vector(self, name: str) -> Floats:
        values = self._constants.array(name)
        assert values is not None  # only constants are folded
        return values.astype(np.float64)
