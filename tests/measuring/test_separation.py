from dataclasses import replace

import numpy as np
import pytest
from scipy import stats
from traced import block_trace, difficult, trace_of

from onnx_relusv.core.blocks import Floats
from onnx_relusv.core.errors import InputError
from onnx_relusv.core.traces import Interval, Separation, Truths
from onnx_relusv.measuring.separation import SETTINGS, SeparationSettings, separate


def separated(
    *values: Floats,
    max_softmax: Floats,
    correct: Truths,
    seed: int = 0,
    settings: SeparationSettings = SETTINGS,
) -> Separation:
    blocks = [block_trace(f"block{number}", one) for number, one in enumerate(values)]
    found = separate(blocks, max_softmax, 1 - max_softmax, correct, seed=seed, settings=settings)
    assert found is not None
    return found


def numbers(interval: Interval) -> tuple[float, float, float]:
    return interval.lower, interval.value, interval.upper


def all_scores(found: Separation) -> list[Interval]:
    scores = [*found.baselines, *found.scores, found.combined, found.combined_with_output]
    return [
        interval
        for score in scores
        if score is not None
        for interval in (score.auroc, score.gain)
        if interval is not None
    ]


def test_every_score_is_named_and_in_order() -> None:
    trace = trace_of(("conv1", "fc1"))
    found = trace.separation
    assert found is not None
    assert [(score.block, score.quantity) for score in found.scores] == [
        (block, quantity)
        for block in ("conv1", "fc1")
        for quantity in ("active", "width", "largest", "margin")
    ]
    assert [score.quantity for score in found.baselines] == ["max softmax", "entropy"]
    assert found.combined is not None
    assert found.combined_with_output is not None
    assert found.combined.quantity == "combined"
    assert found.combined_with_output.quantity == "combined with output"
    assert (found.right, found.wrong) == (340, 60)
    assert (found.resamples, found.folds, found.seed) == (SETTINGS.resamples, SETTINGS.folds, 7)


def test_figures_are_those_of_scipy_on_the_right_side() -> None:
    trace = trace_of(("conv1",))
    found, correct = trace.separation, trace.correct
    assert found is not None
    assert correct is not None
    (block,) = trace.blocks
    for score in found.scores:
        values = block.quantities[score.quantity]
        statistic = stats.mannwhitneyu(values[~correct], values[correct]).statistic
        above = float(statistic / (60 * 340))
        # Hard inputs are made to have small figures in every block.
        assert not score.higher_is_wrong
        assert score.auroc.value == pytest.approx(1 - above)
        assert score.gain is not None
        assert score.gain.value == pytest.approx(1 - above - found.baselines[0].auroc.value)


def test_the_side_of_the_output_is_fixed_and_that_of_a_block_is_not() -> None:
    difficulty, correct = difficult(300, 0.2, np.random.default_rng(0))
    upside_down = 1 / (1 + np.exp(-difficulty))
    found = separated(difficulty, -difficulty, max_softmax=upside_down, correct=correct)
    max_softmax, entropy = found.baselines
    assert max_softmax.auroc.value < 0.4
    assert entropy.auroc.value < 0.4
    assert (max_softmax.higher_is_wrong, entropy.higher_is_wrong) == (False, True)
    assert {score.higher_is_wrong for score in found.scores[:4]} == {True}
    assert {score.higher_is_wrong for score in found.scores[4:]} == {False}
    assert min(score.auroc.value for score in found.scores) > 0.6


def test_exact_widths_take_the_place_of_middles() -> None:
    values = np.random.default_rng(0).standard_normal(50)
    exact, bracketed = block_trace("a", values, exact=True), block_trace("a", values)
    np.testing.assert_allclose(exact.quantities["width"], exact.width)
    np.testing.assert_allclose(bracketed.quantities["width"], 0.99 * exact.width)


def test_intervals_hold_the_true_area_and_gain() -> None:
    # Without the combined scores, which take most of the time.
    settings = SeparationSettings(resamples=300, folds=0)

    # Of normals d deviations apart the area is Phi(d / sqrt 2). The two scores share their noise.
    def area(apart: float) -> float:
        return float(stats.norm.cdf(apart / np.sqrt(2)))

    rng = np.random.default_rng(0)
    correct = np.arange(200) >= 50
    held_area = held_gain = too_short = 0
    repeats = 100
    for _ in range(repeats):
        noise = rng.standard_normal(200)
        values = -(1.0 * ~correct + noise)
        chances = 1 / (1 + np.exp(1.2 * ~correct + 0.9 * noise + 0.436 * rng.standard_normal(200)))
        found = separated(values, max_softmax=chances, correct=correct, settings=settings)
        width = found.scores[1]
        assert width.gain is not None
        held_area += width.auroc.lower <= area(1.0) <= width.auroc.upper
        held_gain += width.gain.lower <= area(1.0) - area(1.2) <= width.gain.upper
        middle = (width.auroc.lower + width.auroc.upper) / 2
        too_short += abs(middle - area(1.0)) > (width.auroc.upper - width.auroc.lower) / 6
    # Of 100 about 95; fewer than these happen once in a thousand.
    least = stats.binom.ppf(0.001, repeats, 0.95)
    assert held_area >= least
    assert held_gain >= least
    # Intervals of a third of their length would fail.
    assert repeats - too_short < least


