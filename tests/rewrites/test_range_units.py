"""Units that are zero on inputs from a declared range: synthetic inputs have its scale."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from graphs import model_proto, normal, positive
from onnx import numpy_helper

from onnx_relusv import ApplyOptions, Budgets, PlanOptions, compress
from onnx_relusv.commands.compress import apply, plan
from onnx_relusv.core.errors import InputError
from onnx_relusv.core.plans import Plan
from onnx_relusv.planning.plan_file import plan_text, read_plan

UNIT = (0.0, 1.0)
HARMONIC = PlanOptions(method="harmonic", budgets=Budgets(size=0.75), input_range=UNIT)
TEXT = "(float[N,200] x) => (float[N,4] y) { h = Gemm(x, w, b) r = Relu(h) y = Gemm(r, v, c) }"
# Never above zero for inputs from 0 to 1, nor for the mean of any such inputs.
DEAD = [3, 8]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A model of which two units are dead for inputs from 0 to 1, and the others often are."""
    arrays = {"w": normal(200, 10, scale=0.1), "b": positive(10), "v": normal(10, 4)}
    arrays["c"] = normal(4)
    for unit in DEAD:
        arrays["w"][:, unit], arrays["b"][unit] = -np.abs(arrays["w"][:, unit]), -0.01
        # By what they are for other inputs they would count more than any other.
        arrays["v"][unit] *= 3
    onnx.save(model_proto(TEXT, arrays), tmp_path / "model.onnx")
    return tmp_path / "model.onnx"


def gone(found: Plan) -> list[int]:
    (group,) = found.groups
    return sorted(set(range(group.units)) - set(group.kept))


def consumer(path: Path) -> np.ndarray:
    """The weight that reads the units."""
    proto = onnx.load(path)
    (node,) = (node for node in proto.graph.node if "y" in node.output)
    (found,) = (each for each in proto.graph.initializer if each.name == node.input[1])
    return numpy_helper.to_array(found)


def test_units_that_are_dead_on_such_inputs_go_first(path: Path) -> None:
    assert set(gone(plan(path, planning=HARMONIC))) >= set(DEAD)
    # With mean 0 and variance 1 they are alive, and so they are on a wider range.
    for other in (None, (-2.0, 2.0)):
        alive = gone(plan(path, planning=replace(HARMONIC, input_range=other)))
        assert alive
        assert not set(alive) & set(DEAD)


def test_a_plan_is_applied_as_it_was_made(path: Path) -> None:
    """The file says which range was declared, so that `apply` draws the same inputs."""
    found = plan(path, planning=HARMONIC)
    file, results = path.with_name("plan.json"), [path.with_name(f"{n}.onnx") for n in range(3)]
    file.write_text(plan_text(found), encoding="utf-8")
    assert read_plan(file) == found
    assert found.input_range == UNIT
    compress(path, results[0], planning=HARMONIC)
    apply(path, file, results[1])
    apply(path, replace(found, input_range=None), results[2])
    one, two, three = map(consumer, results)
    np.testing.assert_array_equal(one, two)
    assert np.abs(one - three).max() > 1e-3


def test_what_was_declared_decides_what_the_cache_gives(path: Path) -> None:
    found = plan(path, planning=HARMONIC)
    results = [path.with_name(f"{n}.onnx") for n in range(3)]
    cached = ApplyOptions(cache=path.with_name("cache"))
    apply(path, replace(found, input_range=None), results[0], measuring=cached)
    apply(path, found, results[1], measuring=cached)
    apply(path, found, results[2])
    one, two, three = map(consumer, results)
    np.testing.assert_array_equal(two, three)
    assert np.abs(one - three).max() > 1e-3


def test_samples_that_contradict_the_range_are_refused(path: Path) -> None:
    samples = path.with_name("samples.npy")
    rng = np.random.default_rng(1)
    values = rng.uniform(0, 1, (200, 200)).astype(np.float32)
    values[5, 7] = 1
    np.save(samples, values)
    narrow = replace(HARMONIC, input_range=(0.0, 0.75))
    with pytest.raises(InputError, match=r"input x has the value 1, outside --input-range 0 0.75"):
        plan(path, samples=samples, planning=narrow)
    # An end is what the input's own type makes of it.
    np.save(samples, np.minimum(values, np.float32(0.1)))
    assert float(np.float32(0.1)) > 0.1
    tenth = replace(HARMONIC, input_range=(0.0, 0.1))
    assert plan(path, samples=samples, planning=tenth).input_range == (0.0, 0.1)
