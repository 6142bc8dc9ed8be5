"""Divergences of outputs against scipy and closed forms."""

from pathlib import Path

import numpy as np
import pytest
import scipy.special
from graphs import model_proto, normal, saved

from onnx_relusv.divergence import WORST, Answers, Divergence, answers_of

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


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_is_worst(bad: float) -> None:
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


@pytest.mark.parametrize("answers", [LOGITS, TWO])
def test_batches_add_up(answers: Answers) -> None:
    before = {"y": BEFORE, "z": normal(30, 2, 5)}
    after = {"y": AFTER, "z": normal(30, 2, 5, seed=4)}
    together, divergence = found(answers, before, after), Divergence(answers)
    for start, end in ((0, 1), (1, 19), (19, 30)):
        part = [{name: v[start:end] for name, v in values.items()} for values in (before, after)]
        divergence.add(*part, end - start, end - start)
    assert divergence.value == pytest.approx(together, rel=ROUNDING)


@pytest.mark.parametrize("answers", [LOGITS, TWO])
def test_padding_does_not_count(answers: Answers) -> None:
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


HEADS = {
    "logits": ("y = Gemm(x, w)", False),
    "softmax": ("h = Gemm(x, w) y = Softmax<axis=1>(h)", True),
    "softmax, reshaped": (
        "h = Gemm(x, w) s = Softmax(h) f = Flatten(s) i = Identity(f) y = Cast<to=1>(i)",
        True,
    ),
    "log softmax": ("h = Gemm(x, w) y = LogSoftmax(h)", False),
    "softmax by hand": (
        "h = Gemm(x, w) e = Exp(h) s = ReduceSum(e, axes) y = Div(e, s)",
        True,
    ),
    "softmax, transposed": ("h = Gemm(x, w) t = Transpose(h) s = Softmax<axis=0>(t)"
        " y = Transpose(s)", True),
    "softmax inside": ("h = Softmax(x) y = Gemm(h, w)", False),
    "the input": ("y = Identity(x)", False),
}


@pytest.mark.parametrize("head", HEADS)
def test_the_graph_says_whether_scores_are_probabilities(head: str, tmp_path: Path) -> None:
    body, expected = HEADS[head]
    text = f"(float[N,6] x) => (float[N,C] y) {{ {body} }}"
    model = saved(model_proto(text, {"w": normal(6, 5)}), tmp_path)
    answers = answers_of(model, {"y": np.zeros((4, 5), np.float32)}, 4, 4)
    assert answers == Answers(outputs=("y",), scores="y", probabilities=expected)


def test_class_scores_are_looked_for_among_the_real_samples(tmp_path: Path) -> None:
    text = "(float[N,6] x) => (a, y, z) { a = Relu(x) y = Softmax(x) z = Neg(x) }"
    model = saved(model_proto(text), tmp_path)
    shapes = {"a": (8, 3, 3), "y": (8, 5), "z": (8, 5)}
    values = {name: np.zeros(shape) for name, shape in shapes.items()}
    assert answers_of(model, values, 3, 8) == Answers(("a", "y", "z"), "y", True)
    # One number a sample is no choice between classes.
    values = {"a": np.zeros((8, 3, 3)), "y": np.zeros((8, 1)), "z": np.zeros(8)}
    assert answers_of(model, values, 3, 8) == Answers(("a", "y", "z"), None, False)
