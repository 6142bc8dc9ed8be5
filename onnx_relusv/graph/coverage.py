"""Where a model's bytes lie, by operator: what blocks hold, what they do not, and why.

Unlike `Constants`, every stored constant of a file counts, with what reads it: integer and sparse
tensors, attributes that hold numbers, constants of bodies and of functions. What nodes compute of
constants alone counts for those that it is computed of.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from onnx import AttributeProto, GraphProto, NodeProto, SparseTensorProto, TensorProto

from onnx_relusv.core.blocks import Block, Refusal
from onnx_relusv.core.errors import Coverage, CoverageRow
from onnx_relusv.graph.model import Model, external_location
from onnx_relusv.graph.nodes import FLOAT_TYPES, is_standard
from onnx_relusv.graph.protos import bodies, first_output, node_label, operators

# Attributes of fewer bytes are settings.
_SETTING = 256
_EXAMPLES = 3
# Constants of fewer bytes, and of a smaller share of the file, share a row.
_SMALL, _SMALL_SHARE = 1024, 0.005

_QUANTISE = "storing it in int8 or float16 saves what ranks cannot"
_BEFORE = "compress the model as it was before it was {}"
_RECURRENT = operators("GRU LSTM RNN")
_LOOKUPS = operators("Gather GatherElements GatherND EmbedLayerNormalization")
_NORMALISING = operators(
    "BatchNormalization GroupNormalization InstanceNormalization LayerNormalization "
    "RMSNormalization"
)
_SHAPING = operators("ConstantOfShape Expand Pad Reshape Resize Slice Split Squeeze Tile Unsqueeze")
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


@dataclass(frozen=True)
class _Reader:
    """A node that reads a constant, and not only to compute another one.

    Attributes:
        operator: With its domain where that is not the default one.
        key: The first output that it has.
        inside: In words, the body or function that it is in; empty in the main graph.
        place: Its index in its graph.
        slot: Which of its inputs it reads first; -1 where its own attribute holds the numbers.
    """

    operator: str
    key: str
    inside: str
    place: int = field(compare=False)
    slot: int = field(compare=False)


@dataclass(eq=False)
class _Stored:
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
    readers: dict[_Reader, None] = field(default_factory=dict)


_Known = Mapping[str, tuple[_Stored, ...]]


class _Search:
    """Looks for constants; those that it comes across are `found`."""

    def __init__(self) -> None:
        self.found: list[_Stored] = []
        self._places: set[tuple[str, int]] = set()

    def graph(self, graph: GraphProto, outer: _Known, inside: str) -> None:
        """Goes through a graph; `outer` are the constants that it sees from outside."""
        known = dict(outer)
        for tensor in graph.initializer:
            known[tensor.name] = (self._add(tensor),)
        for sparse in graph.sparse_initializer:
            known[sparse.values.name] = (self._add(sparse),)
        self.nodes(graph.node, known, inside)

    def nodes(self, nodes: Sequence[NodeProto], outer: _Known, inside: str) -> None:
        """Goes through nodes in any order."""
        known = dict(outer)
        for node in nodes:
            if node.op_type == "Constant":
                known.update((node.output[0], (self._add(each),)) for each in node.attribute)
        reading = [(index, node) for index, node in enumerate(nodes) if node.op_type != "Constant"]
        # A pass finds all that sorted nodes compute of constants; others take some more.
        while True:
            left: list[tuple[int, NodeProto]] = []
            for index, node in reading:
                if not _computes(node, known):
                    left.append((index, node))
                    continue
                read = (root for name in node.input if name for root in known[name])
                roots = tuple(dict.fromkeys(read))
                for root in roots:
                    root.quantised |= node.op_type == "DequantizeLinear"
                known.update({name: roots for name in node.output if name})
            if len(left) == len(reading):
                break
            reading = left
        for index, node in reading:
            self._read(index, node, known, inside)

    def _read(self, index: int, node: NodeProto, known: _Known, inside: str) -> None:
        operator = node.op_type if is_standard(node) else f"{node.domain}.{node.op_type}"
        key = first_output(node) or node.name
        for slot, name in enumerate(node.input):
            for root in known.get(name, ()) if name else ():
                root.readers.setdefault(_Reader(operator, key, inside, index, slot))
        for attribute in node.attribute:
            if attribute.HasField("g") or attribute.graphs or attribute.ByteSize() < _SETTING:
                continue
            self._add(attribute).readers[_Reader(operator, key, inside, index, -1)] = None
        for body in bodies(node):
            self.graph(body, known, inside or f"the body of {node_label(node)}")

    def _add(self, numbers: TensorProto | SparseTensorProto | AttributeProto) -> _Stored:
        if isinstance(numbers, AttributeProto):
            if numbers.HasField("t"):
                return self._add(numbers.t)
            if numbers.HasField("sparse_tensor"):
                return self._add(numbers.sparse_tensor)
            kind = TensorProto.FLOAT if numbers.floats else 0
            found = _Stored(numbers.ByteSize(), kind, 1)
        elif isinstance(numbers, SparseTensorProto):
            size = self._bytes(numbers.values) + self._bytes(numbers.indices)
            found = _Stored(size, numbers.values.data_type, len(numbers.dims))
        else:
            found = _Stored(self._bytes(numbers), numbers.data_type, len(numbers.dims))
        self.found.append(found)
        return found

    def _bytes(self, tensor: TensorProto) -> int:
        if tensor.data_location != TensorProto.EXTERNAL:
            return len(tensor.raw_data) or tensor.ByteSize()
        location = external_location(tensor)
        place = location.file, location.offset
        # Several tensors may lie at one place.
        size = 0 if place in self._places else location.length
        self._places.add(place)
        return size


def _computes(node: NodeProto, known: _Known) -> bool:
    """Whether a node reads constants alone."""
    read = [name for name in node.input if name]
    return bool(read) and all(name in known for name in read) and next(bodies(node), None) is None


@dataclass(eq=False)
class _Row:
    """What shares an operator and a reason: advice, bytes, readers' keys, reasons of refusals."""

    advice: str
    bytes: int = 0
    keys: dict[str, None] = field(default_factory=dict)
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
    search = _Search()
    search.graph(model.proto.graph, {}, "")
    for function in model.proto.functions:
        search.nodes(function.node, {}, f"the function {function.name}")
    sorting = _Sorting(model, blocks, refusals, staying or {})
    small: list[_Stored] = []
    for constant in search.found:
        if sorting.is_small(constant):
            small.append(constant)
        else:
            sorting.add(constant)
    sorting.add_small(small)
    rows = sorted(sorting.rows(), key=lambda row: (not row.covered, -row.bytes, row.operator))
    return Coverage(rows=tuple(rows), total_bytes=model.bytes)


