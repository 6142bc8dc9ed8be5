"""Activations behind linear blocks, however they are written, and the bounds with them."""

import math

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from onnx_relusv.commands.inspect import inspect
from onnx_relusv.core.blocks import Floats
from onnx_relusv.core.options import MeasureOptions
from onnx_relusv.core.results import BlockReport
from onnx_relusv.spectra.activation_functions import ACTIVATIONS, ActivationFunction

CONSTANTS = {
    "half": 0.5,
    "one": 1.0,
    "three": 3.0,
    "zero": 0.0,
    "six": 6.0,
    "root": 1.4142135,
    "cube": 0.044715,
    "scale": 0.7978846,
    "steep": 1.702,
}
# From h to y, as exporters write it, and what it is.
PATTERNS = {
    "silu": ("s = Sigmoid(h) y = Mul(h, s)", "silu"),
    "silu, turned": ("s = Sigmoid(h) y = Mul(s, h)", "silu"),
    "quick": ("c = Mul(steep, h) s = Sigmoid(c) y = Mul(h, s)", "quick_gelu"),
    "own quick": ("y = com.microsoft.QuickGelu<alpha: float = 1.702>(h)", "quick_gelu"),
    "erf": (
        "d = Div(h, root) e = Erf(d) f = Add(e, one) g = Mul(h, f) y = Mul(g, half)",
        "gelu",
    ),
    "erf, halved first": (
        "d = Div(h, root) e = Erf(d) f = Add(one, e) g = Mul(half, h) y = Mul(g, f)",
        "gelu",
    ),
    "own gelu": ("y = com.microsoft.Gelu(h)", "gelu"),
    "tanh form": (
        "p = Pow(h, three) q = Mul(cube, p) r = Add(h, q) u = Mul(scale, r) v = Tanh(u) "
        "w = Add(v, one) k = Mul(half, w) y = Mul(h, k)",
        "gelu_tanh",
    ),
    "hard swish": ("y = HardSwish(h)", "hard_swish"),
    "clipped": (
        "a = Add(h, three) c = Clip(a, zero, six) m = Mul(h, c) y = Div(m, six)",
        "hard_swish",
    ),
    "clipped, divided first": (
        "a = Add(h, three) c = Clip(a, zero, six) d = Div(c, six) y = Mul(h, d)",
        "hard_swish",
    ),
    "hard sigmoid": (
        "s = HardSigmoid<alpha: float = 0.16666667, beta: float = 0.5>(h) y = Mul(h, s)",
        "hard_swish",
    ),
    "mish": ("s = Softplus(h) t = Tanh(s) y = Mul(h, t)", "mish"),
    "softplus": ("y = Softplus(h)", "softplus"),
    "gate": ("s = Sigmoid(h) y = Mul(x, s)", "sigmoid"),
    "tanh": ("y = Tanh(h)", "tanh"),
    "elu": ("y = Elu(h)", "elu"),
    "selu": ("y = Selu(h)", "selu"),
    # Gated by something else, another function, read beside it, nothing, a square.
    "gated": ("s = Sigmoid(x) y = Mul(h, s)", None),
    "another": ("s = Sigmoid(h) k = Mul(h, s) y = Mul(k, x)", "silu"),
    "wrong constant": (
        "c = Mul(steep, h) s = Sigmoid(c) m = Mul(h, s) y = Mul(m, steep)",
        "quick_gelu",
    ),
    "nearly": ("c = Mul(root, h) s = Sigmoid(c) y = Mul(h, s)", None),
    "read beside": ("s = Sigmoid(h) k = Mul(h, s) y = Add(k, h)", None),
    "square": ("s = Sigmoid(h) k = Mul(h, s) y = Mul(s, k)", None),
    "nothing": ("y = Identity(h)", None),
    "relu": ("y = Relu(h)", None),
}
RNG = np.random.default_rng(0)
WEIGHT, BIAS = RNG.standard_normal((6, 6)), 0.3 * RNG.standard_normal(6)
SAMPLES = (2 * RNG.standard_normal((400, 6)) @ RNG.standard_normal((6, 6)) + 0.5).astype(np.float32)


