"""Groups in graphs with more in them: who makes the units, who reads them, what lies between."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from channel_graphs import check_cut, images
from graphs import normal, normalization, positive

from onnx_relusv.graph.channel_records import ChannelGroup

HEAD = "a = Conv<pads=[1,1,1,1]>(x, k1, b1)"
TAIL = "y = Conv<pads=[1,1,1,1]>(h, k2, b2)"
ENDS = {
    "k1": normal(6, 3, 3, 3),
    "b1": normal(6),
    "k2": normal(5, 6, 3, 3),
    "b2": normal(5),
}


def whole(*numbers: int) -> np.ndarray:
    return np.array(numbers, np.int64)


@dataclass(frozen=True)
class Case:
    """A graph from `x` to `y` with its groups.

    Attributes:
        body: Its nodes.
        arrays: Its constants.
        groups: Of every group: its producers, consumers, operators, and how many units it has.
        opsets: At which it is tried.
    """

    body: str
    arrays: dict[str, np.ndarray]
    groups: tuple[tuple[str, str, str, int], ...]
    opsets: tuple[int, ...] = (17,)


def case(
    body: str, *groups: tuple[str, str, str, int], opsets: tuple[int, ...] = (17,), **arrays: object
) -> Case:
    """A case; constants of the ends are there if they are read."""
    read = {name: values for name, values in ENDS.items() if name in body}
    return Case(body, read | arrays, groups, opsets)


def chain(inner: str, operators: str, *, opsets: tuple[int, ...] = (17,), **arrays: object) -> Case:
    """Something between two Convs that keeps all of six channels apart."""
    return case(f"{HEAD} {inner} {TAIL}", ("a", "y", operators, 6), opsets=opsets, **arrays)


BOTH = (9, 11, 13, 17, 18, 22)
GATE = (
    f"{HEAD} r = Relu(a) p = {{mean}} s = Conv(p, ks, bs) t = Relu(s) u = Conv(t, ku, bu)"
    f" g = Sigmoid(u) h = Mul(r, g) {TAIL}"
)
SQUEEZE = {
    "ks": normal(4, 6, 1, 1),
    "bs": normal(4),
    "ku": normal(6, 4, 1, 1),
    "bu": normal(6),
}
CASES = {
    "activations": chain(
        "b = LeakyRelu(a) c = Sigmoid(b) d = Identity(c) e = Cast<to=1>(d) f = Tanh(e)"
        " g = HardSigmoid(f) h = Clip<min=-1.0, max=1.0>(g)",
        "LeakyRelu Sigmoid Identity Cast Tanh HardSigmoid Clip",
        opsets=(9,),
    ),
    "gate of its own": chain(
        "s = HardSwish(a) g = HardSigmoid(s) h = Mul(s, g)",
        "HardSwish HardSigmoid Mul",
        opsets=(14, 22),
    ),
    "constants": chain(
        "b = Mul(a, m) c = Add(s, b) d = Sub(c, m) e = Div(d, w) h = Max(e, v)",
        "Mul Add Sub Div Max",
        m=normal(6, 1, 1),
        s=np.array(0.3, np.float32),
        w=positive(1, 6, 1, 1),
        v=normal(1),
    ),
    # The image is six pixels wide: a vector of six is one of columns and not of channels.
    "constants of columns": chain(
        "b = Add(a, m) c = PRelu(b, s) h = Mul(c, t)",
        "Add PRelu Mul",
        m=normal(6),
        s=normal(1, 6),
        t=normal(6, 6),
    ),
    "constants of channels and columns": chain(
        "b = Add(a, m) h = PRelu(b, s)", "Add PRelu", m=normal(6, 6, 6), s=normal(6, 1, 6)
    ),
    "normalisations": chain(
        "b = InstanceNormalization(a, gamma, beta)"
        " h = BatchNormalization<epsilon=0.01>(b, gamma, beta, mean, variance)",
        "InstanceNormalization BatchNormalization",
        opsets=(9, 14, 17),
        **normalization(6),
    ),
    "pads and slices": chain(
        "b = Pad<pads=[0,0,1,0,0,0,0,2]>(a) h = Slice<axes=[2,3], starts=[1,0], ends=[6,5]>(b)",
        "Pad Slice",
        opsets=(9,),
    ),
    "pads and slices of today": chain(
        'b = Pad<mode="reflect">(a, p, , axes) h = Slice(b, s, e, axes)',
        "Pad Slice",
        opsets=(18, 22),
        p=whole(1, 2, 0, 1),
        axes=whole(2, -1),
        s=whole(0, 1),
        e=whole(4, 5),
    ),
    "softmax of columns": chain("h = Softmax<axis=3>(a)", "Softmax", opsets=(9, 13)),
    "means of positions": chain(
        "b = ReduceMax<axes=[-1]>(a) h = ReduceMean<axes=[2], keepdims=1>(b)",
        "ReduceMax ReduceMean",
        opsets=(9, 13),
    ),
    "squeezed": chain(
        "p = GlobalMaxPool(a) b = Squeeze<axes=[3]>(p) c = Squeeze<axes=[2]>(b)"
        " d = Unsqueeze<axes=[2]>(c) h = Unsqueeze<axes=[3]>(d)",
        "GlobalMaxPool Squeeze Unsqueeze",
        opsets=(9, 11),
    ),
    "squeezed today": chain(
        "p = ReduceSum(a, axes) b = Squeeze(p, axes) d = Unsqueeze(b, axes) h = ReduceMean(d, axes)",
        "ReduceSum Squeeze Unsqueeze ReduceMean",
        opsets=(18, 22),
        axes=whole(-1, 2),
    ),
    "dropout with its mask": chain(
        "b, mask = Dropout(a) f = Cast<to=1>(mask) h = Add(b, f)",
        "Dropout Cast Add",
        opsets=(10, 13),
    ),
    "max pool with its indices": chain(
        "h, indices = MaxPool<kernel_shape=[2,2]>(a)", "MaxPool", opsets=(9, 17)
    ),
    "gated by where": chain(
        "g = Greater(a, zero) h = Where(g, a, other)",
        "Greater Where",
        zero=np.array(0, np.float32),
        other=normal(6, 1, 1),
    ),
    "multiplied depthwise": case(
        f"{HEAD} d = Conv<group=6, dilations=[2,2]>(a, kd, bd) y = Conv(d, kp)",
        ("a", "y", "depthwise Conv", 6),
        kd=normal(12, 1, 3, 3),
        bd=normal(12),
        kp=normal(5, 12, 1, 1),
    ),
    "grouped": case(
        f"{HEAD} r = Relu(a) g = Conv<group=2>(r, kg, bg) h = Relu(g) {TAIL}",
        ("a", "g", "Relu", 3),
        ("g", "y", "Relu", 3),
        kg=normal(6, 3, 3, 3),
        bg=normal(6),
    ),
    "grouped transposed": case(
        f"{HEAD} r = Relu(a) g = ConvTranspose<group=2>(r, kg, bg) h = Relu(g) {TAIL}",
        ("a", "g", "Relu", 3),
        ("g", "y", "Relu", 3),
        kg=normal(6, 3, 3, 3),
        bg=normal(6),
    ),
    "transposed depthwise": chain(
        "r = Relu(a) h = ConvTranspose<group=6, strides=[2,2]>(r, kd, bd)",
        "Relu depthwise ConvTranspose",
        kd=normal(6, 1, 2, 2),
        bd=normal(6),
    ),
    "transposed depthwise, multiplied": case(
        f"{HEAD} d = ConvTranspose<group=6>(a, kd, bd) y = Conv(d, kp)",
        ("a", "y", "depthwise ConvTranspose", 6),
        kd=normal(6, 2, 3, 3),
        bd=normal(12),
        kp=normal(5, 12, 1, 1),
    ),
    "two consumers of different kinds": case(
        f"{HEAD} h = Relu(a) c = Conv(h, k2, b2) p = GlobalAveragePool(h) f = Flatten(p)"
        " g = Gemm(f, w, b2) m = GlobalAveragePool(c) n = Flatten(m) y = Add(g, n)",
        ("a", "c g", "Relu GlobalAveragePool Flatten", 6),
        w=normal(6, 5),
    ),
    "gate by global mean": case(
        GATE.format(mean="GlobalAveragePool(r)"),
        ("a u", "s y", "Relu GlobalAveragePool Sigmoid Mul", 6),
        ("s", "u", "Relu", 4),
        **SQUEEZE,
    ),
    "gate by matrices": case(
        f"{HEAD} r = Relu(a) p = ReduceMean<axes=[2,3], keepdims=0>(r) s = MatMul(p, ws)"
        " v = Add(s, bs) t = Relu(v) u = Gemm<transB=1>(t, wu, bu) g = Sigmoid(u)"
        f" q = Reshape(g, shape) h = Mul(q, r) {TAIL}",
        ("a u", "s y", "Relu ReduceMean Sigmoid Reshape Mul", 6),
        ("s", "u", "Add Relu", 4),
        ws=normal(6, 4),
        bs=normal(4),
        wu=normal(6, 4),
        bu=normal(6),
        shape=whole(-1, 6, 1, 1),
    ),
    "two blocks in a row": case(
        f"{HEAD} c = Conv<pads=[1,1,1,1]>(a, kc) s = Add(a, c) r = Relu(s)"
        f" d = Conv<pads=[1,1,1,1]>(r, kd) h = Sub(d, r) {TAIL}",
        ("a c d", "c d y", "Add Relu Sub", 6),
        kc=normal(6, 6, 3, 3),
        kd=normal(6, 6, 3, 3),
    ),
    "split": case(
        f"{HEAD} r = Relu(a) b, c = Split<axis=1>(r) d = Relu(b) e = Conv(d, ke) f = Conv(c, kf)"
        " y = Add(e, f)",
        # In each part a channel stays for good.
        ("a", "e f", "Relu Split", 4),
        opsets=(9, 13, 17),
        ke=normal(5, 3, 1, 1),
        kf=normal(5, 3, 1, 1),
    ),
    "split by name": case(
        f"{HEAD} b, c = Split<axis=-3, split=[2,4]>(a) e = Conv(b, ke) f = Conv(c, kf)"
        " y = Add(e, f)",
        ("a", "e f", "Split", 4),
        opsets=(9, 11),
        ke=normal(5, 2, 1, 1),
        kf=normal(5, 4, 1, 1),
    ),
    "split by name today": case(
        f"{HEAD} b, c = Split<axis=1>(a, parts) e = Conv(b, ke) f = Conv(c, kf) y = Add(e, f)",
        ("a", "e f", "Split", 4),
        opsets=(13, 18, 22),
        parts=whole(2, 4),
        ke=normal(5, 2, 1, 1),
        kf=normal(5, 4, 1, 1),
    ),
    "split by number": case(
        "a = Conv(x, ka) b, c, d = Split<axis=1, num_outputs=3>(a) f = Concat<axis=1>(d, b)"
        " y = Conv(f, kf)",
        ("a", "y", "Split Concat", 4),
        opsets=(18, 22),
        ka=normal(7, 3, 1, 1),
        kf=normal(5, 4, 1, 1),
    ),
    "split of columns": chain(
        "b, c = Split<axis=-1>(a) h = Concat<axis=3>(c, b)", "Split Concat", opsets=(9, 13, 17)
    ),
    "halves that are multiplied": case(
        f"{HEAD} b, c = Split<axis=1>(a) s = Sigmoid(c) h = Mul(b, s) y = Conv(h, ke)",
        ("a", "y", "Split Sigmoid Mul", 3),
        ke=normal(5, 3, 1, 1),
    ),
    "joined and added": case(
        "b = Conv(x, kb) c = Conv(x, kc) d = Conv(x, kd) j = Concat<axis=1>(b, c) h = Add(j, d)"
        " y = Conv(h, k2, b2)",
        ("b c d", "y", "Concat Add", 4),
        kb=normal(2, 3, 1, 1),
        kc=normal(4, 3, 1, 1),
        kd=normal(6, 3, 1, 1),
    ),
    "joined with what stays": case(
        f"{HEAD} j = Concat<axis=1>(x, a) h = Relu(j) y = Conv(h, kj)",
        ("a", "y", "Concat Relu", 6),
        kj=normal(5, 9, 1, 1),
    ),
    "joined with itself": case(
        f"{HEAD} r = Relu(a) j = Concat<axis=1>(r, a) y = Conv(j, kj)",
        ("a", "y", "Relu Concat", 6),
        kj=normal(5, 12, 1, 1),
    ),
    "channels last": case(
        "t = Transpose<perm=[0,2,3,1]>(x) a = MatMul(t, w1) b = Add(a, b1) c = PRelu(b, s)"
        " m = ReduceMean<axes=[1,2], keepdims=1>(c) d = Mul(c, m)"
        " h = Transpose<perm=[0,3,1,2]>(d) y = Conv(h, k2, b2)",
        ("a", "y", "Add PRelu ReduceMean Mul Transpose", 6),
        w1=normal(3, 6),
        s=normal(6),
    ),
    "channels last and flat": case(
        f"{HEAD} h = Transpose<perm=[0,2,3,1]>(a) f = Flatten(h) y = MatMul(f, w)",
        ("a", "y", "Transpose Flatten", 6),
        w=normal(216, 5),
    ),
    "flat with other numbers": case(
        f"{HEAD} f = Flatten(a) g = Flatten<axis=-3>(x) j = Concat<axis=-1>(f, g)"
        " n = Add(j, row) y = Gemm<transB=1>(n, w)",
        ("a", "y", "Flatten Concat Add", 6),
        opsets=(11, 22),
        row=normal(324),
        w=normal(5, 324),
    ),
    "gate of positions": case(
        f"{HEAD} s = Conv(a, ks) g = Sigmoid(s) h = Mul(a, g) {TAIL}",
        ("a", "s y", "Mul", 6),
        ks=normal(1, 6, 1, 1),
    ),
}
RUNS = [(name, opset) for name, found in CASES.items() for opset in found.opsets]


def described(group: ChannelGroup) -> tuple[str, str, str, int]:
    parts = (group.producers, group.consumers, group.operators)
    producers, consumers, operators = (" ".join(each) for each in parts)
    return producers, consumers, operators, len(group.units)


@pytest.mark.parametrize(("name", "opset"), RUNS)
def test_groups_are_found_and_cut(name: str, opset: int, tmp_path: Path) -> None:
    found = CASES[name]
    followed = images(found.body, tmp_path, opset=opset, **found.arrays)
    assert tuple(map(described, followed.channels.groups)) == found.groups
    for seed in range(2):
        removed = followed.random(np.random.default_rng(seed))
        check_cut(followed, removed, tmp_path)
    # All but one unit of every group, too.
    check_cut(followed, followed.removal(slice(1, None)), tmp_path)
