"""What is said of samples that can tell little, and that nothing is said of good ones."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx
import pytest
from classified import classifier
from classified import inputs as classified_inputs
from graphs import model_proto
from sample_arrays import archive, spec

from onnx_relusv import Budgets, MeasureOptions, PlanOptions, inspect, plan
from onnx_relusv.measuring.sample_warnings import sample_facts
from onnx_relusv.planning.plan_file import plan_text, read_plan
from onnx_relusv.samples.samples import open_samples

RNG = np.random.default_rng(0)
CPU = MeasureOptions(provider="cpu")


def said(model: Path, folder: Path, **arrays: np.ndarray) -> str:
    """All warnings of an inspection."""
    return " ".join(inspect(model, samples=archive(folder, **arrays), measuring=CPU).warnings)


def test_nothing_is_said_of_good_samples(tmp_path: Path) -> None:
    model = classifier(tmp_path)
    assert said(model, tmp_path, x=classified_inputs(400)) == ""
    # In as many groups as there are columns, too.
    groups = np.repeat(np.arange(100), 4)
    assert said(model, tmp_path, x=classified_inputs(400), groups=groups) == ""


def test_fewer_samples_than_columns(tmp_path: Path) -> None:
    found = said(classifier(tmp_path), tmp_path, x=classified_inputs(30))
    assert "on 30 samples: they give 30 independent rows to f, which has 64 columns" in found
    assert "too few to 1 other block." in found
    assert "give 64 samples or more" in found


def test_groups_are_what_counts(tmp_path: Path) -> None:
    x, groups = classified_inputs(400), np.repeat(np.arange(40), 10)
    found = said(classifier(tmp_path), tmp_path, x=x, groups=groups)
    assert "on 400 samples in 40 groups: they give 40 independent rows" in found
    assert "give 64 groups or more" in found


@pytest.mark.parametrize(
    ("count", "groups", "words"),
    [(1, False, "There is one sample"), (90, True, "All 90 samples are of one group")],
)
def test_one_sample_and_one_group(count: int, groups: bool, words: str, tmp_path: Path) -> None:
    beside = {"groups": np.zeros(count, np.int64)} if groups else {}
    found = said(classifier(tmp_path), tmp_path, x=classified_inputs(count), **beside)
    assert f"{words}: what is found may not hold for any other" in found


def test_a_plan_counts_what_is_fitted_to_and_keeps_its_warnings(tmp_path: Path) -> None:
    # 70 samples are enough to inspect, of which 56 are for fitting.
    model, samples = classifier(tmp_path), archive(tmp_path, x=classified_inputs(70))
    planning = PlanOptions(budgets=Budgets(size=0.7), allocation="level")
    assert inspect(model, samples=samples, measuring=CPU).warnings == ()
    decided = plan(model, samples=samples, planning=planning, measuring=CPU)
    (found,) = decided.warnings
    assert "on 56 samples: they give 56 independent rows" in found
    assert "give 80 samples or more" in found
    file = tmp_path / "plan.json"
    file.write_text(plan_text(decided), encoding="utf-8")
    assert read_plan(file).warnings == decided.warnings


@pytest.mark.parametrize(
    ("repeated", "words"),
    [
        (0, ""),
        # Four in four hundred do no harm.
        (4, ""),
        (20, "20 of 400 samples repeat others"),
        (399, "All 400 samples are the same one"),
    ],
)
def test_samples_that_are_there_twice(repeated: int, words: str, tmp_path: Path) -> None:
    x = classified_inputs(400)
    x[400 - repeated :] = x[0]
    found = said(classifier(tmp_path), tmp_path, x=x)
    assert words in found
    assert bool(found) == bool(words)


TWO = (
    "(float[N,8] x, float[N,8] z) => (float[N,4] y) {"
    " s = Add(x, z) a = Gemm(s, w) c = Relu(a) y = Gemm(c, u) }"
)
TWO_WEIGHTS: Mapping[str, np.ndarray] = {
    "w": RNG.standard_normal((8, 16)).astype(np.float32),
    "u": RNG.standard_normal((16, 4)).astype(np.float32),
}


@pytest.mark.parametrize("constant", [False, True])
def test_an_input_that_never_varies(constant: bool, tmp_path: Path) -> None:
    model = tmp_path / "two.onnx"
    onnx.save(model_proto(TWO, TWO_WEIGHTS), model)
    x, z = RNG.standard_normal((2, 100, 8)).astype(np.float32)
    found = said(model, tmp_path, x=x, z=np.ones_like(z) if constant else z)
    assert ("Input z is the same in all 100 samples" in found) == constant
    assert bool(found) == constant


NORMALISED = (
    "(float[N,8] x) => (float[N,4] y) {"
    " m = Sub(x, mean) s = Div(m, deviation) a = Gemm(s, w) c = Relu(a) y = Gemm(c, u) }"
)


@pytest.mark.parametrize(("scale", "wrong"), [(255, False), (40, False), (1, True), (65535, True)])
def test_samples_of_another_scale_than_the_model_s(
    scale: float, wrong: bool, tmp_path: Path
) -> None:
    model = tmp_path / "normalised.onnx"
    constants = {"mean": np.full(8, 127.5, np.float32), "deviation": np.full(8, 64, np.float32)}
    onnx.save(model_proto(NORMALISED, {**TWO_WEIGHTS, **constants}), model)
    found = said(model, tmp_path, x=(scale * RNG.random((100, 8))).astype(np.float32))
    assert ("behind that, the samples have a mean of" in found) == wrong
    assert bool(found) == wrong


BEHIND = (
    "(float[N,8] x) => (float[N,4] y) { a = Gemm(x, w) b = BatchNormalization(a, g, h, m, v)"
    " c = Relu(b) y = Gemm(c, u) }"
)


@pytest.mark.parametrize(("scale", "wrong"), [(1, False), (4, False), (255, True), (1 / 255, True)])
def test_samples_that_a_batch_normalization_was_not_trained_for(
    scale: float, wrong: bool, tmp_path: Path
) -> None:
    model, ones = tmp_path / "behind.onnx", np.ones(16, np.float32)
    variance = np.square(TWO_WEIGHTS["w"]).sum(0)
    constants = {"g": ones, "h": 0 * ones, "m": 0 * ones, "v": variance}
    onnx.save(model_proto(BEHIND, {**TWO_WEIGHTS, **constants}), model)
    x = (scale * RNG.standard_normal((200, 8))).astype(np.float32)
    found = said(model, tmp_path, x=x)
    assert ("the variance that the BatchNormalization in front of it was trained for" in found) == (
        wrong
    )
    assert bool(found) == wrong


def test_facts_are_what_numpy_says(tmp_path: Path) -> None:
    x = RNG.standard_normal((130, 3)).astype(np.float32)
    x[[5, 70, 129]] = x[2]
    samples = open_samples(archive(tmp_path, x=x), [spec("x", np.float32, None, 3)])
    told: list[int] = []
    found = sample_facts(samples, {"x": lambda values: 3.0 * values.astype(float)}, told.append)
    assert found.repeated == 130 - len(np.unique(x, axis=0)) == 3
    assert found.constant == ()
    assert found.spread["x"].mean == pytest.approx(3 * x.mean(dtype=float))
    assert found.spread["x"].deviation == pytest.approx(3 * x.std(dtype=float))
    assert sum(told) == 130
