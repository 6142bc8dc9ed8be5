"""What operators make of the lengths of axes, and what they ask of them.

One function a kind of operator: it reads the shapes of a node's inputs, says in rules what the
node's weights ask of them, and gives the shapes of its outputs. None is a shape, or a length, that
is not known; whatever is not listed here makes unknown shapes.
"""

from collections.abc import Mapping, Sequence

from onnx import NodeProto

from onnx_relusv.graph.lengths.asking import (
    Asking,
    Operator,
    Shape,
    Values,
    ask_equal,
    attribute,
    broadcast,
)
from onnx_relusv.graph.lengths.lengths import Length, Step, constant
from onnx_relusv.graph.lengths.moving import (
    axes_of,
    concat_shapes,
    depth_shapes,
    expand_shapes,
    filled_shapes,
    flatten_shapes,
    gather_shapes,
    pad_shapes,
    reshape_shapes,
    resize_shapes,
    slice_shapes,
    split_shapes,
    squeeze_shapes,
    transpose_shapes,
    unsqueeze_shapes,
)


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
    ask_equal(walk, left[-1], right[-2] if len(right) > 1 else right[0])
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
    ask_equal(walk, inner, other)
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
        ask_equal(walk, source[2], weight[2])
    batch_first = attribute(node, "layout", 0)
    steps, batch = source[1::-1] if batch_first else source[:2]
    directions = constant(2 if attribute(node, "direction", b"forward") == b"bidirectional" else 1)
    hidden = attribute(node, "hidden_size")
    width = None if hidden is None else constant(hidden)
    for state in shapes[5:7]:
        if state is not None and len(state) == 3:
            first, second = state[1::-1] if batch_first else state[:2]
            ask_equal(walk, second, batch)
            ask_equal(walk, first, directions)
            ask_equal(walk, state[2], width)
    if len(shapes) > 4 and shapes[4] is not None and len(shapes[4]) == 1:
        ask_equal(walk, shapes[4][0], batch)
    if batch_first:
        last: Shape = (batch, directions, width)
        return [(batch, steps, directions, width), last, last][: len(node.output)]
    last = (directions, batch, width)
    return [(steps, directions, batch, width), last, last][: len(node.output)]


def _per_channel(walk: Asking, node: NodeProto, shapes: Sequence[Shape]) -> Sequence[Shape]:
    source, scale = shapes[0], shapes[1]
    if source is not None and scale is not None and len(source) > 1 and len(scale) == 1:
        ask_equal(walk, source[1], scale[0])
    return [source, *([None] * (len(node.output) - 1))]


def _last_axes(walk: Asking, node: NodeProto, shapes: Sequence[Shape]) -> Sequence[Shape]:
    """Normalisation over the last axes, whose scale has their lengths."""
    # A SkipLayerNormalization reads two tensors first, a SimplifiedLayerNormalization one.
    scale = shapes[2 if node.op_type.startswith("Skip") and len(shapes) > 2 else 1]
    source = shapes[0]
    if source is not None and scale and source:
        ask_equal(walk, source[-1], scale[-1])
    return [source, *([None] * (len(node.output) - 1))]


def _reduce(walk: Asking, node: NodeProto, shapes: Sequence[Shape]) -> Sequence[Shape]:
    source = shapes[0]
    if source is None:
        return [None]
    single = node.op_type.startswith("Arg")
    places = [attribute(node, "axis", 0)] if single else axes_of(walk, node)
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
    ask_equal(walk, source[2], weight[0])
    width = None if weight[1] is None else weight[1].stepped(Step(by=3))
    return [(*source[:2], width), *[None] * (len(node.output) - 1)]


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
    "Transpose": transpose_shapes,
    "Unsqueeze": unsqueeze_shapes,
    "Squeeze": squeeze_shapes,
    "Flatten": flatten_shapes,
    "Reshape": reshape_shapes,
    "Concat": concat_shapes,
    "Split": split_shapes,
    "Slice": slice_shapes,
    "Pad": pad_shapes,
    "Gather": gather_shapes,
    "Expand": expand_shapes,
    "ConstantOfShape": filled_shapes,
    **dict.fromkeys(("DepthToSpace", "SpaceToDepth"), depth_shapes),
    "STFT": _stft,
    "Attention": _attention,
    "QAttention": _attention,
    **dict.fromkeys(("Resize", "Upsample"), resize_shapes),
}  # fmt: skip
