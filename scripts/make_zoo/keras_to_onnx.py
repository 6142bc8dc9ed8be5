"""Translates a Keras classifier of images into an ONNX model.

Only the layers and settings of the networks that are translated; any other is refused by name.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
from classifier import INPUT_NAME, classifier
from keras_network import Config, KerasNetwork
from onnx import helper, numpy_helper


class _Graph:
    """Collects nodes and weights; every layer's tensor bears the layer's name.

    Attributes:
        nodes: In topological order.
        initialisers: The weights that the nodes read.
        tensors: What the consumers of a layer read, by the layer's name.
        pads: The zeros around it that they have to think of, by the layer's name.
        channels: How many its maps have, by the layer's name.
        flattened: The channels of the maps that a tensor holds as vectors, by the tensor's name.
    """

    def __init__(self, weights: dict[str, np.ndarray]) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.initialisers: list[onnx.TensorProto] = []
        self.tensors: dict[str, str] = {}
        self.pads: dict[str, list[int]] = {}
        self.channels: dict[str, int] = {}
        self.flattened: dict[str, int] = {}
        self._weights = weights

    def node(self, operator: str, inputs: list[str], output: str, **attributes: Any) -> str:
        """Adds a node and returns its output."""
        self.nodes.append(helper.make_node(operator, inputs, [output], output, **attributes))
        return output

    def weight(self, name: str, arrange: Callable[[np.ndarray], np.ndarray] = np.asarray) -> str:
        """Adds a weight, arranged as ONNX wants it, and returns its name."""
        value = np.ascontiguousarray(arrange(self._weights[name]))
        self.initialisers.append(numpy_helper.from_array(value, name))
        return name

    def activation(self, config: Config, linear: str) -> str:
        """Adds the activation that a layer has of its own and returns its output."""
        kind = config["activation"]
        if kind == "linear":
            return linear
        if kind == "relu":
            return self.node("Relu", [linear], f"{config['name']}_relu")
        if kind == "softmax":
            return self.node("Softmax", [linear], f"{config['name']}_softmax", axis=-1)
        raise ValueError(f"{config['name']}: cannot translate activation {kind!r}")


def _zero_padding(graph: _Graph, config: Config, sources: tuple[str, ...]) -> str:
    """No node of its own: the next layer pads its input itself."""
    (top, bottom), (left, right) = config["padding"]
    graph.pads[config["name"]] = [top, left, bottom, right]
    return graph.tensors[sources[0]]


def _convolution(graph: _Graph, config: Config, sources: tuple[str, ...]) -> str:
    _require(config, use_bias=True)
    if config.get("groups", 1) != 1:
        raise ValueError(f"{config['name']}: cannot translate {config['groups']} groups")
    name = config["name"]
    operands = [
        # Keras keeps (rows, columns, in, out), ONNX (out, in, rows, columns).
        graph.weight(f"{name}/kernel", lambda kernel: kernel.transpose(3, 2, 0, 1)),
        graph.weight(f"{name}/bias"),
    ]
    linear = graph.node(
        "Conv",
        [graph.tensors[sources[0]], *operands],
        name,
        kernel_shape=config["kernel_size"],
        strides=config["strides"],
        dilations=config["dilation_rate"],
        **_padding(graph, config, sources[0]),
    )
    return graph.activation(config, linear)


def _batch_normalisation(graph: _Graph, config: Config, sources: tuple[str, ...]) -> str:
    _require(config, axis=[3], center=True, scale=True)
    name = config["name"]
    vectors = ("gamma", "beta", "moving_mean", "moving_variance")
    return graph.node(
        "BatchNormalization",
        [graph.tensors[sources[0]], *(graph.weight(f"{name}/{vector}") for vector in vectors)],
        name,
        epsilon=config["epsilon"],
    )


def _activation(graph: _Graph, config: Config, sources: tuple[str, ...]) -> str:
    _require(config, activation="relu")
    return graph.node("Relu", [graph.tensors[sources[0]]], config["name"])


def _add(graph: _Graph, config: Config, sources: tuple[str, ...]) -> str:
    return graph.node("Add", [graph.tensors[source] for source in sources], config["name"])


def _max_pool(graph: _Graph, config: Config, sources: tuple[str, ...]) -> str:
    entering = graph.tensors[sources[0]]
    operators = {node.output[0]: node.op_type for node in graph.nodes}
    # Keras' zeros take part in the maximum, ONNX's pads do not: the same behind a Relu alone.
    if sources[0] in graph.pads and operators[entering] != "Relu":
        raise ValueError(f"{config['name']}: padded with zeros where values may be negative")
    return graph.node(
        "MaxPool",
        [entering],
        config["name"],
        kernel_shape=config["pool_size"],
        strides=config["strides"],
        **_padding(graph, config, sources[0]),
    )


def _average_pool(graph: _Graph, config: Config, sources: tuple[str, ...]) -> str:
    name = config["name"]
    pooled = graph.node("GlobalAveragePool", [graph.tensors[sources[0]]], f"{name}_map")
    return graph.node("Flatten", [pooled], name, axis=1)


def _flatten(graph: _Graph, config: Config, sources: tuple[str, ...]) -> str:
    output = graph.node("Flatten", [graph.tensors[sources[0]]], config["name"], axis=1)
    graph.flattened[output] = graph.channels[sources[0]]
    return output


def _dropout(graph: _Graph, config: Config, sources: tuple[str, ...]) -> str:
    """No node: what was trained drops nothing."""
    return graph.tensors[sources[0]]


def _dense(graph: _Graph, config: Config, sources: tuple[str, ...]) -> str:
    _require(config, use_bias=True)
    name, entering = config["name"], graph.tensors[sources[0]]
    channels = graph.flattened.get(entering, 1)

    def arranged(kernel: np.ndarray) -> np.ndarray:
        # Keras flattens maps as (positions, channels), ONNX as (channels, positions).
        rows = kernel.reshape(-1, channels, kernel.shape[1]).swapaxes(0, 1)
        return rows.reshape(kernel.shape)

    operands = [graph.weight(f"{name}/kernel", arranged), graph.weight(f"{name}/bias")]
    linear = graph.node("Gemm", [entering, *operands], name)
    return graph.activation(config, linear)


_TRANSLATIONS: dict[str, Callable[[_Graph, Config, tuple[str, ...]], str]] = {
    "ZeroPadding2D": _zero_padding,
    "Conv2D": _convolution,
    "BatchNormalization": _batch_normalisation,
    "Activation": _activation,
    "Add": _add,
    "MaxPooling2D": _max_pool,
    "GlobalAveragePooling2D": _average_pool,
    "Flatten": _flatten,
    "Dropout": _dropout,
    "Dense": _dense,
}
# Only these know in which order a flattened map is.
_READERS_OF_FLATTENED = ("Dropout", "Dense")


def _padding(graph: _Graph, config: Config, source: str) -> Config:
    """The attribute that pads as Keras does; its "same" is ONNX's SAME_UPPER."""
    around = graph.pads.get(source)
    if config["padding"] == "same" and around is None:
        return {"auto_pad": "SAME_UPPER"}
    if config["padding"] == "valid":
        return {"pads": around or [0, 0, 0, 0]}
    raise ValueError(f"{config['name']}: cannot translate padding {config['padding']!r}")


