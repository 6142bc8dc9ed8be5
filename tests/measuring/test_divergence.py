"""Divergences of outputs against scipy and closed forms."""

from pathlib import Path

import numpy as np
import pytest
import scipy.special
from graphs import model_proto, normal, run, saved

from onnx_relusv.core.errors import InputError
from onnx_relusv.measuring.answers import WORST, Answers, Divergence, answers_of

LOGITS = Answers(outputs=("y",), scores="y", probabilities=False)
PROBABILITIES = Answers(outputs=("y",), scores="y", probabilities=True)
TWO = Answers(outputs=("y", "z"), scores=None, probabilities=False)
# Float64 sums of tens of numbers around 1.
ROUNDING = 1e-12


def softmax(values: np.ndarray) -> np.ndarray:
    return np.asarray(scipy.special.softmax(values.astype(np.float64), axis=1))


def kl(before: np.ndarray, after: np.ndarray) -> float:
    """The mean divergence of two sets of logits, by scipy."""
    return float(scipy.special.rel_entr(softmax(before), softmax(after)).sum(axis=1).mean())


def found(answers: Answers, before: dict[str, np.ndarray], after: dict[str, np.ndarray]) -> float:
    divergence = Divergence(answers)
    size = len(next(iter(before.values())))
    divergence.add(before, after, size, size)
    return divergence.value


BEFORE, AFTER = normal(30, 7, scale=3), normal(30, 7, seed=1, scale=3)


def test_of_logits_it_is_the_divergence_of_their_softmax() -> None:
    value = found(LOGITS, {"y": BEFORE}, {"y": AFTER})
    assert value == pytest.approx(kl(BEFORE, AFTER), rel=ROUNDING)
    # It is not symmetric, and softmax forgets what is common to all classes.
    assert value != pytest.approx(kl(AFTER, BEFORE), rel=1e-3)
    moved = {"y": AFTER.astype(np.float64) + 5}
    assert found(LOGITS, {"y": BEFORE}, moved) == pytest.approx(value, rel=ROUNDING)
    assert found(LOGITS, {"y": BEFORE}, {"y": BEFORE}) == 0


def test_of_probabilities_it_equals_that_of_their_logits() -> None:
    value = found(PROBABILITIES, {"y": softmax(BEFORE)}, {"y": softmax(AFTER)})
    assert value == pytest.approx(kl(BEFORE, AFTER), rel=ROUNDING)
    # Probabilities taken for logits would be another number.
    assert found(LOGITS, {"y": softmax(BEFORE)}, {"y": softmax(AFTER)}) < 0.5 * value


def test_log_probabilities_may_be_taken_for_logits() -> None:
    logs = [scipy.special.log_softmax(values.astype(float), axis=1) for values in (BEFORE, AFTER)]
    assert found(LOGITS, {"y": logs[0]}, {"y": logs[1]}) == pytest.approx(
        kl(BEFORE, AFTER), rel=ROUNDING
    )


def test_probabilities_of_zero_are_far_but_not_infinitely() -> None:
    before, after = np.array([[0.5, 0.5]]), np.array([[1.0, 0.0]])
    value = found(PROBABILITIES, {"y": before}, {"y": after})
    # log(0.5) - (log(1) + log(1e-30)) / 2
    assert value == pytest.approx(np.log(0.5) + 15 * np.log(10), rel=ROUNDING)
    assert found(PROBABILITIES, {"y": after}, {"y": after}) == 0


def test_it_goes_with_the_square_of_small_errors() -> None:
    error = normal(30, 7, seed=2, dtype=np.float64)
    first, second = (
        found(LOGITS, {"y": BEFORE}, {"y": BEFORE + size * error}) for size in (1e-3, 2e-3)
    )
    # The next term is a thousandth of it.
    assert second == pytest.approx(4 * first, rel=1e-2)


