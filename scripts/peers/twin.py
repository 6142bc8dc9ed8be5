"""A torch module that computes what an ONNX classifier does, and the way back into ONNX.

Only the operators of the benchmark's networks are known. Every node becomes a submodule with the
name of its output, so that a tool may replace a Conv or a Gemm by a chain of them.
"""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch
from onnx import helper, numpy_helper
from torch import fx, nn

# What the two runtimes' different order of summing explains, relative to the largest answer.
_TOLERANCE = 1e-4

Constants = Mapping[str, np.ndarray]


class Subtract(nn.Module):
    """Subtracts a constant."""

    def __init__(self, value: torch.Tensor) -> None:
        super().__init__()
        self.register_buffer("value", value)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Returns the difference."""
        return features - self.value


class Divide(nn.Module):
    """Divides by a constant."""

    def __init__(self, value: torch.Tensor) -> None:
        super().__init__()
        self.register_buffer("value", value)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Returns the quotient."""
        return features / self.value


class Add(nn.Module):
    """Adds two tensors."""

    def forward(self, left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
        """Returns the sum."""
        return left + right


def duplicate(model: onnx.ModelProto, images: np.ndarray) -> fx.GraphModule:
    """Builds the module and checks its answers.

    Args:
        model: A classifier with one input and one output.
        images: float32, to check the answers on.

    Raises:
        AssertionError: It does not answer like onnxruntime on the images.
    """
    constants = _constants(model)
    root, graph = nn.Module(), fx.Graph()
    values = {model.graph.input[0].name: graph.placeholder("image")}
    for node in model.graph.node:
        (output,) = node.output
        root.add_module(output, _MODULES[node.op_type](node, constants))
        sources = tuple(values[name] for name in node.input if name not in constants)
        values[output] = graph.call_module(output, sources)
    graph.output(values[model.graph.output[0].name])
    built = fx.GraphModule(root, graph).eval()
    _check(built, model, images)
    return built


def to_onnx(module: nn.Module, source: onnx.ModelProto) -> onnx.ModelProto:
    """Writes the layers of a module that was made from `source` into a copy of it.

    A Conv2d or Linear may have become a chain of several, and any width may have changed.
    """
    model = onnx.ModelProto()
    model.CopyFrom(source)
    constants = _constants(source)
    nodes: list[onnx.NodeProto] = []
    weights: dict[str, np.ndarray] = {}
    for node in source.graph.node:
        (output,) = node.output
        layer = module.get_submodule(output)
        if node.op_type in ("Conv", "Gemm"):
            nodes += _chain(layer, node, weights)
            continue
        kept = onnx.NodeProto()
        kept.CopyFrom(node)
        nodes.append(kept)
        weights |= {name: constants[name] for name in node.input if name in constants}
        if isinstance(layer, nn.BatchNorm2d):
            found = (layer.weight, layer.bias, layer.running_mean, layer.running_var)
            weights |= {
                name: _array(value) for name, value in zip(node.input[1:], found, strict=True)
            }
    del model.graph.node[:], model.graph.initializer[:], model.graph.value_info[:]
    model.graph.node.extend(nodes)
    model.graph.initializer.extend(
        numpy_helper.from_array(value, name) for name, value in weights.items()
    )
    return model


def _chain(
    layer: nn.Module, node: onnx.NodeProto, weights: dict[str, np.ndarray]
) -> list[onnx.NodeProto]:
    """The nodes of one Conv or Gemm, or of the chain that took its place."""
    parts = [part for part in layer.modules() if isinstance(part, nn.Conv2d | nn.Linear)]
    (output,) = node.output
    names = [f"{output}_part{number}" for number in range(1, len(parts))] + [output]
    nodes, source = [], node.input[0]
    for part, name in zip(parts, names, strict=True):
        inputs = [source, f"{name}_weight"]
        weights[inputs[1]] = _array(part.weight)
        if part.bias is not None:
            inputs.append(f"{name}_bias")
            weights[inputs[2]] = _array(part.bias)
        nodes.append(helper.make_node(node.op_type, inputs, [name], name, **_attributes(part)))
        source = name
    return nodes


def _attributes(part: nn.Conv2d | nn.Linear) -> dict[str, Any]:
    if isinstance(part, nn.Linear):
        return {"transB": 1}
    return {
        "kernel_shape": list(part.kernel_size),
        "strides": list(part.stride),
        # ONNX wants the padding before all axes, then that after all axes.
        "pads": [int(width) for width in part.padding] * 2,
    }


def _constants(model: onnx.ModelProto) -> Constants:
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}


