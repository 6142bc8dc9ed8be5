"""How sure a model is, against scipy on all scores at once."""

import math

import numpy as np
import pytest
import scipy.special
import scipy.stats

from onnx_relusv.checking.evaluate import Confidence, ConfidenceReader

LOGITS = 3 * np.random.default_rng(0).standard_normal((20, 5)).astype(np.float32)
SHARES = scipy.special.softmax(LOGITS.astype(np.float64), axis=1)


def read(scores: np.ndarray, length: int = 7) -> Confidence:
    reader = ConfidenceReader()
    for start in range(0, len(scores), length):
        reader.add(scores[start : start + length])
    return reader.result()


def test_logits_probabilities_and_their_logarithms_say_the_same() -> None:
    for scores in (LOGITS, SHARES, np.log(SHARES), SHARES.astype(np.float32)):
        found = read(scores)
        # Probabilities in float32 are rounded.
        assert np.allclose(found.max_softmax, SHARES.max(axis=1), rtol=1e-6)
        assert np.allclose(found.entropy, scipy.stats.entropy(SHARES, axis=1), rtol=1e-5)
        assert np.array_equal(found.top, LOGITS.argmax(axis=1))


def test_probabilities_are_told_from_all_samples() -> None:
    # The last batch holds a row that no probabilities could be.
    scores = np.concatenate([SHARES, [[0.5, 0.5, 0.5, 0.0, 0.0]]])
    found = read(scores)
    assert np.allclose(found.max_softmax, scipy.special.softmax(scores, axis=1).max(axis=1))
    assert not np.allclose(found.max_softmax[:20], SHARES.max(axis=1))


def test_sums_may_be_off_by_rounding() -> None:
    for excess, are_probabilities in ((9e-4, True), (2e-3, False)):
        scores = np.array([[0.5 + excess, 0.25, 0.25]])
        softmax = scipy.special.softmax(scores).max()
        expected = 0.5 + excess if are_probabilities else softmax
        assert read(scores).max_softmax == pytest.approx([expected])


def test_a_class_that_is_out_of_the_question() -> None:
    found = read(np.array([[0.5, 0.5, 0.0]]))
    assert found.entropy == pytest.approx([math.log(2)])
    masked = read(np.array([[1.0, 1.0, -np.inf]]))
    assert masked.entropy == pytest.approx([math.log(2)])


def test_scores_that_are_no_numbers_stay_none() -> None:
    found = read(np.array([[1.0, np.inf], [1.0, np.nan], [1.0, 2.0]]))
    assert np.isnan(found.max_softmax).tolist() == [True, True, False]
