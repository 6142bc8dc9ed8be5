"""Makes models that onnxruntime can open: with inner tensors as outputs, or dense references."""

from collections.abc import Iterable, Mapping

import numpy as np
from onnx import ModelProto, TensorProto, ValueInfoProto, helper

from onnx_relusv.graph.model import Model, node_tensors
from onnx_relusv.graph.protos import copy_fields, lists_initializers, used_names
from onnx_relusv.records import Runnable


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
    opened = ModelProto()
    copy_fields(source, opened)
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
    """Takes initializers away that nobody reads and that onnxruntime fails at.

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
    for entries in (proto.graph.initializer, proto.graph.input):
        for index in reversed(range(len(entries))):
            if entries[index].name in unused:
                del entries[index]


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
