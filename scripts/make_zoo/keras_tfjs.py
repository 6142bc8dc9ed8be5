"""Reads a Keras network from the layers format of TensorFlow.js."""

import json
from pathlib import Path

import numpy as np
from keras_network import Config, KerasNetwork, Layer


def read_tfjs(path: Path) -> KerasNetwork:
    """Reads a functional network.

    Args:
        path: `model.json`, its shards beside it.

    Raises:
        ValueError: The weights are not plain float32, or the shards do not fit them.
    """
    stored = json.loads(path.read_text(encoding="utf-8"))
    layers = tuple(
        Layer(
            layer["class_name"],
            layer["config"],
            tuple(source[0] for node in layer["inbound_nodes"] for source in node),
        )
        for layer in stored["modelTopology"]["model_config"]["config"]["layers"]
    )
    return KerasNetwork(layers, _read_weights(path.parent, stored["weightsManifest"]))


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
