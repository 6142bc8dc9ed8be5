"""What changed answers cost by probabilities: exact coverage, closed forms, and numpy."""

import math
from pathlib import Path

import numpy as np
import onnx
import pytest
from graphs import model_proto
from hypothesis import given
from hypothesis import strategies as st
from onnx import ModelProto
from opened import Opened, open_model
from scipy.special import softmax
from scipy.stats import multinomial, norm

from onnx_relusv.core.blocks import Runnable
from onnx_relusv.core.errors import InputError
from onnx_relusv.core.options import MeasureOptions
from onnx_relusv.measuring.bounds import Discordance, ExpectedDrop, samples_needed
from onnx_relusv.measuring.held_out import HeldOutProbabilities

# Costs of a sample, and how likely they are.
COSTS = np.array([0.0, 0.15, 1.0])
TRUTHS = (
    (0.97, 0.03, 0.0),
    (0.9, 0.05, 0.05),
    (0.99, 0.0, 0.01),
    (0.5, 0.4, 0.1),
    (0.2, 0.3, 0.5),
    (0.0, 0.0, 1.0),
    (0.999, 0.001, 0.0),
)
SAMPLES = 30


def counts() -> np.ndarray:
    """All ways in which the samples may have these costs."""
    every = np.indices((SAMPLES + 1, SAMPLES + 1)).reshape(2, -1).T
    every = every[every.sum(axis=1) <= SAMPLES]
    return np.column_stack([SAMPLES - every.sum(axis=1), every])


def seen(some: np.ndarray) -> ExpectedDrop:
    return ExpectedDrop(SAMPLES, np.repeat(COSTS[1:], some[1:]))


@pytest.mark.parametrize("error", [0.05, 0.2])
def test_the_bound_covers_whatever_is_true_and_the_mean_alone_does_not(error: float) -> None:
    every = counts()
    found = [seen(some) for some in every]
    bounds = np.array([one.bound(error) for one in found])
    means = np.array([one.drop for one in found])
    missed = []
    for shares in TRUTHS:
        chances, true = multinomial.pmf(every, SAMPLES, shares), float(COSTS @ shares)
        assert chances.sum() == pytest.approx(1, abs=1e-9)
        # The root is found to 1e-12.
        assert chances[bounds < true - 1e-11].sum() <= error
        missed.append(chances[means < true - 1e-11].sum())
    assert max(missed) > error
    assert np.all(bounds >= means)


@pytest.mark.parametrize("error", [0.05, 0.2])
def test_a_normal_approximation_would_be_caught(error: float) -> None:
    every = counts()
    means = every @ COSTS / SAMPLES
    spread = np.sqrt(np.maximum(every @ COSTS**2 / SAMPLES - means**2, 0) / SAMPLES)
    bounds = means + norm.isf(error) * spread
    missed = [
        multinomial.pmf(every, SAMPLES, shares)[bounds < COSTS @ shares - 1e-11].sum()
        for shares in TRUTHS
    ]
    assert max(missed) > error


@given(
    costs=st.lists(st.floats(0, 1), max_size=20),
    more=st.floats(0, 1),
    samples=st.integers(21, 5000),
    error=st.sampled_from([0.01, 0.05, 0.3]),
)
def test_more_cost_is_never_bounded_by_less(
    costs: list[float], more: float, samples: int, error: float
) -> None:
    one = ExpectedDrop(samples, np.array(costs))
    other = ExpectedDrop(samples, np.array([*costs, more]))
    # To the accuracy of the roots, 1e-12 and some roundings of sums of thousands of terms.
    assert one.drop <= one.bound(error) + 1e-9
    assert one.bound(error) <= other.bound(error) + 1e-9
    assert one.bound(error) <= one.bound(error / 2) + 1e-9
    # Of others as many again, at the same rates, less is left open.
    assert one.expected(2 * samples).drop == pytest.approx(one.drop)
    assert one.expected(2 * samples).bound(error) <= one.bound(error) + 1e-9


def test_costs_of_one_are_counted_answers_and_their_bound_is_hardly_looser() -> None:
    for changed in (0, 1, 5, 25):
        counted = Discordance(3500, changed, None)
        found = ExpectedDrop(3500, np.ones(changed))
        assert found.drop == counted.drop
        # Of counts, Clopper and Pearson's end is the least that any such bound can have. What costs
        # are not known to be is worth the logarithm of six bets, and of what none of them fits.
        assert counted.bound(0.05) < found.bound(0.05) < counted.bound(0.05) + 15 / 3500
    # Answers that change between classes that are near to each other cost little.
    assert ExpectedDrop(3500, np.full(25, 0.1)).bound(0.05) < Discordance(3500, 5, None).bound(0.05)


