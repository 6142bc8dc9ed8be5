"""Models that onnxruntime can open, what a model holds and does, and the dense reference.

The reference is the original graph with each block's weight and bias replaced by dense ones. The
rewritten file has to equal it to float rounding. Unlike the rewritten file it keeps every node of
the original; only constants change. A BatchNormalization that was folded into the composed kernel
becomes the identity: scale 1, shift 0, mean 0, variance 1 - epsilon.
"""

from collections.abc import Callable, Iterable, Mapping
from math import prod
from pathlib import Path

import numpy as np
from onnx import ModelProto, NodeProto, TensorProto, ValueInfoProto, helper, numpy_helper

from onnx_relusv.core.blocks import Block, Floats, LinearMap, Runnable
from onnx_relusv.core.kinds import kind_of
from onnx_relusv.core.results import ModelFacts
from onnx_relusv.graph.constants import Constants
from onnx_relusv.graph.model import Model, all_tensors, node_tensors
from onnx_relusv.graph.nodes import FLOAT_TYPES, Shape, attribute, is_standard, node_attributes
from onnx_relusv.graph.protos import (
    FreshNames,
    copied,
    drop_named,
    known_constant,
    lists_initializers,
    used_names,
)
from onnx_relusv.work.disk_arrays import on_disk

# By operator: of a node, and of the shapes of its input, weight and output.
_MACS: dict[str, Callable[[NodeProto, Shape, Shape, Shape], int]] = {
    "Conv": lambda _, source, weight, output: prod(output) * prod(weight[1:]),
    "ConvTranspose": lambda _, source, weight, output: prod(source) * prod(weight[1:]),
    "Gemm": lambda node, source, weight, output: (
        prod(output) * source[0 if node_attributes(node).get("transA", 0) else 1]
    ),
    "MatMul": lambda _, source, weight, output: prod(output) * source[-1],
}


def parameters(proto: ModelProto) -> int:
    """Floating-point numbers in initializers and in tensors of Constant nodes."""
    return sum(
        prod(tensor.dims) for tensor in all_tensors(proto.graph) if tensor.data_type in FLOAT_TYPES
    )


def macs(proto: ModelProto, shapes: Mapping[str, Shape]) -> int:
    """Multiply-accumulates of the Conv, ConvTranspose, Gemm and MatMul nodes of the main graph.

    Args:
        proto: The model.
        shapes: Shapes for one sample of the tensors around these nodes; initializers excepted.
            Nodes without shapes count nothing.
    """
    known = dict(shapes)
    for tensor in proto.graph.initializer:
        known[tensor.name] = tuple(tensor.dims)
    return sum(node_macs(node, known) for node in proto.graph.node)


def computed_shapes(model: Model) -> dict[str, Shape]:
    """Shapes of the weights that nodes compute of constants."""
    constants, found = Constants(model), dict[str, Shape]()
    for node in model.proto.graph.node:
        if node.op_type in _MACS and is_standard(node):
            tensor = constants.tensor(node.input[1])
            if tensor is not None:
                found[node.input[1]] = tuple(tensor.dims)
    return found


def node_macs(node: NodeProto, shapes: Mapping[str, Shape]) -> int:
    """Multiply-accumulates of one node; arguments as of `macs`, with shapes of initializers too."""
    if node.op_type not in _MACS or not is_standard(node):
        return 0
    names = (node.input[0], node.input[1], node.output[0])
    if any(name not in shapes for name in names):
        return 0
    return _MACS[node.op_type](node, *(shapes[name] for name in names))


def model_facts(model: Model, shapes: Mapping[str, Shape]) -> ModelFacts:
    """The facts of a model for reports."""
    return ModelFacts(
        path=Path(model.name),
        bytes=model.bytes,
        parameters=parameters(model.proto),
        macs=macs(model.proto, {**shapes, **computed_shapes(model)}),
        sha256=model.sha256,
        opset=model.opset,
    )