def _array(value: torch.Tensor | None) -> np.ndarray:
    assert value is not None
    return np.ascontiguousarray(value.detach().numpy())


def _tensor(value: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(value.copy())


def _settings(node: onnx.NodeProto) -> dict[str, Any]:
    return {given.name: helper.get_attribute_value(given) for given in node.attribute}


def _padding(settings: Mapping[str, Any]) -> tuple[int, int]:
    before_rows, before_columns, after_rows, after_columns = settings.get("pads", [0] * 4)
    assert (before_rows, before_columns) == (after_rows, after_columns)
    return before_rows, before_columns


def _convolution(node: onnx.NodeProto, constants: Constants) -> nn.Module:
    settings = _settings(node)
    weight, *bias = (constants[name] for name in node.input[1:])
    assert settings.get("group", 1) == 1
    assert set(settings.get("dilations", [1])) == {1}
    layer = nn.Conv2d(
        weight.shape[1],
        weight.shape[0],
        weight.shape[2:],
        tuple(settings["strides"]),
        _padding(settings),
        bias=bool(bias),
    )
    return _filled(layer, weight, bias)


def _linear(node: onnx.NodeProto, constants: Constants) -> nn.Module:
    settings = _settings(node)
    weight, *bias = (constants[name] for name in node.input[1:])
    assert set(settings) <= {"transB"}
    weight = weight if settings.get("transB", 0) else weight.T
    return _filled(nn.Linear(weight.shape[1], weight.shape[0], bias=bool(bias)), weight, bias)


def _filled(layer: nn.Conv2d | nn.Linear, weight: np.ndarray, bias: list[np.ndarray]) -> nn.Module:
    layer.weight.data = _tensor(weight)
    if bias:
        assert layer.bias is not None
        layer.bias.data = _tensor(bias[0])
    return layer


def _batch_normalisation(node: onnx.NodeProto, constants: Constants) -> nn.Module:
    scale, bias, mean, variance = (_tensor(constants[name]) for name in node.input[1:])
    layer = nn.BatchNorm2d(len(scale), eps=_settings(node)["epsilon"])
    layer.weight.data, layer.bias.data = scale, bias
    layer.running_mean, layer.running_var = mean, variance
    return layer


def _max_pool(node: onnx.NodeProto, constants: Constants) -> nn.Module:
    settings = _settings(node)
    strides = tuple(settings["strides"])
    return nn.MaxPool2d(tuple(settings["kernel_shape"]), strides, _padding(settings))


_MODULES: dict[str, Callable[[onnx.NodeProto, Constants], nn.Module]] = {
    "Conv": _convolution,
    "Gemm": _linear,
    "BatchNormalization": _batch_normalisation,
    "MaxPool": _max_pool,
    "Relu": lambda node, constants: nn.ReLU(),
    "GlobalAveragePool": lambda node, constants: nn.AdaptiveAvgPool2d(1),
    "Flatten": lambda node, constants: nn.Flatten(),
    "Add": lambda node, constants: Add(),
    "Sub": lambda node, constants: Subtract(_tensor(constants[node.input[1]])),
    "Div": lambda node, constants: Divide(_tensor(constants[node.input[1]])),
}


def _check(module: nn.Module, model: onnx.ModelProto, images: np.ndarray) -> None:
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    exact = session.run(None, {model.graph.input[0].name: images})[0]
    with torch.no_grad():
        found = module(torch.from_numpy(images)).numpy()
    assert np.abs(found - exact).max() <= _TOLERANCE * np.abs(exact).max()
    again = onnxruntime.InferenceSession(
        to_onnx(module, model).SerializeToString(), providers=["CPUExecutionProvider"]
    ).run(None, {model.graph.input[0].name: images})[0]
    assert np.abs(again - exact).max() <= _TOLERANCE * np.abs(exact).max()