def test_the_gain_is_paired() -> None:
    rng = np.random.default_rng(0)
    difficulty, correct = difficult(400, 0.25, rng)
    chances = 1 / (1 + np.exp(difficulty))
    found = separated(-difficulty, rng.standard_normal(400), max_softmax=chances, correct=correct)
    same, other = found.scores[3], found.scores[7]
    assert same.gain is not None
    assert other.gain is not None
    # The margin is a function of the difficulty, as max softmax is: no resample tells them apart.
    assert numbers(same.gain) == pytest.approx((0, 0, 0), abs=1e-12)
    assert same.auroc.upper - same.auroc.lower > 0.05
    assert other.gain.upper < 0


def test_what_the_output_does_not_know_is_gained() -> None:
    rng = np.random.default_rng(0)
    known, hidden = rng.standard_normal((2, 1000))
    correct = known + hidden < 1.2
    chances = 1 / (1 + np.exp(known))
    found = separated(hidden, max_softmax=chances, correct=correct)
    assert found.combined is not None
    assert found.combined_with_output is not None
    assert found.combined_with_output.gain is not None
    assert found.combined_with_output.gain.lower > 0.05
    assert found.combined_with_output.auroc.value > found.combined.auroc.value + 0.05


def test_noise_gains_nothing_and_costs_little() -> None:
    rng = np.random.default_rng(0)
    difficulty, correct = difficult(1000, 0.2, rng)
    chances = 1 / (1 + np.exp(difficulty))
    found = separated(*rng.standard_normal((5, 1000)), max_softmax=chances, correct=correct)
    assert found.combined is not None
    assert found.combined_with_output is not None
    lower, _, upper = numbers(found.combined.auroc)
    assert lower - 0.02 < 0.5 < upper + 0.02
    assert found.combined_with_output.gain is not None
    assert -0.03 < found.combined_with_output.gain.value < 0.01


def test_a_seed_gives_the_same_and_another_one_not() -> None:
    trace = trace_of(("conv1",), samples=200)
    assert trace.max_softmax is not None
    assert trace.entropy is not None
    assert trace.correct is not None
    first, again, other = (
        separate(trace.blocks, trace.max_softmax, trace.entropy, trace.correct, seed=seed)
        for seed in (7, 7, 8)
    )
    assert first == again == trace.separation
    assert other is not None
    assert first is not None
    assert first.scores[0].auroc.value == other.scores[0].auroc.value
    assert first.scores[0].auroc.lower != other.scores[0].auroc.lower
    assert first.combined != other.combined


def test_answers_of_one_kind_are_not_separated() -> None:
    for correct in (np.ones(20, np.bool_), np.zeros(20, np.bool_)):
        values = np.linspace(0.2, 0.9, 20)
        assert separate([block_trace("a", values)], values, 1 - values, correct, seed=0) is None


def test_few_answers_of_a_kind() -> None:
    for wrong, folds in ((1, 0), (2, 2), (4, 4), (17, 4), (20, 0)):
        rng = np.random.default_rng(0)
        samples = 21
        correct = np.arange(samples) >= wrong
        found = separated(
            rng.standard_normal(samples), max_softmax=rng.uniform(0.1, 1, samples), correct=correct
        )
        assert found.folds == folds
        assert (found.combined is None) == (found.combined_with_output is None) == (folds == 0)
        assert np.isfinite([numbers(interval) for interval in all_scores(found)]).all()


def test_without_blocks_only_the_output_is_combined() -> None:
    difficulty, correct = difficult(200, 0.2, np.random.default_rng(0))
    found = separated(max_softmax=1 / (1 + np.exp(difficulty)), correct=correct)
    assert found.scores == ()
    assert found.combined is None
    assert found.combined_with_output is not None
    assert found.combined_with_output.auroc.value > 0.6


def test_constants_infinite_margins_and_sure_answers() -> None:
    # Blocks with all-zero weights never change; a softmax in float32 reaches 1.
    rng = np.random.default_rng(0)
    difficulty, correct = difficult(300, 0.2, rng)
    dead = replace(
        block_trace("dead", np.zeros(300)),
        active=np.zeros(300),
        margin=np.full(300, np.inf),
    )
    half_dead = replace(
        block_trace("half", -difficulty),
        margin=np.where(rng.random(300) < 0.5, np.inf, rng.random(300)),
    )
    chances = np.where(difficulty < 0.5, 1.0, 1 / (1 + np.exp(difficulty)))
    found = separate([dead, half_dead], chances, 1 - chances, correct, seed=0)
    assert found is not None
    assert [numbers(score.auroc) for score in found.scores[:4]] == [(0.5, 0.5, 0.5)] * 4
    assert np.isfinite([numbers(interval) for interval in all_scores(found)]).all()
    assert found.combined is not None
    assert found.combined.auroc.value > 0.6


def test_what_is_not_a_number_is_refused_by_name() -> None:
    values = np.linspace(0.2, 0.9, 20)
    holes = np.where(np.arange(20) < 3, np.nan, values)
    correct = np.arange(20) > 4
    block = replace(block_trace("fc1", values), largest=holes)
    with pytest.raises(InputError, match="largest of block fc1 is not a number for 3 of 20"):
        separate([block], values, values, correct, seed=0)
    with pytest.raises(InputError, match="max softmax of the output is not a number for 3"):
        separate([], holes, values, correct, seed=0)
