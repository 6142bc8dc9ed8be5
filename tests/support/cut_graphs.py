"""Graphs whose units run through all that ties channels to each other, and what is found there."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from graphs import Searched, model_proto, normal, normalization, positive, run, search

from onnx_relusv.graph.channels.groups import channel_tensors, find_channels
from onnx_relusv.graph.channels.walk import ChannelGroup, Channels
from onnx_relusv.graph.model import Model
from onnx_relusv.graph.nodes import Shape


@dataclass(frozen=True)
class CutGraph:
    """A graph with image or vector inputs.

    Attributes:
        text: The graph.
        arrays: Its initializers.
        shape: Of its input x, for one sample.
        groups: By key of every group of units, how many units there are.
    """

    text: str
    arrays: dict[str, np.ndarray]
    shape: Shape
    groups: dict[str, int]


_IMAGES = "(float[N,3,8,8] x) => (float[N,5] y) { "
GRAPHS = {
    # A normalisation that is no block's, channels flattened over four positions.
    "chain": CutGraph(
        _IMAGES + "a = Conv<pads=[1,1,1,1]>(x, k, b) n = BatchNormalization(a, gamma, beta, mean,"
        " variance) c = Relu(n) d = Conv<strides=[4,4]>(c, l) e = Relu(d) f = Flatten(e)"
        " h = Gemm<transB=1>(f, w, v) i = PRelu(h, slope) y = MatMul(i, u) }",
        {
            "k": normal(6, 3, 3, 3),
            "b": normal(6),
            "l": normal(7, 6, 3, 3, scale=0.3),
            "w": normal(9, 28, scale=0.3),
            "v": normal(9),
            "slope": normal(9, seed=1),
            "u": normal(9, 5),
        }
        | normalization(6),
        (1, 3, 8, 8),
        {"a": 6, "d": 7, "h": 9},
    ),
    # Both branches of the sum stand and fall together.
    "residual": CutGraph(
        _IMAGES + "a = Conv<pads=[1,1,1,1]>(x, k, b) c = Relu(a)"
        " d = Conv<pads=[1,1,1,1]>(c, l) e = Relu(d) f = Conv<pads=[1,1,1,1]>(e, m, q)"
        " g = Add(f, c) h = Relu(g) i = GlobalAveragePool(h) j = Flatten(i) y = Gemm(j, w, v) }",
        {
            "k": normal(6, 3, 3, 3),
            "b": normal(6),
            "l": normal(8, 6, 3, 3, scale=0.3),
            "m": normal(6, 8, 3, 3, scale=0.3),
            "q": normal(6, seed=1),
            "w": normal(6, 5),
            "v": normal(5),
        },
        (1, 3, 8, 8),
        {"a": 6, "d": 8},
    ),
    # Two groups side by side in one consumer, and a depthwise Conv that goes with its input.
    "concat": CutGraph(
        _IMAGES + "a = Conv<pads=[1,1,1,1]>(x, k, b) c = Relu(a) d = Conv(x, l) e = Sigmoid(d)"
        " f = Concat<axis=1>(c, e) g = Conv<group=11>(f, o, p) h = Relu(g)"
        " i = Conv<strides=[2,2]>(h, m, q) j = Relu(i) r = ReduceMean<keepdims=0, axes=[2,3]>(j)"
        " s = MatMul(r, w) t = Add(s, v) z = Relu(t) y = MatMul(z, u) }",
        {
            "k": normal(6, 3, 3, 3),
            "b": normal(6),
            "l": normal(5, 3, 1, 1),
            "o": normal(11, 1, 3, 3),
            "p": normal(11),
            "m": normal(8, 11, 2, 2, scale=0.3),
            "q": normal(8),
            "w": normal(8, 10),
            "v": normal(10),
            "u": normal(10, 5),
        },
        (1, 3, 8, 8),
        {"a": 6, "d": 5, "i": 8, "s": 10},
    ),
    # In every group of a grouped Conv as many channels stay; a ConvTranspose is no block.
    "groups": CutGraph(
        _IMAGES + "a = Conv<pads=[1,1,1,1]>(x, k, b) c = Relu(a)"
        " d = Conv<group=2>(c, l, q) e = Relu(d) f = ConvTranspose<strides=[2,2]>(e, t, o)"
        " g = Relu(f) h = Conv<strides=[4,4]>(g, m) i = GlobalMaxPool(h) j = Flatten(i)"
        " y = Gemm(j, w, v) }",
        {
            "k": normal(8, 3, 3, 3),
            "b": normal(8),
            "l": normal(6, 4, 3, 3, scale=0.3),
            "q": normal(6),
            "t": normal(6, 7, 2, 2),
            "o": positive(7),
            "m": normal(6, 7, 3, 3, scale=0.3),
            "w": normal(6, 5),
            "v": normal(5),
        },
        (1, 3, 8, 8),
        {"a": 4, "d": 3, "f": 7, "h": 6},
    ),
}


@dataclass(frozen=True, eq=False)
class Found:
    """A graph with its blocks and units."""

    searched: Searched
    channels: Channels
    shapes: dict[str, Shape]
    feeds: dict[str, np.ndarray]

    def group(self, key: str) -> ChannelGroup:
        return next(group for group in self.channels.groups if group.key == key)

    def removed(self, **gone: list[int]) -> np.ndarray:
        """(units,) bool: some units of groups, by the groups' own numbers."""
        found = np.zeros(self.channels.count, np.bool_)
        for key, units in gone.items():
            found[self.group(key).units.start + np.array(units)] = True
        return found


def found_in(graph: CutGraph, folder: Path, *, opset: int = 13) -> Found:
    feeds = {"x": normal(*graph.shape)}
    searched = search(model_proto(graph.text, graph.arrays, opset=opset), folder, feeds)
    shapes = shapes_of(searched.model, feeds)
    return Found(searched, find_channels(searched.model, shapes), shapes, feeds)


def shapes_of(model: Model, feeds: dict[str, np.ndarray]) -> dict[str, Shape]:
    """Of all tensors between nodes."""
    values = run(model.proto, feeds, channel_tensors(model.proto)) | feeds
    return {name: value.shape for name, value in values.items()}
