"""Neuron Merging on chains of Gemm and Relu, the data-free method to stand beside.

Kim, Kim, Park, Jeon, "Neuron Merging: Compensating for Pruned Neurons", NeurIPS 2020, algorithms 1
and 2: the units with the largest l1 norms of their weights are kept, and each of the others is
added to the kept one that it is most like by the cosine of weights and bias, times the ratio of
their norms, if that cosine is 0.45 at least, which is the paper's threshold for this network.
"""

from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
from onnx import numpy_helper

_THRESHOLD = 0.45

Floats = npt.NDArray[np.float64]
# Weight, (units, inputs), and bias of every layer.
Layers = list[tuple[Floats, Floats]]


def merged_model(model: Path, share: float, output: Path, *, merging: bool = True) -> None:
    """Writes a model that has lost a share of the units of every hidden layer.

    Args:
        model: An ONNX file whose Gemms follow each other, a Relu between two of them.
        share: Above 0 and below 1, of each layer's units.
        output: The smaller model.
        merging: Whether units that go are merged into kept ones; otherwise they are cut.
    """
    proto = onnx.load(model)
    tensors = {one.name: one for one in proto.graph.initializer}
    gemms = [node for node in proto.graph.node if node.op_type == "Gemm"]
    layers: Layers = [
        (_array(tensors[node.input[1]]), _array(tensors[node.input[2]])) for node in gemms
    ]
    for node, (weight, bias) in zip(gemms, merged(layers, share, merging=merging), strict=True):
        for name, values in zip(node.input[1:], (weight, bias), strict=True):
            tensors[name].CopyFrom(numpy_helper.from_array(values.astype(np.float32), name))
    onnx.save(proto, output)


def merged(layers: Layers, share: float, *, merging: bool = True) -> Layers:
    """The layers that are left; arguments as of `merged_model`."""
    found = list(layers)
    for index, (weight, bias) in enumerate(layers[:-1]):
        kept = round(len(weight) * (1 - share))
        order = np.argsort(-np.abs(weight).sum(axis=1), kind="stable")
        stay, go = np.sort(order[:kept]), order[kept:]
        scaling = np.eye(len(weight))[:, stay]
        if merging:
            scaling[go] = _scaling(np.column_stack([weight, bias]), stay, go)
        following, its_bias = found[index + 1]
        found[index] = (found[index][0][stay], found[index][1][stay])
        found[index + 1] = (following @ scaling, its_bias)
    return found


def _scaling(units: Floats, stay: npt.NDArray[np.intp], go: npt.NDArray[np.intp]) -> Floats:
    """(units that go, units that stay): what of each of the former the latter take over."""
    norm = np.linalg.norm(units, axis=1)
    cosine = (units[go] @ units[stay].T) / np.outer(norm[go], norm[stay])
    nearest = cosine.argmax(axis=1)
    rows = np.arange(len(go))
    scaling = np.zeros(cosine.shape)
    alike = cosine[rows, nearest] >= _THRESHOLD
    scaling[rows, nearest] = np.where(alike, norm[go] / norm[stay][nearest], 0)
    return scaling


def _array(tensor: onnx.TensorProto) -> Floats:
    return numpy_helper.to_array(tensor).astype(np.float64)
