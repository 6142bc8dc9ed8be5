"""What reads units, against the weights and the statistics of the graphs that do."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
from cut_graphs import GRAPHS, CutGraph, shapes_of
from graphs import model_proto, normal
from opened import Opened
from probed import opened

from onnx_relusv.core.blocks import Floats
from onnx_relusv.graph.channels.groups import find_channels
from onnx_relusv.graph.channels.walk import NO_UNIT, Channels
from onnx_relusv.measuring.case import BlockMoments, block_moments
from onnx_relusv.rewrites.prune.elimination import Reading
from onnx_relusv.rewrites.prune.orders import group_readings
from onnx_relusv.work.executors import Silent

COUNT = 40


@contextmanager
def measured(graph: CutGraph, folder: Path) -> Iterator[tuple[Opened, Channels, BlockMoments]]:
    proto = model_proto(graph.text, graph.arrays, opset=13)
    model = opened(proto, folder, {"x": normal(COUNT, *graph.shape[1:], seed=1)})
    shapes = shapes_of(model.case.model, {"x": normal(*graph.shape)})
    with block_moments(*model, Silent()) as moments:
        yield model, find_channels(model.case.model, shapes), moments


def readings(
    model: Opened,
    channels: Channels,
    moments: BlockMoments,
    key: str,
    weighting: Floats | None = None,
    weighted: str = "",
) -> list[Reading]:
    group = next(group for group in channels.groups if group.key == key)

    roots = {} if weighting is None else {weighted: weighting}
    return group_readings(model.case, channels, group, moments, roots)


def test_a_block_is_seen_with_its_patches(tmp_path: Path) -> None:
    with measured(GRAPHS["chain"], tmp_path) as (model, channels, moments):
        (found,) = readings(model, channels, moments, "a")
        seen = moments["e"]
        assert seen is not None
        weight = GRAPHS["chain"].arrays["l"].reshape(7, -1)
        np.testing.assert_array_equal(found.weight, weight)
        np.testing.assert_array_equal(found.covariance, seen.covariance[0])
        # Nine kernel values a channel.
        np.testing.assert_array_equal(found.units, np.repeat(np.arange(6), 9))
        # Behind a Flatten a channel is four columns, and a number of the group's own begins at 0.
        (flat,) = readings(model, channels, moments, "d")
        np.testing.assert_array_equal(flat.weight, GRAPHS["chain"].arrays["w"])
        np.testing.assert_array_equal(flat.units, np.repeat(np.arange(7), 4))


def test_several_consumers(tmp_path: Path) -> None:
    """Units of a sum are read by the Conv of the branch, and behind the sum."""
    with measured(GRAPHS["residual"], tmp_path) as (model, channels, moments):
        inner, behind = readings(model, channels, moments, "a")
        assert (inner.weight.shape, behind.weight.shape) == ((8, 54), (5, 6))
        np.testing.assert_array_equal(behind.units, np.arange(6))


def test_what_belongs_to_other_groups_is_no_unit(tmp_path: Path) -> None:
    with measured(GRAPHS["concat"], tmp_path) as (model, channels, moments):
        (first,) = readings(model, channels, moments, "a")
        (second,) = readings(model, channels, moments, "d")
        places = np.arange(11).repeat(4)
        np.testing.assert_array_equal(first.units, np.where(places < 6, places, NO_UNIT))
        np.testing.assert_array_equal(second.units, np.where(places < 6, NO_UNIT, places - 6))
        np.testing.assert_array_equal(first.weight, second.weight)


def test_groups_are_read_one_by_one(tmp_path: Path) -> None:
    with measured(GRAPHS["groups"], tmp_path) as (model, channels, moments):
        found = readings(model, channels, moments, "a")
        seen = moments["e"]
        assert seen is not None
        weight = GRAPHS["groups"].arrays["l"].reshape(2, 3, -1)
        assert len(found) == 2
        for number, reading in enumerate(found):
            np.testing.assert_array_equal(reading.weight, weight[number])
            np.testing.assert_array_equal(reading.covariance, seen.covariance[number])
            np.testing.assert_array_equal(reading.units, np.repeat(np.arange(4), 9))


def test_answers_may_count_differently(tmp_path: Path) -> None:
    with measured(GRAPHS["residual"], tmp_path) as (model, channels, moments):
        root = normal(3, 5, dtype=np.float64)
        inner, behind = readings(model, channels, moments, "a", root, "y")
        plain = readings(model, channels, moments, "a")
        np.testing.assert_allclose(behind.weight, root @ plain[1].weight, rtol=1e-12)
        np.testing.assert_array_equal(inner.weight, plain[0].weight)


def test_a_consumer_that_is_no_block(tmp_path: Path) -> None:
    """Nothing is known of what a ConvTranspose reads, nor is there another consumer to ask."""
    with measured(GRAPHS["groups"], tmp_path) as (model, channels, moments):
        (found,) = readings(model, channels, moments, "d")
        weight = GRAPHS["groups"].arrays["t"]
        # In both groups of the Conv before it, the same units.
        np.testing.assert_array_equal(found.units, [0, 1, 2, 0, 1, 2])
        np.testing.assert_array_equal(found.covariance, np.eye(6))
        for channel in range(6):
            np.testing.assert_array_equal(found.weight[:, channel], weight[channel].reshape(-1))


BOTH = CutGraph(
    "(float[N,3,8,8] x) => (float[N,5] y) { a = Conv<pads=[1,1,1,1]>(x, k, b) c = Relu(a)"
    " t = ConvTranspose(c, u) g = GlobalAveragePool(t) h = Conv(c, l) i = GlobalAveragePool(h)"
    " s = Add(g, i) j = Flatten(s) y = Gemm(j, w) }",
    {
        "k": normal(4, 3, 3, 3),
        "b": normal(4),
        "u": normal(4, 6, 2, 2),
        "l": normal(6, 4, 3, 3),
        "w": normal(6, 5),
    },
    (1, 3, 8, 8),
    {},
)


def test_what_is_not_known_is_as_large_as_what_is(tmp_path: Path) -> None:
    with measured(BOTH, tmp_path) as (model, channels, moments):
        known, other = readings(model, channels, moments, "a")
        seen = moments["h"]
        assert seen is not None
        assert known.weight.shape == (6, 36)
        mean = np.trace(seen.covariance[0]) / 36
        assert abs(mean - 1) > 0.1
        np.testing.assert_allclose(other.covariance, mean * np.eye(4), rtol=1e-12)


def test_without_moments_columns_are_independent(tmp_path: Path) -> None:
    with measured(GRAPHS["chain"], tmp_path) as (model, channels, _):
        nothing = dict.fromkeys((block.key for block in model.case.blocks), None)
        (found,) = readings(model, channels, nothing, "a")
        np.testing.assert_array_equal(found.covariance, np.eye(54))


def test_what_nobody_reads(tmp_path: Path) -> None:
    """A dead end: its units are read by nothing."""
    graph = GRAPHS["residual"]
    text = graph.text.replace("y = Gemm", "z = Gemm(j, p) zz = Relu(z) y = Gemm")
    dead = replace(graph, text=text, arrays=graph.arrays | {"p": normal(6, 3)})
    with measured(dead, tmp_path) as (model, channels, moments):
        assert "z" not in {group.key for group in channels.groups}
        assert "z" in {refusal.key for refusal in channels.refusals}
        assert len(readings(model, channels, moments, "a")) == 3