def _require(config: Config, **settings: Any) -> None:
    for setting, wanted in settings.items():
        if config[setting] != wanted:
            raise ValueError(f"{config['name']}: cannot translate {setting} {config[setting]!r}")


def keras_to_onnx(network: KerasNetwork, name: str) -> onnx.ModelProto:
    """Builds the ONNX model of a Keras classifier of images.

    Args:
        network: Its last layer is Dense.
        name: The name of the graph.

    Returns:
        The model, checked by `onnx.checker`: `image`, float32 (batch, channels, rows, columns), to
        float32 (batch, classes), `probabilities` behind a softmax and `logits` without.

    Raises:
        ValueError: A layer or a setting is not among those that can be translated.
    """
    graph = _Graph(network.weights)
    first, *layers = network.layers
    if first.kind != "InputLayer":
        raise ValueError(f"{first.config['name']}: the first layer is no InputLayer")
    _, rows, columns, channels = first.config["batch_input_shape"]
    graph.tensors[first.config["name"]] = INPUT_NAME
    graph.channels[first.config["name"]] = channels
    for layer in layers:
        config = layer.config
        if layer.kind not in _TRANSLATIONS:
            raise ValueError(f"{config['name']}: cannot translate {layer.kind}")
        if config.get("data_format", "channels_last") != "channels_last":
            raise ValueError(f"{config['name']}: cannot translate {config['data_format']}")
        entering = {graph.tensors[source] for source in layer.sources}
        if not entering.isdisjoint(graph.flattened) and layer.kind not in _READERS_OF_FLATTENED:
            raise ValueError(f"{config['name']}: cannot translate {layer.kind} of flattened maps")
        graph.tensors[config["name"]] = _TRANSLATIONS[layer.kind](graph, config, layer.sources)
        graph.channels[config["name"]] = config.get("filters", graph.channels[layer.sources[0]])
    # The last layer's tensor is the model's output.
    last = graph.nodes[-1]
    last.output[0] = "probabilities" if last.op_type == "Softmax" else "logits"
    return classifier(
        name,
        graph.nodes,
        graph.initialisers,
        image_shape=(channels, rows, columns),
        classes=network.layers[-1].config["units"],
    )
