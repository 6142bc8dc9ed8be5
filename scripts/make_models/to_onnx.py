"""Translates a trained network into an ONNX model, one module at a time."""

from collections.abc import Callable

import numpy as np
import onnx
from networks import CLASS_COUNT, Add, Normalise
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, fx, nn

OPSET = 17
IR_VERSION = 8
PRODUCER = "onnx-relusv scripts/make_models"
INPUT_NAME = "image"
OUTPUT_NAME = "logits"


class _ModuleTracer(fx.Tracer):
    """Traces down to the modules that `_TRANSLATIONS` knows, and no deeper."""

    def is_leaf_module(self, module: nn.Module, module_qualified_name: str) -> bool:
        return type(module) in _TRANSLATIONS


class _GraphBuilder:
    """Collects the nodes and initialisers of an ONNX graph.

    Every node has one output, which bears the node's name.
    """

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.initialisers: list[onnx.TensorProto] = []

    def initialiser(self, name: str, value: Tensor) -> str:
        """Adds a constant and returns its name."""
        array = np.ascontiguousarray(value.detach().numpy())
        self.initialisers.append(numpy_helper.from_array(array, name))
        return name

    def node(
        self, operator: str, inputs: list[str], name: str, **attributes: int | float | list[int]
    ) -> str:
        """Adds a node and returns the name of its output."""
        self.nodes.append(helper.make_node(operator, inputs, [name], name, **attributes))
        return name


def _normalise(builder: _GraphBuilder, module: Normalise, name: str, inputs: list[str]) -> str:
    mean = builder.initialiser(f"{name}_mean", module.mean)
    deviation = builder.initialiser(f"{name}_deviation", module.deviation)
    centred = builder.node("Sub", [*inputs, mean], f"{name}_sub")
    return builder.node("Div", [centred, deviation], f"{name}_div")


def _weight_and_bias(builder: _GraphBuilder, module: nn.Linear | nn.Conv2d, name: str) -> list[str]:
    """Adds a layer's weight, and its bias if it has one."""
    names = [builder.initialiser(f"{name}_weight", module.weight)]
    if module.bias is not None:
        names.append(builder.initialiser(f"{name}_bias", module.bias))
    return names


def _linear(builder: _GraphBuilder, module: nn.Linear, name: str, inputs: list[str]) -> str:
    # torch keeps a weight as (outputs, inputs), hence transB.
    operands = [*inputs, *_weight_and_bias(builder, module, name)]
    return builder.node("Gemm", operands, name, transB=1)


def _convolution(builder: _GraphBuilder, module: nn.Conv2d, name: str, inputs: list[str]) -> str:
    operands = [*inputs, *_weight_and_bias(builder, module, name)]
    return builder.node(
        "Conv",
        operands,
        name,
        kernel_shape=list(module.kernel_size),
        strides=list(module.stride),
        # ONNX wants the padding before all axes, then the padding after all axes.
        pads=list(module.padding) * 2,
    )


def _batch_normalisation(
    builder: _GraphBuilder, module: nn.BatchNorm1d | nn.BatchNorm2d, name: str, inputs: list[str]
) -> str:
    operands = [
        *inputs,
        builder.initialiser(f"{name}_scale", module.weight),
        builder.initialiser(f"{name}_bias", module.bias),
        builder.initialiser(f"{name}_mean", module.running_mean),
        builder.initialiser(f"{name}_variance", module.running_var),
    ]
    return builder.node("BatchNormalization", operands, name, epsilon=module.eps)


def _relu(builder: _GraphBuilder, module: nn.ReLU, name: str, inputs: list[str]) -> str:
    return builder.node("Relu", inputs, name)


def _max_pool(builder: _GraphBuilder, module: nn.MaxPool2d, name: str, inputs: list[str]) -> str:
    size = [module.kernel_size, module.kernel_size]
    return builder.node("MaxPool", inputs, name, kernel_shape=size, strides=size)


def _average_pool(
    builder: _GraphBuilder, module: nn.AdaptiveAvgPool2d, name: str, inputs: list[str]
) -> str:
    return builder.node("GlobalAveragePool", inputs, name)


def _flatten(builder: _GraphBuilder, module: nn.Flatten, name: str, inputs: list[str]) -> str:
    return builder.node("Flatten", inputs, name, axis=1)


def _add(builder: _GraphBuilder, module: Add, name: str, inputs: list[str]) -> str:
    return builder.node("Add", inputs, name)


def _dropout(builder: _GraphBuilder, module: nn.Dropout, name: str, inputs: list[str]) -> str:
    # Outside training, dropout passes its input on.
    return inputs[0]


# Each translator takes the builder, the module, its name and the names of its input tensors, adds
# nodes, and returns the name of the module's output tensor.
_TRANSLATIONS: dict[type[nn.Module], Callable[..., str]] = {
    Normalise: _normalise,
    nn.Linear: _linear,
    nn.Conv2d: _convolution,
    nn.BatchNorm1d: _batch_normalisation,
    nn.BatchNorm2d: _batch_normalisation,
    nn.ReLU: _relu,
    nn.MaxPool2d: _max_pool,
    nn.AdaptiveAvgPool2d: _average_pool,
    nn.Flatten: _flatten,
    Add: _add,
    nn.Dropout: _dropout,
}


def to_onnx(network: nn.Module, name: str) -> onnx.ModelProto:
    """Builds the ONNX model of a trained network.

    Args:
        network: a network made of the modules that `_TRANSLATIONS` lists.
        name: the name of the graph.

    Returns:
        The model, with a dynamic batch axis, checked by `onnx.checker`.
    """
    builder = _GraphBuilder()
    tensor_names: dict[fx.Node, str] = {}
    for node in _ModuleTracer().trace(network).nodes:
        if node.op == "placeholder":
            tensor_names[node] = INPUT_NAME
        elif node.op == "call_module":
            module = network.get_submodule(node.target)
            inputs = [tensor_names[source] for source in node.args]
            onnx_name = node.target.replace(".", "_")
            tensor_names[node] = _TRANSLATIONS[type(module)](builder, module, onnx_name, inputs)
        elif node.op != "output":
            raise ValueError(f"{name}: {node.op} {node.target} is no module: cannot translate it")
    # The last module's tensor is the model's output.
    builder.nodes[-1].output[0] = OUTPUT_NAME
    image = helper.make_tensor_value_info(INPUT_NAME, TensorProto.FLOAT, ["batch", 1, 28, 28])
    logits = helper.make_tensor_value_info(OUTPUT_NAME, TensorProto.FLOAT, ["batch", CLASS_COUNT])
    graph = helper.make_graph(builder.nodes, name, [image], [logits], builder.initialisers)
    model = helper.make_model(
        graph,
        producer_name=PRODUCER,
        ir_version=IR_VERSION,
        opset_imports=[helper.make_opsetid("", OPSET)],
    )
    onnx.checker.check_model(model, full_check=True)
    return model