def test_rounding_never_makes_it_negative() -> None:
    careless = []
    for seed in range(10):
        before = normal(30, 7, seed=seed, dtype=np.float64)
        after = before * (1 + 1e-9)
        assert 0 <= found(LOGITS, {"y": before}, {"y": after}) < 1e-12
        p, q = (scipy.special.log_softmax(values, axis=1) for values in (before, after))
        careless.append(np.sum(np.exp(p) * (p - q)))
    assert min(careless) < 0


def test_of_other_outputs_it_is_the_mean_of_the_squared_relative_errors() -> None:
    before = {"y": np.full((4, 3, 2), 2.0), "z": np.arange(4.0)}
    after = {"y": np.full((4, 3, 2), 2.5), "z": np.array([0.0, 1.0, 2.0, 4.0])}
    # (0.5 / 2)^2, and 1 of 0 + 1 + 4 + 9.
    assert found(TWO, before, after) == pytest.approx((0.0625 + 1 / 14) / 2, rel=ROUNDING)
    assert found(TWO, before, before) == 0


def test_where_the_original_answers_zero_any_change_is_far() -> None:
    zero, one = {"y": np.zeros((4, 3, 2))}, {"y": np.ones((4, 3, 2))}
    only = Answers(outputs=("y",), scores=None, probabilities=False)
    assert found(only, zero, zero) == 0
    assert found(only, zero, one) == WORST


def test_what_is_not_finite_is_worst() -> None:
    for bad in (np.nan, np.inf, -np.inf):
        after = AFTER.copy()
        after[3, 2] = bad
        for dtype in (np.float16, np.float32, np.float64):
            values = after.astype(dtype)
            assert found(LOGITS, {"y": BEFORE}, {"y": values}) == WORST
            both = {"y": BEFORE, "z": BEFORE}
            assert found(TWO, both, {"y": values, "z": BEFORE}) == WORST
        if np.isnan(bad):
            assert found(PROBABILITIES, {"y": softmax(BEFORE)}, {"y": after}) == WORST


def test_a_class_that_is_ruled_out_before_and_after_adds_nothing() -> None:
    before, after = (np.hstack([v, np.full((30, 1), -np.inf)]) for v in (BEFORE, AFTER))
    value = found(LOGITS, {"y": before}, {"y": after})
    assert value == pytest.approx(kl(BEFORE, AFTER), rel=ROUNDING)
    # Where only the changed network rules it out, it is as wrong as can be.
    possible = np.hstack([BEFORE, np.zeros((30, 1))])
    assert found(LOGITS, {"y": possible}, {"y": after}) == WORST


def test_one_bad_batch_is_not_forgotten() -> None:
    divergence = Divergence(LOGITS)
    divergence.add({"y": BEFORE}, {"y": np.full_like(BEFORE, np.nan)}, 30, 30)
    divergence.add({"y": BEFORE}, {"y": BEFORE}, 30, 30)
    assert divergence.value == WORST


def test_batches_add_up() -> None:
    for answers in (LOGITS, TWO):
        before = {"y": BEFORE, "z": normal(30, 2, 5)}
        after = {"y": AFTER, "z": normal(30, 2, 5, seed=4)}
        together, divergence = found(answers, before, after), Divergence(answers)
        for start, end in ((0, 1), (1, 19), (19, 30)):
            part = [
                {name: v[start:end] for name, v in values.items()} for values in (before, after)
            ]
            divergence.add(*part, end - start, end - start)
        assert divergence.value == pytest.approx(together, rel=ROUNDING)


def test_padding_does_not_count() -> None:
    for answers in (LOGITS, TWO):
        before = {"y": BEFORE, "z": normal(30, 2, 5)}
        after = {"y": AFTER, "z": normal(30, 2, 5, seed=4)}
        real = [{name: v[:20] for name, v in values.items()} for values in (before, after)]
        padded = Divergence(answers)
        padded.add(before, after, 20, 30)
        assert padded.value == pytest.approx(found(answers, *real), rel=ROUNDING)
        assert padded.value != pytest.approx(found(answers, before, after), rel=1e-6)


def test_nothing_added_is_no_divergence() -> None:
    assert Divergence(LOGITS).value == 0
    assert Divergence(TWO).value == 0


