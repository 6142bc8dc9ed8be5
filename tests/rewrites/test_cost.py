"""Costs against loops over shapes, and against the size of real files."""

from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
import onnx
import pytest
from examples import block, conv, gemm, matmul
from onnx import GraphProto, helper
from onnx_graphs import conv_node, node, runnable
from opened import Opened, open_model

from onnx_relusv.core.options import MeasureOptions
from onnx_relusv.core.plans import ChannelMask
from onnx_relusv.core.reduction import masked_block
from onnx_relusv.rewrites.low_rank.candidates import (
    block_cost,
    block_macs,
    block_numbers,
    candidate_cost,
    masked_cost,
)
from onnx_relusv.rewrites.low_rank.forms import FORMS, double_layer
from onnx_relusv.rewrites.low_rank.surgery import rewrite


def test_macs_of_a_conv_by_loops() -> None:
    geometry = conv(4, 6, (3, 2), groups=2, strides=(2, 1), pads=(1, 0, 1, 0))
    item = block(geometry, (7, 5))
    _, channels, height, width = item.output_shape
    # Every output value is a sum over its group's channels and the kernel.
    assert block_macs(item) == sum(
        2 * 3 * 2 for _ in range(channels) for _ in range(height) for _ in range(width)
    )


def test_macs_of_a_matrix() -> None:
    for geometry in (gemm(7, 5), matmul(7, 5)):
        assert block_macs(block(geometry)) == 35
        assert block_macs(block(geometry, (4,))) == 4 * 35


def test_a_block_costs_its_bytes() -> None:
    cost = block_cost(block(gemm(7, 5), original_bytes=1234))
    assert (cost.bytes, cost.macs) == (1234, 35)


def opened_with(kind: str, prefix: str, folder: Path, *, ir_version: int = 8) -> Opened:
    rng = np.random.default_rng(0)

    def numbers(*shape: int) -> np.ndarray:
        return rng.standard_normal(shape).astype(np.float32)

    names = {role: f"{prefix}{role}" for role in ("before", "out")}
    if kind == "conv":
        geometry = conv(4, 6, (3, 3), pads=(1, 1, 1, 1))
        nodes = [conv_node(["x", "weight", "bias"], names["before"], geometry, 1)]
        axes: tuple[int | str, ...] = ("batch", 4, 8, 8)
        constants = {"weight": numbers(6, 4, 3, 3), "bias": numbers(6)}
    elif kind == "gemm":
        nodes = [node("Gemm", ["x", "weight", "bias"], names["before"])]
        axes = ("batch", 20)
        constants = {"weight": numbers(20, 12), "bias": numbers(12)}
    else:
        nodes = [
            node("MatMul", ["x", "weight"], "product"),
            node("Add", ["product", "bias"], names["before"]),
        ]
        axes = ("batch", 3, 20)
        constants = {"weight": numbers(20, 12), "bias": numbers(12)}
    nodes.append(node("Relu", [names["before"]], names["out"]))
    path = folder / "model.onnx"
    proto = onnx.load_from_string(runnable(nodes, {"x": axes}, [names["out"]], constants).model)
    if ir_version < 4:  # where every initializer has to be an input too
        proto.ir_version, proto.opset_import[0].version = ir_version, 8
        proto.graph.input.extend(
            helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims)
            for tensor in proto.graph.initializer
        )
    path.write_bytes(proto.SerializeToString())
    return open_model(path, None, MeasureOptions(provider="cpu"))


@pytest.mark.parametrize(
    ("kind", "form"),
    [
        ("conv", "channel"),
        ("conv", "spatial"),
        ("conv", "tucker"),
        ("gemm", "pair"),
        ("matmul", "pair"),
    ],
)
def test_bytes_are_what_is_written(kind: str, form: str, tmp_path: Path) -> None:
    """To the byte: the fields of the graph that it has and the original has not."""
    for prefix, ir_version in product(("", "/model/encoder/layers.3/" * 12), (3, 8)):
        opened = opened_with(kind, prefix, tmp_path, ir_version=ir_version)
        (item,) = opened.case.blocks
        original = opened.case.model.proto.graph
        before = {name for node in original.node for name in node.output}
        before |= {each.name for each in (*original.initializer, *original.input)}
        for rank, biased in ((1, True), (3, True), (4, False)):
            factors = double_layer(form, item.geometry, opened.case.folding(item), None, rank)
            if not biased:
                factors = replace(factors, bias=np.zeros_like(factors.bias))
            graph = rewrite(opened.case.model, opened.case.blocks, {item.key: factors}, "").graph
            kept = {tensor.name for tensor in original.initializer}
            kept &= {tensor.name for tensor in graph.initializer}
            new = [node for node in graph.node if node not in original.node]
            constants = [each for each in graph.initializer if each.name not in kept]
            inputs = [each for each in graph.input if each.name not in before]
            alone = GraphProto(node=new, initializer=constants, input=inputs)
            assert candidate_cost(item, form, rank, 4, biased=biased).bytes == alone.ByteSize()


def test_bytes_follow_the_type_and_the_rank() -> None:
    geometry = conv(8, 16, (3, 3))
    item = block(geometry, (9, 9))
    for rank in (1, 5):
        costs = {size: candidate_cost(item, "spatial", rank, size) for size in (2, 4)}
        numbers = FORMS["spatial"].parameters(geometry, rank) + 16
        # Longer data takes a byte more for its length, in up to four places a constant.
        assert 0 <= costs[4].bytes - costs[2].bytes - 2 * numbers <= 3 * 4
        assert costs[4].macs == costs[2].macs
    # 8 channels * 3 rows on 7x9 values, then 16 channels * 3 columns on 7x7.
    assert candidate_cost(item, "spatial", 5, 4).macs == 5 * (24 * 63 + 48 * 49)


def test_what_is_left_costs_in_proportion() -> None:
    """Bytes go with the numbers in the weight and the bias, MACs with the weight."""
    geometry = conv(4, 6, (3, 3), groups=2)
    whole = block(geometry, (5, 5), original_bytes=2000)
    left = masked_block(whole, ChannelMask(inputs=np.array([1]), outputs=np.array([0, 2, 3, 5])))
    assert (block_numbers(whole), block_numbers(left)) == (6 * 18 + 6, 4 * 9 + 4)
    cost = masked_cost(whole, left)
    assert (cost.bytes, cost.macs) == (round(2000 * 40 / 114), 36 * 9)
    assert masked_cost(whole, whole) == block_cost(whole)
