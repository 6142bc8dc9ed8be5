"""Translates a Keras network, stored in the layers format of TensorFlow.js, into an ONNX model.

Only what ResNet-50 is made of; any other layer or setting is refused by name.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

OPSET = 17
IR_VERSION = 8
PRODUCER = "onnx-relusv scripts/make_zoo"
INPUT_NAME = "image"
OUTPUT_NAME = "probabilities"

Config = dict[str, Any]


class _Graph:
    """Collects nodes and weights; every layer's tensor bears the layer's name."""

    def __init__(self, weights: dict[str, np.ndarray]) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.initialisers: list[onnx.TensorProto] = []
        # What a layer's consumers read, and the zeros around it that they have to think of.
        self.tensors: dict[str, str] = {}
        self.pads: dict[str, list[int]] = {}
        self._weights = weights

    def node(self, operator: str, inputs: list[str], output: str, **attributes: Any) -> str:
        """Adds a node and returns its output."""
        self.nodes.append(helper.make_node(operator, inputs, [output], output, **attributes))
        return output

    def weight(self, name: str, axes: tuple[int, ...] | None = None) -> str:
        """Adds a weight, its axes in another order if need be, and returns its name."""
        value = self._weights[name]
        array = value if axes is None else value.transpose(axes)
        self.initialisers.append(numpy_helper.from_array(np.ascontiguousarray(array), name))
        return name


def _zero_padding(graph: _Graph, config: Config, sources: list[str]) -> str:
    """No node of its own: the next layer pads its input itself."""
    (top, bottom), (left, right) = config["padding"]
    graph.pads[config["name"]] = [top, left, bottom, right]
    return graph.tensors[sources[0]]


def _convolution(graph: _Graph, config: Config, sources: list[str]) -> str:
    _require(config, activation="linear", use_bias=True)
    name = config["name"]
    return graph.node(
        "Conv",
        [
            graph.tensors[sources[0]],
            # Keras keeps (rows, columns, in, out), ONNX (out, in, rows, columns).
            graph.weight(f"{name}/kernel", (3, 2, 0, 1)),
            graph.weight(f"{name}/bias"),
        ],
        name,
        kernel_shape=config["kernel_size"],
        strides=config["strides"],
        dilations=config["dilation_rate"],
        **_padding(graph, config, sources[0]),
    )


def _batch_normalisation(graph: _Graph, config: Config, sources: list[str]) -> str:
    _require(config, axis=[3], center=True, scale=True)
    name = config["name"]
    vectors = ("gamma", "beta", "moving_mean", "moving_variance")
    return graph.node(
        "BatchNormalization",
        [graph.tensors[sources[0]], *(graph.weight(f"{name}/{vector}") for vector in vectors)],
        name,
        epsilon=config["epsilon"],
    )


def _activation(graph: _Graph, config: Config, sources: list[str]) -> str:
    _require(config, activation="relu")
    return graph.node("Relu", [graph.tensors[sources[0]]], config["name"])


def _add(graph: _Graph, config: Config, sources: list[str]) -> str:
    return graph.node("Add", [graph.tensors[source] for source in sources], config["name"])


def _max_pool(graph: _Graph, config: Config, sources: list[str]) -> str:
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


def _average_pool(graph: _Graph, config: Config, sources: list[str]) -> str:
    name = config["name"]
    pooled = graph.node("GlobalAveragePool", [graph.tensors[sources[0]]], f"{name}_map")
    return graph.node("Flatten", [pooled], name, axis=1)


def _dense(graph: _Graph, config: Config, sources: list[str]) -> str:
    _require(config, activation="softmax", use_bias=True)
    name = config["name"]
    operands = [graph.weight(f"{name}/kernel"), graph.weight(f"{name}/bias")]
    logits = graph.node("Gemm", [graph.tensors[sources[0]], *operands], f"{name}_logits")
    return graph.node("Softmax", [logits], name, axis=-1)


_TRANSLATIONS: dict[str, Callable[[_Graph, Config, list[str]], str]] = {
    "ZeroPadding2D": _zero_padding,
    "Conv2D": _convolution,
    "BatchNormalization": _batch_normalisation,
    "Activation": _activation,
    "Add": _add,
    "MaxPooling2D": _max_pool,
    "GlobalAveragePooling2D": _average_pool,
    "Dense": _dense,
}


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


def _read_weights(folder: Path, manifest: list[Config]) -> dict[str, np.ndarray]:
    """The weights by name; within a group they lie one behind the other in its shards."""
    weights: dict[str, np.ndarray] = {}
    for group in manifest:
        content = b"".join((folder / shard).read_bytes() for shard in group["paths"])
        offset = 0
        for spec in group["weights"]:
            if spec["dtype"] != "float32" or "quantization" in spec:
                raise ValueError(f"{spec['name']}: not stored as plain float32")
            count = int(np.prod(spec["shape"]))
            values = np.frombuffer(content, "<f4", count, offset)
            weights[spec["name"]] = values.reshape(spec["shape"])
            offset += 4 * count
        if offset != len(content):
            raise ValueError(f"{folder}: the shards hold {len(content)} bytes, not {offset}")
    return weights


def keras_to_onnx(path: Path, name: str) -> onnx.ModelProto:
    """Builds the ONNX model of a Keras classifier of images.

    Args:
        path: `model.json`, its shards beside it.
        name: The name of the graph.

    Returns:
        The model, checked by `onnx.checker`: `image`, float32 (batch, channels, rows, columns),
        to `probabilities`, float32 (batch, classes).

    Raises:
        ValueError: A layer or a setting is not among those that can be translated.
    """
    stored = json.loads(path.read_text(encoding="utf-8"))
    network = stored["modelTopology"]["model_config"]["config"]
    graph = _Graph(_read_weights(path.parent, stored["weightsManifest"]))
    rows = columns = channels = 0
    for layer in network["layers"]:
        config = layer["config"]
        if layer["class_name"] == "InputLayer":
            _, rows, columns, channels = config["batch_input_shape"]
            graph.tensors[config["name"]] = INPUT_NAME
            continue
        if layer["class_name"] not in _TRANSLATIONS:
            raise ValueError(f"{config['name']}: cannot translate {layer['class_name']}")
        if config.get("data_format", "channels_last") != "channels_last":
            raise ValueError(f"{config['name']}: cannot translate {config['data_format']}")
        sources = [source[0] for source in layer["inbound_nodes"][0]]
        translate = _TRANSLATIONS[layer["class_name"]]
        graph.tensors[config["name"]] = translate(graph, config, sources)
    # The last layer's tensor is the model's output.
    graph.nodes[-1].output[0] = OUTPUT_NAME
    classes = network["layers"][-1]["config"]["units"]
    image = helper.make_tensor_value_info(
        INPUT_NAME, TensorProto.FLOAT, ["batch", channels, rows, columns]
    )
    probabilities = helper.make_tensor_value_info(
        OUTPUT_NAME, TensorProto.FLOAT, ["batch", classes]
    )
    model = helper.make_model(
        helper.make_graph(graph.nodes, name, [image], [probabilities], graph.initialisers),
        producer_name=PRODUCER,
        ir_version=IR_VERSION,
        opset_imports=[helper.make_opsetid("", OPSET)],
    )
    onnx.checker.check_model(model, full_check=True)
    return model
