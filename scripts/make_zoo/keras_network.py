"""A Keras network as it was stored, whatever the file was."""

from dataclasses import dataclass
from typing import Any

import numpy as np

Config = dict[str, Any]


@dataclass(frozen=True, eq=False)
class Layer:
    """One layer.

    Attributes:
        kind: Its class, `Conv2D` for example.
        config: Its settings, its name among them.
        sources: The names of the layers that it reads.
    """

    kind: str
    config: Config
    sources: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class KerasNetwork:
    """A network with its weights.

    Attributes:
        layers: In topological order, the input first.
        weights: float32, by `layer/weight`, `conv2d/kernel` for example.
    """

    layers: tuple[Layer, ...]
    weights: dict[str, np.ndarray]
