"""Groups in graphs with branches: who makes the units, who reads them, what lies between."""

from pathlib import Path

import pytest
from channel_graphs import HEAD, TAIL, case, chain, check_case, whole
from graphs import normal

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
    # The first of six serves the others, so it stays.
    "one part multiplies the other": case(
        f"{HEAD} b, c = Split<axis=1, split=[1,5]>(a) g = Sigmoid(b) h = Mul(c, g) y = Conv(h, ke)",
        ("a", "y", "Split Mul", 5),
        opsets=(11,),
        ke=normal(5, 5, 1, 1),
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


@pytest.mark.parametrize(("name", "opset"), RUNS)
def test_groups_are_found_and_cut(name: str, opset: int, tmp_path: Path) -> None:
    check_case(CASES[name], opset, tmp_path)
