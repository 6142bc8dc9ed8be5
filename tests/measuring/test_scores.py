"""The block of class scores, how they are confused, and what is fitted to their divergence."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import scipy.special
from graphs import model_proto, normal, run
from opened import Opened, open_model
from planned import plan
from probed import divergence_of_logits, opened

from onnx_relusv.core.options import MeasureOptions
from onnx_relusv.measuring.answers import fitted_to_scores, scores_block

HEAD = "(float[N,6] x) => (float[N,M] y) { a = Gemm(x, w, b) r = Relu(a) "
ARRAYS = {"w": normal(6, 8), "b": normal(8), "v": normal(8, 5, scale=0.5), "c": normal(5)}
LOGITS = "z = Gemm(r, v, c) "
CLASSIFIERS = {
    "logits": "y = Gemm(r, v, c) }",
    "probabilities": LOGITS + "y = Softmax(z) }",
    "logarithms": LOGITS + "y = LogSoftmax(z) }",
}


def model(tail: str, folder: Path, *, count: int = 60) -> Opened:
    return opened(model_proto(HEAD + tail, ARRAYS), folder, {"x": normal(count, 6, seed=3)})


def shares(model: Opened) -> np.ndarray:
    """Of the samples that are fitted on, by onnxruntime and scipy."""
    assert model.inputs.calibration is not None
    x = np.concatenate([b.feeds["x"][: b.count] for b in model.inputs.calibration.batches(7)])
    r = run(model.case.model.path, {"x": x}, ["r"])["r"]
    return scipy.special.softmax(r.astype(float) @ ARRAYS["v"] + ARRAYS["c"], axis=1)


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_the_confusion_is_the_mean_curvature(name: str, tmp_path: Path) -> None:
    made = model(CLASSIFIERS[name], tmp_path)
    found = scores_block(*made)
    assert found is not None
    assert found.block.key == ("y" if name == "logits" else "z")
    p = shares(made)
    # Of those samples alone that are fitted on.
    assert len(p) == 48
    expected = np.mean([np.diag(row) - np.outer(row, row) for row in p], axis=0)
    # Shares in float32.
    np.testing.assert_allclose(found.confusion, expected, atol=1e-6)
    # As shares in float32 do not sum to 1 exactly, the matrix is not quite semidefinite.
    np.testing.assert_allclose(found.root @ found.root, found.confusion, atol=1e-8)
    np.testing.assert_allclose(found.root, found.root.T, atol=1e-15)


def test_it_is_that_of_the_divergence(tmp_path: Path) -> None:
    """A small error of the scores, the same in all samples, against the divergence itself."""
    made = model(CLASSIFIERS["logits"], tmp_path)
    found = scores_block(*made)
    assert found is not None
    logits = np.log(shares(made))
    error = np.array([0.3, -0.2, 0.1, 0.4, -0.5]) * 1e-2
    expected = divergence_of_logits(logits, logits + error)
    # The next term is of the third order: a hundredth of this one.
    assert error @ found.confusion @ error / 2 == pytest.approx(expected, rel=0.02)
    # What all scores have in common is no error.
    assert np.ones(5) @ found.confusion @ np.ones(5) == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize(
    "tail",
    [
        LOGITS + "y = Sigmoid(z) }",  # classes that do not exclude one another
        LOGITS + "y = Relu(z) }",  # an activation in between
        LOGITS + "s = Tanh(z) y = Softmax(s) }",  # scores that no block gives
        LOGITS + "o = Add(z, c) y = Mul(o, c) }",
    ],
)
def test_other_outputs_have_no_such_block(tail: str, tmp_path: Path) -> None:
    made = model(tail, tmp_path)
    assert scores_block(*made) is None
    assert fitted_to_scores(*made, plan(made)) is None


def test_outputs_that_are_no_scores(tmp_path: Path) -> None:
    text = "(float[N,3,6] x) => (float[N,3,5] y) { r = Relu(x) y = MatMul(r, u) }"
    made = opened(model_proto(text, {"u": normal(6, 5)}), tmp_path, {"x": normal(60, 3, 6)})
    assert scores_block(*made) is None


def test_what_is_fitted_to_the_divergence(tmp_path: Path) -> None:
    made = model(CLASSIFIERS["probabilities"], tmp_path)
    found = scores_block(*made)
    assert found is not None
    asked = plan(made, r=("pair", 2))
    # By level, or by the divergence of these scores; not where damage was something else.
    assert fitted_to_scores(*made, asked) == "z"
    assert fitted_to_scores(*made, replace(asked, damage_measure=found.answers.words)) == "z"
    assert fitted_to_scores(*made, replace(asked, damage_measure="relative L2 error")) is None
    without = open_model(tmp_path / "model.onnx", None, MeasureOptions(provider="cpu"))
    assert scores_block(*without) is None
    assert fitted_to_scores(*without, asked) is None


def test_one_sample_is_not_judged(tmp_path: Path) -> None:
    made = model(CLASSIFIERS["logits"], tmp_path, count=1)
    assert fitted_to_scores(*made, plan(made)) is None
