"""Small operations on protobuf messages that several graph stages share."""

from collections.abc import Collection, Iterable, Iterator

from google.protobuf.message import Message
from onnx import GraphProto, ModelProto, NodeProto

_FIRST_IR_WITHOUT_INITIALIZERS_AS_INPUTS = 4


def copy_fields(source: Message, target: Message, skipped: Collection[str] = ()) -> None:
    """Copies every field that is set, except the skipped ones."""
    for field, value in source.ListFields():
        if field.name in skipped:
            continue
        if hasattr(value, "extend"):
            getattr(target, field.name).extend(value)
        elif isinstance(value, Message):
            getattr(target, field.name).CopyFrom(value)
        else:
            setattr(target, field.name, value)


def lists_initializers(proto: ModelProto) -> bool:
    """Whether initializers have to be inputs of the graph too, as before IR version 4."""
    return proto.ir_version < _FIRST_IR_WITHOUT_INITIALIZERS_AS_INPUTS


def bodies(node: NodeProto) -> Iterator[GraphProto]:
    """The graphs inside a node: branches of If, bodies of Loop and Scan."""
    for attribute in node.attribute:
        if attribute.HasField("g"):
            yield attribute.g
        yield from attribute.graphs


def used_names(nodes: Iterable[NodeProto]) -> Iterator[str]:
    """Names of all tensors that nodes read, inside their bodies too; repeated if read again.

    What a body defines itself is no tensor of the graph around it, even if it is called alike.
    """
    for node in nodes:
        yield from node.input
        for body in bodies(node):
            own = set(defined(body))
            read = (*used_names(body.node), *(output.name for output in body.output))
            yield from (name for name in read if name not in own)


def defined(graph: GraphProto) -> Iterator[str]:
    """Names of the tensors that a graph has of its own."""
    yield from (value.name for value in graph.input)
    yield from initialized(graph)
    for node in graph.node:
        yield from node.output


def initialized(graph: GraphProto) -> Iterator[str]:
    """Names of a graph's initializers, sparse ones too."""
    yield from (tensor.name for tensor in graph.initializer)
    yield from (tensor.values.name for tensor in graph.sparse_initializer)


def first_output(node: NodeProto) -> str:
    """The first output that a node has, for optional ones may be left out; else its own name."""
    return next((name for name in node.output if name), node.name)


def node_label(node: NodeProto) -> str:
    """What a node is called in a message."""
    return f"{node.op_type} {first_output(node)}".strip()


def set_metadata(proto: ModelProto, key: str, value: str) -> None:
    """Sets one metadata entry, in place."""
    for entry in proto.metadata_props:
        if entry.key == key:
            entry.value = value
            return
    proto.metadata_props.add(key=key, value=value)


class FreshNames:
    """Makes tensor and node names that a graph does not have yet."""

    def __init__(self, graph: GraphProto) -> None:
        self._taken: set[str] = set()
        self._take(graph)

    def _take(self, graph: GraphProto) -> None:
        self._taken.update(initialized(graph))
        self._taken.update(value.name for value in graph.input)
        for node in graph.node:
            self._taken.update((node.name, *node.input, *node.output))
            for body in bodies(node):
                self._take(body)

    def __call__(self, wanted: str) -> str:
        """The wanted name, or that name with a number behind it."""
        name, number = wanted, 2
        while name in self._taken:
            name, number = f"{wanted}_{number}", number + 1
        self._taken.add(name)
        return name
