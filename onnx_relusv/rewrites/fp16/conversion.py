"""A model in half precision: its constants, its nodes, and Casts where these meet float32.

Tensors keep their names in half precision, but for the outputs of the graph and what bodies read,
which are float32 under theirs. Casts stand right behind what they read, so the order of the nodes
stays topological. A constant is stored in half precision where that takes no more from it than
rounding: one that leaves the range, or whose numbers are so small that few bits are left of them,
stays as it is, with the nodes that read it.
"""

from collections.abc import Collection, Mapping
from functools import cached_property

import numpy as np
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from onnx_relusv.core.errors import InputError
from onnx_relusv.graph.constants import overridable_names
from onnx_relusv.graph.model import Model
from onnx_relusv.graph.nodes import is_standard
from onnx_relusv.graph.protos import (
    FreshNames,
    bodies,
    copied,
    copy_fields,
    first_output,
    held,
    lists_initializers,
    used_names,
)
from onnx_relusv.rewrites.fp16.operators import Types, halved_slots, of_whole_numbers, why_float
from onnx_relusv.rewrites.fp16.ranges import LARGEST, Losses

WHOLE = "computed of whole numbers alone"
# What a Cast takes besides names: smaller constants that float32 nodes alone read stay float32.
_CAST = 64
# What protobuf serialises in one piece, with room for all else.
_MOST_BYTES = (2 << 30) - (64 << 20)
# Where a number of each channel counts by itself, and not beside the others: by operator, the slot.
_ALONE = {"BatchNormalization": 4, "Div": 1, "Pow": 1}
# What is added to a product: however small, it is rounded by less than 3e-8.
_ADDED = {"Conv": 2, "ConvTranspose": 2, "Gemm": 2}


