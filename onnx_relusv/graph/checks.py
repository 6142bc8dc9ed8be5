"""Checks of a model that need no run.

`file_problem` looks at a file before anything is made of it, so that later stages may rely on it,
for whatever protobuf can read may say anything; what only onnxruntime can tell is left to it. The
ONNX checker, the lengths of operands and the signature are for files that were written.
"""

from collections.abc import Iterator, Mapping
from functools import cache
from math import prod
from pathlib import Path

import numpy as np
import onnx
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, helper

from onnx_relusv.graph.protos import Dims, bodies, declared_shape, defined

PROVENANCE_KEY = "onnx_relusv"

_STANDARD = ("", "ai.onnx")
_PICKLE = "it is a Python pickle, which is never opened; export the model to ONNX"
# How files begin that are taken for models, from which byte on, and what to do with them.
_FOREIGN = (
    (0, b"\x1f\x8b", "it is compressed with gzip; unpack it first"),
    (
        0,
        b"PK\x03\x04",
        "it is a ZIP archive, as PyTorch saves models; export with torch.onnx.export",
    ),
    (0, b"\x89HDF", "it is an HDF5 file, as Keras saves models; convert it with tf2onnx"),
    (
        0,
        b"version https://git-lfs",
        "it only stands for a file of Git LFS; fetch it with git lfs pull",
    ),
    (0, b"<", "it is a web page or other markup; download the file itself"),
    (0, b"{", "it is JSON; save the model in ONNX's binary format"),
    (0, b"ir_version:", "it is ONNX's text format; save it with onnx.save in the binary one"),
    (0, b"\x80\x02", _PICKLE),
    (0, b"\x80\x04", _PICKLE),
    (4, b"TFL3", "it is a TensorFlow Lite model; convert it with tf2onnx"),
    (4, b"ORTM", "it is onnxruntime's own format; give the .onnx file that it was made from"),
)
# A typed field holds values of these types, and how many of its entries make one.
_FIELDS: dict[int, tuple[str, int]] = {
    TensorProto.FLOAT: ("float_data", 1),
    TensorProto.COMPLEX64: ("float_data", 2),
    TensorProto.DOUBLE: ("double_data", 1),
    TensorProto.COMPLEX128: ("double_data", 2),
    TensorProto.INT64: ("int64_data", 1),
    TensorProto.UINT32: ("uint64_data", 1),
    TensorProto.UINT64: ("uint64_data", 1),
    TensorProto.STRING: ("string_data", 1),
    TensorProto.INT32: ("int32_data", 1),
    TensorProto.INT16: ("int32_data", 1),
    TensorProto.INT8: ("int32_data", 1),
    TensorProto.UINT16: ("int32_data", 1),
    TensorProto.UINT8: ("int32_data", 1),
    TensorProto.BOOL: ("int32_data", 1),
    TensorProto.FLOAT16: ("int32_data", 1),
    TensorProto.BFLOAT16: ("int32_data", 1),
}
_KNOWN_TYPES = frozenset(TensorProto.DataType.values()) - {TensorProto.UNDEFINED}
# Bytes of one input that are surely a mistake.
_LARGEST_INPUT = 1 << 40


def foreign(beginning: bytes) -> str | None:
    """What a file is that is no model, from its first bytes; None where that is not known."""
    return next(
        (words for start, magic, words in _FOREIGN if beginning.startswith(magic, start)), None
    )


def file_problem(proto: ModelProto) -> str | None:
    """What is wrong with a model's content, in words that follow its path; None if nothing is."""
    return next(_problems(proto), None)


def _problems(proto: ModelProto) -> Iterator[str]:
    newest = onnx.defs.onnx_opset_version()
    versions = {entry.domain: entry.version for entry in proto.opset_import}
    opset = versions.get("", versions.get("ai.onnx", 0))
    if opset > newest:
        yield (
            f"opset {opset} is newer than {newest}, the newest that the installed onnx "
            f"{onnx.__version__} knows. Upgrade onnx and onnxruntime, or export with an older one"
        )
    if not 1 <= proto.ir_version <= onnx.IR_VERSION:
        yield (
            f"IR version {proto.ir_version} is none of 1 to {onnx.IR_VERSION}, which the "
            f"installed onnx {onnx.__version__} knows. Upgrade onnx and onnxruntime, or export "
            "the model again"
        )
    own = {function.name for function in proto.functions if function.domain in _STANDARD}
    yield from _graph_problems(proto.graph, opset, own)
    yield from _unknown_names(proto.graph)
    for value in proto.graph.input:
        yield from _input_problems(value)


def _unknown_names(graph: GraphProto) -> Iterator[str]:
    known = {"", *defined(graph)}
    for node in graph.node:
        for name in node.input:
            if name not in known:
                yield f"the node {node.op_type} reads {name}, which nothing makes"
    for value in graph.output:
        if value.name not in known:
            yield f"its output {value.name} is made by nothing"


