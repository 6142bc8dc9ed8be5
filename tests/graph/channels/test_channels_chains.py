"""What may lie between two Convs and keeps channels apart, at the operator sets that spell it."""

from pathlib import Path

import numpy as np
import pytest
from channel_graphs import chain, check_case, whole
from graphs import normal, normalization, positive

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
        "p = ReduceSum(a, axes) b = Squeeze(p, axes) d = Unsqueeze(b, axes)"
        " h = ReduceMean(d, axes)",
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
}
RUNS = [(name, opset) for name, found in CASES.items() for opset in found.opsets]


@pytest.mark.parametrize(("name", "opset"), RUNS)
def test_groups_are_found_and_cut(name: str, opset: int, tmp_path: Path) -> None:
    check_case(CASES[name], opset, tmp_path)