class _Sorting:
    """Rows of constants, by operator, whether blocks hold them, and reason."""

    def __init__(
        self,
        model: Model,
        blocks: Iterable[Block],
        refusals: Iterable[Refusal],
        staying: Mapping[str, str],
    ) -> None:
        self._least = max(_SMALL, _SMALL_SHARE * model.bytes)
        self._blocks = {index: block for block in blocks for index in block.nodes}
        self._refusals = {refusal.key: refusal.reason for refusal in refusals}
        self._staying = staying
        self._functions = {f"{f.domain}.{f.name}" for f in model.proto.functions}
        self._rows: dict[tuple[str, bool, str], _Row] = {}

    def is_small(self, constant: _Stored) -> bool:
        """Whether a constant is too small for a row of its own."""
        if constant.bytes >= self._least:
            return False
        held = any(self._block(r) or r.key in self._refusals for r in constant.readers)
        # Of a small model everything is small: a matrix or an operator of another set is named.
        named = constant.rank > 1 and constant.element_type in FLOAT_TYPES
        return not held and not named and not any("." in r.operator for r in constant.readers)

    def add(self, constant: _Stored) -> None:
        """Adds a constant to the row of its first reader's operator."""
        readers = list(constant.readers)
        if not readers:
            self._put(("(none)", False, "nothing reads them"), "remove them", constant)
            return
        held = [self._block(reader) for reader in readers]
        keys, first = {block.key for block in held if block is not None}, readers[0]
        if len(keys) == 1 and all(held):
            reason = self._staying.get(keys.pop())
            words = "in blocks" if reason is None else f"in blocks, but {reason}"
            self._put((first.operator, reason is None, words), "", constant)
            return
        reason, advice = self._why(constant, first)
        if len(readers) > 1 and first.key not in self._refusals and first.slot > 0:
            reason += "; read by several"
        operator = f"{first.operator} in {first.inside}" if first.inside else first.operator
        row = self._put((operator, False, reason), advice, constant)
        if not first.inside and first.key in self._refusals:
            row.reasons[self._refusals[first.key]] = None

    def _why(self, constant: _Stored, reader: _Reader) -> tuple[str, str]:
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

    def add_small(self, constants: Sequence[_Stored]) -> None:
        """Adds a row with the names of all operators that read small constants."""
        if sum(constant.bytes for constant in constants):
            names = sorted({reader.operator for each in constants for reader in each.readers})
            key = (
                ", ".join(names) or "(none)",
                False,
                "small constants: vectors, shapes, settings",
            )
            for constant in constants:
                self._put(key, "", constant)

    def _put(self, key: tuple[str, bool, str], advice: str, constant: _Stored) -> _Row:
        row = self._rows.setdefault(key, _Row(advice))
        row.bytes += constant.bytes
        row.keys.update({reader.key: None for reader in constant.readers})
        return row

    def rows(self) -> Iterator[CoverageRow]:
        """The rows, in no order."""
        for (operator, covered, reason), row in self._rows.items():
            said = list(row.reasons)
            # Of one operator, all that is known.
            whole = len(said) == len(row.keys) == 1
            if whole and "left alone" not in said[0] and "operator set" not in said[0]:
                reason = said[0]
            yield CoverageRow(
                operator=operator,
                covered=covered,
                reason=reason,
                advice=row.advice,
                count=len(row.keys),
                bytes=row.bytes,
                examples=tuple(row.keys)[:_EXAMPLES],
            )

    def _block(self, reader: _Reader) -> Block | None:
        return None if reader.inside else self._blocks.get(reader.place)


def _of_kind(constant: _Stored, reader: _Reader) -> tuple[str, str]:
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