CLASSES = {"w": normal(6, 5), "axes": np.array([1])}
LOGITS_OF_Y = Answers(("y",), "y", probabilities=False)
PROBABILITIES_OF_Y = Answers(("y",), "y", probabilities=True)
EVERY_CLASS_BY_ITSELF = Answers(("y",), "y", probabilities=True, independent=True)
NO_SCORES = Answers(("y",), None, probabilities=False)
HEADS = {
    "logits": ("y = Gemm(x, w)", LOGITS_OF_Y),
    "softmax": ("h = Gemm(x, w) y = Softmax<axis=1>(h)", PROBABILITIES_OF_Y),
    "softmax, reshaped": (
        "h = Gemm(x, w) s = Softmax(h) f = Flatten(s) i = Identity(f) y = Cast<to=1>(i)",
        PROBABILITIES_OF_Y,
    ),
    "softmax, transposed": (
        "h = Gemm(x, w) t = Transpose(h) s = Softmax<axis=0>(t) y = Transpose(s)",
        PROBABILITIES_OF_Y,
    ),
    "softmax of channels": (
        "h = Gemm(x, w) m = Unsqueeze(h, ends) s = Softmax<axis=1>(m) y = Flatten(s)",
        PROBABILITIES_OF_Y,
    ),
    "softmax by hand": (
        "h = Gemm(x, w) e = Exp(h) s = ReduceSum(e, axes) y = Div(e, s)",
        PROBABILITIES_OF_Y,
    ),
    "softmax over the samples": ("h = Gemm(x, w) y = Softmax<axis=0>(h)", NO_SCORES),
    "softmax of what is alone": (
        "h = Gemm(x, w) m = Unsqueeze(h, ends) s = Softmax<axis=-1>(m) y = Flatten(s)",
        NO_SCORES,
    ),
    "log softmax": ("h = Gemm(x, w) y = LogSoftmax(h)", LOGITS_OF_Y),
    "log softmax over the samples": ("h = Gemm(x, w) y = LogSoftmax<axis=0>(h)", NO_SCORES),
    "sigmoid": ("h = Gemm(x, w) y = Sigmoid(h)", EVERY_CLASS_BY_ITSELF),
    "sigmoid, reshaped": (
        "h = Gemm(x, w) s = Sigmoid(h) i = Identity(s) y = Flatten(i)",
        EVERY_CLASS_BY_ITSELF,
    ),
    "sigmoid inside": ("s = Sigmoid(x) y = Gemm(s, w)", LOGITS_OF_Y),
    "softmax inside": ("h = Softmax(x) y = Gemm(h, w)", LOGITS_OF_Y),
    "the input": ("y = Identity(x)", LOGITS_OF_Y),
}


def decided(body: str, folder: Path, samples: int = 4, wanted: str = "auto") -> Answers:
    """What a model's own outputs for a few samples, and its graph, say."""
    text = f"(float[N,6] x) => (float[N,C] y) {{ {body} }}"
    model = saved(model_proto(text, {**CLASSES, "ends": np.array([2, 3])}), folder)
    outputs = run(model.path, {"x": normal(samples, 6)})
    return answers_of(model, outputs, samples, samples, wanted)  # type: ignore[arg-type]


@pytest.mark.parametrize("head", HEADS)
def test_the_graph_and_the_values_say_what_scores_are_unless_it_is_asked_for(
    head: str, tmp_path: Path
) -> None:
    for samples in (1, 4):
        body, expected = HEADS[head]
        assert decided(body, tmp_path, samples) == expected
    assert decided(body, tmp_path, wanted="l2") == NO_SCORES
    if expected == NO_SCORES:
        with pytest.raises(InputError, match=r"no output has class scores.*--divergence kl"):
            decided(body, tmp_path, wanted="kl")
    else:
        assert decided(body, tmp_path, wanted="kl") == expected


