"""Makes sure that every name in a graph is defined once, so that all readers mean the same tensor.

onnxruntime takes the last of several initializers of one name, and says so only in its log. Equal
ones come from some quantizers, and all but one of them go. Where they differ, or where a node
writes what is already there, nobody can say what was meant.
"""

from collections.abc import Iterator

from onnx import FunctionProto, GraphProto, ModelProto

from onnx_relusv.graph.protos import bodies, initialized


class Ambiguous(Exception):  # noqa: N818 - it is an answer about a graph; its caller knows the file
    """A name is defined twice; the message says which and by what."""


def define_once(proto: ModelProto) -> None:
    """Drops initializers that equal another one of their name, in place, bodies included.

    Raises:
        Ambiguous: A name is defined twice otherwise.
    """
    _define_once(proto.graph)
    for function in proto.functions:
        _check([("an input", name) for name in function.input], _written(function))
        for body in _bodies(function):
            _define_once(body)


def _define_once(graph: GraphProto) -> None:
    _drop_equal(graph)
    _check([("an initializer", name) for name in initialized(graph)], _written(graph))
    # An input may be an initializer too: a default, or before IR version 4 any constant.
    _check([("an input", value.name) for value in graph.input], _written(graph))
    for body in _bodies(graph):
        _define_once(body)


def _drop_equal(graph: GraphProto) -> None:
    """Takes those away that come again later on with the same values."""
    last = {tensor.name: index for index, tensor in enumerate(graph.initializer)}
    for index in reversed(range(len(graph.initializer))):
        tensor = graph.initializer[index]
        own = last[tensor.name]
        if index != own and tensor == graph.initializer[own]:
            del graph.initializer[index]
            last = {name: place - (place > index) for name, place in last.items()}


def _written(graph: GraphProto | FunctionProto) -> Iterator[tuple[str, str]]:
    for node in graph.node:
        yield from ((f"an output of {node.op_type}", name) for name in node.output if name)


def _bodies(graph: GraphProto | FunctionProto) -> Iterator[GraphProto]:
    for node in graph.node:
        yield from bodies(node)


def _check(given: list[tuple[str, str]], written: Iterator[tuple[str, str]]) -> None:
    known: dict[str, str] = {}
    for role, name in (*given, *written):
        if name in known:
            roles = dict.fromkeys((known[name], role))
            raise Ambiguous(f"{name} is defined twice, as {' and as '.join(roles)}")
        known[name] = role
