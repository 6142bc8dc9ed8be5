"""Puts edited nodes and new constants into a copy of everything else that a file has."""

from collections.abc import Iterable, Sequence

from onnx import ModelProto, NodeProto, TensorProto, helper

from onnx_relusv.graph.protos import copy_fields, initialized, lists_initializers, used_names


def transplant(
    original: ModelProto, nodes: Sequence[NodeProto], constants: Iterable[TensorProto]
) -> ModelProto:
    """A model with other nodes; what nobody reads any more goes, nodes and initializers.

    Args:
        original: It is not changed.
        nodes: All of the result, in topological order.
        constants: New initializers.
    """
    result = ModelProto()
    copy_fields(original, result, skipped={"graph"})
    old, graph = original.graph, result.graph
    replaced = {"node", "initializer", "sparse_initializer", "input", "value_info"}
    copy_fields(old, graph, skipped=replaced)

    outputs = {output.name for output in old.output}
    used_before = set(used_names(old.node)) | outputs
    left, used = _without_idle(nodes, used_before, outputs)
    graph.node.extend(left)

    def stays(name: str) -> bool:
        return name in used or name not in used_before

    added = list(constants)
    dropped = {name for name in initialized(old) if not stays(name)}
    graph.initializer.extend(t for t in old.initializer if t.name not in dropped)
    graph.sparse_initializer.extend(
        t for t in old.sparse_initializer if t.values.name not in dropped
    )
    graph.initializer.extend(added)
    graph.input.extend(value for value in old.input if value.name not in dropped)
    if lists_initializers(original):
        graph.input.extend(
            helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims)
            for tensor in added
        )
    known = {name for node in graph.node for name in node.output}
    known.update(value.name for value in graph.input)
    known.update(initialized(graph))
    graph.value_info.extend(value for value in old.value_info if value.name in known)
    return result


def _without_idle(
    nodes: Sequence[NodeProto], used_before: set[str], outputs: set[str]
) -> tuple[list[NodeProto], set[str]]:
    """Drops the nodes whose only readers are gone, and lists what is read.

    So go those that computed a weight, or a shape, which now is another constant. What nobody read
    in the original either is none of our business and stays.
    """
    left = list(nodes)
    while True:
        used = set(used_names(left)) | outputs
        kept = [
            node
            for node in left
            if not any(node.output)
            or any(name and (name in used or name not in used_before) for name in node.output)
        ]
        if len(kept) == len(left):
            return left, used
        left = kept
