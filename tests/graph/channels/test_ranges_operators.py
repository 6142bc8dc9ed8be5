"""Certified ranges of every operator: no number is outside, and they are not much too wide."""

from pathlib import Path

import numpy as np
import pytest
from graphs import model_proto, normal, normalization, positive
from ranged import holds, ranged, tightened, within

UNIT = (0.0, 1.0)
_IMAGE = "(float[N,4,6,6] x) => (float[N,?,?,?] y) "
_VECTOR = "(float[N,6] x) => (float[N,?] y) "
_CONV = {"w": normal(6, 4, 3, 3, scale=0.3), "b": normal(6)}
_SHIFT = {"c": normal(4, 1, 1), "d": positive(4, 1, 1)}
_VECTORS = {"w": normal(6, 5), "b": normal(5)}


def constants(**values: object) -> dict[str, np.ndarray]:
    return {name: np.asarray(value) for name, value in values.items()}


OPERATORS: dict[str, tuple[str, dict[str, np.ndarray]]] = {
    "Conv": (_IMAGE + "{ y = Conv<pads=[1,0,0,1], strides=[2,1]>(x, w, b) }", _CONV),
    "Conv, SAME": (_IMAGE + '{ y = Conv<auto_pad="SAME_LOWER">(x, w, b) }', _CONV),
    "Conv, groups": (
        _IMAGE + "{ y = Conv<group=2>(x, w, b) }",
        {"w": normal(6, 2, 3, 3), "b": normal(6)},
    ),
    "Conv, depthwise": (_IMAGE + "{ y = Conv<group=4>(x, w) }", {"w": normal(8, 1, 3, 3)}),
    "Gemm": (_VECTOR + "{ y = Gemm<alpha=-0.5, beta=-2.0>(x, w, b) }", _VECTORS),
    "Gemm, transB": (_VECTOR + "{ y = Gemm<transB=1>(x, w) }", {"w": normal(5, 6)}),
    "MatMul": (_VECTOR + "{ y = MatMul(x, w) }", {"w": normal(6, 5)}),
    "MatMul, last": (_IMAGE + "{ y = MatMul(x, w) }", {"w": normal(6, 5)}),
    "Add, Mul": (_IMAGE + "{ h = Add(x, c) y = Mul(d, h) }", _SHIFT),
    "Sub, Div": (_IMAGE + "{ h = Sub(c, x) y = Div(h, d) }", _SHIFT),
    "Div by a tensor": (
        _IMAGE + "{ e = Exp(x) h = Add(x, c) y = Div(c, h) }",
        {"c": 4 + positive(4, 1, 1)},
    ),
    "two": (_IMAGE + "{ h = Mul(x, c) i = Sub(x, h) y = Mul(i, h) }", _SHIFT),
    "BatchNormalization": (
        _IMAGE + "{ y = BatchNormalization(x, gamma, beta, mean, variance) }",
        normalization(4) | {"gamma": normal(4)},
    ),
    "LeakyRelu": (_IMAGE + "{ h = Add(x, c) y = LeakyRelu<alpha=0.3>(h) }", _SHIFT),
    "PRelu": (_IMAGE + "{ h = Add(x, c) y = PRelu(h, s) }", _SHIFT | {"s": normal(4, 1, 1)}),
    "Clip": (_IMAGE + "{ h = Add(x, c) y = Clip(h, l) }", _SHIFT | constants(l=np.float32(0.2))),
    "Sigmoid": (_IMAGE + "{ h = Mul(x, c) y = Sigmoid(h) }", {"c": normal(4, 1, 1, scale=30)}),
    "Tanh": (_IMAGE + "{ h = Mul(x, c) y = Tanh(h) }", {"c": normal(4, 1, 1, scale=30)}),
    "HardSigmoid": (
        _IMAGE + "{ h = Mul(x, c) y = HardSigmoid<alpha=0.3>(h) }",
        {"c": normal(4, 1, 1, scale=5)},
    ),
    "HardSwish": (_IMAGE + "{ h = Mul(x, c) y = HardSwish(h) }", {"c": normal(4, 1, 1, scale=5)}),
    "MaxPool": (
        _IMAGE + "{ h = Sub(x, c) y = MaxPool<kernel_shape=[3,3], pads=[1,1,1,1]>(h) }",
        {"c": 2 + positive(4, 1, 1)},
    ),
    "AveragePool": (
        _IMAGE + "{ h = Add(x, c) y = AveragePool<kernel_shape=[3,3], pads=[1,1,1,1]>(h) }",
        {"c": 2 + positive(4, 1, 1)},
    ),
    "AveragePool, pads counted": (
        _IMAGE + "{ h = Add(x, c) y = AveragePool<kernel_shape=[3,3], pads=[1,1,1,1],"
        " count_include_pad=1>(h) }",
        {"c": 2 + positive(4, 1, 1)},
    ),
    "GlobalMaxPool": (_IMAGE + "{ h = Mul(x, c) y = GlobalMaxPool(h) }", {"c": normal(1, 4, 6, 6)}),
    "ReduceMean": (
        _IMAGE + "{ h = Mul(x, c) y = ReduceMean<axes=[-1], keepdims=1>(h) }",
        {"c": normal(1, 4, 6, 6)},
    ),
    "Pad": (
        _IMAGE + "{ h = Add(x, c) y = Pad(h, p, v) }",
        {"c": 2 + positive(4, 1, 1)} | constants(p=[0, 0, 1, 0, 0, 0, 0, 2], v=np.float32(-1)),
    ),
    "Pad of channels": (
        _IMAGE + "{ h = Add(x, c) y = Pad(h, p) }",
        {"c": 2 + positive(4, 1, 1)} | constants(p=[0, 1, 0, 0, 0, 0, 0, 0]),
    ),
    "Pad, reflected": (
        _IMAGE + '{ h = Add(x, c) y = Pad<mode="reflect">(h, p) }',
        {"c": 2 + positive(4, 1, 1)} | constants(p=[0, 1, 1, 0, 0, 0, 0, 2]),
    ),
    "Resize, sizes": (
        _IMAGE + '{ h = Mul(x, c) y = Resize<mode="linear", axes=[2,3]>(h, , , s) }',
        {"c": normal(1, 4, 6, 6)} | constants(s=[9, 5]),
    ),
    "Resize of channels": (
        _IMAGE + "{ h = Mul(x, c) y = Resize(h, , s) }",
        {"c": normal(4, 1, 1)} | constants(s=np.array([1, 2, 1, 1], np.float32)),
    ),
    "Unsqueeze, Squeeze": (
        _IMAGE + "{ h = Mul(x, c) i = Unsqueeze(h, a) j = Transpose<perm=[0,2,1,3,4]>(i)"
        " y = Squeeze(j, b) }",
        {"c": normal(4, 1, 1)} | constants(a=[2], b=[1]),
    ),
    "Concat of constants": (
        _VECTOR + "{ h = Mul(x, c) y = Concat<axis=0>(h, c) }",
        {"c": normal(1, 6)},
    ),
    "channels shuffled": (
        _IMAGE + "{ h = Mul(x, c) i = Reshape(h, s) j = Transpose<perm=[0,2,1,3,4]>(i)"
        " y = Reshape(j, t) }",
        {"c": normal(4, 1, 1)} | constants(s=[-1, 2, 2, 6, 6], t=[-1, 4, 6, 6]),
    ),
}


@pytest.mark.parametrize("name", OPERATORS)
def test_every_operator(name: str, tmp_path: Path) -> None:
    text, arrays = OPERATORS[name]
    shape = (6,) if "float[N,6]" in text else (4, 6, 6)
    for declared in (UNIT, (-0.7, 0.4)):
        example = normal(1, *shape)
        opset = 18 if "Resize" in text else 14
        found = ranged(model_proto(text, arrays, opset=opset), example, declared, tmp_path)
        bounds = found.ranges["y"]
        assert np.isfinite([bounds.low, bounds.high]).all()
        rng = np.random.default_rng(0)
        drawn = within((300, *shape), declared, rng)
        # Whole inputs at an end, and single channels.
        ends = np.broadcast_to(np.reshape(declared, (2, *(1,) * len(shape))), (2, *shape))
        channels = rng.choice(declared, (100, shape[0], *(1,) * len(shape[1:])))
        channels = np.broadcast_to(channels, (100, *shape))
        y = found.values(np.concatenate([drawn, ends, channels]).astype(np.float32))["y"]
        assert holds(bounds, y)
        # Bounds are no wider than it takes by far, or this would say nothing.
        assert not holds(tightened(bounds, 0.49), y)
