"""Reshapes: where channels are afterwards, at the size that was run and at all others."""

from itertools import product
from math import prod
from pathlib import Path

import numpy as np
import pytest
from channel_graphs import check_cut, distance, images
from graphs import model_proto, normal, saved
from hypothesis import given, settings
from hypothesis import strategies as st

from onnx_relusv.graph.channels.groups import inferred_lengths
from onnx_relusv.graph.channels.reshaping import Reshaping, Run, destination

ENDS = {"k": normal(6, 3, 3, 3), "b": normal(6)}
HEAD = "a = Conv<pads=[1,1,1,1]>(x, k, b)"


def whole(*numbers: int) -> np.ndarray:
    return np.array(numbers, np.int64)


def moved(wanted: tuple[int, ...] | None, before: tuple[int, ...], fixed: str, axis: int = 1):
    """Where channels on an axis go; of the lengths, those marked with a ? vary."""
    lengths = [None if mark == "?" else n for mark, n in zip(fixed, before, strict=True)]
    run = destination(Reshaping(wanted), before, Run(axis), tuple(lengths))
    return None if run is None else (run.axis, run.each, run.times)


@pytest.mark.parametrize(
    ("wanted", "before", "fixed", "expected"),
    [
        (None, (1, 6, 4, 5), "?...", (1, 20, 1)),
        ((0, -1), (1, 6, 4, 5), "?.??", (1, 20, 1)),
        ((-1, 120), (1, 6, 4, 5), "?...", (1, 20, 1)),
        # An image of twice the size would be taken for two.
        ((-1, 120), (1, 6, 4, 5), "?.??", None),
        # With another batch all images end up in one row, which no matrix would take.
        ((1, -1), (1, 6, 4, 5), "?...", (1, 20, 1)),
        ((1, 6, -1), (1, 6, 4, 5), "....", (1, 1, 1)),
        # With another batch it would join pieces of several images.
        ((1, 6, -1), (1, 6, 4, 5), "?...", None),
        ((0, 0, -1), (1, 6, 4, 5), "?.??", (1, 1, 1)),
        ((0, 6, 20), (1, 6, 4, 5), "?.??", (1, 1, 1)),
        ((0, 6, 5, 4), (1, 6, 4, 5), "?.??", (1, 1, 1)),
        # Channels after a global mean; at other sizes there may be no mean.
        ((-1, 6), (1, 6, 1, 1), "?...", (1, 1, 1)),
        ((-1, 6), (1, 6, 1, 1), "?.??", None),
        ((-1, 3, 2, 4, 5), (1, 6, 4, 5), "?...", None),
        ((6, 20), (1, 6, 4, 5), "....", None),
        ((0, 1, 6, -1), (1, 6, 4, 5), "?...", (2, 1, 1)),
        # The 0 copies the number of channels where four rows are meant.
        ((1, 1, 0, 4), (1, 4, 4), "...", None),
    ],
)
def test_destinations(
    wanted: tuple[int, ...] | None,
    before: tuple[int, ...],
    fixed: str,
    expected: tuple[int, int, int] | None,
) -> None:
    axis = 2 if before == (1, 4, 4) else 1
    assert moved(wanted, before, fixed, axis) == expected


def test_an_axis_that_is_made_in_two_ways_is_refused() -> None:
    # (rows, channels, columns) into one axis: 2 x 6 x 3 and 3 x 6 x 2 are as long.
    assert moved((0, -1), (1, 2, 6, 3), "?...", 2) == (1, 3, 2)
    assert moved((0, -1), (1, 2, 6, 3), "??.?", 2) is None
    assert moved((0, -1), (1, 2, 6, 3), "??..", 2) == (1, 3, 2)


