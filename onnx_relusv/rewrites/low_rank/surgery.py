"""Rewrites blocks as double layers; the original file keeps everything else.

Nodes that were in the file are copied from the file, byte for byte, and new nodes and initializers
are put beside them. What the new nodes are is said once, without numbers: so what they take in the
file is known before there are any.

A block by itself, as a model that reads the block's input and gives its output.

Dense, it consists of the block's own nodes and its activation; as a double layer, of the nodes that
surgery would put in their place. So each can be run, and timed, without the rest of the model.

Factors of any values: for the time that a double layer takes, values do not count.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from onnx import AttributeProto, ModelProto, NodeProto, TensorProto, helper, numpy_helper

from onnx_relusv.core.blocks import Block, Floats, Geometry, LinearMap, Runnable
from onnx_relusv.core.kinds import BlockKind, kind_of
from onnx_relusv.core.plans import Factors
from onnx_relusv.graph.checks import PROVENANCE_KEY
from onnx_relusv.graph.model import Model
from onnx_relusv.graph.nodes import node_attributes
from onnx_relusv.graph.protos import FreshNames, set_metadata
from onnx_relusv.graph.reference import runnable
from onnx_relusv.graph.segments import segment
from onnx_relusv.graph.writing import Attribute, transplant
from onnx_relusv.rewrites.low_rank.forms import FORMS


@dataclass(frozen=True)
class NewNode:
    """A node of the default domain; of attributes there are values, or copies from the file."""

    operator: str
    name: str
    inputs: tuple[str, ...]
    output: str
    attributes: Mapping[str, Attribute] = field(default_factory=dict)
    copied: tuple[AttributeProto, ...] = ()

    def proto(self) -> NodeProto:
        """As it is in the file; attributes in their order, which `make_node` does not keep."""
        made = helper.make_node(self.operator, self.inputs, [self.output], name=self.name)
        made.attribute.extend(helper.make_attribute(*one) for one in self.attributes.items())
        made.attribute.extend(self.copied)
        return made


class Replacement:
    """The nodes that take a block's place, and the names of the constants that they read.

    Args:
        block: The block.
        names: Makes names that the graph does not have yet.
        integers: Whether weights are 8-bit integers times a scale of every output channel.

    Attributes:
        nodes: In their order; what makes floats of stored weights comes first.
        weights: Names of the stored weights, one a layer.
        scales: Names of what they are multiplied with; none where they are floats.
        zeros: Names of the integers that stand for 0, of layers whose kernels take none without.
        bias: Name of the bias; None where there is none.
    """

    def __init__(
        self, block: Block, names: Callable[[str], str], *, integers: bool = False
    ) -> None:
        self._block, self._names, self._integers = block, names, integers
        self._casts: list[NewNode] = []
        self._layers: list[NewNode] = []
        self.weights: list[str] = []
        self.scales: list[str] = []
        self.zeros: dict[str, str] = {}
        self.bias: str | None = None

    @property
    def nodes(self) -> list[NewNode]:
        """All of them."""
        return [*self._casts, *self._layers]

    def add(
        self,
        name: str,
        layer: Geometry,
        tensors: tuple[str, str],
        *,
        biased: bool,
        role: str = "weight",
        copied: Sequence[AttributeProto] | None = None,
    ) -> None:
        """Adds the nodes of one layer.

        Args:
            name: Of its node.
            layer: The layer.
            tensors: What it reads and what it makes.
            biased: Whether it adds the bias.
            role: Of its weight, in names.
            copied: Attributes of its node; those that follow from the layer if None.
        """
        kind, key = kind_of(layer), self._block.key
        source, output = tensors
        attributes = kind.attributes(layer) if copied is None else {}
        said = {one.name: helper.get_attribute_value(one) for one in copied or ()}
        inputs = [source, self._weight(f"{key}/{role}", kind, said)]
        operator = kind.operator if biased else kind.unbiased_operator
        if biased:
            self.bias = self._names(f"{key}/bias")
        if self.bias is None or kind.adds_bias:
            inputs += [] if self.bias is None else [self.bias]
            product = output
        else:
            product = self._names(f"{key}/product")
        made = NewNode(operator, name, tuple(inputs), product, attributes, tuple(copied or ()))
        self._layers.append(made)
        if self.bias is not None and product != output:
            total = self._names(f"{key}/sum")
            self._layers.append(NewNode("Add", total, (product, self.bias), output))

    def _weight(self, name: str, kind: BlockKind, attributes: Mapping[str, object]) -> str:
        """A weight as its node reads it."""
        block, stored = self._block, self._names(name)
        self.weights.append(stored)
        if self._integers:
            read, node = self._names(f"{name}_read"), self._names(f"{name}_dequantized")
            inputs = [stored, self._names(f"{name}_scale")]
            self.scales.append(inputs[1])
            if not kind.spatial:
                # onnxruntime has integer kernels of matrices only where zero points are given.
                self.zeros[stored] = self._names(f"{name}_zero")
                inputs.append(self.zeros[stored])
            axis = {"axis": kind.output_axis(attributes)}
            self._casts.append(NewNode("DequantizeLinear", node, tuple(inputs), read, axis))
            return read
        if block.weight_type == block.element_type:
            return stored
        read, cast = self._names(f"{name}_read"), self._names(f"{name}_cast")
        self._casts.append(NewNode("Cast", cast, (stored,), read, {"to": int(block.element_type)}))
        return read

    def constants(
        self, weights: Iterable[Floats], bias: Floats, scales: Iterable[Floats] = ()
    ) -> list[TensorProto]:
        """The constants in numbers, each in the type in which it is stored; a bias as it is added.

        Args:
            weights: One a layer, as its node reads it, or as integers.
            bias: (out_channels,).
            scales: Of integers, one (out_channels,) a layer.
        """
        block = self._block
        stored_type = int(TensorProto.INT8) if self._integers else block.weight_type
        found = [
            _tensor(name, values, stored_type)
            for name, values in zip(self.weights, weights, strict=True)
        ]
        for weight, name, values in zip(self.weights, self.scales, scales, strict=False):
            found.append(_tensor(name, values, TensorProto.FLOAT))
            if weight in self.zeros:
                zeros = np.zeros(len(values))
                found.append(_tensor(self.zeros[weight], zeros, TensorProto.INT8))
        if self.bias is not None:
            found.append(_tensor(self.bias, bias, block.element_type))
        return found


def _tensor(name: str, values: Floats, element_type: int) -> TensorProto:
    dtype = helper.tensor_dtype_to_np_dtype(element_type)
    return numpy_helper.from_array(np.ascontiguousarray(values.astype(dtype)), name)


def double_layer_nodes(
    block: Block,
    layers: Sequence[Geometry],
    names: Callable[[str], str] = str,
    *,
    biased: bool,
    integers: bool = False,
) -> Replacement:
    """The nodes that compute the pre-activation from the source in linear layers.

    Args:
        block: The block.
        layers: Two or more.
        names: Makes names that the graph does not have yet.
        biased: Whether a bias is added; one of nothing but zeros is left out.
        integers: Whether weights are 8-bit integers.
    """
    key, found = block.key, Replacement(block, names, integers=integers)
    between = ["core" if place == 1 else f"core_{place}" for place in range(1, len(layers) - 1)]
    roles = ["first", *between, "second"]
    inner = [f"{key}/inner", *(f"{key}/{role}_inner" for role in between)]
    tensors = [block.source, *map(names, inner), block.pre_activation]
    for place, (role, layer) in enumerate(zip(roles, layers, strict=True)):
        found.add(
            names(f"{key}/{role}"),
            layer,
            (tensors[place], tensors[place + 1]),
            role=f"{role}_weight",
            biased=biased and place == len(layers) - 1,
        )
    return found


def rewrite(
    model: Model, blocks: Iterable[Block], factors: Mapping[str, Factors], provenance: str
) -> ModelProto:
    """Replaces blocks as `replaced` does, and says in the file where it comes from.

    Args:
        model: The original; it is not changed.
        blocks: Its blocks.
        factors: By block key, what replaces it; blocks without an entry stay.
        provenance: Stored in the metadata under ``onnx_relusv``.
    """
    result = replaced(model, blocks, factors)
    set_metadata(result, PROVENANCE_KEY, provenance)
    return result


def replaced(model: Model, blocks: Iterable[Block], factors: Mapping[str, Factors]) -> ModelProto:
    """Replaces blocks by double layers, or by themselves with other values.

    Args:
        model: The original; it is not changed.
        blocks: Its blocks.
        factors: By block key, what replaces it; blocks without an entry stay.

    Returns:
        The new model. Tensors that were external still point to the original's data.
    """
    original, names = model.proto.graph.node, FreshNames(model.proto.graph)
    instead: dict[int, list[NewNode]] = {}
    removed: set[int] = set()
    added: list[TensorProto] = []
    for block in blocks:
        if block.key in factors:
            removed.update(block.nodes)
            linear, own = original[block.nodes[0]], factors[block.key]
            make = _one_layer if FORMS[own.form].one_layer else _double_layer
            nodes, constants = make(linear, block, own, names)
            instead[block.nodes[0]] = nodes
            added += constants
    kept: list[NodeProto] = []
    for index, node in enumerate(original):
        if index in instead:
            kept.extend(new.proto() for new in instead[index])
        elif index not in removed:
            kept.append(node)
    return transplant(model.proto, kept, added)


_Made = tuple[list[NewNode], list[TensorProto]]


def _double_layer(linear: NodeProto, block: Block, factors: Factors, names: FreshNames) -> _Made:
    form, geometry, rank = FORMS[factors.form], block.geometry, factors.rank
    biased, layers = bool(np.any(factors.bias)), form.layers(geometry, rank)
    found = double_layer_nodes(block, layers, names, biased=biased, integers=factors.are_integers)
    matrices = _numbers(factors, form.as_layers(geometry, factors.matrices))
    weights = [
        kind_of(layer).stored(layer, own) for layer, own in zip(layers, matrices, strict=True)
    ]
    return found.nodes, found.constants(weights, factors.bias, _flat(factors.scales))


def _one_layer(linear: NodeProto, block: Block, factors: Factors, names: FreshNames) -> _Made:
    """The block's linear map with other values; what was folded into it is gone."""
    kind = kind_of(block.geometry)
    found = Replacement(block, names, integers=factors.are_integers)
    copied = [a for a in linear.attribute if a.name not in kind.folded]
    biased = kind.needs_bias or bool(np.any(factors.bias))
    tensors = linear.input[0], block.pre_activation
    found.add(linear.name, block.geometry, tensors, biased=biased, copied=copied)
    (matrix,) = _numbers(factors, factors.matrices)
    weight = kind.stored(block.geometry, matrix, node_attributes(linear))
    return found.nodes, found.constants([weight], factors.bias, _flat(factors.scales))


