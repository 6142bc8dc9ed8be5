"""Where channels end: every reason names the operator, and what it does to them."""

from pathlib import Path

import numpy as np
import pytest
from channel_graphs import images
from graphs import normal

HEAD = "a = Conv<pads=[1,1,1,1]>(x, k, b)"
ENDS = {"k": normal(6, 3, 3, 3), "b": normal(6)}
KERNEL, MATRIX = normal(5, 6, 1, 1), normal(6, 5)
X = {"x": normal(3, 3, 6, 6)}


def whole(*numbers: int) -> np.ndarray:
    return np.array(numbers, np.int64)


# What follows the Conv that makes six channels, and why these stay. It ends in y.
REASONS: dict[str, tuple[str, str, dict[str, np.ndarray]]] = {
    "a graph output": ("y = Relu(a)", "y is a graph output", {}),
    "unknown": (
        "h = DepthToSpace<blocksize=1>(a) y = Conv(h, k2)",
        "DepthToSpace h is not understood",
        {"k2": KERNEL},
    ),
    "gathered": (
        "h = Gather<axis=1>(a, i) y = Conv(h, k2)",
        "Gather h is not understood",
        {"i": whole(5, 4, 3, 2, 1, 0), "k2": KERNEL},
    ),
    "a shape": (
        "s = Shape(a) m = ConstantOfShape(s) y = Add(x2, m)",
        "ConstantOfShape m depends on how many channels there are",
        {"x2": normal(1, 6, 6, 6)},
    ),
    "its own products": (
        "t = Transpose<perm=[0,1,3,2]>(a) m = MatMul(a, t) y = Conv(m, k2)",
        "MatMul m has a weight that is computed",
        {"k2": KERNEL},
    ),
    "softmax": (
        "h = Softmax<axis=1>(a) y = Conv(h, k2)",
        "Softmax h mixes its channels",
        {"k2": KERNEL},
    ),
    "softmax from the end": (
        "h = LogSoftmax<axis=-3>(a) y = Conv(h, k2)",
        "LogSoftmax h mixes its channels",
        {"k2": KERNEL},
    ),
    "layer normalisation": (
        "h = LayerNormalization<axis=1>(a, w) y = Conv(h, k2)",
        "LayerNormalization h mixes its channels",
        {"w": normal(6, 6, 6), "k2": KERNEL},
    ),
    "local response": (
        "h = LRN<size=3>(a) y = Conv(h, k2)",
        "LRN h mixes its channels",
        {"k2": KERNEL},
    ),
    "a mean over channels": (
        "h = ReduceMean<axes=[-3]>(a) y = Conv(h, k2)",
        "ReduceMean h mixes its channels",
        {"k2": normal(5, 1, 1, 1)},
    ),
    "a mean over all": ("y = ReduceMax(a)", "ReduceMax y mixes its channels", {}),
    "training": (
        "h = Dropout(a, ratio, training) y = Conv(h, k2)",
        "Dropout h may be training",
        {"ratio": np.array(0, np.float32), "training": np.array(True), "k2": KERNEL},
    ),
    "indices": (
        "h, i = MaxPool<kernel_shape=[2,2]>(a) c = Cast<to=1>(i) s = Add(h, c) y = Conv(s, k2)",
        "MaxPool h has several outputs",
        {"k2": KERNEL},
    ),
    "added to what stays": (
        "h = Concat<axis=1>(x, x) s = Add(h, a) y = Conv(s, k2)",
        "Add s combines channels with some that stay",
        {"k2": KERNEL},
    ),
    "added to some that stay": (
        "c = Conv(x, k3) h = Concat<axis=1>(x, c) s = Add(h, a) y = Conv(s, k2)",
        "Add s combines them with channels that stay",
        {"k3": normal(3, 3, 1, 1), "k2": KERNEL},
    ),
    "of another axis": (
        "t = Transpose<perm=[0,2,1,3]>(a) s = Add(t, a) y = Conv(s, k2)",
        "Add s combines channels of different axes",
        {"k2": KERNEL},
    ),
    "slopes computed": (
        "m = GlobalMaxPool(x) g = Concat<axis=1>(m, m) s = ReduceMax<axes=[0]>(g) h = PRelu(a, s)"
        " y = Conv(h, k2)",
        "PRelu h combines channels with some that stay",
        {"k2": KERNEL},
    ),
    "joined over": (
        "h = Concat<axis=2>(a, z) y = Conv(h, k2)",
        "Concat h joins channels with some that stay",
        {"z": normal(1, 6, 1, 6), "k2": KERNEL},
    ),
    "joined across": (
        "t = Transpose<perm=[0,2,1,3]>(a) h = Concat<axis=3>(a, t) y = Conv(h, k2)",
        "Concat h joins channels of different axes",
        {"k2": KERNEL},
    ),
    "to the samples": (
        "t = Transpose<perm=[1,0,2,3]>(a) y = Relu(t)",
        "Transpose t puts its channels along the samples",
        {},
    ),
    "flat from the front": (
        "f = Flatten<axis=2>(a) y = MatMul(f, w)",
        "Flatten f tears channels apart, or does at other sizes",
        {"w": normal(36, 5)},
    ),
    "shuffled": (
        "r = Reshape(a, s) t = Transpose<perm=[0,2,1,3,4]>(r) y = Flatten(t)",
        "Reshape r tears channels apart, or does at other sizes",
        {"s": whole(-1, 2, 3, 6, 6)},
    ),
    "a computed shape": (
        "z = Sub(x, x) q = ReduceMax<keepdims=0>(z) c = Cast<to=7>(q) n = Unsqueeze(c, i)"
        " w = Concat<axis=0>(n, o) r = Reshape(a, w) y = MatMul(r, m)",
        "Reshape r takes a shape that is computed",
        {"i": whole(0), "o": whole(-1), "m": normal(216, 5)},
    ),
    "squeezed anyhow": (
        "p = GlobalMaxPool(a) h = Squeeze(p) y = Relu(h)",
        "Squeeze h takes axes that are not named",
        {},
    ),
    "padded": (
        "h = Pad(a, p) y = Conv(h, k2)",
        "Pad h adds or drops channels",
        {"p": whole(0, 1, 0, 0, 0, -1, 0, 0), "k2": KERNEL},
    ),
    "sliced": (
        "h = Slice(a, s, e, i) y = Conv(h, k2)",
        "Slice h takes some of the channels",
        {"s": whole(1), "e": whole(4), "i": whole(-3), "k2": normal(5, 3, 1, 1)},
    ),
    # It leaves six channels, and mixes them all the same.
    "scaled a little": (
        'h = Resize<mode="nearest">(a, , s) y = Conv(h, k2)',
        "Resize h resizes the channels' axis",
        {"s": np.array([1, 1.1, 1, 2], np.float32), "k2": KERNEL},
    ),
    "resized": (
        "h = Resize(a, , , s) y = Conv(h, k2)",
        "Resize h resizes the channels' axis",
        {"s": whole(1, 12, 6, 6), "k2": normal(5, 12, 1, 1)},
    ),
    "cropped": (
        'h = Resize<mode="linear", coordinate_transformation_mode="tf_crop_and_resize">(a, c, s)'
        " y = Conv(h, k2)",
        "Resize h crops",
        {
            "c": np.array([0, 0, 0, 0, 1, 1, 1, 1], np.float32),
            "s": np.array([1, 1, 2, 1], np.float32),
            "k2": KERNEL,
        },
    ),
    "turned matrix": (
        "p = ReduceMax<axes=[0,2,3], keepdims=1>(a) f = Flatten(p) y = Gemm<transA=1>(f, w)",
        "Gemm y reads across its channels",
        {"w": normal(1, 5)},
    ),
    "rows of pixels": (
        "y = MatMul(a, w)",
        "MatMul y reads across its channels",
        {"w": MATRIX},
    ),
    "stacked matrices": (
        "t = Transpose<perm=[0,2,3,1]>(a) y = MatMul(t, w)",
        "MatMul y has a weight that is no matrix",
        {"w": normal(6, 6, 5)},
    ),
    "a computed bias": (
        "m = ReduceMax<axes=[0,2,3], keepdims=0>(x) y = Conv(a, k2, m)",
        "Conv y has a bias that is computed",
        {"k2": normal(3, 6, 1, 1)},
    ),
    "a weight for two": (
        "c = Conv(a, k2) d = Relu(c) e = Conv(d, k2) y = Add(c, e)",
        "Conv c shares its weight with others",
        {"k2": normal(6, 6, 1, 1)},
    ),
    "a weight for two behind an identity": (
        "i = Identity(k2) c = Conv(a, k2) d = Relu(c) e = Conv(d, i) y = Add(c, e)",
        "Conv c shares its weight with others",
        {"k2": normal(6, 6, 1, 1)},
    ),
    "nobody": ("h = Relu(a) y = Relu(x)", "no weight reads its channels", {}),
}