@settings(deadline=None, derandomize=True, max_examples=150)
@given(
    before=st.lists(st.integers(1, 4), min_size=2, max_size=4),
    after=st.lists(st.integers(1, 12), min_size=2, max_size=4),
    data=st.data(),
)
def test_destinations_are_those_of_numbered_entries(
    before: list[int], after: list[int], data: st.DataObject
) -> None:
    axis = data.draw(st.integers(1, len(before) - 1))
    wanted = [*after[:-1], -1]
    shape = tuple(before)
    run = destination(Reshaping(tuple(wanted)), shape, Run(axis), shape)
    known = prod(wanted[:-1])
    if prod(before) % known:
        assert run is None
        return
    marks = np.arange(before[axis]).reshape([-1 if k == axis else 1 for k in range(len(before))])
    entries = np.broadcast_to(marks, before).reshape(wanted)
    if run is None:
        single = [k for k in range(1, entries.ndim) if _only_along(entries, k)]
        assert before[axis] == 1 or not single
        return
    row = np.tile(np.arange(before[axis]).repeat(run.each), run.times)
    assert np.array_equal(_along(entries, run.axis), row)
    assert _only_along(entries, run.axis)


def _along(entries: np.ndarray, axis: int) -> np.ndarray:
    return np.moveaxis(entries, axis, -1).reshape(-1, entries.shape[axis])[0]


def _only_along(entries: np.ndarray, axis: int) -> bool:
    rows = np.moveaxis(entries, axis, -1).reshape(-1, entries.shape[axis])
    return bool((rows == rows[0]).all())


RESHAPES = {
    "all named but the samples": ("r = Reshape(a, s) y = MatMul(r, w)", whole(-1, 216)),
    "nothing named": ("r = Reshape(a, s) y = MatMul(r, w)", whole(0, -1)),
    "there and back": (
        "f = Flatten(a) r = Reshape(f, s) g = Flatten(r) y = MatMul(g, w)",
        whole(-1, 6, 6, 6),
    ),
    "there and back with the rest": (
        "f = Flatten(a) r = Reshape(f, s) g = Flatten(r) y = MatMul(g, w)",
        whole(0, 6, -1),
    ),
    "lines": (
        "r = Reshape(a, s) t = Transpose<perm=[0,2,1]>(r) u = MatMul(t, w)"
        " y = ReduceMean<axes=[1]>(u)",
        whole(0, 0, -1),
    ),
    "lines of named length": (
        "r = Reshape(a, s) t = Transpose<perm=[0,2,1]>(r) u = MatMul(t, w)"
        " y = ReduceMean<axes=[1]>(u)",
        whole(-1, 6, 36),
    ),
}


@pytest.mark.parametrize("name", RESHAPES)
def test_reshapes_are_renamed(name: str, tmp_path: Path) -> None:
    body, shape = RESHAPES[name]
    weight = normal(6 if "lines" in name else 216, 5)
    followed = images(f"{HEAD} {body}", tmp_path, s=shape, w=weight, **ENDS)
    assert followed.groups.keys() == {"a"}
    result = check_cut(followed, followed.half, tmp_path)
    for batch in (1, 2, 5):
        feeds = {"x": normal(batch, 3, 6, 6)}
        assert distance(followed, followed.half, result, feeds) < 1e-5


def test_images_of_other_sizes_are_cut_alike(tmp_path: Path) -> None:
    followed = images(
        f"{HEAD} r = Reshape(a, s) m = ReduceMax<axes=[2], keepdims=1>(r) g = Sigmoid(m)"
        " q = Unsqueeze(g, e) h = Mul(q, a) y = Conv(h, k2)",
        tmp_path,
        size="N,3,H,W",
        s=whole(0, 6, -1),
        e=whole(3),
        k2=normal(5, 6, 1, 1),
        **ENDS,
    )
    assert followed.groups["a"].operators == ("Reshape", "ReduceMax", "Sigmoid", "Unsqueeze", "Mul")
    result = check_cut(followed, followed.half, tmp_path)
    for height, width in product((3, 6, 9), (4, 6)):
        feeds = {"x": normal(2, 3, height, width)}
        assert distance(followed, followed.half, result, feeds) < 1e-5