def _graph_problems(graph: GraphProto, opset: int, functions: set[str]) -> Iterator[str]:
    for node in graph.node:
        yield from _damage_of_node(node, opset, functions)
        for body in bodies(node):
            yield from _graph_problems(body, opset, functions)
        for attribute in node.attribute:
            if attribute.HasField("t"):
                yield from tensor_problems(attribute.t, f"attribute {attribute.name}")
    for tensor in graph.initializer:
        if not tensor.name:
            yield "an initializer has no name. Export the model again"
        yield from tensor_problems(tensor, f"tensor {tensor.name}")
    for sparse in graph.sparse_initializer:
        yield from tensor_problems(sparse.values, f"tensor {sparse.values.name}")
        yield from tensor_problems(sparse.indices, f"indices of tensor {sparse.values.name}")


def _damage_of_node(node: NodeProto, opset: int, functions: set[str]) -> Iterator[str]:
    # Protobuf hands on as bytes what should be text and is none.
    names = (node.op_type, *node.input, *node.output, *(each.name for each in node.attribute))
    if not all(isinstance(name, str) for name in names):
        yield "a name in it is no text, so the file is damaged. Copy it again"
    where = f"the node {node.op_type} {next(iter(node.output), node.name)}".rstrip()
    if node.domain not in _STANDARD or node.op_type in functions:
        return
    arity = _arity(node.op_type, opset)
    if arity is None:  # onnxruntime has a few of its own under this domain
        return
    for what, count, least, most in (
        ("inputs", len(node.input), *arity[:2]),
        ("outputs", len(node.output), *arity[2:]),
    ):
        if not least <= count <= most:
            yield f"{where} has {count} {what}, but {node.op_type} takes {least} to {most} of them"


@cache
def _arity(operator: str, opset: int) -> tuple[int, int, int, int] | None:
    """The least and most inputs and outputs of a standard operator; None for one that is none."""
    try:
        schema = onnx.defs.get_schema(operator, opset, "")
    except onnx.defs.SchemaError:
        return None
    return schema.min_input, schema.max_input, schema.min_output, schema.max_output


def tensor_problems(tensor: TensorProto, where: str) -> Iterator[str]:
    """What is wrong with a tensor: its type, its shape, or the length of its data."""
    if tensor.data_type not in _KNOWN_TYPES:
        yield f"{where} has the element type {tensor.data_type}, which is none"
        return
    if any(length < 0 for length in tensor.dims):
        yield f"{where} has the shape {tuple(tensor.dims)}"
        return
    if tensor.data_location == TensorProto.EXTERNAL or tensor.HasField("segment"):
        return
    count = prod(tensor.dims)
    held, expected = _held(tensor, count)
    if held != expected:
        yield (
            f"{where} has the shape {tuple(tensor.dims)}, which takes {expected} "
            f"{'bytes' if tensor.HasField('raw_data') else 'entries'}, but {held} are there. Copy "
            "the file again"
        )


def _held(tensor: TensorProto, count: int) -> tuple[int, int]:
    """How many bytes or entries a tensor has, and how many it has to have."""
    if tensor.HasField("raw_data"):
        dtype = np.dtype(helper.tensor_dtype_to_np_dtype(tensor.data_type))
        # Of types whose values share a byte only onnx knows how they are packed.
        if tensor.data_type in _FIELDS and tensor.data_type != TensorProto.STRING:
            return len(tensor.raw_data), count * dtype.itemsize
    elif tensor.data_type in _FIELDS:
        field, each = _FIELDS[tensor.data_type]
        return len(getattr(tensor, field)), count * each
    return 0, 0


def _input_problems(value: onnx.ValueInfoProto) -> Iterator[str]:
    if not value.type.HasField("tensor_type"):
        return
    tensor = value.type.tensor_type
    if tensor.elem_type not in (*_KNOWN_TYPES, TensorProto.UNDEFINED):
        yield f"input {value.name} has the element type {tensor.elem_type}, which is none"
    count = prod(axis.dim_value for axis in tensor.shape.dim if axis.dim_value > 0)
    if count > _LARGEST_INPUT:
        yield f"input {value.name} has {count} values. Export the model with smaller inputs"


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
        shape = declared_shape(value.type)
        if shape is not None:
            dims[value.name] = shape
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


def signature_differences(before: ModelProto, after: ModelProto) -> list[str]:
    """What a caller would notice: inputs, outputs, opsets, metadata, in words; empty if nothing."""
    initialized = {t.name for proto in (before, after) for t in proto.graph.initializer}

    def said(proto: ModelProto) -> dict[str, object]:
        graph = proto.graph
        return {
            "inputs": [value for value in graph.input if value.name not in initialized],
            "outputs": [value for value in graph.output if value.name not in initialized],
            "operator sets": {entry.domain: entry.version for entry in proto.opset_import},
            "IR versions": proto.ir_version,
            "functions": list(proto.functions),
        }

    old, new = said(before), said(after)
    found = [f"the {what} differ" for what in old if old[what] != new[what]]
    old_metadata, new_metadata = (
        {entry.key: entry.value for entry in proto.metadata_props} for proto in (before, after)
    )
    old_metadata.pop(PROVENANCE_KEY, None)
    if any(new_metadata.get(key) != value for key, value in old_metadata.items()):
        found.append("metadata entries are lost")
    if set(new_metadata) - set(old_metadata) - {PROVENANCE_KEY}:
        found.append("metadata entries are new")
    return found