def runnable(
    model: Model,
    proto: ModelProto | None = None,
    exposed: Iterable[str] = (),
    arrays: Mapping[str, np.ndarray] | None = None,
) -> Runnable:
    """A model, or one derived from it, with some of its tensors as further outputs.

    Args:
        model: The original, which knows where external data lies.
        proto: The derived model; the original itself if None.
        exposed: Names of tensors that become outputs behind the graph's own.
        arrays: Values of the derived model's initializers that are stubs.
    """
    source = model.proto if proto is None else proto
    opened = copied(source)
    present = {output.name for output in opened.graph.output}
    for name in dict.fromkeys(exposed):
        if name not in present:
            opened.graph.output.append(ValueInfoProto(name=name))
    return with_data(model, opened, arrays)


def with_data(
    model: Model, proto: ModelProto, arrays: Mapping[str, np.ndarray] | None = None
) -> Runnable:
    """A model that can be opened wherever the original's external data lies; `proto` is changed.

    Args:
        model: The original.
        proto: A copy of it, or of a part, or what was derived from it.
        arrays: Values of those of its initializers that are stubs.
    """
    _drop_unused(proto)
    # A session maps the main graph's initializers only.
    for node in proto.graph.node:
        for tensor in node_tensors(node):
            if tensor.data_location == TensorProto.EXTERNAL:
                tensor.CopyFrom(model.loaded(tensor))
    present = {tensor.name for tensor in proto.graph.initializer}
    given = {name: values for name, values in (arrays or {}).items() if name in present}
    return Runnable(proto.SerializeToString(), given, model.folder.absolute())


def _drop_unused(proto: ModelProto) -> None:
    """Removes unread initializers that onnxruntime fails at.

    A session has forgotten external ones by the time that it is given their values. Before IR
    version 4 it does not know any that is no input of the graph.
    """
    used = set(used_names(proto.graph.node)) | {output.name for output in proto.graph.output}
    listed = {value.name for value in proto.graph.input}
    unused = {
        tensor.name
        for tensor in proto.graph.initializer
        if tensor.name not in used
        and (
            tensor.data_location == TensorProto.EXTERNAL
            or (lists_initializers(proto) and tensor.name not in listed)
        )
    }
    drop_named(proto.graph.initializer, unused)
    drop_named(proto.graph.input, unused)


def external_stub(name: str, values: np.ndarray) -> TensorProto:
    """An initializer without data, whose values are handed to the session as an array."""
    stub = TensorProto(
        name=name,
        dims=values.shape,
        data_type=helper.np_dtype_to_tensor_dtype(values.dtype),
        data_location=TensorProto.EXTERNAL,
    )
    stub.external_data.add(key="location", value="given-to-the-session")
    return stub


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
    result = copied(model.proto)
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
        if kind_of(block.geometry).adds_bias:
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
        kind = kind_of(block.geometry)
        stored = kind.stored(block.geometry, weight.astype(dtype), node_attributes(linear))
        linear.input[1] = self._store_outside(stored)
        kept = [a for a in linear.attribute if a.name not in kind.folded]
        del linear.attribute[:]
        linear.attribute.extend(kept)

    def _as_addend(self, name: str, bias: np.ndarray) -> np.ndarray:
        """A bias in the shape of the constant it replaces, or of a scalar's worth of zeros."""
        old = known_constant(self._constants.array(name), name)
        if not np.any(bias):
            return np.zeros_like(old)
        # Where a scalar was added behind a MatMul, (out,) broadcasts along the features.
        return bias.reshape(old.shape) if old.size == bias.size else bias

    def _neutralise(self, node: NodeProto, bias: np.ndarray) -> None:
        epsilon = attribute(node, "epsilon", 1e-5)
        ones = np.ones_like(bias)
        vectors = (ones, bias, np.zeros_like(bias), ones - ones.dtype.type(epsilon))
        for slot, values in enumerate(vectors, 1):
            self._set_input(node, slot, values)

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