@pytest.mark.parametrize("name", REASONS)
def test_reasons_name_the_operator(name: str, tmp_path: Path) -> None:
    body, reason, arrays = REASONS[name]
    followed = images(f"{HEAD} {body}", tmp_path, **ENDS, **arrays)
    assert "a" not in followed.groups
    assert followed.reasons["a"] == reason


def test_one_reason_serves_all_of_a_group(tmp_path: Path) -> None:
    followed = images(
        f"{HEAD} c = Conv(a, kc) s = Add(a, c) h = Softmax<axis=1>(s) y = Conv(h, k2)",
        tmp_path,
        kc=normal(6, 6, 1, 1),
        k2=KERNEL,
        **ENDS,
    )
    reason = "Softmax h mixes its channels"
    assert followed.reasons == {"a": reason, "c": reason, "y": "y is a graph output"}
    assert followed.channels.groups == ()


def test_an_old_softmax_is_over_all_from_its_axis_on(tmp_path: Path) -> None:
    body = f"{HEAD} t = Transpose<perm=[0,2,3,1]>(a) h = Softmax<axis=2>(t) y = MatMul(h, w)"
    assert images(body, tmp_path, opset=13, w=MATRIX, **ENDS).groups
    reasons = images(body, tmp_path, opset=11, w=MATRIX, **ENDS).reasons
    assert reasons["a"] == "Softmax h mixes its channels"
