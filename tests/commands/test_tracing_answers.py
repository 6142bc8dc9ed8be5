"""What a trace says of right and wrong answers."""

from pathlib import Path

import numpy as np
import pytest
import scipy.special
from graphs import normal
from traced_layers import (
    ARRAYS,
    IMAGES,
    MANY,
    NETWORK,
    labelled,
    traced,
)

from onnx_relusv.core.errors import InputError


@pytest.mark.parametrize("outputs", ["z, s", "s, z"])
def test_answers_are_read_off_the_first_output_with_class_scores(
    outputs: str, tmp_path: Path
) -> None:
    samples, z = labelled(tmp_path, 8)
    first, second = outputs.split(", ")
    text = NETWORK.replace(
        "(float[N,4] z, float[N,4] s)", f"(float[N,4] {first}, float[N,4] {second})"
    )
    found = traced(tmp_path, text, ARRAYS, samples)
    shares = scipy.special.softmax(z, axis=1)
    # Logits, and probabilities, in float32.
    assert np.allclose(found.max_softmax, shares.max(axis=1), atol=1e-6)
    assert np.allclose(found.entropy, scipy.special.entr(shares).sum(axis=1), atol=1e-5)
    assert np.array_equal(found.correct, np.arange(40) >= 8)
    assert (found.separation.right, found.separation.wrong) == (32, 8)
    assert {(one.block, one.quantity) for one in found.separation.scores} == {
        ("r", name) for name in ("active", "width", "largest", "margin")
    }
    assert found.warnings == ()
    assert [refusal.key for refusal in found.refusals] == ["z"]
    assert "no activation" in found.refusals[0].reason
    assert found.provenance.sample_count == 40
    assert found.model.path == tmp_path / "model.onnx"


@pytest.mark.parametrize(
    ("wrong", "words"),
    [(0, "0 of 40 answers are wrong"), (1, "1 of 40 answers are wrong"), (40, "0 of 40 answers")],
)
def test_too_few_right_or_wrong_answers_are_said(wrong: int, words: str, tmp_path: Path) -> None:
    found = traced(tmp_path, NETWORK, ARRAYS, labelled(tmp_path, wrong)[0])
    assert any(words in warning for warning in found.warnings)
    assert (found.separation is None) == (wrong in (0, 40))


def test_without_labels_there_is_nothing_to_tell_apart(tmp_path: Path) -> None:
    found = traced(tmp_path, NETWORK, ARRAYS, {"x": normal(40, 5)})
    assert found.correct is None
    assert found.separation is None
    assert found.max_softmax.shape == (40,)
    assert any("no labels" in warning for warning in found.warnings)


def test_without_class_scores_blocks_are_traced_all_the_same(tmp_path: Path) -> None:
    found = traced(tmp_path, MANY.text, MANY.arrays, {"x": IMAGES, "labels": np.zeros(7, int)})
    assert len(found.blocks) == 1
    assert found.max_softmax is found.entropy is found.correct is found.separation is None
    assert any("class scores" in warning for warning in found.warnings)


def test_outputs_that_are_no_class_scores_are_passed_over(tmp_path: Path) -> None:
    samples, z = labelled(tmp_path, 8)
    before = "(seq(float[N,6]) q, int64[N,2] k, bfloat16[N,6] c, float[N,4] z)"
    text = NETWORK.replace("(float[N,4] z, float[N,4] s)", before).replace(
        "s = Softmax(z)",
        "q = SequenceConstruct(r) t, k = TopK(r, two) c = Cast<to=16>(r)",
    )
    found = traced(tmp_path, text, {**ARRAYS, "two": np.array([2])}, samples)
    shares = scipy.special.softmax(z, axis=1)
    assert np.allclose(found.max_softmax, shares.max(axis=1), atol=1e-6)


def test_a_label_that_is_no_class(tmp_path: Path) -> None:
    samples = {"x": normal(7, 5), "labels": np.arange(7)}
    with pytest.raises(InputError, match=r"from 0 to 6.*4 classes"):
        traced(tmp_path, NETWORK, ARRAYS, samples)