def model(patterns: list[str]) -> onnx.ModelProto:
    """A block for each pattern, all of which read the input."""
    nodes, outputs = [], []
    for number, pattern in enumerate(patterns):
        steps = PATTERNS[pattern][0].split(") ")
        text = ") ".join(steps)
        names = {"h": f"h{number}", "y": f"y{number}"}
        own = [step.split(" = ")[0].strip() for step in steps]
        names |= {name: f"{name}{number}" for name in own}
        words = text.replace("(", " ( ").replace(")", " ) ").replace(",", " , ").split(" ")
        nodes.append(f"h{number} = Gemm<transB: int = 1>(x, W, b)")
        nodes.append(" ".join(names.get(word, word) for word in words))
        outputs.append(f"float[n, 6] y{number}")
    text = f"""<ir_version: 8, opset_import: ["": 17, "com.microsoft": 1]>
    g (float[n, 6] x) => ({", ".join(outputs)}) {{ {" ".join(nodes)} }}"""
    made = onnx.parser.parse_model(text)
    arrays = {name: np.float32(value) for name, value in CONSTANTS.items()}
    arrays |= {"b": BIAS.astype(np.float32)}
    used = {name for node in made.graph.node for name in node.input}
    made.graph.initializer.extend(
        numpy_helper.from_array(np.asarray(array), name)
        for name, array in arrays.items()
        if name in used
    )
    # No two blocks share a weight.
    for number, node in enumerate(one for one in made.graph.node if one.op_type == "Gemm"):
        node.input[1] = f"W{number}"
        made.graph.initializer.append(
            numpy_helper.from_array(WEIGHT.astype(np.float32), f"W{number}")
        )
    return made


@pytest.fixture(scope="module")
def rows() -> dict[str, BlockReport]:
    """By pattern, measured on samples."""
    found = inspect(
        model(list(PATTERNS)),
        samples={"x": SAMPLES},
        measuring=MeasureOptions(provider="cpu"),
    )
    assert not found.refusals
    return dict(zip(PATTERNS, found.rows, strict=True))


def test_each_way_of_writing_is_recognised(rows: dict[str, BlockReport]) -> None:
    found = {
        pattern: None if row.behind is None else row.behind.name for pattern, row in rows.items()
    }
    assert found == {pattern: name for pattern, (_, name) in PATTERNS.items()}


def test_the_activation_s_tensor_is_named(rows: dict[str, BlockReport]) -> None:
    numbers = {pattern: number for number, pattern in enumerate(PATTERNS)}
    for pattern, row in rows.items():
        if row.behind is None:
            continue
        inner = {"gate": "s", "another": "k", "wrong constant": "m"}.get(pattern, "y")
        assert row.behind.output == f"{inner}{numbers[pattern]}", pattern
        # Blocks are what they were.
        assert row.block.activation.kind == "none"
        assert row.block.key == f"h{numbers[pattern]}"


def largest(function: ActivationFunction, radius: float, root: Floats, centre: Floats) -> float:
    """The largest change of answers that is met on the ball, from its centre's."""
    x = np.random.default_rng(1).standard_normal((6, 4000))
    x *= radius / np.linalg.norm(x, axis=0)
    y = WEIGHT @ root @ x + centre[:, None]
    return float(np.linalg.norm(function(y) - function(centre)[:, None], axis=0).max())


def test_bounds_hold_on_a_ball_with_half_of_the_inputs(rows: dict[str, BlockReport]) -> None:
    mean, covariance = SAMPLES.mean(axis=0), np.cov(SAMPLES.T, bias=True)
    values, vectors = np.linalg.eigh(covariance)
    lengths = np.linalg.norm((SAMPLES - mean) @ vectors / np.sqrt(values), axis=1)
    root = vectors * np.sqrt(values)
    for pattern, row in rows.items():
        if row.behind is None:
            continue
        behind, function = row.behind, ACTIVATIONS[row.behind.name]
        assert isinstance(function, ActivationFunction)
        assert behind.holds == 0.5
        # Columns, twice, and a little for shrinkage.
        assert math.sqrt(12) <= behind.radius <= 1.2 * math.sqrt(12)
        assert np.mean(lengths <= behind.radius) >= 0.5
        met = largest(function, behind.radius, root, WEIGHT @ mean + BIAS)
        assert met <= 1.05 * behind.upper[0], pattern
        assert np.all(behind.lower <= behind.upper)
        assert np.all(np.diff(behind.upper) <= 0)
        assert np.allclose(
            behind.upper, function.lipschitz * behind.radius * row.spectrum.sigma, rtol=1e-5
        )
    silu = rows["silu"].behind
    assert silu is not None
    assert silu.lower[0] > 0.3 * silu.upper[0]


def test_without_statistics_it_is_the_unit_ball() -> None:
    found = inspect(model(["erf", "tanh"]), measuring=MeasureOptions(provider="cpu"))
    gelu, tanh = (row.behind for row in found.rows)
    assert gelu is not None
    assert tanh is not None
    assert (gelu.radius, gelu.holds) == (1.0, 0.0)
    sigma = np.linalg.svd(WEIGHT, compute_uv=False)
    assert np.allclose(gelu.upper, 1.1289041 * sigma, rtol=1e-5)
    assert np.allclose(tanh.upper, sigma, rtol=1e-5)
    # Tanh has no factor that holds for all radii.
    assert not tanh.lower.any()
    below = 0.6289041 * np.linalg.norm(np.minimum(BIAS, 0))
    assert np.all(gelu.lower >= np.maximum(sigma / 2 - below, 0) * (1 - 1e-5))
