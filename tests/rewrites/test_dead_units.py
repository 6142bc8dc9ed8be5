"""Units certified dead over a declared range go first, and nothing is made of them."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from graphs import model_proto, normal, normalization, positive, run
from onnx import numpy_helper

from onnx_relusv import Budgets, PlanOptions, compress
from onnx_relusv.commands.compress import apply, plan
from onnx_relusv.core.errors import InputError
from onnx_relusv.core.plans import Plan
from onnx_relusv.planning.plan_file import plan_text, read_plan
from onnx_relusv.spectra import moments

# Sums of a hundred float32 products, and the largest entries of the outputs are about 10.
ROUNDING = 2e-5
SAMPLES = 200
UNIT = (0.0, 1.0)
FREE = PlanOptions(method="harmonic", budgets=Budgets(tolerance=1e-6), input_range=UNIT)
DENSE = "(float[N,200] x) => (float[N,4] y) { h = Gemm(x, w, b) r = Relu(h) y = Gemm(r, v, c) }"
# With a normalisation, so that without samples every channel is assumed to vary.
IMAGES = """(float[N,3,6,6] x) => (float[N,16,6,6] y)
    { h = Conv<kernel_shape=[3,3],pads=[1,1,1,1]>(x, w, b)
      n = BatchNormalization(h, gamma, beta, mean, variance) r = Clip(n, zero, six)
      y = Conv<kernel_shape=[3,3],pads=[1,1,1,1]>(r, v, c) }"""


def dense() -> dict[str, np.ndarray]:
    """Units 3 and 8 are never above zero for inputs from 0 to 1, and the others often are."""
    arrays = {"w": normal(200, 10, scale=0.1), "b": positive(10), "v": normal(10, 4)}
    arrays["c"] = normal(4)
    arrays["w"][:, 3], arrays["b"][3] = -np.abs(arrays["w"][:, 3]), -0.01
    arrays["w"][:, 8], arrays["b"][8] = 0.001, -0.25
    return arrays


def images() -> dict[str, np.ndarray]:
    """Channels 2 and 6 are never above zero for inputs from 0 to 1, and the others often are."""
    arrays = {
        "w": normal(8, 3, 3, 3, scale=0.3),
        "b": normal(8),
        "v": normal(16, 8, 3, 3, scale=0.3),
        "c": normal(16),
        "zero": np.float32(0),
        "six": np.float32(6),
    } | normalization(8)
    arrays["b"], arrays["beta"] = arrays["mean"], positive(8, seed=1)
    for channel in (2, 6):
        arrays["w"][channel], arrays["beta"][channel] = -positive(3, 3, 3), -0.01
    return arrays


CASES = {"dense": (DENSE, dense, (200,), [3, 8]), "images": (IMAGES, images, (3, 6, 6), [2, 6])}


def uniform(*shape: int, seed: int) -> np.ndarray:
    """Inputs from 0 to 1, some of them at the ends."""
    rng = np.random.default_rng(seed)
    inside, ends = rng.uniform(0, 1, shape), rng.integers(0, 2, shape)
    return np.where(rng.random(shape) < 0.3, ends, inside).astype(np.float32)


def written(
    name: str, folder: Path, with_samples: bool
) -> tuple[onnx.ModelProto, Path, Path | None]:
    text, arrays, shape, _ = CASES[name]
    proto, path = model_proto(text, arrays()), folder / "model.onnx"
    onnx.save(proto, path)
    if not with_samples:
        return proto, path, None
    np.save(folder / "samples.npy", uniform(SAMPLES, *shape, seed=1))
    return proto, path, folder / "samples.npy"


def gone(found: Plan) -> list[int]:
    (group,) = found.groups
    return sorted(set(range(group.units)) - set(group.kept))


def constant(path: Path, wanted: str) -> np.ndarray:
    """What a node that writes a tensor reads as its weight."""
    proto = onnx.load(path)
    (node,) = (node for node in proto.graph.node if wanted in node.output)
    (found,) = (each for each in proto.graph.initializer if each.name == node.input[1])
    return numpy_helper.to_array(found)


@pytest.mark.parametrize("with_samples", [True, False])
@pytest.mark.parametrize("name", CASES)
def test_dead_units_go_for_nothing(name: str, with_samples: bool, tmp_path: Path) -> None:
    proto, path, samples = written(name, tmp_path, with_samples)
    _, _, shape, dead = CASES[name]
    found = plan(path, samples=samples, planning=FREE)
    assert gone(found) == dead
    assert found.groups[0].level == 0
    assert found.groups[0].why.endswith(
        "; of those that go, 2 certified dead over the declared range"
    )
    smaller = path.with_name("smaller.onnx")
    done = compress(path, smaller, samples=samples, planning=FREE)
    assert done.after.parameters < done.before.parameters
    # Nothing but the rounding of a folded normalisation.
    assert all(row.level < 1e-7 or with_samples for row in done.rows)
    fresh = uniform(50, *shape, seed=2)
    (before,) = run(proto, {"x": fresh}).values()
    (after,) = run(smaller, {"x": fresh}).values()
    np.testing.assert_allclose(after, before, atol=ROUNDING, rtol=0)
    # Beyond the range they are not the same: the units were not dead by themselves.
    (before,) = run(proto, {"x": 4 * fresh - 8}).values()
    (after,) = run(smaller, {"x": 4 * fresh - 8}).values()
    assert np.abs(after - before).max() > 1e3 * ROUNDING


def test_without_a_range_nobody_knows(tmp_path: Path) -> None:
    _, path, _ = written("images", tmp_path, with_samples=False)
    assert gone(plan(path, planning=replace(FREE, input_range=None))) == []
    wide = plan(path, planning=replace(FREE, input_range=(-1.0, 1.0)))
    assert gone(wide) == []
    assert "certified" not in wide.groups[0].why


@pytest.mark.parametrize("name", CASES)
def test_nothing_stands_in_for_them_without_samples(name: str, tmp_path: Path) -> None:
    """The consumer keeps the columns of what is left as they were."""
    _, path, _ = written(name, tmp_path, with_samples=False)
    compress(path, path.with_name("smaller.onnx"), planning=FREE)
    before, after = (constant(file, "y") for file in (path, path.with_name("smaller.onnx")))
    axis, dead = (0, [3, 8]) if name == "dense" else (1, [2, 6])
    np.testing.assert_array_equal(after, np.delete(before, dead, axis))


def test_they_go_before_all_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where the budget takes more, and nothing is made of them."""
    # All positions are measured: of a Conv with other columns, others would be drawn.
    monkeypatch.setattr(moments, "FEWEST_ROWS", 10**9)
    _, path, _ = written("images", tmp_path, with_samples=False)
    options = replace(FREE, budgets=Budgets(size=0.6), allocation="level")
    found = plan(path, planning=options)
    assert set(gone(found)) > {2, 6}
    # What others lose is told by those that are alive: as in a model without the dead units.
    text, arrays, _, _ = CASES["images"]
    left = {
        name: np.delete(values, [2, 6], axis=1 if name == "v" else 0)
        if name in ("w", "b", "v", "gamma", "beta", "mean", "variance")
        else values
        for name, values in arrays().items()
    }
    other = tmp_path / "alive.onnx"
    onnx.save(model_proto(text, left), other)
    alive = [0, 1, 3, 4, 5, 7]
    levels = {
        len(group.kept): ([alive[unit] for unit in group.kept], group.level)
        for size in (0.5, 0.6, 0.7, 0.8, 0.9)
        for group in plan(other, planning=replace(options, budgets=Budgets(size=size))).groups
    }
    count = len(found.groups[0].kept)
    kept, level = levels[count]
    assert list(found.groups[0].kept) == kept
    # Covariances are shrunk by what columns have on average, dead ones among them: measured 0.007.
    np.testing.assert_allclose(found.groups[0].level, level, rtol=0.02)
    assert levels[count + 1][1] < 0.8 * found.groups[0].level
    assert levels[count - 1][1] > 1.2 * found.groups[0].level


