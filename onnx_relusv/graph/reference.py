"""The reference: the original graph with each block's weight and bias replaced by dense ones.

The rewritten file has to equal it to float rounding. Unlike the rewritten file it keeps every node
of the original; only constants change. A BatchNormalization that was folded into the composed
kernel becomes the identity: scale 1, shift 0, mean 0, variance 1 - epsilon.
"""

from collections.abc import Iterable, Mapping

import numpy as np
from onnx import ModelProto, NodeProto, helper, numpy_helper

from onnx_relusv.graph.constants import Constants
from onnx_relusv.graph.expose import external_stub, runnable
from onnx_relusv.graph.model import Model
from onnx_relusv.graph.protos import FreshNames, copy_fields
from onnx_relusv.mapped_arrays import on_disk
from onnx_relusv.records import Block, Floats, LinearMap, Runnable


def reference(
    model: Model,
    blocks: Iterable[Block],
    dense: Mapping[str, LinearMap],
    exposed: Iterable[str] = (),
    arrays: Mapping[str, np.ndarray] | None = None,
) -> Runnable:
    """Builds the reference.

    Args:
        model: The original.
        blocks: Its blocks.
        dense: By block key the composed kernel (groups, rows, columns) and bias; blocks without
            an entry stay as they are.
        exposed: Tensors that become outputs behind the graph's own.
        arrays: Values of those of the original's initializers that are stubs.
    """
    result, own = with_dense(model, blocks, dense)
    return runnable(model, result, exposed, {**(arrays or {}), **own})


def with_dense(
    model: Model,
    blocks: Iterable[Block],
    dense: Mapping[str, LinearMap],
    *,
    mapped: bool = False,
) -> tuple[ModelProto, dict[str, np.ndarray]]:
    """The reference as a model, and the values of those of its initializers that are stubs.

    Args:
        model: The original.
        blocks: Its blocks.
        dense: By block key, as for `reference`; each is asked for once, in the blocks' order.
        mapped: Whether weights lie in temporary files, of which sessions read what they need.
    """
    result = ModelProto()
    copy_fields(model.proto, result)
    editor = _Editor(model, result, mapped=mapped)
    for block in blocks:
        if block.key in dense:
            editor.replace(block, dense[block.key])
    editor.finish()
    return result, editor.arrays


class _Editor:
    def __init__(self, model: Model, result: ModelProto, *, mapped: bool) -> None:
        self._mapped = mapped
        self._constants = Constants(model)
        self._graph = result.graph
        self._names = FreshNames(result.graph)
        self._appended: list[tuple[int, NodeProto]] = []
        self.arrays: dict[str, np.ndarray] = {}

    def replace(self, block: Block, dense: LinearMap) -> None:
        """Gives a block's nodes the constants of the composed kernel."""
        linear, *rest = (self._graph.node[index] for index in block.nodes)
        dtype = helper.tensor_dtype_to_np_dtype(block.element_type)
        self._weight(linear, block, dense.weight, dtype)
        bias = dense.bias.astype(dtype)
        if linear.op_type != "MatMul":
            self._set_input(linear, 2, bias)
            bias = np.zeros_like(bias)
        for node in rest:
            if node.op_type == "Add":
                slot = 0 if self._constants.tensor(node.input[0]) is not None else 1
                self._set_input(node, slot, self._as_addend(node.input[slot], bias))
                bias = np.zeros_like(bias)
            elif node.op_type == "BatchNormalization":
                self._neutralise(node, bias)
                bias = np.zeros_like(bias)
        if np.any(bias):
            self._append_add(block, bias)

    def finish(self) -> None:
        """Puts the appended Add nodes behind the nodes that they extend."""
        for index, node in sorted(self._appended, key=lambda pair: pair[0], reverse=True):
            self._graph.node.insert(index + 1, node)

    def _weight(
        self, linear: NodeProto, block: Block, weight: Floats, dtype: np.dtype[np.generic]
    ) -> None:
        matrix = weight.astype(dtype)
        if linear.op_type == "Conv":
            geometry = block.geometry
            shape = (geometry.out_channels, geometry.in_channels // geometry.groups)
            linear.input[1] = self._store_outside(matrix.reshape(*shape, *geometry.kernel))
            return
        transposed = any(a.name == "transB" and a.i for a in linear.attribute)
        linear.input[1] = self._store_outside(matrix[0] if transposed else matrix[0].T)
        kept = [a for a in linear.attribute if a.name not in ("alpha", "beta")]
        del linear.attribute[:]
        linear.attribute.extend(kept)

    def _as_addend(self, name: str, bias: np.ndarray) -> np.ndarray:
        """A bias in the shape of the constant it replaces, or of a scalar's worth of zeros."""
        old = self._constants.array(name)
        assert old is not None  # the Add would not be part of the block
        if not np.any(bias):
            return np.zeros_like(old)
        # Where a scalar was added behind a MatMul, (out,) broadcasts along the features.
        return bias.reshape(old.shape) if old.size == bias.size else bias

    def _neutralise(self, node: NodeProto, bias: np.ndarray) -> None:
        epsilon = next((a.f for a in node.attribute if a.name == "epsilon"), 1e-5)
        ones = np.ones_like(bias)
        zeros = np.zeros_like(bias)
        self._set_input(node, 1, ones)
        self._set_input(node, 2, bias)
        self._set_input(node, 3, zeros)
        self._set_input(node, 4, ones - ones.dtype.type(epsilon))

    def _append_add(self, block: Block, bias: np.ndarray) -> None:
        """A MatMul without a bias that now needs one."""
        last = self._graph.node[block.nodes[-1]]
        before = self._names(f"{block.key}/unbiased")
        last.output[0] = before
        add = helper.make_node("Add", [before, self._store(bias)], [block.pre_activation])
        self._appended.append((block.nodes[-1], add))

    def _set_input(self, node: NodeProto, slot: int, values: np.ndarray) -> None:
        while len(node.input) <= slot:
            node.input.append("")
        node.input[slot] = self._store(values)

    def _store(self, values: np.ndarray) -> str:
        name = self._names("relusv_reference")
        self._graph.initializer.append(numpy_helper.from_array(np.ascontiguousarray(values), name))
        return name

    def _store_outside(self, values: np.ndarray) -> str:
        """Stores a weight beside the model, so that large ones never meet protobuf's limit."""
        name = self._names("relusv_reference")
        self.arrays[name] = on_disk(values) if self._mapped else np.ascontiguousarray(values)
        self._graph.initializer.append(external_stub(name, self.arrays[name]))
        return name
