"""Shapes that are computed of lengths: where a view of a dynamic batch takes channels."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from channel_graphs import Followed, images
from graphs import gap, model_proto, normal, run, saved

from onnx_relusv.graph.channels.groups import inferred_lengths
from onnx_relusv.graph.reference import runnable
from onnx_relusv.rewrites.prune.cutting import cut, zeroed
from onnx_relusv.runtime.session import CPU, Session

ENDS = {"k": normal(6, 3, 3, 3), "b": normal(6), "w": normal(216, 5), "k2": normal(4, 6, 1, 1)}
ENDS |= {"zero": np.array(0), "one": np.array(1), "four": np.array(4)}
ENDS |= {f"v{number}": np.array([number]) for number in (0, 1, 6, 36, 216)}
ENDS |= {
    "rest": np.array([-1]),
    "front": np.array([0, 1]),
    "channels": np.array([1]),
    "back": np.array([2, 3]),
}
HEAD = "a = Conv<pads=[1,1,1,1]>(x, k, b) r = Relu(a)"
BATCH = "n = Gather(s, zero) u = Unsqueeze(n, v0)"
FLAT = "f = Reshape(r, t) y = MatMul(f, w)"
FOLLOWED = {
    "a view": f"s = Shape(r) {BATCH} t = Concat<axis=0>(u, rest) {FLAT}",
    "of another tensor": f"s = Shape(x) {BATCH} t = Concat<axis=0>(u, rest) {FLAT}",
    "of the tensor before": f"s = Shape(a) {BATCH} t = Concat<axis=0>(u, rest) {FLAT}",
    "with the length named": f"s = Shape(r) {BATCH} t = Concat<axis=0>(u, v216) {FLAT}",
    "a slice": f"s = Shape(r) u = Slice(s, v0, v1) t = Concat<axis=0>(u, rest) {FLAT}",
    "some axes": f"u = Shape<start=0, end=1>(r) t = Concat<axis=0>(u, rest) {FLAT}",
    "a cast": (
        f"s = Shape(r) i = Cast<to=6>(s) l = Cast<to=7>(i) u = Slice(l, v0, v1)"
        f" t = Concat<axis=0>(u, rest) {FLAT}"
    ),
    "a product": (
        f"s = Shape(r) {BATCH} p = Gather(s, channels) q = Gather(s, back) m = ReduceProd(q)"
        f" o = Mul(p, m) t = Concat<axis=0>(u, o) {FLAT}"
    ),
    "channels left": (
        "s = Shape(r) u = Gather(s, front) t = Concat<axis=0>(u, rest) f = Reshape(r, t)"
        " h = Transpose<perm=[0,2,1]>(f) y = MatMul(h, w6)"
    ),
    "less nothing": (
        f"s = Shape(r) e = Sub(s, v0) u = Gather(e, v0) t = Concat<axis=0>(u, rest) {FLAT}"
    ),
    "the same shape": "s = Shape(a) f = Reshape(r, s) y = Conv(f, k2)",
    "two views": (
        "s = Shape(r) u = Gather(s, front) t = Concat<axis=0>(u, v36) g = Reshape(r, t)"
        " s2 = Shape(g) n2 = Gather(s2, v0) t2 = Concat<axis=0>(n2, rest) f = Reshape(g, t2)"
        " y = MatMul(f, w)"
    ),
    "computed somehow": (
        f"s = Shape(x) n = Gather(s, zero) d = Add(n, one) e = Sub(d, one) u = Unsqueeze(e, v0)"
        f" t = Concat<axis=0>(u, v216) {FLAT}"
    ),
}
REFUSED = {
    # With fewer channels, what says how many there are would be of the wrong ones.
    "elsewhere in the shape": (
        "s = Shape(r) c = Gather(s, channels) m = Mul(c, v6) t = Concat<axis=0>(rest, v6, m)"
        " f = Reshape(r, t) h = Transpose<perm=[0,2,1]>(f) y = MatMul(h, w6)"
    ),
    "of other channels": (
        "o = Conv(x, k3) s = Shape(o) c = Gather(s, channels) z = Relu(o)"
        " t = Concat<axis=0>(rest, c, v36) f = Reshape(r, t) h = Transpose<perm=[0,2,1]>(f)"
        " g = MatMul(h, w6) e = Conv(z, k2) m = ReduceMax<keepdims=0>(e) y = Add(g, m)"
    ),
    "their number is read": (
        f"s = Shape(r) {BATCH} t = Concat<axis=0>(u, rest) {FLAT} n2 = Neg(s)"
    ),
    "added": "s = Shape(r) c = Gather(s, channels) h = Cast<to=1>(c) d = Conv(r, k2) y = Mul(d, h)",
    "in a branch": (
        "s = Shape(r) d = Conv(r, k2) y = If(yes) <then_branch = p () => (float[N,4,6,6] i)"
        " { c = Cast<to=1>(s) m = ReduceMax<keepdims=0>(c) i = Mul(d, m) },"
        " else_branch = q () => (float[N,4,6,6] j) { j = Identity(d) }>"
    ),
    "two unknown": (
        f"s = Shape(r) e = Max(s, v0) u = Gather(e, v0) t = Concat<axis=0>(u, rest) {FLAT}"
    ),
}


def followed(body: str, folder: Path) -> Followed:
    arrays = ENDS | {"w6": normal(6, 5), "k3": normal(6, 3, 1, 1)}
    arrays["yes"] = np.array(True)
    body = f"{HEAD} {body}"
    names = body.replace(",", " ").replace("(", " ").replace(")", " ").split()
    return images(body, folder, **{name: each for name, each in arrays.items() if name in names})


@pytest.mark.parametrize("name", FOLLOWED)
@pytest.mark.parametrize("batch", [1, 2, 3])
def test_views_take_channels_along(name: str, batch: int, tmp_path: Path) -> None:
    found = followed(FOLLOWED[name], tmp_path)
    assert "a" in found.groups, found.reasons
    removed = found.removal([1, 2, 4])
    result = cut(found.model, found.channels, removed)
    onnx.checker.check_model(result, full_check=True)
    feeds = {"x": normal(batch, 3, 6, 6, seed=batch)}
    proto, arrays = zeroed(found.model, found.channels, removed)
    exact = Session(runnable(found.model, proto, arrays=arrays), CPU).run(feeds)["y"]
    assert gap(run(result, feeds)["y"], exact) < 1e-5  # float32 sums in another order


@pytest.mark.parametrize("name", REFUSED)
def test_numbers_of_channels_that_count_elsewhere_keep_them(name: str, tmp_path: Path) -> None:
    found = followed(REFUSED[name], tmp_path)
    assert "a" not in found.groups


def test_lengths_behind_views_are_known(tmp_path: Path) -> None:
    proto = model_proto(
        "(float[N,3,6,6] x) => (y) { s = Shape(x) u = Slice(s, v0, v1) t = Concat<axis=0>(u, v)"
        " f = Reshape(x, t) g = Relu(f) s2 = Shape(g) t2 = Slice(s2, v0, v1)"
        " t3 = Concat<axis=0>(t2, w) y = Reshape(g, t3) }",
        {"v": np.array([-1]), "w": np.array([4, -1]), "v0": np.array([0]), "v1": np.array([1])},
    )
    found = inferred_lengths(saved(proto, tmp_path))
    assert found.vectors == {"f": (0, -1), "y": (0, 4, -1)}
    assert (found.fixed["g"], found.fixed["y"]) == ((None, 108), (None, 4, 27))
