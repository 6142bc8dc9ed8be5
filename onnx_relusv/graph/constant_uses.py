"""Every stored constant of a file with what reads it, in bodies and functions too.

Unlike `Constants` this leaves nothing out: integer and sparse tensors, attributes that hold
numbers, constants of bodies and of functions. What nodes compute of constants alone counts for
those that it is computed of.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from onnx import AttributeProto, GraphProto, NodeProto, SparseTensorProto, TensorProto

from onnx_relusv.graph.model import Model, external_location
from onnx_relusv.graph.protos import bodies, first_output, node_label

# Attributes of fewer bytes are settings.
_SETTING = 256
_DEQUANTIZING = ("DequantizeLinear",)


@dataclass(frozen=True)
class Reader:
    """A node that reads a constant, and not only to compute another one.

    Attributes:
        operator: With its domain where that is not the default one.
        key: The first output that it has.
        place: Its index in the main graph; None in bodies and functions.
        slot: Which of its inputs; -1 where its own attribute holds the numbers.
        inside: In words, the body or function that it is in; empty in the main graph.
    """

    operator: str
    key: str
    place: int | None
    slot: int
    inside: str


@dataclass(eq=False)
class StoredConstant:
    """Numbers in the file.

    Attributes:
        bytes: That they take there.
        element_type: ONNX element type; 0 where an attribute holds them as a list.
        rank: How many axes they have.
        quantised: Whether a DequantizeLinear stands behind them.
        readers: In the order of the nodes; none where nothing reads them.
    """

    bytes: int
    element_type: int
    rank: int
    quantised: bool = False
    readers: dict[tuple[str, str, str], Reader] = field(default_factory=dict)


_Known = Mapping[str, tuple[StoredConstant, ...]]


def stored_constants(model: Model) -> list[StoredConstant]:
    """All of a model's constants."""
    search = _Search()
    proto = model.proto
    search.graph(proto.graph, {}, "", is_main=True)
    for function in proto.functions:
        search.nodes(function.node, {}, f"the function {function.name}", is_main=False)
    return search.found


class _Search:
    def __init__(self) -> None:
        self.found: list[StoredConstant] = []
        self._places: set[tuple[str, int]] = set()

    def graph(self, graph: GraphProto, outer: _Known, inside: str, *, is_main: bool) -> None:
        """Goes through a graph; `outer` are the constants that it sees from outside."""
        known = dict(outer)
        for tensor in graph.initializer:
            known[tensor.name] = (self._of_tensor(tensor),)
        for sparse in graph.sparse_initializer:
            known[sparse.values.name] = (self._of_sparse(sparse),)
        self.nodes(graph.node, known, inside, is_main=is_main)

    def nodes(
        self, nodes: Iterable[NodeProto], outer: _Known, inside: str, *, is_main: bool
    ) -> None:
        """Goes through nodes in any order."""
        known, own = dict(outer), list(enumerate(nodes))
        for _, node in own:
            if node.op_type == "Constant":
                for attribute in node.attribute:
                    known[node.output[0]] = (self._of_attribute(attribute),)
        pending = [(index, node) for index, node in own if node.op_type != "Constant"]
        reading: list[tuple[int, NodeProto]] = []
        # A pass finds all that sorted nodes compute of constants; others take some more.
        while True:
            left = [each for each in pending if not _computes(each[1], known)]
            for _, node in pending:
                if _computes(node, known):
                    roots = tuple(
                        dict.fromkeys(root for name in node.input if name for root in known[name])
                    )
                    for root in roots:
                        root.quantised |= node.op_type in _DEQUANTIZING
                    known.update({name: roots for name in node.output if name})
            if len(left) == len(pending):
                reading = left
                break
            pending = left
        for index, node in reading:
            self._read(index, node, known, inside, is_main=is_main)

    def _read(
        self, index: int, node: NodeProto, known: _Known, inside: str, *, is_main: bool
    ) -> None:
        key = first_output(node) or node.name

        def reader(slot: int) -> Reader:
            return Reader(operator_name(node), key, index if is_main else None, slot, inside)

        for slot, name in enumerate(node.input):
            for root in known.get(name, ()) if name else ():
                root.readers.setdefault((operator_name(node), key, inside), reader(slot))
        for attribute in node.attribute:
            if attribute.HasField("g") or attribute.graphs:
                continue
            if attribute.ByteSize() >= _SETTING:
                constant = self._of_attribute(attribute)
                constant.readers[(operator_name(node), key, inside)] = reader(-1)
        within = inside or f"the body of {node_label(node)}"
        for body in bodies(node):
            self.graph(body, known, within, is_main=False)

    def _of_tensor(self, tensor: TensorProto) -> StoredConstant:
        return self._new(self._tensor_bytes(tensor), tensor.data_type, len(tensor.dims))

    def _of_sparse(self, sparse: SparseTensorProto) -> StoredConstant:
        size = self._tensor_bytes(sparse.values) + self._tensor_bytes(sparse.indices)
        return self._new(size, sparse.values.data_type, len(sparse.dims))

    def _of_attribute(self, attribute: AttributeProto) -> StoredConstant:
        if attribute.HasField("t"):
            return self._of_tensor(attribute.t)
        if attribute.HasField("sparse_tensor"):
            return self._of_sparse(attribute.sparse_tensor)
        kind = TensorProto.FLOAT if attribute.floats else 0
        return self._new(attribute.ByteSize(), kind, 1)

    def _tensor_bytes(self, tensor: TensorProto) -> int:
        if tensor.data_location != TensorProto.EXTERNAL:
            return len(tensor.raw_data) or tensor.ByteSize()
        location = external_location(tensor)
        place = location.file, location.offset
        # Several tensors may lie at one place.
        if place in self._places:
            return 0
        self._places.add(place)
        return location.length

    def _new(self, size: int, element_type: int, rank: int) -> StoredConstant:
        self.found.append(StoredConstant(size, element_type, rank))
        return self.found[-1]


def operator_name(node: NodeProto) -> str:
    """An operator with its domain where that is not the default one."""
    return node.op_type if node.domain in ("", "ai.onnx") else f"{node.domain}.{node.op_type}"


def _computes(node: NodeProto, known: _Known) -> bool:
    """Whether a node reads constants alone."""
    given = [name for name in node.input if name]
    return (
        bool(given) and all(name in known for name in given) and not any(True for _ in bodies(node))
    )