@pytest.mark.parametrize(("most", "error"), [(0.01, 0.05), (0.1, 0.01)])
def test_how_many_samples_it_takes(most: float, error: float) -> None:
    none = np.zeros(0)
    needed = samples_needed(most, error, ExpectedDrop(0, none))
    assert ExpectedDrop(needed, none).bound(error) <= most
    assert ExpectedDrop(needed - 1, none).bound(error) > most
    # With the highest bet alone it would be ln(1/e) / ln(1 + 0.98 m); six share one capital.
    alone = -math.log(error) / math.log1p(0.98 * most)
    assert alone < needed < alone + math.log(6) / math.log1p(0.98 * most) + 1


COUNT = 131
RNG = np.random.default_rng(1)
X = (2 * RNG.standard_normal((COUNT, 3))).astype(np.float32)


def scores(expression: str, batch: str = "N") -> ModelProto:
    """A model whose second output has class scores; its first has one number a sample."""
    text = f"(float[{batch},3] x) => (float[{batch},1] n, float[{batch},C] y)"
    return model_proto(text + " { n = ReduceMax<axes=[1]>(x) " + expression + " }", opset=17)


def held(folder: Path, model: ModelProto, inputs: np.ndarray = X) -> HeldOutProbabilities:
    onnx.save(model, folder / "m.onnx")
    np.savez(folder / "s.npz", x=inputs)
    found: Opened = open_model(folder / "m.onnx", folder / "s.npz", MeasureOptions(provider="cpu"))
    assert found.inputs.samples is not None
    return HeldOutProbabilities(found.case, found.workspace, found.inputs.samples, "y")


def run(model: ModelProto) -> Runnable:
    return Runnable(model.SerializeToString(), {})


@pytest.mark.parametrize("batch", ["N", "4"])
@pytest.mark.parametrize("layer", ["Identity", "Softmax", "LogSoftmax"])
def test_what_changed_answers_cost_by_numpy(batch: str, layer: str, tmp_path: Path) -> None:
    shares = softmax(X.astype(np.float64), axis=1)
    before, after = X.argmax(axis=1), np.abs(X).argmax(axis=1)
    changed = np.flatnonzero(before != after)
    cost = (shares[np.arange(COUNT), before] - shares[np.arange(COUNT), after])[changed]
    found = held(tmp_path, scores(f"y = {layer}(x)", batch)).expected_drop(
        run(scores("y = Abs(x)", batch))
    )
    assert found.samples == COUNT
    assert len(changed) > 20
    # Probabilities are kept in float32.
    np.testing.assert_allclose(found.differences, cost, atol=1e-6)


def test_an_answer_that_is_gone_costs_all_that_it_was_worth(tmp_path: Path) -> None:
    shares = softmax(X.astype(np.float64), axis=1)
    gone = (X < 0).any(axis=1)
    # Logarithms of negative scores are no numbers; the others keep their order.
    found = held(tmp_path, scores("y = Identity(x)")).expected_drop(run(scores("y = Log(x)")))
    np.testing.assert_allclose(found.differences, shares.max(axis=1)[gone], atol=1e-6)
    # What has no answer in the original has none to lose; by the first batch it has scores.
    late = np.concatenate([np.abs(X[:64]), X[64:]])
    back = held(tmp_path, scores("y = Log(x)"), late).expected_drop(run(scores("y = Neg(x)")))
    kept = (late > 0).all(axis=1)
    assert 64 < kept.sum() < COUNT
    assert len(back.differences) == kept.sum()


def test_infinite_scores_are_sure_of_their_answer(tmp_path: Path) -> None:
    model = scores("e = Exp(x) e2 = Exp(e) e3 = Exp(e2) e4 = Exp(e3) y = Neg(e4)")
    with np.errstate(over="ignore"):
        endless = ~np.isfinite(np.exp(np.exp(np.exp(np.exp(X))))).all(axis=1)
    assert 0 < endless.sum() < COUNT
    found = held(tmp_path, model).expected_drop(run(scores("y = Identity(x)")))
    assert np.all((found.differences >= 0) & (found.differences <= 1))
    assert np.any(found.differences == 1)


def test_other_numbers_of_classes_and_labels_of_their_own_are_refused(tmp_path: Path) -> None:
    fine = held(tmp_path, scores("y = Identity(x)"))
    with pytest.raises(InputError, match="scores of the same classes"):
        fine.expected_drop(run(scores("y = Concat<axis=1>(x, x)")))
    with pytest.raises(InputError, match="exclude one another"):
        held(tmp_path, scores("y = Sigmoid(x)"))
