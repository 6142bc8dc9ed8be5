"""Builds the network that recognises MNIST's digits from its weights."""

import numpy as np
import onnx
from classifier import INPUT_NAME, classifier
from onnx import helper, numpy_helper

_CONVOLUTIONS = ("conv_layers.0", "conv_layers.3", "conv_layers.6")
_HIDDEN, _LAST = "fc_layers.0", "fc_layers.2"


def digits_to_onnx(weights: dict[str, np.ndarray], name: str) -> onnx.ModelProto:
    """Builds the network: three times Conv, Relu and MaxPool, then Gemm, Relu and Gemm.

    Args:
        weights: The state dict.
        name: The name of the graph.

    Returns:
        The model: `image`, float32 (batch, 1, 28, 28), to `logits`, float32 (batch, 10).
    """
    nodes: list[onnx.NodeProto] = []

    def add(operator: str, entering: str, output: str, *operands: str, **attributes: object) -> str:
        inputs = [entering, *operands]
        nodes.append(helper.make_node(operator, inputs, [output], output, **attributes))
        return output

    def add_layer(
        operator: str, entering: str, output: str, stored: str, **attributes: object
    ) -> str:
        return add(operator, entering, output, f"{stored}.weight", f"{stored}.bias", **attributes)

    tensor = INPUT_NAME
    for number, stored in enumerate(_CONVOLUTIONS, start=1):
        tensor = add_layer("Conv", tensor, f"conv{number}", stored, pads=[1, 1, 1, 1])
        tensor = add("Relu", tensor, f"relu{number}")
        tensor = add("MaxPool", tensor, f"pool{number}", kernel_shape=[2, 2], strides=[2, 2])
    tensor = add("Flatten", tensor, "flatten")
    tensor = add_layer("Gemm", tensor, "fc1", _HIDDEN, transB=1)
    tensor = add("Relu", tensor, "fc1_relu")
    add_layer("Gemm", tensor, "logits", _LAST, transB=1)
    return classifier(
        name,
        nodes,
        [numpy_helper.from_array(weight, key) for key, weight in weights.items()],
        image_shape=(1, 28, 28),
        classes=len(weights[f"{_LAST}.bias"]),
    )
