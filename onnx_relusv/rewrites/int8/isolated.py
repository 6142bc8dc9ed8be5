"""A block by itself on integers, and stand-ins for what is known once a network is fitted.

What a block's integer kernels take depends on what is around them: next to integer kernels they
read and write integers, and elsewhere floats become integers in front of them and floats again
behind them. For the time that all of it takes, numbers do not count.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from onnx import GraphProto, ModelProto, TensorProto, helper

from onnx_relusv.core.blocks import Block
from onnx_relusv.core.kinds import kind_of
from onnx_relusv.core.plans import Int8Format
from onnx_relusv.core.reduction import ActivationScale
from onnx_relusv.rewrites.int8.activations import (
    integers_around,
    quantized_pairs,
    quantized_tensors,
    with_quantized,
)

_RESULT = "onnx_relusv_result"


@dataclass(frozen=True)
class OnIntegers:
    """How a block is computed with integers, among its neighbours.

    Attributes:
        int8_format: What its layers read.
        before: Whether integer kernels make what it reads.
        behind: Whether integer kernels read what it makes.
    """

    int8_format: Int8Format
    before: bool
    behind: bool

    @classmethod
    def of(
        cls, proto: ModelProto, source: str, output: str, int8_format: Int8Format
    ) -> "OnIntegers":
        """Of a layer of a model of which some layers have 8-bit weights.

        Args:
            proto: The model.
            source: What the layer reads.
            output: What it makes, behind its activation.
            int8_format: What its layers read.
        """
        return cls(int8_format, *integers_around(proto, source, output))

    def alone(self, proto: ModelProto, block: Block) -> ModelProto:
        """A block by itself, which reads and writes integers where its neighbours do.

        Args:
            proto: The block with 8-bit weights, of any values; it is changed.
            block: The block.
        """
        tensors = list(quantized_tensors(proto))
        # A Conv always gives integers; a matrix, where integers are read.
        if self.behind or kind_of(block.geometry).spatial:
            tensors.append(block.key)
            proto.graph.node.append(helper.make_node("Identity", [block.key], [_RESULT]))
            proto.graph.output[0].name = _RESULT
        quantized = with_quantized(proto, stand_in_scales(tensors, self.int8_format))
        if self.before:
            _read_integers(quantized.graph, block.source, self._element_type)
        if self.behind:
            _write_integers(quantized.graph, block.key, self._element_type)
        return quantized

    def given(self, source: np.ndarray) -> np.ndarray:
        """What the block alone reads, of the shape of what it reads as it is."""
        integers = helper.tensor_dtype_to_np_dtype(self._element_type)
        return source.astype(integers) if self.before else source

    @property
    def _element_type(self) -> int:
        return int(TensorProto.INT8 if self.int8_format == "s8s8" else TensorProto.UINT8)


def stand_in_scales(tensors: Iterable[str], int8_format: Int8Format) -> dict[str, ActivationScale]:
    """Scales of any values, of tensors that begin at 0, so that activations go into kernels."""
    signed = int8_format == "s8s8"
    return {name: ActivationScale(float(at), 0, signed) for at, name in enumerate(tensors, 1)}


def with_stand_ins(proto: ModelProto, int8_format: Int8Format) -> ModelProto:
    """A model with 8-bit weights, and such scales, the same for tensors that share one."""
    tensors = quantized_tensors(proto)
    own = stand_in_scales(dict.fromkeys(tensors.values()), int8_format)
    return with_quantized(proto, {name: own[shared] for name, shared in tensors.items()})


def _read_integers(graph: GraphProto, source: str, element_type: int) -> None:
    """The caller gives the integers of the input."""
    quantize = next(q for q, _ in quantized_pairs(graph).values() if q.input[0] == source)
    graph.input[0].name = quantize.output[0]
    graph.input[0].type.tensor_type.elem_type = element_type
    graph.node.remove(quantize)


def _write_integers(graph: GraphProto, output: str, element_type: int) -> None:
    """The caller gets the integers of the output."""
    found = next(pair for pair in quantized_pairs(graph).values() if pair[0].input[0] == output)
    graph.output[0].name = found[0].output[0]
    graph.output[0].type.tensor_type.elem_type = element_type
    for node in [found[1], *(n for n in graph.node if n.output[0] == _RESULT)]:
        graph.node.remove(node)
