"""Where a model's bytes lie, by operator: what blocks hold, what they do not, and why.

Every stored constant of a file with what reads it, in bodies and functions too.

Unlike `Constants` this leaves nothing out: integer and sparse tensors, attributes that hold
numbers, constants of bodies and of functions. What nodes compute of constants alone counts for
those that it is computed of.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from onnx import AttributeProto, GraphProto, NodeProto, SparseTensorProto, TensorProto

from onnx_relusv.core.blocks import Block, Refusal
from onnx_relusv.core.errors import Coverage, CoverageRow
from onnx_relusv.graph.model import Model, external_location
from onnx_relusv.graph.nodes import FLOAT_TYPES
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


_EXAMPLES = 3
# Constants of fewer bytes, and of a smaller share of the file, are told together.
_SMALL, _SMALL_SHARE = 1024, 0.005

_QUANTISE = "storing it in int8 or float16 saves what ranks cannot"
_BEFORE = "compress the model as it was before it was {}"
_RECURRENT = ("GRU", "LSTM", "RNN")
_LOOKUPS = ("Gather", "GatherElements", "GatherND", "EmbedLayerNormalization")
_NORMALISING = (
    "BatchNormalization",
    "GroupNormalization",
    "InstanceNormalization",
    "LayerNormalization",
    "RMSNormalization",
)
_SHAPING = (
    "ConstantOfShape",
    "Expand",
    "Pad",
    "Reshape",
    "Resize",
    "Slice",
    "Split",
    "Squeeze",
    "Tile",
    "Unsqueeze",
)
# What a refusal's text holds: what is said of all of its kind, and what can be done.
_KINDS = (
    (
        "also serves",
        "a weight that several operators share",
        "give each its own copy, or leave it",
    ),
    ("quantised", "quantised weights", _BEFORE.format("quantised")),
    (
        "is of type",
        "weights of whole numbers, or of a type that is not read",
        _BEFORE.format("quantised"),
    ),
    (
        "with a default",
        "an initializer that callers may override",
        "take it out of the inputs (python -m onnxruntime.tools.remove_initializer_from_input)",
    ),
    ("is an input of the graph", "its weight is an input", "make it an initializer"),
    (
        "depthwise",
        "depthwise kernels, which have no rank to lose",
        "--method harmonic may remove channels of theirs",
    ),
    ("NaN or infinite", "NaN or infinite weights", "repair the weights and export again"),
    ("reach", "weights too large to be squared in float32", "scale the layer down"),
    ("shapes could not be measured", "its shapes could not be measured", "name --samples"),
    ("is sparse", "sparse weights", "store them dense"),
    (
        "spatial axes",
        "a Conv with one and two spatial axes alone is read",
        "storing it in float16",
    ),
)


@dataclass(eq=False)
class _Row:
    """What shares an operator and a reason."""

    advice: str
    bytes: int = 0
    readers: dict[Reader, None] = field(default_factory=dict)
    reasons: dict[str, None] = field(default_factory=dict)


def coverage(
    model: Model,
    blocks: Iterable[Block],
    refusals: Iterable[Refusal],
    staying: Mapping[str, str] | None = None,
) -> Coverage:
    """Says of all constants of a model where they are.

    Args:
        model: The model.
        blocks: Found in it.
        refusals: What looks like blocks and is none.
        staying: By block key, why blocks stay though they are some; none if None.
    """
    return _Sorting(model, blocks, refusals, staying or {}).coverage()


class _Sorting:
    def __init__(
        self,
        model: Model,
        blocks: Iterable[Block],
        refusals: Iterable[Refusal],
        staying: Mapping[str, str],
    ) -> None:
        self._model = model
        self._blocks = {index: block for block in blocks for index in block.nodes}
        self._refusals = {refusal.key: refusal.reason for refusal in refusals}
        self._staying = staying
        self._functions = {f"{f.domain}.{f.name}" for f in model.proto.functions}
        self._rows: dict[tuple[str, bool, str], _Row] = {}

    def coverage(self) -> Coverage:
        small: list[StoredConstant] = []
        for constant in stored_constants(self._model):
            if self._is_small(constant):
                small.append(constant)
            else:
                self._add(constant)
        self._add_small(small)
        rows = [self._row(*each) for each in self._rows.items()]
        rows.sort(key=lambda row: (not row.covered, -row.bytes, row.operator))
        return Coverage(rows=tuple(rows), total_bytes=self._model.bytes)

    def _is_small(self, constant: StoredConstant) -> bool:
        if constant.bytes >= max(_SMALL, _SMALL_SHARE * self._model.bytes):
            return False
        held = any(
            self._block(reader) or reader.key in self._refusals for reader in _read(constant)
        )
        # Of a small model everything is small: a matrix or an operator of another set is named.
        named = constant.rank > 1 and constant.element_type in FLOAT_TYPES
        named |= any("." in reader.operator for reader in _read(constant))
        return not held and not named

    def _add(self, constant: StoredConstant) -> None:
        readers = _read(constant)
        if not readers:
            self._put("(none)", False, "nothing reads them", "remove them", constant, "")
            return
        blocks = {block.key: block for one in readers if (block := self._block(one)) is not None}
        first = readers[0]
        if len(blocks) == 1 and all(map(self._block, readers)):
            (key,) = blocks
            reason = self._staying.get(key)
            if reason is None:
                self._put(first.operator, True, "in blocks", "", constant, "")
            else:
                self._put(first.operator, False, f"in blocks, but {reason}", "", constant, "")
            return
        operator = first.operator
        reason, advice = self._why(constant, first)
        if len(readers) > 1 and first.key not in self._refusals and first.slot > 0:
            reason += "; read by several"
        if first.inside:
            operator = f"{operator} in {first.inside}"
        said = "" if first.inside else self._refusals.get(first.key, "")
        self._put(operator, False, reason, advice, constant, said)

    def _why(self, constant: StoredConstant, reader: Reader) -> tuple[str, str]:
        """Why a constant outside of blocks stays, and what can be done about it."""
        operator = reader.operator
        if reader.inside:
            what = "a function's body" if "function" in reader.inside else "a control-flow body"
            remedy = "inline it" if "function" in reader.inside else "unroll or simplify it"
            return f"{what}, which is not looked into", f"{remedy} (onnxsim, onnx.inliner)"
        if operator in self._functions:
            return "handed to a function, which is not looked into", "inline it (onnx.inliner)"
        if operator in _RECURRENT:
            return "recurrent weights, which are used at every step", _QUANTISE
        if reader.key in self._refusals:
            reason = self._refusals[reader.key]
            for part, kind, advice in _KINDS:
                if part in reason:
                    return kind, advice
            if "is left alone" in reason or "of the operator set" in reason:
                return self._of_operator(operator)
            return reason, ""
        if constant.quantised:
            return "quantised already", _BEFORE.format("quantised")
        if "." in operator:
            return self._of_operator(operator)
        return _of_kind(constant, reader)

    def _of_operator(self, operator: str) -> tuple[str, str]:
        if "." in operator:
            domain = operator.rpartition(".")[0]
            fused = domain.startswith("com.microsoft")
            remedy = "optimised by onnxruntime" if fused else "made for that set"
            return f"an operator of the set {domain}, which is not read", _BEFORE.format(remedy)
        if "Integer" in operator or operator.startswith("QLinear"):
            return "int8 already", _BEFORE.format("quantised")
        if operator == "ConvTranspose":
            return "its ranks are not read", "--method harmonic may remove channels of its"
        return "an operator whose weights are not read", _QUANTISE

    def _add_small(self, constants: Iterable[StoredConstant]) -> None:
        """Told together, with the names of all operators that read them."""
        row = _Row("")
        operators: dict[str, None] = {}
        for constant in constants:
            row.bytes += constant.bytes
            for reader in _read(constant):
                row.readers[reader] = None
                operators[reader.operator] = None
        if row.bytes:
            names = ", ".join(sorted(operators)) or "(none)"
            self._rows[names, False, "small constants: vectors, shapes, settings"] = row

    def _put(
        self,
        operator: str,
        covered: bool,
        reason: str,
        advice: str,
        constant: StoredConstant,
        refusal: str,
    ) -> None:
        row = self._rows.setdefault((operator, covered, reason), _Row(advice))
        row.bytes += constant.bytes
        row.readers.update(dict.fromkeys(_read(constant)))
        if refusal:
            row.reasons[refusal] = None

    def _row(self, key: tuple[str, bool, str], row: _Row) -> CoverageRow:
        operator, covered, reason = key
        keys = dict.fromkeys(reader.key for reader in row.readers)
        if len(row.reasons) == 1 and len(keys) == 1:
            # Of one operator, all that is known.
            (said,) = row.reasons
            reason = said if "left alone" not in said and "operator set" not in said else reason
        return CoverageRow(
            operator=operator,
            covered=covered,
            reason=reason,
            advice=row.advice,
            count=len(keys),
            bytes=row.bytes,
            examples=tuple(keys)[:_EXAMPLES],
        )

    def _block(self, reader: Reader) -> Block | None:
        return None if reader.place is None else self._blocks.get(reader.place)


def _read(constant: StoredConstant) -> list[Reader]:
    return list(constant.readers.values())


def _of_kind(constant: StoredConstant, reader: Reader) -> tuple[str, str]:
    """What a constant is that an operator of the default set reads, which has no weights."""
    operator = reader.operator
    if operator in _LOOKUPS and reader.slot == 0:
        return "a table whose rows are looked up, not multiplied", _QUANTISE
    if operator in _NORMALISING:
        return "vectors of a normalisation", ""
    if operator in ("PRelu",):
        return "slopes of an activation", ""
    if operator in _SHAPING or constant.element_type not in FLOAT_TYPES:
        return "shapes, indices and other whole numbers", ""
    if constant.element_type == TensorProto.FLOAT and reader.slot == -1:
        return "numbers in an attribute", ""
    return "numbers used one by one, no matrix", _QUANTISE
