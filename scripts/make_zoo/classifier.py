"""What the models made here have in common: classifiers of images, as ONNX files."""

from collections.abc import Sequence

import onnx
from onnx import TensorProto, helper

INPUT_NAME = "image"

_OPSET = 17
_IR_VERSION = 8
_PRODUCER = "onnx-relusv scripts/make_zoo"


def classifier(
    name: str,
    nodes: Sequence[onnx.NodeProto],
    weights: Sequence[onnx.TensorProto],
    *,
    image_shape: Sequence[int],
    classes: int,
) -> onnx.ModelProto:
    """Builds and checks a model of any batch size.

    Args:
        name: The graph's.
        nodes: In topological order; the first ones read `image`. The last one's only output is
            the model's, by its own name.
        weights: What the nodes read besides.
        image_shape: (channels, rows, columns).
        classes: How many there are.

    Returns:
        The model: `image`, float32 (batch, channels, rows, columns), to float32 (batch, classes).
    """
    image = helper.make_tensor_value_info(INPUT_NAME, TensorProto.FLOAT, ["batch", *image_shape])
    (output,) = nodes[-1].output
    scores = helper.make_tensor_value_info(output, TensorProto.FLOAT, ["batch", classes])
    model = helper.make_model(
        helper.make_graph(nodes, name, [image], [scores], weights),
        producer_name=_PRODUCER,
        ir_version=_IR_VERSION,
        opset_imports=[helper.make_opsetid("", _OPSET)],
    )
    onnx.checker.check_model(model, full_check=True)
    return model
