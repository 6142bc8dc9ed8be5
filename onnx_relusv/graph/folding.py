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

    def largest(self, block: Block) -> float:
        """An upper bound of what the linear map's numbers reach; infinite or NaN where they do.

        The weight is read for its extremes, and not copied.
        """
        nodes = [self._nodes[index] for index in block.nodes]
        weight = self._array(nodes[0].input[1])
        scale = self._alpha(nodes[0]) * np.ones(block.geometry.out_channels)
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

    def _linear(self, node: NodeProto, geometry: Geometry) -> tuple[Floats, Floats]:
        weight, bias = self._array(node.input[1]).astype(np.float64), self._bias(node, geometry)
        if node.op_type == "Conv":
            return weight.reshape(geometry.out_channels, -1), bias
        if node.op_type == "MatMul" or not _attribute(node, "transB", 0):
            weight = weight.T
        alpha = self._alpha(node)
        # Of a large weight a copy is no small thing.
        return weight if alpha == 1 else alpha * weight, bias

    def _bias(self, node: NodeProto, geometry: Geometry) -> Floats:
        """What a linear operator adds by itself, (out,)."""
        if node.op_type == "MatMul" or len(node.input) < 3 or not node.input[2]:
            return np.zeros(geometry.out_channels)
        values = self._vector(node.input[2])
        if node.op_type == "Conv":
            return values
        constant = gemm_bias(values, geometry.out_channels)
        assert constant is not None  # the block would have been refused
        return float(_attribute(node, "beta", 1.0)) * constant

    def _alpha(self, node: NodeProto) -> float:
        return float(_attribute(node, "alpha", 1.0)) if node.op_type == "Gemm" else 1.0

    def _added(self, node: NodeProto, block: Block) -> Floats:
        # Of an Add's two inputs the constant one is the bias; the other is the chain.
        name = next(name for name in node.input if self._constants.tensor(name) is not None)
        values = added_bias(self._vector(name), block.geometry, len(block.output_shape))
        assert values is not None  # the Add would not be part of the block
        return values

    def _normalization(self, node: NodeProto) -> tuple[Floats, Floats]:
        gamma, beta, mean, variance = (self._vector(name) for name in node.input[1:5])
        scale = gamma / np.sqrt(variance + _attribute(node, "epsilon", 1e-5))
        return scale, beta - mean * scale

    def _vector(self, name: str) -> Floats:
        return self._array(name).astype(np.float64)

    def _array(self, name: str) -> np.ndarray:
        values = self._constants.array(name)
        assert values is not None  # only constants are folded
        return values


def _attribute(node: NodeProto, name: str, default: float) -> float:
    found = [helper.get_attribute_value(each) for each in node.attribute if each.name == name]
    return found[0] if found else default
