"""Plain truncated SVD: every Conv and Gemm is cut to the same share of its weights.

    python scripts/peers/svd.py channel|spatial MODEL.onnx CALIBRATION.npz SHARE OUTPUT.onnx

`channel` takes a Conv's kernel as (out, in * rows * columns), for a Conv of the whole kernel and a
1x1 Conv; `spatial` as (in * rows, out * columns), for a Conv over rows and one over columns. Two
variants each: all layers are cut, or all but the first and the last.
"""

import sys
from collections.abc import Collection, Iterator
from functools import cache, partial

import numpy as np
import onnx
from onnx import helper, numpy_helper
from task import Offer, Task, largest_within, run


def offers(task: Task, *, spatial: bool) -> Iterator[Offer]:
    """The largest cut within the bytes, of all layers and of the inner ones."""
    layers = [node.output[0] for node in task.model.graph.node if node.op_type in ("Conv", "Gemm")]
    variants = {"all layers": layers, "all but first and last": layers[1:-1]}
    for variant, chosen in variants.items():
        make = partial(cut, task.model, chosen, spatial=spatial)
        yield largest_within(task, variant, make)


def cut(
    source: onnx.ModelProto, layers: Collection[str], share: float, *, spatial: bool
) -> onnx.ModelProto:
    """Replaces layers by two of the largest rank that leaves a share of the weights, at least 1.

    Args:
        source: The original.
        layers: By output name.
        share: Of each layer's weights.
        spatial: Whether a Conv is cut into one over rows and one over columns.
    """
    model = onnx.ModelProto()
    model.CopyFrom(source)
    weights = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    nodes: list[onnx.NodeProto] = []
    for node in model.graph.node:
        if node.output[0] not in layers:
            nodes.append(node)
            continue
        weight = weights.pop(node.input[1])
        settings = {given.name: helper.get_attribute_value(given) for given in node.attribute}
        if node.op_type == "Gemm":
            first, second = _gemm(weight, settings, share)
        elif spatial and min(weight.shape[2:]) > 1:
            first, second = _spatial(weight, settings, share)
        else:
            first, second = _channel(weight, settings, share)
        nodes += _pair(node, first, second, weights)
    nodes = [_copy(node) for node in nodes]
    del model.graph.node[:], model.graph.initializer[:]
    model.graph.node.extend(nodes)
    model.graph.initializer.extend(
        numpy_helper.from_array(value, name) for name, value in weights.items()
    )
    return model


Layer = tuple[np.ndarray, dict[str, object]]


def _factors(matrix: np.ndarray, share: float) -> tuple[np.ndarray, np.ndarray]:
    """(rows, rank) and (rank, columns), the best of their rank."""
    rank = max(1, int(share * matrix.size / sum(matrix.shape)))
    u, sigma, vt = _decomposed(matrix.tobytes(), matrix.shape)
    root = np.sqrt(sigma[:rank])
    return u[:, :rank] * root, root[:, None] * vt[:rank]


@cache
def _decomposed(values: bytes, shape: tuple[int, int]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The SVD of a float32 matrix, which every step of the bisection asks for again."""
    matrix = np.frombuffer(values, np.float32).reshape(shape)
    u, sigma, vt = np.linalg.svd(matrix, full_matrices=False)
    return u, sigma, vt


def _gemm(weight: np.ndarray, settings: dict[str, object], share: float) -> tuple[Layer, Layer]:
    matrix = weight if settings.get("transB") else weight.T
    left, right = _factors(matrix, share)
    return (right, {"transB": 1}), (left, {"transB": 1})


def _channel(weight: np.ndarray, settings: dict[str, object], share: float) -> tuple[Layer, Layer]:
    left, right = _factors(weight.reshape(len(weight), -1), share)
    return (right.reshape(-1, *weight.shape[1:]), settings), (left[:, :, None, None], _conv(1, 1))


def _spatial(weight: np.ndarray, settings: dict[str, object], share: float) -> tuple[Layer, Layer]:
    out, given, rows, columns = weight.shape
    matrix = weight.transpose(1, 2, 0, 3).reshape(given * rows, out * columns)
    left, right = _factors(matrix, share)
    vertical = left.T.reshape(-1, given, rows, 1)
    horizontal = right.reshape(-1, out, 1, columns).transpose(1, 0, 2, 3)
    strides, pads = settings["strides"], settings["pads"]
    assert isinstance(strides, list)
    assert isinstance(pads, list)
    return (
        (vertical, _conv(rows, 1, [strides[0], 1], [pads[0], 0, pads[2], 0])),
        (horizontal, _conv(1, columns, [1, strides[1]], [0, pads[1], 0, pads[3]])),
    )


def _conv(
    rows: int, columns: int, strides: list[int] | None = None, pads: list[int] | None = None
) -> dict[str, object]:
    return {
        "kernel_shape": [rows, columns],
        "strides": strides or [1, 1],
        "pads": pads or [0, 0, 0, 0],
    }


def _pair(
    node: onnx.NodeProto, first: Layer, second: Layer, weights: dict[str, np.ndarray]
) -> list[onnx.NodeProto]:
    (output,) = node.output
    names = [f"{output}_first_weight", f"{output}_second_weight"]
    for name, (values, _) in zip(names, (first, second), strict=True):
        weights[name] = np.ascontiguousarray(values, dtype=np.float32)
    inner = f"{output}_first"
    bias = list(node.input[2:])
    return [
        helper.make_node(node.op_type, [node.input[0], names[0]], [inner], inner, **first[1]),
        helper.make_node(node.op_type, [inner, names[1], *bias], [output], output, **second[1]),
    ]


def _copy(node: onnx.NodeProto) -> onnx.NodeProto:
    copied = onnx.NodeProto()
    copied.CopyFrom(node)
    return copied


if __name__ == "__main__":
    run(partial(offers, spatial=sys.argv.pop(1) == "spatial"))
