"""Runs of one sample each, put together, against one run of all samples."""

from pathlib import Path

import numpy as np
import pytest
from graphs import model_proto, normal, saved
from onnx import ModelProto
from opened import open_model
from sample_arrays import archive

from onnx_relusv.core.blocks import Runnable
from onnx_relusv.core.errors import InputError
from onnx_relusv.core.options import MeasureOptions
from onnx_relusv.runtime.session import CPU, Session
from onnx_relusv.runtime.stacks import ran, run_batch, together
from onnx_relusv.runtime.streams import Stream
from onnx_relusv.samples.samples import Batch

IMAGES = normal(6, 1, 2, 5, 5)
NET = (
    "(float[{n},2,5,5] x, float[{n},3] s) => (float[{n},4] y) {{ c = Conv(x, w) r = Relu(c)"
    " p = GlobalAveragePool(r) f = Flatten(p) h = Concat<axis=1>(f, s) y = MatMul(h, v) }}"
)
SCALES = normal(6, 1, 3, seed=2)


def network(batch: str) -> ModelProto:
    weights = {"w": normal(3, 2, 3, 3, seed=3), "v": normal(6, 4, seed=4)}
    return model_proto(NET.format(n=batch), weights)


def opened(proto: ModelProto) -> Session:
    return Session(Runnable(proto.SerializeToString(), {}), CPU)


def test_a_stack_of_runs_is_one_run_of_all_samples() -> None:
    feeds = {"x": IMAGES, "s": SCALES}
    whole = opened(network("n")).run({name: together(values) for name, values in feeds.items()})
    found = ran(opened(network("1")), 6, feeds)
    assert found["y"].shape == (6, 1, 4)
    np.testing.assert_allclose(together(found["y"]), whole["y"], rtol=1e-5, atol=1e-6)
    batch = Batch(feeds, 6, 0, 6, stacked=True)
    np.testing.assert_array_equal(
        run_batch(opened(network("1")), batch, ["y"])["y"], together(found["y"])
    )
    # What all runs share is no part of the stack.
    shared = ran(opened(network("1")), 6, {"x": IMAGES}, shared={"s": SCALES[0]})
    np.testing.assert_array_equal(shared["y"][0], found["y"][0])
    assert not np.allclose(shared["y"][1], found["y"][1])


def test_runs_of_unlike_shapes_are_not_put_together() -> None:
    proto = model_proto("(float[n] x) => (int64[1,m] y) { y = NonZero(x) }", {})
    with pytest.raises(InputError, match=r"y is \(1, 2\) for one sample and \(1, 1\)"):
        ran(opened(proto), 2, {"x": np.array([[1, 0, 1], [0, 1, 0]], np.float32)})


def test_a_stream_of_stacks_reads_as_one_of_batches() -> None:
    feeds = [{"x": IMAGES[:4], "s": SCALES[:4]}, {"x": IMAGES[4:], "s": SCALES[4:]}]
    stream = Stream(iter(feeds), stacked=True)
    assert stream.example["x"].shape == (1, 2, 5, 5)
    assert [values["x"].shape for values in stream] == [(4, 2, 5, 5), (2, 2, 5, 5)]
    doubled = stream.through({"x": lambda values: 2 * values})
    steps: list[int] = []
    moved = doubled.advanced(opened(network("1")), ("y", "s"), steps.append)
    assert steps == [1, 1]
    whole = opened(network("n")).run({"x": 2 * together(IMAGES), "s": together(SCALES)})["y"]
    got = np.concatenate([values["y"] for values in moved])
    np.testing.assert_allclose(got, whole, rtol=1e-5, atol=1e-6)
    assert moved.example["y"].shape == (1, 4)
    np.testing.assert_array_equal(
        np.concatenate([values["y"] for values in doubled.ran(opened(network("1")))]), got
    )
    np.testing.assert_array_equal(
        np.concatenate([values["s"] for values in moved]), together(SCALES)
    )


HEAD = "(float[{n},32] x) => (float[{n},m] y) {{ h = MatMul(x, w) r = Relu(h) z = MatMul(r, v) "
# The numbers above zero, of which there are as many as the values decide.
POSITIVE = "p = Greater(z, zero) f = Squeeze(p) y = Compress<axis=1>(z, f) }"
PARTS = "a, b = Split<axis=1>(z) l = SequenceConstruct(a, b) y = ConcatFromSequence<axis=1>(l) }"


@pytest.mark.parametrize(
    ("batch", "rest", "stacks"),
    [
        (1, "y = Relu(z) }", True),
        (1, "s = Shape(z) y = Reshape(z, s) }", True),
        (1, POSITIVE, False),
        (1, PARTS, False),
        (2, "y = Relu(z) }", False),
    ],
    ids=["plain", "known lengths", "lengths of values", "a sequence", "a batch of two"],
)
def test_runs_are_stacked_where_all_have_the_same_shapes(
    batch: int, rest: str, stacks: bool, tmp_path: Path
) -> None:
    arrays = {
        "w": normal(32, 48),
        "v": normal(48, 8),
        "zero": np.float32(0),
    }
    proto = model_proto(HEAD.format(n=batch) + rest, arrays)
    samples = archive(tmp_path, x=normal(6, 32))
    options = MeasureOptions(provider="cpu")
    model = open_model(saved(proto, tmp_path).path, samples, options)
    assert model.inputs.whole.stacks is stacks
