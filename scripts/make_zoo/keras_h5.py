"""Reads a Keras network from an HDF5 file."""

import json
from pathlib import Path

import h5py
import numpy as np
from keras_network import KerasNetwork, Layer


def read_h5(path: Path) -> KerasNetwork:
    """Reads a sequential network; what the optimiser stored is left where it is.

    Args:
        path: An `.h5` file with the network and its weights.

    Raises:
        ValueError: It holds another kind of network, or weights that are not float32.
    """
    with h5py.File(path) as file:
        stored = json.loads(file.attrs["model_config"])
        weights = _read_weights(file["model_weights"])
    if stored["class_name"] != "Sequential":
        raise ValueError(f"{path}: holds a {stored['class_name']} network, not a Sequential one")
    layers: list[Layer] = []
    for layer in stored["config"]["layers"]:
        # Each layer reads the one before it, and the file does not say so.
        sources = (layers[-1].config["name"],) if layers else ()
        layers.append(Layer(layer["class_name"], layer["config"], sources))
    return KerasNetwork(tuple(layers), weights)


def _read_weights(groups: h5py.Group) -> dict[str, np.ndarray]:
    """The weights by name, without the `:0` that TensorFlow adds."""
    weights: dict[str, np.ndarray] = {}
    for group in groups.values():
        for name in group.attrs.get("weight_names", ()):
            value = group[name][...]
            if value.dtype != np.float32:
                raise ValueError(f"{name}: {value.dtype}, not float32")
            weights[name.removesuffix(":0")] = value
    return weights
