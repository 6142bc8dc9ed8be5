"""Every shape in which a block occurs, as small models: the table that several tests run through.

A pattern is a linear map, what follows it, and an activation; all combinations that differ in how
they are read are there, and none of them is refused. Finding, folding, the reference and rewriting
at full rank run through all of them; what builds on these, through representatives, among which
every linear map is, and everything that follows one.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from graphs import model_proto, normal, normalization
from onnx import ModelProto

Arrays = Mapping[str, np.ndarray]


@dataclass(frozen=True, eq=False)
class Pattern:
    """A model with one block, from input `x` to output `y`.

    Attributes:
        name: What is special about it.
        linear: The linear map, by name.
        rest: What follows the linear map, by name.
        head: The graph's inputs and outputs as text.
        body: Its nodes.
        arrays: Its initializers.
        shape: Of `x`.
        kind: Operator of its linear map.
        activation: What kind of activation is to be found.
        opset: Version of the default operator set.
    """

    name: str
    linear: str
    rest: str
    head: str
    body: str
    arrays: Arrays
    shape: tuple[int, ...]
    kind: str
    activation: str = "relu"
    opset: int = 17

    def proto(self) -> ModelProto:
        """The model."""
        return model_proto(f"{self.head} {{ {self.body} }}", self.arrays, opset=self.opset)

    def feeds(self) -> dict[str, np.ndarray]:
        """Random input."""
        return {"x": normal(*self.shape, seed=99)}


@dataclass(frozen=True, eq=False)
class _Linear:
    """A linear map from x to h, and its channel axis as constants behind it have to be shaped."""

    kind: str
    head: str
    text: str
    arrays: Arrays
    shape: tuple[int, ...]
    channels: int
    column: tuple[int, ...] = field(default=())


_VECTOR = "(float[N,6] x) => (float[N,5] y)"
_SEQUENCE = "(float[N,T,6] x) => (float[N,T,5] y)"
_LINE = "(float[N,4,L] x) => (float[N,6,M] y)"
_IMAGE = "(float[N,4,H,W] x) => (float[N,6,I,J] y)"
_MATRIX = normal(6, 5)

GEMM = _Linear(
    "gemm", _VECTOR, "h = Gemm(x, w, b)", {"w": _MATRIX, "b": normal(5)}, (3, 6), 5, (5,)
)
MATMUL = _Linear("matmul", _VECTOR, "h = MatMul(x, w)", {"w": _MATRIX}, (3, 6), 5, (5,))
STACKED = _Linear("matmul", _SEQUENCE, "h = MatMul(x, w)", {"w": _MATRIX}, (3, 4, 6), 5, (5,))
LINE = _Linear(
    "conv",
    _LINE,
    "h = Conv<strides=[2], pads=[2,1]>(x, w, b)",
    {"w": normal(6, 4, 3), "b": normal(6)},
    (2, 4, 9),
    6,
    (6, 1),
)


def _image(attributes: str, kernel: tuple[int, ...] = (3, 3), groups: int = 1) -> _Linear:
    """A 2-D Conv of 4 to 6 channels."""
    return _Linear(
        "conv",
        _IMAGE,
        f"h = Conv<{attributes}>(x, w, b)",
        {"w": normal(6, 4 // groups, *kernel), "b": normal(6)},
        (2, 4, 9, 8),
        6,
        (6, 1, 1),
    )


IMAGE = _image("pads=[1,0,2,1], strides=[2,1]")

_LINEARS = {
    "gemm": GEMM,
    "gemm_without_bias": _Linear(
        "gemm", _VECTOR, "h = Gemm(x, w)", {"w": _MATRIX}, (3, 6), 5, (5,)
    ),
    "gemm_transposed": _Linear(
        "gemm",
        _VECTOR,
        "h = Gemm<transB=1, alpha=0.5, beta=-2.0>(x, w, b)",
        {"w": normal(5, 6), "b": normal(1, 5)},
        (3, 6),
        5,
        (5,),
    ),
    "gemm_scalar_bias": _Linear(
        "gemm",
        _VECTOR,
        "h = Gemm<beta=3.0>(x, w, b)",
        {"w": _MATRIX, "b": np.array(0.7, np.float32)},
        (3, 6),
        5,
        (5,),
    ),
    "gemm_single_bias": _Linear(
        "gemm",
        _VECTOR,
        "h = Gemm<alpha=2.0>(x, w, b)",
        {"w": _MATRIX, "b": normal(1)},
        (3, 6),
        5,
        (5,),
    ),
    "matmul": MATMUL,
    "matmul_of_sequences": STACKED,
    "conv_line": LINE,
    "conv": IMAGE,
    "conv_dilated": _image("dilations=[2,3], pads=[2,3,1,2]"),
    "conv_grouped": _image("group=2, pads=[1,1,1,1]", groups=2),
    "conv_same_upper": _image('auto_pad="SAME_UPPER", strides=[2,3]', (2, 4)),
    "conv_same_lower": _image('auto_pad="SAME_LOWER", strides=[2,3]', (2, 4)),
    "conv_valid": _image('auto_pad="VALID", strides=[1,2]'),
    "conv_pointwise": _image("strides=[2,2]", (1, 1)),
    "conv_single_row": _image("pads=[0,2,0,2]", (1, 5)),
}


def _with(name: str, rest: str, tail: str, arrays: Arrays, **changes: object) -> Pattern:
    """A pattern of a linear map by name and the text behind it, from h to y."""
    linear = _LINEARS[name]
    return Pattern(
        f"{name}_{rest}" if rest else name,
        name,
        rest,
        linear.head,
        f"{linear.text} {tail}",
        {**linear.arrays, **arrays},
        linear.shape,
        linear.kind,
        **changes,  # type: ignore[arg-type]
    )


def _tails(name: str) -> list[Pattern]:
    """A linear map with every kind of node between it and its activation."""
    linear = _LINEARS[name]
    vectors = normalization(linear.channels)
    full = (1,) * (len(linear.shape) - len(linear.column)) + linear.column
    column = {"c": normal(*linear.column, seed=5)}
    found = [
        _with(name, rest, f"{tail} y = Relu(g)", arrays)
        for rest, tail, arrays in (
            ("add", "g = Add(h, c)", column),
            ("add_full", "g = Add(h, c)", {"c": normal(*full, seed=5)}),
            ("add_from_the_left", "g = Add(c, h)", column),
            ("add_scalar", "g = Add(h, c)", {"c": np.array(0.4, np.float32)}),
            ("add_twice", "f = Add(h, c) g = Add(c, f)", column),
            ("identity", "g = Identity(h)", {}),
        )
    ]
    if name != "matmul_of_sequences":  # there a normalisation would act on the axis of steps
        batch = "BatchNormalization<epsilon=0.01>"
        names = "gamma, beta, mean, variance"
        everything = (
            f"f = Add(h, c) e = Identity(f) d = {batch}(e, {names}) g = Add(c, d) y = Relu(g)"
        )
        found += [
            _with(name, "normalization", f"g = {batch}(h, {names}) y = Relu(g)", vectors),
            _with(name, "everything", everything, vectors | column),
        ]
    return found


def _activations(name: str) -> list[Pattern]:
    """A linear map with every activation; a Gemm needs its bias before opset 11."""
    slopes = normal(*_LINEARS[name].column, seed=6)
    bounds = {"low": np.array(0, np.float32), "high": np.array(1.5, np.float32)}
    return [
        _with(name, rest, tail, arrays, activation=kind, opset=opset)
        for rest, tail, arrays, kind, opset in (
            ("clip", "y = Clip(h, low, high)", bounds, "clip", 11),
            ("clip_open", "y = Clip(h, low)", {"low": bounds["low"]}, "clip", 13),
            ("clip_attributes", "y = Clip<min=0.0, max=1.5>(h)", {}, "clip", 9),
            ("leaky", "y = LeakyRelu<alpha=0.3>(h)", {}, "leaky_relu", 17),
            ("leaky_default", "y = LeakyRelu(h)", {}, "leaky_relu", 9),
            ("prelu", "y = PRelu(h, slope)", {"slope": slopes}, "prelu", 17),
            ("prelu_single", "y = PRelu(h, slope)", {"slope": normal(1)}, "prelu", 9),
            ("linear", "y = Sigmoid(h)", {}, "none", 17),
            ("relu_opset_7", "y = Relu(h)", {}, "relu", 7),
            ("relu_opset_22", "y = Relu(h)", {}, "relu", 22),
        )
    ]


PATTERNS = {
    pattern.name: pattern
    for pattern in (
        *(_with(name, "", "y = Relu(h)", {}) for name in _LINEARS),
        *(
            pattern
            for name in ("gemm", "matmul", "matmul_of_sequences", "conv_line", "conv")
            for pattern in _tails(name)
        ),
        *(
            pattern
            for name in ("gemm", "matmul_of_sequences", "conv")
            for pattern in _activations(name)
        ),
    )
}
# Every linear map by itself, a normalisation behind every kind that takes one, and all else that
# follows linear maps once: with a bias of its own, and without one.
REPRESENTATIVES = (
    *_LINEARS,
    "gemm_everything",
    "matmul_everything",
    "conv_line_everything",
    "conv_everything",
    "conv_normalization",
    "matmul_add",
    "conv_add_full",
    "matmul_of_sequences_add_full",
    "gemm_add_from_the_left",
    "conv_line_add_scalar",
    "matmul_of_sequences_add_twice",
    "conv_identity",
    "gemm_clip",
    "matmul_of_sequences_clip_open",
    "conv_clip_attributes",
    "matmul_of_sequences_leaky",
    "conv_leaky_default",
    "conv_prelu",
    "gemm_prelu_single",
    "gemm_linear",
    "conv_relu_opset_7",
    "matmul_of_sequences_relu_opset_22",
)
