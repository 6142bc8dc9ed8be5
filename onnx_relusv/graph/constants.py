"""Constant tensors of a graph: initializers, Constant nodes, and what nodes compute of them.

An initializer that is also a graph input can be overridden by the caller from IR version 4 on, so
there it is no constant. Before that version every initializer had to be listed as an input, and
runtimes treat it as constant.

Exporters leave nodes in front of weights, biases and shapes: a Cast of weights in half precision, a
Transpose or Reshape of a weight, a scale that is multiplied with it. ONNX's own reference
implementation computes what they give, when it is asked for and if it is not too large. Only what
is small is kept, so that the weights of a large model never are in memory together.
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from functools import cached_property
from math import prod

import numpy as np
import onnx
from onnx import (
    GraphProto,
    ModelProto,
    NodeProto,
    TensorProto,
    TypeProto,
    ValueInfoProto,
    helper,
    numpy_helper,
)
from onnx.reference import ReferenceEvaluator

from onnx_relusv.graph.model import Model
from onnx_relusv.graph.protos import (
    bodies,
    defined,
    dense,
    first_output,
    held,
    initialized,
    item_bytes,
    known_constant,
    makers,
    node_label,
    operators,
    used_names,
)

_STANDARD = ("", "ai.onnx")
_FIRST_IR_WITH_OVERRIDES = 4
# Nodes in a row that are computed: longer chains are no weights, and would be too deep to follow.
_DEEPEST = 64
_HALF = (TensorProto.FLOAT16, TensorProto.BFLOAT16)
# What a node may give at most, in bytes.
_LARGEST = 2 << 30
# Numbers up to which a constant is looked at to learn what shape comes of it.
_FEW = 4096
_IR_VERSION = 10
# Operators that give every number of a tensor on as it is, somewhere else or in another type.
_MOVING = operators(
    "Cast CastLike Concat Flatten Gather Identity Reshape Slice Split Squeeze Transpose Unsqueeze"
)
# All that are computed. A DequantizeLinear is not: its weight is stored quantised, and stays so.
_FOLDED = _MOVING | operators(
    "Abs Add And Ceil Clip ConstantOfShape DepthToSpace Div Equal Exp Expand Floor GatherElements "
    "Gemm Greater GreaterOrEqual Less LessOrEqual Log MatMul Max Min Mul Neg Not Or Pad Pow Range "
    "Reciprocal ReduceL1 ReduceL2 ReduceMax ReduceMean ReduceMin ReduceProd ReduceSum "
    "ReduceSumSquare Relu Shape Sigmoid Sign Size SpaceToDepth Sqrt Sub Sum Tanh Tile Trilu Where "
    "Xor"
)
# Operators through which numbers keep what half precision holds of them.
_KEEPING = _MOVING | {"DepthToSpace", "Expand", "SpaceToDepth", "Tile"}


def constant_names(proto: ModelProto) -> set[str]:
    """Initializers, and what nodes make of them that are read as constants."""
    found = set(initialized(proto.graph))
    known = found - overridable_names(proto)
    for node in proto.graph.node:
        read = set(filter(None, node.input))
        folded = node.op_type == "Constant" or (node.op_type in _FOLDED and node.input)
        if node.domain in _STANDARD and folded and read <= known:
            known.update(filter(None, node.output))
    return found | known


def overridable_names(proto: ModelProto) -> set[str]:
    """Initializers that are inputs too, and only a default of what a caller may feed."""
    if proto.ir_version < _FIRST_IR_WITH_OVERRIDES:
        return set()
    return {value.name for value in proto.graph.input}.intersection(initialized(proto.graph))


class Constants:
    """Looks constant tensors up by the name under which a node reads them."""

    def __init__(self, model: Model) -> None:
        graph = model.proto.graph
        self._model = model
        self._outputs = set(model.output_names)
        self._defaults = overridable_names(model.proto)
        self._inputs = {value.name for value in graph.input}.difference(initialized(graph))
        self._stored: dict[str, TensorProto] = {
            tensor.name: tensor for tensor in graph.initializer if tensor.name not in self._defaults
        }
        self._sparse = {
            tensor.values.name: tensor
            for tensor in graph.sparse_initializer
            if tensor.values.name not in self._defaults
        }
        # The nodes that compute constants, by what they give, and how many of them are in a row.
        self._makers: dict[str, int] = {}
        self._depths: dict[str, int] = {}
        self._outlines: dict[str, TensorProto | None] = {}
        self._small: dict[str, np.ndarray] = {}
        for index, node in enumerate(graph.node):
            if node.domain in _STANDARD:
                self._add(index, node)

    def _add(self, index: int, node: NodeProto) -> None:
        if node.op_type == "Constant" and len(node.attribute) == 1:
            tensor = held(node)
            if tensor is not None:
                self._stored[node.output[0]] = tensor
                self._makers[node.output[0]] = index
            elif node.attribute[0].HasField("sparse_tensor"):
                self._sparse[node.output[0]] = node.attribute[0].sparse_tensor
                self._makers[node.output[0]] = index
        elif node.op_type in _FOLDED and node.input:
            depths = [self._depth(name) for name in node.input if name]
            depth = 1 + max((each for each in depths if each is not None), default=0)
            if None not in depths and depth <= _DEEPEST:
                self._makers.update(dict.fromkeys(filter(None, node.output), index))
                self._depths.update(dict.fromkeys(filter(None, node.output), depth))

    def _depth(self, name: str) -> int | None:
        if name in self._stored or name in self._sparse:
            return 0
        return self._depths.get(name)

    def path(self, name: str) -> Iterator[str]:
        """The name itself and the names behind the Identity nodes in front of it."""
        yield name
        while (node := self._computing(name)) is not None and node.op_type == "Identity":
            name = node.input[0]
            yield name

    def root(self, name: str) -> str:
        """The name behind all Identity nodes."""
        *_, root = self.path(name)
        return root

    def reads(self) -> Counter[str]:
        """How often every tensor is read, or handed out as an output, by the name of its root."""
        graph = self._model.proto.graph
        names = [
            name
            for node in graph.node
            # An Identity only hands on.
            if node.op_type != "Identity" or self.tensor(node.input[0]) is None
            for name in used_names([node])
        ]
        return Counter(map(self.root, [*names, *(output.name for output in graph.output)]))

    def tensor(self, name: str) -> TensorProto | None:
        """The tensor that a name stands for, or None where it is not constant.

        Of one that is computed or stored sparse, its type and shape alone.
        """
        root = self.root(name)
        if root in self._stored:
            return self._stored[root]
        if root not in self._outlines:
            self._outlines[root] = self._outline(root)
        return self._outlines[root]

    def array(self, name: str) -> np.ndarray | None:
        """Its values, or None where it is not constant."""
        root = self.root(name)
        if root in self._stored:
            return self._model.array(self._stored[root])
        if root in self._small:
            return self._small[root]
        tensor = self.tensor(root)
        if tensor is None:
            return None
        found = dense(self._sparse[root]) if root in self._sparse else self._computed(root)
        if found is None or tuple(tensor.dims) != found.shape:
            return None
        if _is_small(tensor):
            self._small[root] = found
        return found

    def scalar(self, name: str) -> float | None:
        """Its value where it is a constant of one element, otherwise None."""
        values = self.array(name)
        return float(values.reshape(())) if values is not None and values.size == 1 else None

    def is_computed(self, name: str) -> bool:
        """Whether nodes compute it of other constants."""
        return self._computing(self.root(name)) is not None

    def is_sparse(self, name: str) -> bool:
        """Whether a constant is stored sparse."""
        return self.root(name) in self._sparse

    def stored_type(self, name: str) -> int:
        """In which type the numbers of a constant are to be stored.

        It is their own, unless the file has them in half precision and nodes move and cast them.
        """
        tensor = known_constant(self.tensor(name), name)
        own = tensor.data_type
        behind = (self._stored.get(each) for each in self._behind(name))
        types = {each.data_type for each in behind if each and _is_most_of(each, tensor)}
        nodes = self._model.proto.graph.node
        moved = {nodes[index].op_type for index in self._nodes_behind(name)} <= _KEEPING
        narrow = types.pop() if len(types) == 1 else own
        return narrow if moved and narrow in _HALF and own == TensorProto.FLOAT else own

    def others(self, name: str, reader: str) -> list[str]:
        """Who reads a constant, or most of it, besides the node whose first output is `reader`."""
        tensor, nodes = self.tensor(name), self._model.proto.graph.node
        own = {out for index in self._nodes_behind(name) for out in nodes[index].output} | {reader}
        found: dict[str, None] = {}
        for each in (name, *self._behind(name)):
            made = self.tensor(each)
            if each != name and not (tensor and made and _is_most_of(made, tensor)):
                continue
            readers = self._readers.get(each, ())
            found.update((label, None) for output, label in readers if output not in own)
            if each in self._outputs:
                found["the graph's output"] = None
        return list(found)

    def freed(self, removed: Iterable[int]) -> int:
        """Bytes of all constants that are no longer read once nodes of these indices are gone."""
        nodes = [self._model.proto.graph.node[index] for index in removed]
        gone = {name for node in nodes for name in node.output}
        return self._unread([name for node in nodes for name in node.input], gone)

    def bytes_of(self, name: str) -> int:
        """Bytes of a constant, with those of all that it alone is made of."""
        root = self.root(name)
        if root in self._stored or root in self._sparse:
            return self._stored_bytes(root)
        node = self._model.proto.graph.node[self._makers[root]]
        return node.ByteSize() + self._unread(node.input, set(node.output))

    def _unread(self, names: Iterable[str], gone: set[str]) -> int:
        """Bytes of constants that nodes read which go, with their outputs, and no others do."""
        pending, counted, total = list(names), set[str](), 0
        gone = set(gone)
        while pending:
            name = pending.pop()
            readers = (output for output, _ in self._readers.get(name, ()))
            if name in counted or name in self._outputs or not set(readers) <= gone:
                continue
            if name in self._stored or name in self._sparse:
                counted.add(name)
                total += self._stored_bytes(name)
            elif self.tensor(name) is not None:
                counted.add(name)
                node = self._model.proto.graph.node[self._makers[name]]
                if all(other in counted or not self._readers.get(other) for other in node.output):
                    gone.update(node.output)
                    total += node.ByteSize()
                    pending.extend(node.input)
        return total

    def _stored_bytes(self, name: str) -> int:
        if name in self._sparse:
            return self._sparse[name].ByteSize()
        tensor = self._stored[name]
        return prod(tensor.dims) * item_bytes(tensor.data_type)

    def depends_on_inputs(self, name: str) -> bool:
        """Whether a tensor depends on what the model is fed."""
        return any(each in self._inputs for each in self._ancestors(name))

    def what(self, name: str) -> str:
        """What a tensor is that is none of these constants: an input of the graph, or computed."""
        given = self._defaults | self._inputs
        return "an input of the graph" if self.root(name) in given else "computed"

    def why_not(self, name: str, role: str) -> str:
        """Why a tensor is none of these constants.

        Args:
            name: The tensor.
            role: What a node takes it for, such as "bias".
        """
        ancestors = list(self._ancestors(name))
        if name in self._inputs:
            return f"its {role} {name} is an input of the graph"
        for each in ancestors:
            if each in self._defaults:
                verb = "is" if each == name else f"is computed of {each},"
                return (
                    f"its {role} {name} {verb} an input of the graph with a default; if no "
                    "caller overrides it, take it out of the inputs "
                    "(python -m onnxruntime.tools.remove_initializer_from_input)"
                )
        if self.depends_on_inputs(name):
            return f"its {role} {name} is computed of the model's inputs"
        unknown = [self._all_makers[each] for each in ancestors if each in self._all_makers]
        if any(node.op_type == "DequantizeLinear" for node in unknown):
            return f"its {role} is quantised (DequantizeLinear)"
        if not unknown:
            return f"its {role} {name} is made by nothing"
        return f"its {role} is computed in the graph by {unknown[-1].op_type}"

    def _ancestors(self, name: str) -> Iterator[str]:
        """A tensor and all that it is computed of, constants left out, nearest first."""
        pending, seen = [name], {name}
        while pending:
            each = pending.pop(0)
            if self.tensor(each) is not None:
                continue
            yield each
            if each in self._all_makers:
                fresh = [
                    other for other in used_names([self._all_makers[each]]) if other not in seen
                ]
                seen.update(fresh)
                pending.extend(filter(None, fresh))

    @cached_property
    def _all_makers(self) -> dict[str, NodeProto]:
        return makers(self._model.proto.graph)

    @cached_property
    def _readers(self) -> dict[str, list[tuple[str, str]]]:
        """By tensor, the first outputs and the labels of the nodes that read it.

        Of nodes inside bodies, the label alone.
        """
        found: dict[str, list[tuple[str, str]]] = {}
        for node in self._model.proto.graph.node:
            for name in dict.fromkeys(node.input):
                found.setdefault(name, []).append((first_output(node), node_label(node)))
            for body in bodies(node):
                for name, label in _reads_inside(body):
                    found.setdefault(name, []).append(("", label))
        return found

    def _computing(self, name: str) -> NodeProto | None:
        """The node that computes a constant."""
        if name not in self._depths:
            return None
        return self._model.proto.graph.node[self._makers[name]]

    def _behind(self, name: str) -> Iterator[str]:
        """The constants that a computed one is made of."""
        for index in self._nodes_behind(name):
            yield from filter(None, self._model.proto.graph.node[index].input)

    def _nodes_behind(self, name: str) -> list[int]:
        """The nodes that compute a constant, the last one first; of a stored one, none."""
        found: dict[int, None] = {}
        pending = [name]
        while pending:
            node = self._computing(each := pending.pop())
            if node is not None and self._makers[each] not in found:
                found[self._makers[each]] = None
                pending.extend(filter(None, node.input))
        return list(found)

    def _outline(self, name: str) -> TensorProto | None:
        """The type and shape of a constant that is computed or stored sparse; None if too large."""
        if name in self._sparse:
            kind, dims = self._sparse[name].values.data_type, self._sparse[name].dims
            return _outline_of(name, helper.make_tensor_type_proto(kind, dims))
        node = self._computing(name)
        if node is None:
            return None
        inputs = {each: tensor for each in node.input if each and (tensor := self.tensor(each))}
        if len(inputs) < len(set(filter(None, node.input))):
            return None
        kinds = {n: helper.make_tensor_type_proto(t.data_type, t.dims) for n, t in inputs.items()}
        values = {each: self.array(each) for each, tensor in inputs.items() if _is_small(tensor)}
        small = {n: numpy_helper.from_array(v, n) for n, v in values.items() if v is not None}
        opset = self._model.opset
        imports = [helper.make_opsetid("", opset)]
        try:
            schema = onnx.defs.get_schema(node.op_type, opset, "")
            found = onnx.shape_inference.infer_node_outputs(
                schema, node, kinds, small, opset_imports=imports, ir_version=_IR_VERSION
            )
        except Exception:  # several unrelated types; then nothing is known
            return None
        # All outputs of a node are computed together.
        outlines = {each: _outline_of(each, found.get(each)) for each in filter(None, node.output)}
        return None if None in outlines.values() else outlines[name]

    def _computed(self, name: str) -> np.ndarray | None:
        """What a node gives; None where the reference implementation cannot say."""
        node = self._computing(name)
        assert node is not None  # it has an outline
        arrays = {each: self.array(each) for each in node.input if each}
        inputs = {each: array for each, array in arrays.items() if array is not None}
        if len(inputs) < len(arrays):
            return None
        kinds = {n: helper.np_dtype_to_tensor_dtype(array.dtype) for n, array in inputs.items()}
        values = [helper.make_tensor_value_info(n, kinds[n], inputs[n].shape) for n in inputs]
        outputs = [ValueInfoProto(name=each) for each in node.output if each]
        graph = helper.make_graph([node], "constants", values, outputs)
        imports = [helper.make_opsetid("", self._model.opset)]
        model = helper.make_model(graph, opset_imports=imports, ir_version=_IR_VERSION)
        try:
            with np.errstate(all="ignore"):
                (found,) = ReferenceEvaluator(model).run([name], inputs)
        except Exception:  # several unrelated types
            return None
        # Of a Transpose, it gives a view.
        return np.asarray(found, order="C")


def _is_most_of(part: TensorProto, whole: TensorProto) -> bool:
    return 2 * prod(part.dims) >= prod(whole.dims)


def _reads_inside(graph: GraphProto) -> Iterator[tuple[str, str]]:
    """What nodes of a body read of the graphs around it, with their labels."""
    own = set(defined(graph))
    for node in graph.node:
        yield from ((name, node_label(node)) for name in node.input if name not in own)
        for body in bodies(node):
            yield from (pair for pair in _reads_inside(body) if pair[0] not in own)
    yield from ((output.name, "a body") for output in graph.output if output.name not in own)


def _is_small(tensor: TensorProto) -> bool:
    """Whether a tensor is small enough to be looked at whenever a shape may depend on it."""
    return prod(tensor.dims) <= _FEW


def _outline_of(name: str, kind: TypeProto | None) -> TensorProto | None:
    """A tensor's name, type and shape; None where they are not all known, or it is too large."""
    tensor = TypeProto.Tensor() if kind is None else kind.tensor_type
    if not (tensor.elem_type and tensor.HasField("shape")):
        return None
    if not all(axis.HasField("dim_value") for axis in tensor.shape.dim):
        return None
    dims = [axis.dim_value for axis in tensor.shape.dim]
    is_large = item_bytes(tensor.elem_type) * prod(dims) > _LARGEST
    return None if is_large else TensorProto(name=name, data_type=tensor.elem_type, dims=dims)
