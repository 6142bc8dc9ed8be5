"""Units that go for nothing: dead ones, equal ones, constant ones, and those that nobody reads."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx
import pytest
from graphs import model_proto, normal, normalization, run

from onnx_relusv import Budgets, PlanOptions, compress
from onnx_relusv.commands.compress import plan
from onnx_relusv.core.plans import Plan

# Sums of a hundred float32 products, and the largest entries of the outputs are about 10.
ROUNDING = 2e-5
SAMPLES = 200
# Units that cost nothing have no level at all; the least that others have here is far above.
FREE = PlanOptions(method="harmonic", budgets=Budgets(tolerance=1e-6))

# Wide enough that one unit weighs more than what a file says of where it comes from.
DENSE = "(float[N,200] x) => (float[N,4] y) { h = Gemm(x, w, b) r = Relu(h) y = Gemm(r, v, c) }"
CONV = """(float[N,3,6,6] x) => (float[N,16,{size},{size}] y)
    {{ h = Conv<kernel_shape=[3,3]>(x, w, b) r = Relu(h)
       y = Conv<kernel_shape=[3,3],pads=[{pad},{pad},{pad},{pad}]>(r, v, c) }}"""


def dense(**changes: np.ndarray) -> dict[str, np.ndarray]:
    arrays = {"w": normal(200, 10, scale=0.1), "b": normal(10), "v": normal(10, 4), "c": normal(4)}
    return arrays | changes


def conv() -> dict[str, np.ndarray]:
    return {
        "w": normal(8, 3, 3, 3, scale=0.3),
        "b": normal(8),
        "v": normal(16, 8, 3, 3, scale=0.3),
        "c": normal(16),
    }


def written(
    text: str, arrays: Mapping[str, np.ndarray], folder: Path, samples: np.ndarray | None
) -> tuple[onnx.ModelProto, Path, Path | None]:
    proto = model_proto(text, arrays)
    path = folder / "model.onnx"
    onnx.save(proto, path)
    if samples is None:
        return proto, path, None
    np.save(folder / "samples.npy", samples)
    return proto, path, folder / "samples.npy"


def planned(path: Path, samples: Path | None) -> Plan:
    return plan(path, samples=samples, planning=FREE)


def gone(found: Plan) -> list[int]:
    (group,) = found.groups
    return sorted(set(range(group.units)) - set(group.kept))


def assert_equal_elsewhere(
    proto: onnx.ModelProto, path: Path, samples: Path | None, fresh: np.ndarray
) -> None:
    """The smaller file computes the same on inputs that it was not made with."""
    smaller = path.with_name("smaller.onnx")
    done = compress(path, smaller, samples=samples, planning=FREE)
    assert done.after.parameters < done.before.parameters
    (before,) = run(proto, {"x": fresh}).values()
    (after,) = run(onnx.load(smaller), {"x": fresh}).values()
    np.testing.assert_allclose(after, before, atol=ROUNDING, rtol=0)


@pytest.mark.parametrize("with_samples", [True, False])
def test_equal_neurons_are_merged(with_samples: bool, tmp_path: Path) -> None:
    arrays = dense()
    for first, second in ((2, 7), (2, 9), (4, 5)):
        arrays["w"][:, second], arrays["b"][second] = arrays["w"][:, first], arrays["b"][first]
    samples = normal(SAMPLES, 200, seed=1) if with_samples else None
    proto, path, given = written(DENSE, arrays, tmp_path, samples)
    assert gone(planned(path, given)) == [5, 7, 9]
    assert_equal_elsewhere(proto, path, given, normal(50, 200, seed=2))


def test_nearly_equal_neurons_are_not(tmp_path: Path) -> None:
    arrays = dense()
    arrays["w"][:, 7], arrays["b"][7] = arrays["w"][:, 2], arrays["b"][2]
    arrays["b"][7] = np.nextafter(arrays["b"][7], np.float32(9))
    _, path, given = written(DENSE, arrays, tmp_path, None)
    assert gone(planned(path, given)) == []


def test_equal_channels_are_merged_through_normalization(tmp_path: Path) -> None:
    text = """(float[N,3,6,6] x) => (float[N,64] y)
        { h = Conv<kernel_shape=[3,3]>(x, w, b)
          n = BatchNormalization(h, gamma, beta, mean, variance)
          r = Relu(n) p = MaxPool<kernel_shape=[2,2],strides=[2,2]>(r)
          f = Flatten(p) y = Gemm(f, v, c) }"""
    arrays = conv() | normalization(8) | {"v": normal(32, 64, scale=0.3), "c": normal(64)}
    for name in ("w", "b", "gamma", "beta", "mean", "variance"):
        arrays[name][6] = arrays[name][1]
        # The same kernel is another channel behind another normalisation.
        arrays[name][3] = arrays[name][1] + (name == "gamma") * np.float32(0.5)
    proto, path, given = written(text, arrays, tmp_path, normal(SAMPLES, 3, 6, 6, seed=1))
    assert gone(planned(path, given)) == [6]
    assert_equal_elsewhere(proto, path, given, normal(20, 3, 6, 6, seed=2))


def test_dead_neurons_go(tmp_path: Path) -> None:
    arrays = dense()
    arrays["w"][:, 3], arrays["b"][3] = 0, -1
    # Never above zero for inputs from 0 to 1, which the samples show.
    arrays["w"][:, 8], arrays["b"][8] = -np.abs(arrays["w"][:, 8]), -0.5
    samples = np.abs(normal(SAMPLES, 200, seed=1))
    proto, path, given = written(DENSE, arrays, tmp_path, samples)
    assert gone(planned(path, given)) == [3, 8]
    assert_equal_elsewhere(proto, path, given, np.abs(normal(50, 200, seed=2)))


def test_neurons_that_nobody_reads_go(tmp_path: Path) -> None:
    arrays = dense()
    arrays["v"][[1, 6]] = 0
    proto, path, given = written(DENSE, arrays, tmp_path, normal(SAMPLES, 200, seed=1))
    assert gone(planned(path, given)) == [1, 6]
    assert_equal_elsewhere(proto, path, given, normal(50, 200, seed=2))


def test_a_constant_neuron_goes_into_the_bias(tmp_path: Path) -> None:
    arrays = dense()
    arrays["w"][:, 4], arrays["b"][4] = 0, 2.5
    proto, path, given = written(DENSE, arrays, tmp_path, normal(SAMPLES, 200, seed=1))
    assert gone(planned(path, given)) == [4]
    assert_equal_elsewhere(proto, path, given, normal(50, 200, seed=2))
    # Without what it gave, the outputs would be others by far.
    assert np.abs(2.5 * arrays["v"][4]).max() > 1e4 * ROUNDING


def test_a_constant_channel_goes_into_the_bias_where_nothing_is_padded(tmp_path: Path) -> None:
    arrays = conv()
    arrays["w"][5], arrays["b"][5] = 0, 1.5
    text = CONV.format(size=2, pad=0)
    proto, path, given = written(text, arrays, tmp_path, normal(SAMPLES, 3, 6, 6, seed=1))
    assert gone(planned(path, given)) == [5]
    assert_equal_elsewhere(proto, path, given, normal(20, 3, 6, 6, seed=2))


def test_a_constant_channel_in_front_of_padding_is_not_free(tmp_path: Path) -> None:
    """At the border its consumer sees zeros in its place, which no bias can say."""
    arrays = conv()
    arrays["w"][5], arrays["b"][5] = 0, 1.5
    text = CONV.format(size=4, pad=1)
    _, path, given = written(text, arrays, tmp_path, normal(SAMPLES, 3, 6, 6, seed=1))
    found = planned(path, given)
    assert gone(found) == []
    # It is compensated, where it has to go: a little is lost.
    largest = plan(
        path,
        samples=given,
        planning=PlanOptions(method="harmonic", budgets=Budgets(tolerance=0.9)),
    )
    assert 5 in gone(largest)