class HalfPrecision:
    """A model and the nodes of it that can compute in half precision.

    Args:
        proto: The model, derived from an original or that itself; it is not changed.
        model: The original, which knows where external data lies.
        staying: Nodes that are to stay float32, by the first tensor that each gives, with reasons.
        untouched: Nodes, likewise, whose constants stay float32 too.
    """

    def __init__(
        self,
        proto: ModelProto,
        model: Model,
        staying: Mapping[str, str],
        untouched: Collection[str] = (),
    ) -> None:
        self._proto, self._model = proto, model
        self._untouched = set(untouched)
        self._types = Types(proto)
        graph = proto.graph
        fixed = overridable_names(proto)
        self._stored = {
            tensor.name: tensor
            for tensor in graph.initializer
            if tensor.data_type == TensorProto.FLOAT and tensor.name not in fixed
        }
        for node in graph.node:
            tensor = held(node) if _is_constant(node) else None
            if tensor is not None and tensor.data_type == TensorProto.FLOAT:
                self._stored[node.output[0]] = tensor
        outputs = {value.name for value in graph.output}
        inside = {name for node in graph.node if any(bodies(node)) for name in used_names([node])}
        # These names are float32 for those that read them by name.
        self._bound = outputs | inside
        whole = of_whole_numbers(proto, self._types)
        self._losses: dict[tuple[str, bool, bool], str | None] = {}
        self._why: dict[int, str] = {}
        self._halved: dict[int, frozenset[str]] = {}
        for index, node in enumerate(graph.node):
            if _is_constant(node) or not self._computes(node):
                continue
            reason = staying.get(first_output(node)) or self._reason(node, whole)
            if reason is None:
                self._halved[index] = halved_slots(node, self._types)
            else:
                self._why[index] = reason

    def _computes(self, node: NodeProto) -> bool:
        return any(name and self._types.is_float(name) for name in (*node.input, *node.output))

    def _reason(self, node: NodeProto, whole: set[str]) -> str | None:
        if first_output(node) in self._untouched:
            return "left out by --include or --exclude"
        reason = why_float(node, self._types)
        if reason is not None:
            return reason
        if any(name in whole for name in node.output):
            return WHOLE
        for slot, name in enumerate(node.input):
            if name in self._stored:
                alone, added = (places.get(node.op_type) == slot for places in (_ALONE, _ADDED))
                lost = self._lost(name, alone=alone, added=added)
                if lost is not None:
                    return f"its constant {name} {lost}"
        return None

    def _lost(self, name: str, *, alone: bool = False, added: bool = False) -> str | None:
        """Why a constant cannot be stored in half precision; None where it can."""
        key = name, alone, added
        if key not in self._losses:
            losses = Losses(LARGEST)
            losses.add_all(self._model.array(self._stored[name]), alone=alone)
            self._losses[key] = losses.beyond if added else losses.problem
        return self._losses[key]

    @property
    def reasons(self) -> dict[str, str]:
        """The nodes that stay float32, by the first tensor that each gives, with the reason."""
        nodes = self._proto.graph.node
        return {first_output(nodes[index]): why for index, why in self._why.items()}

    @cached_property
    def halved(self) -> dict[str, tuple[str, ...]]:
        """By the first tensor that it gives, what float32 every halved node reads and gives."""
        nodes = self._proto.graph.node
        return {
            first_output(nodes[index]): tuple(
                dict.fromkeys(
                    name
                    for name in (*sorted(slots), *nodes[index].output)
                    if name not in self._stored and self._types.is_float(name)
                )
            )
            for index, slots in self._halved.items()
        }

    @cached_property
    def constants(self) -> frozenset[str]:
        """The constants that are stored in half precision."""
        nodes = self._proto.graph.node
        read = {name for slots in self._halved.values() for name in slots if name in self._stored}
        left_alone, others = set[str](), set[str]()
        for index, node in enumerate(nodes):
            if index in self._halved or _is_constant(node):
                continue
            names = {name for name in used_names([node]) if name in self._stored}
            known = self._types.parameters(node) is not None
            touched = first_output(node) not in self._untouched and known
            (others if touched else left_alone).update(names)
        worth = {
            name
            for name in others - left_alone - read
            if 2 * _numbers(self._stored[name]) > _CAST + 3 * len(name.encode())
            and self._lost(name) is None
        }
        return frozenset((read | worth) - {value.name for value in self._proto.graph.output})

    def converted(self, most: int = _MOST_BYTES) -> ModelProto:
        """The model in half precision, its constants in memory.

        Args:
            most: Bytes that these may take.

        Raises:
            InputError: They take more.
        """
        taken = sum(2 * _numbers(self._stored[name]) for name in self.constants)
        if taken > most:
            raise InputError(
                f"{self._model.name}: its weights take {taken:,} bytes in half precision, and "
                f"{most:,} are the most that are converted at once. Leave --precision fp16 away."
            )
        return _Written(
            self._proto, self._model, self._types, self._halved, self.constants, self._bound
        ).proto