@pytest.mark.parametrize(("size", "refused"), [("N,3,6,6", True), ("1,3,6,6", False)])
def test_a_reshape_that_mixes_other_batches_is_refused(
    size: str, *, refused: bool, tmp_path: Path
) -> None:
    followed = images(
        f"{HEAD} r = Reshape(a, s) t = Transpose<perm=[0,2,1]>(r) y = MatMul(t, w)",
        tmp_path,
        size=size,
        feeds={"x": normal(1, 3, 6, 6)},
        s=whole(1, 6, -1),
        w=normal(6, 5),
        **ENDS,
    )
    if refused:
        assert followed.reasons["a"] == "Reshape r tears channels apart, or does at other sizes"
    else:
        check_cut(followed, followed.half, tmp_path)


@pytest.mark.parametrize(("size", "refused"), [("N,3,H,W", True), ("N,3,6,6", False)])
def test_a_length_of_one_has_to_be_one_at_all_sizes(
    size: str, *, refused: bool, tmp_path: Path
) -> None:
    # Of six columns a single one is left, of thirty-six it would be six: one for every channel.
    followed = images(
        f"{HEAD} p = MaxPool<kernel_shape=[6,6], strides=[6,6]>(x) t = Transpose<perm=[0,3,1,2]>(p)"
        " m = ReduceMax<axes=[2]>(t) h = Add(a, m) y = Conv(h, k2)",
        tmp_path,
        size=size,
        k2=normal(5, 6, 1, 1),
        **ENDS,
    )
    assert ("a" in followed.reasons) == refused
    if refused:
        assert followed.reasons["a"] == "Add h combines channels with some that stay"
    else:
        check_cut(followed, followed.half, tmp_path)


VARYING = {
    "back": (
        "f = Flatten(a) r = Reshape(f, s) t = Transpose<perm=[0,2,1]>(r) y = MatMul(t, w)",
        "Reshape r reshapes channels that lie otherwise at other sizes",
        6,
    ),
    "added": (
        "f = Flatten(a) t = Transpose<perm=[0,1,3,2]>(a) g = Flatten(t) h = Add(f, g)"
        " y = MatMul(h, w)",
        "Add h combines channels that lie otherwise at other sizes",
        216,
    ),
    "joined": (
        "f = Flatten(a) p = MaxPool<kernel_shape=[6,1]>(a) g = Flatten(p)"
        " h = Concat<axis=1>(f, g) y = MatMul(h, w)",
        "Concat h joins channels that lie otherwise at other sizes",
        252,
    ),
    "parted": (
        "f = Flatten(a) g, h = Split<axis=1>(f) s2 = Add(g, h) y = MatMul(s2, w)",
        "Split g parts channels that lie otherwise at other sizes",
        108,
    ),
}


@pytest.mark.parametrize("name", VARYING)
def test_rows_of_pixels_whose_number_varies(name: str, tmp_path: Path) -> None:
    body, reason, length = VARYING[name]
    arrays = {"s": whole(0, 6, -1), "w": normal(length, 5), **ENDS}
    varying = images(f"{HEAD} {body}", tmp_path, size="N,3,H,W", **arrays)
    assert varying.reasons["a"] == reason
    # At one size nothing is wrong with it.
    fixed = images(f"{HEAD} {body}", tmp_path, size="N,3,6,6", **arrays)
    assert fixed.groups.keys() == {"a"}
    check_cut(fixed, fixed.half, tmp_path)


def test_value_infos_are_not_believed(tmp_path: Path) -> None:
    proto = model_proto(
        f"(float[N,3,H,W] x) => (float[N,6,h,w] y) <float[1,6,6,6] a> {{ {HEAD} y = Relu(a) }}",
        ENDS,
    )
    assert inferred_lengths(saved(proto, tmp_path)).fixed["a"] == (None, 6, None, None)
