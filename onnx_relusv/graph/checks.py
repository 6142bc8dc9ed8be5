"""Checks of a model file that need no run: the ONNX checker, operand lengths, the signature."""

from collections.abc import Iterator, Mapping
from pathlib import Path

import onnx
from onnx import ModelProto, NodeProto, ValueInfoProto

from onnx_relusv.graph.model import Model

PROVENANCE_KEY = "onnx_relusv"

Dims = tuple[int | None, ...]


def checker_problem(path: Path) -> str | None:
    """What ONNX's full check with strict shape inference says of a file; None if nothing."""
    try:
        onnx.checker.check_model(str(path), full_check=True)
    except Exception as error:  # the checker raises several unrelated types
        return str(error).strip() or type(error).__name__
    return None


def operand_problems(proto: ModelProto) -> list[str]:
    """Per-channel operands whose length does not fit the channels they serve.

    The ONNX checker is content with a Conv bias that is too short; onnxruntime then reads past its
    end. Checked are the biases of Conv, ConvTranspose and Gemm, the four vectors of
    BatchNormalization and the slopes of PRelu, wherever shapes are known.
    """
    dims = _known_dims(proto)
    return [problem for node in proto.graph.node for problem in _node_problems(node, dims)]


def _known_dims(proto: ModelProto) -> dict[str, Dims]:
    try:
        inferred = onnx.shape_inference.infer_shapes(proto).graph
    except Exception:  # too large for inference in memory; what the file itself says remains
        inferred = proto.graph
    dims: dict[str, Dims] = {}
    for value in (*inferred.input, *inferred.value_info, *inferred.output):
        if value.type.HasField("tensor_type") and value.type.tensor_type.HasField("shape"):
            dims[value.name] = tuple(
                axis.dim_value if axis.HasField("dim_value") else None
                for axis in value.type.tensor_type.shape.dim
            )
    dims.update({t.name: tuple(t.dims) for t in proto.graph.initializer})
    for node in proto.graph.node:
        if node.op_type == "Constant" and node.attribute and node.attribute[0].name == "value":
            dims[node.output[0]] = tuple(node.attribute[0].t.dims)
        elif node.op_type == "Identity" and node.input[0] in dims:
            dims[node.output[0]] = dims[node.input[0]]
    return dims


def _node_problems(node: NodeProto, dims: Mapping[str, Dims]) -> Iterator[str]:
    def operand(slot: int) -> Dims | None:
        name = node.input[slot] if len(node.input) > slot else ""
        return dims.get(name) if name else None

    def problem(slot: int, wanted: int) -> str:
        return (
            f"{node.op_type} {node.output[0]}: {node.input[slot]} has shape {operand(slot)}, "
            f"but serves {wanted} channels"
        )

    def lengths(slot: int) -> Dims | None:
        dims = operand(slot)
        return None if dims is None or None in dims else dims

    weight = operand(1)
    integers = {a.name: a.i for a in node.attribute}
    if node.op_type in ("Conv", "ConvTranspose") and weight:
        channels = weight[0 if node.op_type == "Conv" else 1]
        if channels is not None and lengths(2) is not None:
            channels *= 1 if node.op_type == "Conv" else integers.get("group", 1)
            if lengths(2) != (channels,):
                yield problem(2, channels)
    elif node.op_type == "Gemm" and weight and len(weight) == 2 and lengths(2):
        channels = weight[0] if integers.get("transB", 0) else weight[1]
        if channels is not None and (lengths(2) or (1,))[-1] not in (1, channels):
            yield problem(2, channels)
    elif node.op_type == "BatchNormalization" and integers.get("spatial", 1):
        source = operand(0)
        channels = source[1] if source and len(source) > 1 else None
        for slot in range(1, 5):
            if channels is not None and lengths(slot) not in (None, (channels,)):
                yield problem(slot, channels)
    elif node.op_type == "PRelu":
        source, slope = operand(0), lengths(1)
        if source and slope and len(slope) <= len(source):
            tail = source[len(source) - len(slope) :]
            for wanted, given in zip(tail, slope, strict=True):
                if given != 1 and wanted is not None and given != wanted:
                    yield problem(1, wanted)


def signature_differences(before: Model, after: ModelProto) -> list[str]:
    """What a caller would notice: inputs, outputs, opsets, metadata, in words; empty if nothing."""
    found: list[str] = []
    initialized = {t.name for proto in (before.proto, after) for t in proto.graph.initializer}
    for role in ("input", "output"):
        old = [_value(v) for v in getattr(before.proto.graph, role) if v.name not in initialized]
        new = [_value(v) for v in getattr(after.graph, role) if v.name not in initialized]
        if old != new:
            found.append(f"the {role}s differ")
    if _opsets(before.proto) != _opsets(after):
        found.append("the operator sets differ")
    if before.proto.ir_version != after.ir_version:
        found.append("the IR versions differ")
    if list(before.proto.functions) != list(after.functions):
        found.append("the functions differ")
    old_metadata, new_metadata = _metadata(before.proto), _metadata(after)
    old_metadata.pop(PROVENANCE_KEY, None)
    if any(new_metadata.get(key) != value for key, value in old_metadata.items()):
        found.append("metadata entries are lost")
    if set(new_metadata) - set(old_metadata) - {PROVENANCE_KEY}:
        found.append("metadata entries are new")
    return found


def _value(value: ValueInfoProto) -> bytes:
    return value.SerializeToString(deterministic=True)


def _opsets(proto: ModelProto) -> dict[str, int]:
    return {entry.domain: entry.version for entry in proto.opset_import}


def _metadata(proto: ModelProto) -> dict[str, str]:
    return {entry.key: entry.value for entry in proto.metadata_props}