def test_one_unit_stays_where_all_are_dead(tmp_path: Path) -> None:
    arrays = dense()
    arrays["w"], arrays["b"] = -np.abs(arrays["w"]), np.full(10, -1, np.float32)
    proto = model_proto(DENSE, arrays)
    onnx.save(proto, tmp_path / "model.onnx")
    compress(tmp_path / "model.onnx", tmp_path / "smaller.onnx", planning=FREE)
    assert constant(tmp_path / "smaller.onnx", "y").shape == (1, 4)
    fresh = uniform(20, 200, seed=3)
    (after,) = run(tmp_path / "smaller.onnx", {"x": fresh}).values()
    np.testing.assert_allclose(after, np.broadcast_to(arrays["c"], (20, 4)), atol=ROUNDING)


def test_a_plan_is_carried_out_as_it_was_made(tmp_path: Path) -> None:
    """The file says which range was declared, so that `apply` knows the dead units too."""
    _, path, _ = written("images", tmp_path, with_samples=False)
    options = replace(FREE, budgets=Budgets(size=0.7))
    found = plan(path, planning=options)
    (tmp_path / "plan.json").write_text(plan_text(found), encoding="utf-8")
    assert read_plan(tmp_path / "plan.json") == found
    assert found.input_range == UNIT
    compress(path, tmp_path / "one.onnx", planning=options)
    apply(path, tmp_path / "plan.json", tmp_path / "two.onnx")
    apply(path, replace(found, input_range=None), tmp_path / "three.onnx")
    one, two, three = (constant(tmp_path / f"{name}.onnx", "y") for name in ("one", "two", "three"))
    np.testing.assert_array_equal(one, two)
    # Without it, what is assumed of dead units is made up for.
    assert np.abs(one - three).max() > 1e-3


def test_what_was_declared_decides_what_the_cache_gives(tmp_path: Path) -> None:
    _, path, _ = written("images", tmp_path, with_samples=False)
    found = plan(path, planning=replace(FREE, budgets=Budgets(size=0.7)))
    cache = tmp_path / "cache"
    apply(path, replace(found, input_range=None), tmp_path / "one.onnx", cache=cache)
    apply(path, found, tmp_path / "two.onnx", cache=cache)
    apply(path, found, tmp_path / "three.onnx")
    one, two, three = (constant(tmp_path / f"{name}.onnx", "y") for name in ("one", "two", "three"))
    np.testing.assert_array_equal(two, three)
    assert np.abs(one - three).max() > 1e-3


def test_samples_that_contradict_the_range_are_refused(tmp_path: Path) -> None:
    _, path, samples = written("dense", tmp_path, with_samples=True)
    assert samples is not None
    narrow = replace(FREE, input_range=(0.0, 0.75))
    with pytest.raises(InputError, match=r"input x has the value 1, outside --input-range 0 0.75"):
        plan(path, samples=samples, planning=narrow)
    # An end is what the input's own type makes of it.
    values = np.load(samples)
    np.save(samples, np.minimum(values, np.float32(0.1)))
    tenth = replace(FREE, input_range=(0.0, 0.1))
    assert float(np.float32(0.1)) > 0.1
    assert gone(plan(path, samples=samples, planning=tenth)) == [3, 8]