class _Written:
    """The nodes and constants of a model in half precision, one after another."""

    def __init__(
        self,
        proto: ModelProto,
        model: Model,
        types: Types,
        halved: Mapping[int, frozenset[str]],
        constants: Collection[str],
        bound: Collection[str],
    ) -> None:
        self._types, self._bound, self._halved = types, bound, halved
        self._names = FreshNames(proto.graph)
        graph = proto.graph
        # Where tensors are in half precision before any Cast, under what name.
        self._half: dict[str, str] = {}
        self._full: dict[str, str] = {}
        self._nodes: list[NodeProto] = []
        self._readers = self._needs(graph.node)
        for name in constants:
            self._half[name] = self._half_name(name)
        for name in (*(one.name for one in graph.input), *(one.name for one in graph.initializer)):
            self._both(name)
        dropped: set[str] = set()
        for index, node in enumerate(graph.node):
            if _is_constant(node) and node.output[0] in constants:
                dropped.add(node.output[0])
                self._both(node.output[0])
                continue
            self._add(node, self._halved.get(index))
        self.proto = copied(proto, skipped={"graph"})
        result = self.proto.graph
        replaced = {"node", "initializer", "input", "value_info"}
        copy_fields(graph, result, skipped=replaced)
        result.node.extend(self._nodes)
        for tensor in graph.initializer:
            if tensor.name in constants:
                tensor = self._rounded(model, tensor, tensor.name)
            result.initializer.append(tensor)
        listed = []
        for node in graph.node:
            own = held(node) if _is_constant(node) else None
            if own is not None and node.output[0] in dropped:
                listed.append(self._rounded(model, own, node.output[0]))
        result.initializer.extend(listed)
        for value in graph.input:
            entry = copied(value)
            if value.name in constants:
                entry.type.tensor_type.elem_type = TensorProto.FLOAT16
                entry.name = self._half[value.name]
            result.input.append(entry)
        if lists_initializers(proto):
            result.input.extend(
                helper.make_tensor_value_info(one.name, one.data_type, one.dims) for one in listed
            )
        there = {name for node in result.node for name in node.output}
        for value in graph.value_info:
            entry = copied(value)
            if self._half.get(value.name) == value.name:
                entry.type.tensor_type.elem_type = TensorProto.FLOAT16
            if value.name in there:
                result.value_info.append(entry)

    def _rounded(self, model: Model, tensor: TensorProto, name: str) -> TensorProto:
        return numpy_helper.from_array(model.array(tensor).astype(np.float16), self._half[name])

    def _needs(self, nodes: Collection[NodeProto]) -> dict[str, set[bool]]:
        """By tensor, whether it is read in half precision, and whether as float32."""
        found: dict[str, set[bool]] = {name: {False} for name in self._bound}
        for index, node in enumerate(nodes):
            slots = self._halved.get(index, frozenset())
            for name in node.input:
                if self._types.is_float(name):
                    found.setdefault(name, set()).add(name in slots)
        return found

    def _half_name(self, name: str) -> str:
        return self._names(f"{name}_fp16") if name in self._bound else name

    def _both(self, name: str) -> None:
        """Puts a Cast behind a tensor that is there, where it is read in the other type too."""
        needs = self._readers.get(name, set())
        if name in self._half and name not in self._full and False in needs:
            self._full[name] = name if name in self._bound else self._names(f"{name}_fp32")
            self._nodes.append(_cast(self._half[name], self._full[name], TensorProto.FLOAT))
        elif name not in self._half and True in needs:
            self._half[name] = self._names(f"{name}_fp16")
            self._full[name] = name
            self._nodes.append(_cast(name, self._half[name], TensorProto.FLOAT16))

    def _add(self, node: NodeProto, slots: frozenset[str] | None) -> None:
        floats = [name for name in node.output if name and self._types.is_float(name)]
        if slots is not None and node.op_type == "Cast" and floats:
            source = node.input[0]
            if self._types.of(source) == TensorProto.FLOAT16:
                # It is there in half precision already.
                self._half[floats[0]] = source
                self._both(floats[0])
                return
        own = copied(node, skipped={"input", "output"})
        if slots is None:
            own.input.extend(self._full.get(name, name) for name in node.input)
            own.output.extend(node.output)
        else:
            for name in floats:
                self._half[name] = self._half_name(name)
            own.input.extend(
                self._half[name] if name in slots else self._full.get(name, name)
                for name in node.input
            )
            own.output.extend(self._half.get(name, name) for name in node.output)
            for attribute in own.attribute if node.op_type == "Cast" and floats else ():
                if attribute.name == "to":
                    attribute.i = TensorProto.FLOAT16
        self._nodes.append(own)
        for name in floats:
            self._both(name)


def in_half(
    proto: ModelProto,
    model: Model,
    staying: Mapping[str, str],
    untouched: Collection[str] = (),
) -> ModelProto:
    """A model in half precision; arguments as of `HalfPrecision`."""
    return HalfPrecision(proto, model, staying, untouched).converted()


def _cast(source: str, target: str, kind: int) -> NodeProto:
    return helper.make_node("Cast", [source], [target], to=kind)


def _is_constant(node: NodeProto) -> bool:
    return node.op_type == "Constant" and is_standard(node) and bool(node.attribute)


def _numbers(tensor: TensorProto) -> int:
    return int(np.prod(tensor.dims, dtype=np.int64))
