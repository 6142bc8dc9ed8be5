"""What a model file has to be before anything is made of it.

Whatever protobuf can read may say anything: here it is looked at, so that later stages may rely on
it and a user is told in words what is wrong. What only onnxruntime can tell is left to it.
"""

from collections.abc import Iterator
from functools import cache
from math import prod

import numpy as np
import onnx
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, helper

from onnx_relusv.graph.protos import bodies

_STANDARD = ("", "ai.onnx")
# How files begin that are taken for models, and what to do with them.
_FOREIGN = (
    (b"\x1f\x8b", "it is compressed with gzip; unpack it first"),
    (b"PK\x03\x04", "it is a ZIP archive, as PyTorch saves models; export with torch.onnx.export"),
    (b"\x89HDF", "it is an HDF5 file, as Keras saves models; convert it with tf2onnx"),
    (
        b"version https://git-lfs",
        "it only stands for a file of Git LFS; fetch it with git lfs pull",
    ),
    (b"<", "it is a web page or other markup; download the file itself"),
    (b"{", "it is JSON; save the model in ONNX's binary format"),
    (b"ir_version:", "it is ONNX's text format; save it with onnx.save in the binary one"),
    (b"\x80\x02", "it is a Python pickle, which is never opened; export the model to ONNX"),
    (b"\x80\x04", "it is a Python pickle, which is never opened; export the model to ONNX"),
)
_FOREIGN_AT_4 = (
    (b"TFL3", "it is a TensorFlow Lite model; convert it with tf2onnx"),
    (b"ORTM", "it is onnxruntime's own format; give the .onnx file that it was made from"),
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
    **dict.fromkeys(
        (
            TensorProto.INT32,
            TensorProto.INT16,
            TensorProto.INT8,
            TensorProto.UINT16,
            TensorProto.UINT8,
            TensorProto.BOOL,
            TensorProto.FLOAT16,
            TensorProto.BFLOAT16,
        ),
        ("int32_data", 1),
    ),
}
_KNOWN_TYPES = frozenset(TensorProto.DataType.values()) - {TensorProto.UNDEFINED}
# Bytes of one input that are surely a mistake.
_LARGEST_INPUT = 1 << 40


def foreign(beginning: bytes) -> str | None:
    """What a file is that is no model, from its first bytes; None where that is not known."""
    for listed, start in ((_FOREIGN, beginning), (_FOREIGN_AT_4, beginning[4:])):
        for magic, words in listed:
            if start.startswith(magic):
                return words
    return None


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
    known = {"", *(value.name for value in graph.input)}
    known.update(tensor.name for tensor in graph.initializer)
    known.update(sparse.values.name for sparse in graph.sparse_initializer)
    for node in graph.node:
        known.update(node.output)
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