def test_class_scores_are_looked_for_among_the_real_samples(tmp_path: Path) -> None:
    text = "(float[N,6] x) => (a, y, z) { a = Relu(x) y = Softmax(x) z = Neg(x) }"
    model = saved(model_proto(text), tmp_path)
    shapes = {"a": (8, 3, 3), "y": (8, 5), "z": (8, 5)}
    values = {name: np.full(shape, 0.2) for name, shape in shapes.items()}
    # What only pads the batch may be anything.
    values["y"][3:] = 7
    assert answers_of(model, values, 3, 8) == Answers(("a", "y", "z"), "y", True)
    # One number a sample is no choice between classes.
    values = {"a": np.zeros((8, 3, 3)), "y": np.zeros((8, 1)), "z": np.zeros(8)}
    assert answers_of(model, values, 3, 8) == Answers(("a", "y", "z"), None, False)
    with pytest.raises(InputError, match="--divergence kl"):
        answers_of(model, values, 3, 8, "kl")


def test_every_class_by_itself_is_a_yes_or_no() -> None:
    p, q = (scipy.special.expit(values.astype(np.float64)) for values in (BEFORE, AFTER))
    expected = scipy.special.rel_entr(p, q) + scipy.special.rel_entr(1 - p, 1 - q)
    value = found(EVERY_CLASS_BY_ITSELF, {"y": p}, {"y": q})
    assert value == pytest.approx(expected.sum(axis=1).mean(), rel=1e-9)
    # As if they were one distribution, or went into a softmax, it would be another number, and
    # not by rounding: that it is a tenth off is what is asked here.
    for wrong in (PROBABILITIES, LOGITS):
        assert found(wrong, {"y": p}, {"y": q}) != pytest.approx(value, rel=0.1)
    assert found(EVERY_CLASS_BY_ITSELF, {"y": p}, {"y": p}) == 0


def test_every_class_by_itself_sees_what_all_have_in_common() -> None:
    """A softmax would forget it, though every answer has turned from no to yes."""
    before, after = np.full((3, 4), 0.1), np.full((3, 4), 0.9)
    # 0.1 log(1/9) + 0.9 log(9), for each of four classes.
    expected = 4 * 0.8 * np.log(9)
    value = found(EVERY_CLASS_BY_ITSELF, {"y": before}, {"y": after})
    assert value == pytest.approx(expected, rel=1e-9)
    assert found(LOGITS, {"y": before}, {"y": after}) == pytest.approx(0, abs=1e-12)


def test_answers_of_certainty_are_far_but_not_infinitely() -> None:
    before, after = np.array([[0.5, 1.0]]), np.array([[1.0, 1.0]])
    value = found(EVERY_CLASS_BY_ITSELF, {"y": before}, {"y": after})
    # log(0.5) - (log(1) + log(1e-30)) / 2
    assert value == pytest.approx(np.log(0.5) + 15 * np.log(10), rel=ROUNDING)


def test_what_is_measured_is_said() -> None:
    for answers, words in (
        (LOGITS_OF_Y, "KL divergence of the class scores y"),
        (EVERY_CLASS_BY_ITSELF, "KL divergence of every class of y by itself, summed"),
        (NO_SCORES, "squared relative L2 error of the outputs"),
    ):
        assert answers.words == words


def test_entries_that_are_no_number_in_the_original_are_not_compared() -> None:
    exact = np.array([[1.0, np.nan, 3.0], [np.nan, 2.0, -np.inf]])
    changed = exact + np.array([[0.1, 5.0, 0.0], [0.0, 0.2, 0.0]])
    changed[1, 0] = 7
    found = Divergence(Answers(("y",), None, probabilities=False))
    found.add({"y": exact}, {"y": changed}, 2, 2)
    assert found.value == pytest.approx((0.1**2 + 0.2**2) / (1 + 9 + 4))
    # But what only the changed network does not answer is the worst there is.
    changed[0, 2] = np.nan
    found = Divergence(Answers(("y",), None, probabilities=False))
    found.add({"y": exact}, {"y": changed}, 2, 2)
    assert found.value == WORST
