"""What operators make of the lengths of axes, and what they ask of them.

One function a kind of operator: it reads the shapes of a node's inputs, says in rules what the
node's weights ask of them, and gives the shapes of its outputs. None is a shape, or a length, that
is not known; whatever is not listed here makes unknown shapes.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from onnx import NodeProto, helper

from onnx_relusv.graph.lengths import Kind, Length, Step, constant, product

Shape = tuple[Length | None, ...] | None
Values = tuple[Length | None, ...]


class Asking(Protocol):
    """The walk through a graph, as operators see it."""

    def ask(self, length: Length | None, kind: Kind, number: int) -> None:
        """A rule; nothing where the length is not known."""

    def ask_same(self, first: Length | None, second: Length | None) -> None:
        """That two lengths are one."""

    def ask_rank(self, shape: Shape, *ranks: int) -> None:
        """That a shape has one of some numbers of axes."""

    def values(self, name: str) -> Values | None:
        """The whole numbers in a small tensor, in a row, as far as they are known."""


Operator = Callable[[Asking, NodeProto, Sequence[Shape]], Sequence[Shape]]


def attribute(node: NodeProto, name: str, default: Any = None) -> Any:
    """An attribute of a node, or what stands for it."""
    for entry in node.attribute:
        if entry.name == name:
            return helper.get_attribute_value(entry)
    return default


def whole_numbers(values: Values | None) -> list[int] | None:
    """Values as numbers; None where one is not known."""
    if values is None:
        return None
    known = [None if value is None else value.fixed for value in values]
    return None if None in known else [value for value in known if value is not None]


def _first(walk: Asking, node: NodeProto, shapes: Sequence[Shape]) -> Sequence[Shape]:
    """Every output as the first input."""
    return [shapes[0]] * len(node.output)


def _of_axes(walk: Asking, node: NodeProto, shapes: Sequence[Shape]) -> Sequence[Shape]:
    return [shapes[0]]


def _broadcast(walk: Asking, node: NodeProto, shapes: Sequence[Shape]) -> Sequence[Shape]:
    found: Shape = shapes[0]
    for shape in shapes[1:]:
        found = broadcast(walk, found, shape)
    return [found]


def broadcast(walk: Asking, first: Shape, second: Shape) -> Shape:
    """The shape of an element-by-element operation."""
    if first is None or second is None:
        return None
    rank = max(len(first), len(second))
    one = constant(1)
    padded = [(one,) * (rank - len(shape)) + shape for shape in (first, second)]
    return tuple(_joined(walk, left, right) for left, right in zip(*padded, strict=True))


def _joined(walk: Asking, left: Length | None, right: Length | None) -> Length | None:
    if left is None or right is None:
        known = left if right is None else right
        # Only what is no 1 decides over what is not known.
        return known if known is not None and (known.fixed or 1) > 1 else None
    if left.fixed == 1:
        return right
    if right.fixed == 1 or left == right:
        return left
    if left.fixed is None and right.fixed is not None:
        walk.ask(left, "one_or", right.fixed)
        return right
    if right.fixed is None and left.fixed is not None:
        walk.ask(right, "one_or", left.fixed)
    return left


def _ask_equal(walk: Asking, first: Length | None, second: Length | None) -> None:
    """One of them is known from a weight, or both are axes of the inputs."""
    if first is None or second is None or first == second:
        return
    if second.fixed is not None:
        walk.ask(first, "equal", second.fixed)
    elif first.fixed is not None:
        walk.ask(second, "equal", first.fixed)
    else:
        walk.ask_same(first, second)


def _matmul(walk: Asking, node: NodeProto, shapes: Sequence[Shape]) -> Sequence[Shape]:
    left, right = shapes[0], shapes[1]
    if node.op_type == "QLinearMatMul":
        right = shapes[3]
    if node.op_type == "FusedMatMul":
        if left is not None and attribute(node, "transA", 0):
            left = (*left[:-2], *left[:-3:-1])
        if right is not None and attribute(node, "transB", 0):
            right = (*right[:-2], *right[:-3:-1])
    if left is None or right is None or not left or not right:
        return [None]
    _ask_equal(walk, left[-1], right[-2] if len(right) > 1 else right[0])
    batch = broadcast(walk, left[:-2], right[:-2])
    if batch is None:
        return [None]
    rows = () if len(left) == 1 else (left[-2],)
    columns = () if len(right) == 1 else (right[-1],)
    return [(*batch, *rows, *columns)]


def _gemm(walk: Asking, node: NodeProto, shapes: Sequence[Shape]) -> Sequence[Shape]:
    left, right = shapes[0], shapes[1]
    walk.ask_rank(left, 2)
    if left is None or right is None or len(left) != 2 or len(right) != 2:
        return [None]
    rows, inner = left[::-1] if attribute(node, "transA", 0) else left
    other, columns = right[::-1] if attribute(node, "transB", 0) else right
    _ask_equal(walk, inner, other)
    return [(rows, columns)]


def _conv(walk: Asking, node: NodeProto, shapes: Sequence[Shape]) -> Sequence[Shape]:
    # Quantised ones have scales and zero points between.
    source, kernel = shapes[0], shapes[3 if node.op_type == "QLinearConv" else 1]
    if kernel is not None:
        walk.ask_rank(source, len(kernel))
    if source is None or kernel is None or len(source) != len(kernel):
        return [None]
    sizes = [None if one is None else one.fixed for one in kernel]
    transposed = node.op_type == "ConvTranspose"
    groups = attribute(node, "group", 1)
    channels = sizes[0] if transposed else None if sizes[1] is None else sizes[1] * groups
    if channels is not None and source[1] is not None:
        walk.ask(source[1], "equal", channels)
    out = constant(sizes[1] * groups) if transposed and sizes[1] else kernel[0]
    windows = attribute(node, "kernel_shape", sizes[2:])
    if transposed:
        lengths = _transposed(node, source[2:], windows)
    else:
        lengths = _windowed(walk, node, source[2:], windows)
    return [(source[0], None if transposed and sizes[1] is None else out, *lengths)]


def _pool(walk: Asking, node: NodeProto, shapes: Sequence[Shape]) -> Sequence[Shape]:
    source = shapes[0]
    if source is None:
        return [None] * len(node.output)
    windows = attribute(node, "kernel_shape")
    walk.ask_rank(source, len(windows) + 2)
    if len(source) != len(windows) + 2:
        return [None] * len(node.output)
    found = (*source[:2], *_windowed(walk, node, source[2:], windows))
    return [found] * len(node.output)


def _windowed(
    walk: Asking, node: NodeProto, lengths: Values, windows: Sequence[int | None]
) -> Values:
    """Lengths behind windows that slide."""
    count = len(lengths)
    strides = attribute(node, "strides", [1] * count)
    dilations = attribute(node, "dilations", [1] * count)
    pads = attribute(node, "pads", [0] * 2 * count)
    way = attribute(node, "auto_pad", b"NOTSET").decode()
    upwards = attribute(node, "ceil_mode", 0)
    found: list[Length | None] = []
    for number, length in enumerate(lengths):
        window, stride = windows[number], strides[number]
        if length is None or window is None:
            found.append(None)
            continue
        if way.startswith("SAME"):
            found.append(length.stepped(Step(plus=stride - 1, by=stride)))
            continue
        padding = 0 if way == "VALID" else pads[number] + pads[number + count]
        reach = dilations[number] * (window - 1) + 1
        plus = padding - reach + stride + (stride - 1 if upwards else 0)
        behind = length.stepped(Step(plus=plus, by=stride))
        walk.ask(behind, "least", 1)
        found.append(behind)
    return tuple(found)


def _transposed(node: NodeProto, lengths: Values, windows: Sequence[int | None]) -> Values:
    count = len(lengths)
    if attribute(node, "output_shape") is not None:
        return tuple(map(constant, attribute(node, "output_shape")))
    strides = attribute(node, "strides", [1] * count)
    dilations = attribute(node, "dilations", [1] * count)
    pads = attribute(node, "pads", [0] * 2 * count)
    further = attribute(node, "output_padding", [0] * count)
    way = attribute(node, "auto_pad", b"NOTSET").decode()
    found: list[Length | None] = []
    for number, length in enumerate(lengths):
        window, stride = windows[number], strides[number]
        if length is None or window is None:
            found.append(None)
            continue
        padding = pads[number] + pads[number + count]
        plus = dilations[number] * (window - 1) + 1 + further[number] - padding - stride
        step = Step(stride) if way.startswith("SAME") else Step(stride, plus)
        found.append(length.stepped(step))
    return tuple(found)


def _recurrent(walk: Asking, node: NodeProto, shapes: Sequence[Shape]) -> Sequence[Shape]:
    source, weight = shapes[0], shapes[1]
    walk.ask_rank(source, 3)
    if source is None or len(source) != 3:
        return [None] * len(node.output)
    if weight is not None and len(weight) == 3:
        _ask_equal(walk, source[2], weight[2])
    batch_first = attribute(node, "layout", 0)
    steps, batch = source[1::-1] if batch_first else source[:2]
    directions = constant(2 if attribute(node, "direction", b"forward") == b"bidirectional" else 1)
    hidden = attribute(node, "hidden_size")
    width = None if hidden is None else constant(hidden)
    for state in shapes[5:7]:
        if state is not None and len(state) == 3:
            first, second = state[1::-1] if batch_first else state[:2]
            _ask_equal(walk, second, batch)
            _ask_equal(walk, first, directions)
            _ask_equal(walk, state[2], width)
    if len(shapes) > 4 and shapes[4] is not None and len(shapes[4]) == 1:
        _ask_equal(walk, shapes[4][0], batch)
    if batch_first:
        last: Shape = (batch, directions, width)
        return [(batch, steps, directions, width), last, last][: len(node.output)]
    last = (directions, batch, width)
    return [(steps, directions, batch, width), last, last][: len(node.output)]


def _per_channel(walk: Asking, node: NodeProto, shapes: Sequence[Shape]) -> Sequence[Shape]:
    source, scale = shapes[0], shapes[1]
    if source is not None and scale is not None and len(source) > 1 and len(scale) == 1:
        _ask_equal(walk, source[1], scale[0])
    return [source, *([None] * (len(node.output) - 1))]


def _last_axes(walk: Asking, node: NodeProto, shapes: Sequence[Shape]) -> Sequence[Shape]:
    """Normalisation over the last axes, whose scale has their lengths."""
    # A SkipLayerNormalization reads two tensors first, a SimplifiedLayerNormalization one.
    scale = shapes[2 if node.op_type.startswith("Skip") and len(shapes) > 2 else 1]
    source = shapes[0]
    if source is not None and scale and source:
        _ask_equal(walk, source[-1], scale[-1])
    return [source, *([None] * (len(node.output) - 1))]


def _transpose(walk: Asking, node: NodeProto, shapes: Sequence[Shape]) -> Sequence[Shape]:
    source = shapes[0]
    if source is None:
        return [None]
    order = attribute(node, "perm", list(range(len(source)))[::-1])
    walk.ask_rank(source, len(order))
    return [tuple(source[place] for place in order) if len(order) == len(source) else None]


def _axes(walk: Asking, node: NodeProto, place: int = 1) -> list[int] | None:
    """The axes that a node names in an attribute, or in an input; None where there are none."""
    named = attribute(node, "axes")
    if named is None and len(node.input) > place and node.input[place]:
        named = whole_numbers(walk.values(node.input[place]))
    return None if named is None else list(named)


def _unsqueeze(walk: Asking, node: NodeProto, shapes: Sequence[Shape]) -> Sequence[Shape]:
    source, places = shapes[0], _axes(walk, node)
    if source is None or places is None:
        return [None]
    rank = len(source) + len(places)
    new = {place % rank for place in places}
    left = iter(source)
    return [tuple(constant(1) if place in new else next(left) for place in range(rank))]


def _squeeze(walk: Asking, node: NodeProto, shapes: Sequence[Shape]) -> Sequence[Shape]:
    source, places = shapes[0], _axes(walk, node)
    if source is None or not source:
        return [None]
    if places is None:
        if len(node.input) > 1 or any(one is None or one.fixed is None for one in source):
            return [None]
        return [tuple(one for one in source if one is not None and one.fixed != 1)]
    gone = {place % len(source) for place in places}
    for place in gone:
        walk.ask(source[place], "equal", 1)
    return [tuple(one for place, one in enumerate(source) if place not in gone)]


def _flatten(walk: Asking, node: NodeProto, shapes: Sequence[Shape]) -> Sequence[Shape]:
    source = shapes[0]
    if source is None:
        return [None]
    place = attribute(node, "axis", 1)
    place = place + len(source) if place < 0 else place
    return [(product(source[:place]), product(source[place:]))]


def _reshape(walk: Asking, node: NodeProto, shapes: Sequence[Shape]) -> Sequence[Shape]:
    source = shapes[0]
    if len(node.input) > 1:
        target = walk.values(node.input[1])
    else:
        target = tuple(map(_signed, attribute(node, "shape", [])))
    if target is None:
        return [None]
    keeps_zero = not attribute(node, "allowzero", 0)
    found: list[Length | None] = []
    open_place: int | None = None
    for place, length in enumerate(target):
        if length is not None and length.fixed == 0 and keeps_zero:
            copied = source is not None and place < len(source)
            found.append(source[place] if source is not None and copied else None)
        elif length is not None and length.fixed == -1:
            open_place = place
            found.append(constant(1))
        else:
            found.append(length)
    total, known = None if source is None else product(source), product(found)
    if open_place is None:
        if total is not None and known is not None:
            quotient = total.over(known)
            if quotient is not None and quotient.fixed is None:
                walk.ask(_numerator(quotient), "equal", quotient.divisor)
            elif known.fixed is not None:
                walk.ask(total, "equal", known.fixed)
        return [tuple(found)]
    left = None if total is None or known is None else total.over(known)
    if left is not None and left.divisor > 1:
        walk.ask(_numerator(left), "multiple", left.divisor)
    found[open_place] = left
    return [tuple(found)]


def _numerator(length: Length) -> Length:
    return Length(length.scale, 1, length.parts)


def _signed(value: int) -> Length:
    return Length(scale=value)


def _concat(walk: Asking, node: NodeProto, shapes: Sequence[Shape]) -> Sequence[Shape]:
    known = [shape for shape in shapes if shape is not None]
    if not known or not known[0]:
        return [None]
    rank = len(known[0])
    if any(len(shape) != rank for shape in known):
        return [None]
    place = attribute(node, "axis", 0) % rank
    found: list[Length | None] = list(known[0])
    for shape in known[1:]:
        for number, length in enumerate(shape):
            if number != place:
                _ask_equal(walk, found[number], length)
                found[number] = found[number] or length
    found[place] = _total(shapes, place)
    return [tuple(found)]


def _total(shapes: Sequence[Shape], place: int) -> Length | None:
    """The sum of lengths, of which one may depend on an axis, or all be alike."""
    lengths = [None if shape is None else shape[place] for shape in shapes]
    if len({*lengths}) == 1 and lengths[0] is not None:
        return lengths[0].times(constant(len(lengths)))
    moving = [length for length in lengths if length is None or length.fixed is None]
    rest = sum(length.fixed or 0 for length in lengths if length is not None)
    if not moving:
        return constant(rest)
    if len(moving) > 1 or moving[0] is None:
        return None
    return moving[0].stepped(Step(plus=rest))


def _split(walk: Asking, node: NodeProto, shapes: Sequence[Shape]) -> Sequence[Shape]:
    source, count = shapes[0], len(node.output)
    if source is None or not source:
        return [None] * count
    place = attribute(node, "axis", 0) % len(source)
    sizes = attribute(node, "split")
    if sizes is None and len(node.input) > 1 and node.input[1]:
        sizes = whole_numbers(walk.values(node.input[1]))
        if sizes is None:
            return [None] * count
    if sizes is not None:
        if source[place] is not None and source[place].fixed is None:
            walk.ask(source[place], "equal", sum(sizes))
        parts: list[Length | None] = [constant(size) for size in sizes]
    else:
        each = source[place]
        walk.ask(each, "multiple", count)
        parts = [None if each is None else each.stepped(Step(by=count))] * count
    return [(*source[:place], part, *source[place + 1 :]) for part in parts]


def _slice(walk: Asking, node: NodeProto, shapes: Sequence[Shape]) -> Sequence[Shape]:
    source = shapes[0]
    if source is None:
        return [None]
    given = [attribute(node, name) for name in ("starts", "ends", "axes")]
    steps = None
    if given[0] is None:
        read = [
            whole_numbers(walk.values(name)) if name else None
            for name in (*node.input[1:], "", "", "")[:4]
        ]
        given, steps = read[:3], read[3]
        if len(node.input) > 4 and node.input[4] and steps is None:
            return [tuple([None] * len(source))]
    starts, ends, places = given
    if places is None:
        if starts is None and ends is None:
            return [tuple([None] * len(source))]
        places = list(range(len(starts or ends)))
    found = list(source)
    for number, place in enumerate(places):
        step = 1 if steps is None else steps[number]
        known = starts is not None and ends is not None and step == 1
        at = place % len(source)
        found[at] = _sliced(source[at], starts[number], ends[number]) if known else None
    return [tuple(found)]


def _sliced(length: Length | None, start: int, end: int) -> Length | None:
    if length is None:
        return None
    if length.fixed is not None:
        return constant(len(range(*slice(start, end).indices(length.fixed))))
    if start >= 0 and end > LAST:
        return length.stepped(Step(plus=-start))
    if start >= 0 > end:
        return length.stepped(Step(plus=end - start))
    if start < 0 and end > LAST:
        return constant(-start)
    # Of axes that are longer than the slice, which is what exporters mean by one.
    return constant(end - start) if end > start >= 0 or start < end < 0 else None


# From here on the end of a slice means the end of the axis.
LAST = 1 << 30


def _pad(walk: Asking, node: NodeProto, shapes: Sequence[Shape]) -> Sequence[Shape]:
    source = shapes[0]
    pads = attribute(node, "pads")
    if pads is None and len(node.input) > 1:
        pads = whole_numbers(walk.values(node.input[1]))
    if source is None:
        return [None]
    if pads is None:
        return [tuple([None] * len(source))]
    places = list(range(len(source)))
    if len(node.input) > 3 and node.input[3]:
        places = [place % len(source) for place in whole_numbers(walk.values(node.input[3])) or []]
    found = list(source)
    count = len(pads) // 2
    for number, place in enumerate(places[:count]):
        length = source[place]
        around = pads[number] + pads[number + count]
        found[place] = None if length is None else length.stepped(Step(plus=around))
    return [tuple(found)]


def _gather(walk: Asking, node: NodeProto, shapes: Sequence[Shape]) -> Sequence[Shape]:
    source, indices = shapes[0], shapes[1]
    if source is None or indices is None or not source:
        return [None]
    place = attribute(node, "axis", 0) % len(source)
    return [(*source[:place], *indices, *source[place + 1 :])]


def _reduce(walk: Asking, node: NodeProto, shapes: Sequence[Shape]) -> Sequence[Shape]:
    source = shapes[0]
    if source is None:
        return [None]
    single = node.op_type.startswith("Arg")
    places = [attribute(node, "axis", 0)] if single else _axes(walk, node)
    if places is None:
        if len(node.input) > 1 and node.input[1]:
            return [None]
        places = list(range(len(source)))
        if attribute(node, "noop_with_empty_axes", 0):
            return [source]
    gone = {place % len(source) for place in places} if source else set()
    if attribute(node, "keepdims", 1):
        return [tuple(constant(1) if at in gone else one for at, one in enumerate(source))]
    return [tuple(one for at, one in enumerate(source) if at not in gone)]


def _global_pool(walk: Asking, node: NodeProto, shapes: Sequence[Shape]) -> Sequence[Shape]:
    source = shapes[0]
    return [None if source is None else (*source[:2], *[constant(1)] * (len(source) - 2))]


def _expand(walk: Asking, node: NodeProto, shapes: Sequence[Shape]) -> Sequence[Shape]:
    target = walk.values(node.input[1])
    if target is None or shapes[0] is None:
        return [None]
    return [broadcast(walk, shapes[0], target)]


def _filled(walk: Asking, node: NodeProto, shapes: Sequence[Shape]) -> Sequence[Shape]:
    return [walk.values(node.input[0])]


def _depth(walk: Asking, node: NodeProto, shapes: Sequence[Shape]) -> Sequence[Shape]:
    source, size = shapes[0], attribute(node, "blocksize")
    walk.ask_rank(source, 4)
    if source is None or len(source) != 4:
        return [None]
    rows = [None if one is None else one for one in source[2:]]
    if node.op_type == "SpaceToDepth":
        for one in rows:
            walk.ask(one, "multiple", size)
        area = constant(size * size)
        depth = None if source[1] is None else source[1].times(area)
        smaller = [None if one is None else one.stepped(Step(by=size)) for one in rows]
        return [(source[0], depth, *smaller)]
    depth = None if source[1] is None else source[1].stepped(Step(by=size * size))
    larger = [None if one is None else one.stepped(Step(size)) for one in rows]
    return [(source[0], depth, *larger)]


def _stft(walk: Asking, node: NodeProto, shapes: Sequence[Shape]) -> Sequence[Shape]:
    source = shapes[0]
    if source is not None and len(source) > 1:
        window = shapes[2] if len(shapes) > 2 else None
        length = window[0] if window else None
        if (length is None or length.fixed is None) and len(node.input) > 3 and node.input[3]:
            read = walk.values(node.input[3])
            length = read[0] if read else None
        if length is not None and length.fixed is not None:
            walk.ask(source[1], "least", length.fixed)
    return [None]


def _attention(walk: Asking, node: NodeProto, shapes: Sequence[Shape]) -> Sequence[Shape]:
    """The contributed one, whose weight is (features, 3 * features)."""
    source, weight = shapes[0], shapes[1]
    walk.ask_rank(source, 3)
    if source is None or weight is None or len(source) != 3 or len(weight) != 2:
        return [None] * len(node.output)
    _ask_equal(walk, source[2], weight[0])
    width = None if weight[1] is None else weight[1].stepped(Step(by=3))
    return [(*source[:2], width), *[None] * (len(node.output) - 1)]


def _resize(walk: Asking, node: NodeProto, shapes: Sequence[Shape]) -> Sequence[Shape]:
    source = shapes[0]
    sizes = walk.values(node.input[3]) if len(node.input) > 3 and node.input[3] else None
    if source is None or sizes is None or len(sizes) != len(source):
        return [None if source is None else (*source[:2], *[None] * (len(source) - 2))]
    return [sizes]


_SAME = (
    "Abs Acos Acosh Asin Asinh Atan Atanh BitwiseNot Cast CastLike Ceil Celu Clip Cos Cosh CumSum "
    "DequantizeLinear Dropout Elu Erf Exp FastGelu Floor Gelu HardSigmoid HardSwish Hardmax "
    "Identity IsInf IsNaN LeakyRelu Log LogSoftmax LpNormalization LRN MeanVarianceNormalization "
    "Mish Neg Not PRelu QuantizeLinear QuickGelu Reciprocal Relu Round Scaler Selu Shrink Sigmoid "
    "Sign Sin Sinh Softmax Softplus Softsign Sqrt Swish Tan Tanh ThresholdedRelu Trilu BiasGelu"
)
_ELEMENTWISE = (
    "Add Sub Mul Div Pow Max Min Mean Sum Mod Where Equal Greater GreaterOrEqual Less LessOrEqual "
    "And Or Xor BitwiseAnd BitwiseOr BitwiseXor BitShift"
)
_REDUCED = (
    "ReduceL1 ReduceL2 ReduceLogSum ReduceLogSumExp ReduceMax ReduceMean ReduceMin ReduceProd "
    "ReduceSum ReduceSumSquare ArgMax ArgMin"
)
OPERATORS: Mapping[str, Operator] = {
    **dict.fromkeys(_SAME.split(), _first),
    "DynamicQuantizeLinear": lambda walk, node, shapes: [shapes[0], (), ()],
    **dict.fromkeys(_ELEMENTWISE.split(), _broadcast),
    **dict.fromkeys(_REDUCED.split(), _reduce),
    **dict.fromkeys(
        ("MatMul", "MatMulInteger", "QLinearMatMul", "FusedMatMul", "DynamicQuantizeMatMul",
         "MatMulIntegerToFloat"),
        _matmul,
    ),
    "Gemm": _gemm,
    **dict.fromkeys(
        ("Conv", "FusedConv", "ConvInteger", "QLinearConv", "ConvTranspose"), _conv
    ),
    **dict.fromkeys(("MaxPool", "AveragePool", "LpPool"), _pool),
    **dict.fromkeys(("GlobalAveragePool", "GlobalMaxPool", "GlobalLpPool"), _global_pool),
    **dict.fromkeys(("LSTM", "GRU", "RNN", "DynamicQuantizeLSTM"), _recurrent),
    **dict.fromkeys(
        ("BatchNormalization", "InstanceNormalization"), _per_channel
    ),
    **dict.fromkeys(
        ("LayerNormalization", "RMSNormalization", "SimplifiedLayerNormalization",
         "SkipLayerNormalization", "SkipSimplifiedLayerNormalization"),
        _last_axes,
    ),
    "GroupNormalization": _of_axes,
    "Transpose": _transpose,
    "Unsqueeze": _unsqueeze,
    "Squeeze": _squeeze,
    "Flatten": _flatten,
    "Reshape": _reshape,
    "Concat": _concat,
    "Split": _split,
    "Slice": _slice,
    "Pad": _pad,
    "Gather": _gather,
    "Expand": _expand,
    "ConstantOfShape": _filled,
    **dict.fromkeys(("DepthToSpace", "SpaceToDepth"), _depth),
    "STFT": _stft,
    "Attention": _attention,
    "QAttention": _attention,
    **dict.fromkeys(("Resize", "Upsample"), _resize),
}  # fmt: skip