def _numbers(factors: Factors, layers: Sequence[Floats]) -> tuple[Floats, ...]:
    """Layers' matrices in the numbers that are stored: integers, where these have scales."""
    if not factors.are_integers:
        return tuple(layers)
    return tuple(
        np.rint(matrix / scale[:, :, None])
        for matrix, scale in zip(layers, factors.scales, strict=True)
    )


def _flat(scales: Iterable[Floats]) -> list[Floats]:
    return [scale.reshape(-1) for scale in scales]


@dataclass(frozen=True, eq=False)
class Isolated:
    """A block by itself; made by `isolated`.

    Attributes:
        model: The block's nodes as a model, which knows where the original's data lies.
        block: The block, its nodes numbered as in that model.
    """

    model: Model
    block: Block

    def dense(self) -> Runnable:
        """The block as it is."""
        return runnable(self.model)

    def double_layer(self, factors: Factors) -> Runnable:
        """The block with a double layer in its place."""
        return runnable(self.model, self.rewritten(factors))

    def rewritten(self, factors: Factors) -> ModelProto:
        """The same as a graph."""
        return rewrite(self.model, [self.block], {self.block.key: factors}, "")


def isolated(model: Model, block: Block, example: np.ndarray) -> Isolated:
    """Takes a block out of its model.

    Args:
        model: The model.
        block: One of its blocks.
        example: A value of the block's input, whose type and rank count.
    """
    part = segment(model, model.proto, {block.source: example}, [block.key])
    proto = ModelProto.FromString(part.model)
    original = model.proto.graph.node
    made = proto.graph.node
    places = {name: index for index, node in enumerate(made) for name in node.output}
    nodes = tuple(places[original[index].output[0]] for index in block.nodes)
    return Isolated(replace(model, proto=proto), replace(block, nodes=nodes))


def random_factors(
    form: str, geometry: Geometry, linear: LinearMap, rank: int, rng: np.random.Generator
) -> Factors:
    """Random factors about as large as their block, so that nothing overflows or fades away.

    Args:
        form: Name of the form.
        geometry: The block's geometry.
        linear: Its linear map, whose Frobenius norm the factors have together, on average.
        rank: Inner width, per group.
        rng: Draws the factors.

    Returns:
        Factors whose `level`, which is not computed, is 1. Their bias is nowhere zero, since a
        fitted one hardly ever is.
    """
    norm = float(np.linalg.norm(linear.weight))
    drawn = []
    for rows, columns in FORMS[form].shapes(geometry, rank):
        drawn.append(rng.standard_normal((geometry.groups, rows, columns)) / np.sqrt(columns))
    drawn[-1] *= norm / np.sqrt(geometry.groups * drawn[-1].shape[1])
    bias = np.where(linear.bias == 0, 1e-3, linear.bias)
    return Factors(form=form, rank=rank, matrices=tuple(drawn), bias=bias)
