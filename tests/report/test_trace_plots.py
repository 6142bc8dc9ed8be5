import re
from dataclasses import replace
from itertools import pairwise
from xml.dom import minidom

import numpy as np
import pytest
from pages import paths
from traced import trace_of

from onnx_relusv.core.blocks import Floats
from onnx_relusv.core.traces import Separation, Truths
from onnx_relusv.report.trace import MOST_ROWS, areas_svg, distribution_svg


def drawn(values: Floats, correct: Truths | None = None, *, step: float = 0.0) -> str:
    return distribution_svg(values, correct, step=step, title="width", name="a", label="of a")


def areas(svg: str, role: str) -> Floats:
    """Areas under the steps of a role, one a bin."""
    (corners,) = paths(svg, role)
    bottom = max(y for _, y in corners)
    tops: dict[float, float] = {}
    for (left, first), (right, second) in pairwise(corners):
        if first == second and right > left:
            tops[left] = (right - left) * (bottom - first)
    return np.array([tops[left] for left in sorted(tops)])


def test_shares_are_those_of_the_values() -> None:
    rng = np.random.default_rng(0)
    values = rng.integers(0, 5, 1000).astype(float)
    found = areas(drawn(values, step=1.0), "every")
    counts = np.bincount(values.astype(int))
    np.testing.assert_allclose(found / found.sum(), counts / counts.sum(), rtol=1e-4)


def test_right_and_wrong_answers_have_equal_areas_and_own_places() -> None:
    rng = np.random.default_rng(0)
    correct = np.arange(1000) >= 100
    values = rng.standard_normal(1000) - 2.0 * ~correct
    svg = drawn(values, correct)
    right, wrong = areas(svg, "right"), areas(svg, "wrong")
    assert right.sum() == pytest.approx(wrong.sum(), rel=1e-3)
    assert wrong.argmax() < right.argmax()
    assert paths(svg, "every") == []


def test_few_wrong_answers_are_not_the_tail_of_the_right_ones() -> None:
    values = np.concatenate([np.random.default_rng(0).uniform(2, 3, 10_000), [0.1, 0.2]])
    svg = drawn(values, np.arange(10_002) < 10_000)
    assert areas(svg, "wrong").argmax() == 0
    assert areas(svg, "right").argmax() > 0


def test_one_outlier_does_not_squeeze_the_rest() -> None:
    values = np.append(np.random.default_rng(0).uniform(0, 1, 1000), 1e9)
    found = areas(drawn(values), "every")
    assert (found > 0.5 * found.max()).all()


@pytest.mark.parametrize("positions", [1, 3, 8])
def test_steps_are_spread_evenly_over_bins(positions: int) -> None:
    # Every multiple of 1 / positions as often as any other: uneven bins would look like a comb.
    values = np.tile(np.arange(40 * positions + 1) / positions, 50)
    found = areas(drawn(values, step=1 / positions), "every")
    inner = found[1:-1]
    np.testing.assert_allclose(inner, inner[0], rtol=1e-3)


def test_one_value_and_none_that_is_finite_are_told_and_not_drawn() -> None:
    correct = np.arange(50) > 9
    zero, infinite = drawn(np.zeros(50), correct), drawn(np.full(50, np.inf), correct)
    assert ">width, 100.0 % at 0</text>" in zero
    assert ">width, 100.0 % infinite</text>" in infinite
    for svg in (zero, infinite):
        assert paths(svg, "right") == paths(svg, "wrong") == []


def test_infinite_values_are_counted_in_the_title() -> None:
    values = np.random.default_rng(0).standard_normal(100)
    values[:25] = np.inf
    svg = drawn(values, np.arange(100) > 9)
    assert ">width, 25.0 % infinite</text>" in svg
    # All wrong answers are among the infinite ones.
    assert paths(svg, "wrong") == []
    assert len(paths(svg, "right")) == 1


def separation(keys: tuple[str, ...]) -> Separation:
    found = trace_of(keys, samples=100).separation
    assert found is not None
    return found


def texts(svg: str) -> list[str]:
    return [
        element.firstChild.nodeValue or ""  # type: ignore[union-attr]
        for element in minidom.parseString(svg).getElementsByTagName("text")
    ]


def test_lines_are_as_long_as_the_intervals() -> None:
    found = separation(("conv1", "fc1"))
    svg = areas_svg(found, name="areas")
    widths = [score for score in found.scores if score.quantity == "width"]
    lines = [corners for corners in paths(svg, "width") if len(corners) == 2]
    assert len(lines) == len(widths) == 2
    ends = np.array([[x for x, _ in corners] for corners in lines])
    expected = np.array([[score.auroc.lower, score.auroc.upper] for score in widths])
    # One scale for all: points of print, rounded to six decimals.
    scale, offset = np.polyfit(expected.ravel(), ends.ravel(), 1)
    np.testing.assert_allclose(scale * expected + offset, ends, atol=1e-3)
    (across,) = paths(svg, "level")
    assert across[0][0] == pytest.approx(scale * found.baselines[0].auroc.value + offset, abs=1e-3)


def test_the_output_comes_first_and_blocks_in_order() -> None:
    svg = areas_svg(separation(("conv1", "fc1" * 30)), name="areas")
    first, *names = [one for one in texts(svg) if not re.fullmatch(r"[0-9.]+", one)]
    assert first == "AUROC"
    assert names[:-1] == ["max softmax", "entropy", "combined", "combined with output", "conv1"]
    # Ninety characters, of which both ends are kept.
    assert names[-1].startswith("fc1fc1")
    assert "..." in names[-1]
    assert names[-1].endswith("fc1fc1")


def test_what_was_not_combined_has_no_row() -> None:
    found = separation(("conv1", "fc1"))
    svg = areas_svg(replace(found, combined=None, scores=()), name="areas")
    assert "combined with output" in texts(svg)
    assert "combined" not in texts(svg)


def test_hostile_names_are_text() -> None:
    svg = areas_svg(separation(("<script>$x^$\u5377", "fc1")), name="areas")
    assert "<script>$x^$\\u5377" in texts(svg)
    assert "<script" not in svg


def test_of_many_blocks_those_that_tell_best_are_drawn() -> None:
    found = separation(("conv1",))
    (score, *_), worse = found.scores, ("block3", "block60")
    area = score.auroc
    scores = tuple(
        replace(
            score,
            block=name,
            auroc=replace(area, value=area.value - 0.1 * (name in worse)),
        )
        for name in (f"block{number}" for number in range(MOST_ROWS + len(worse)))
    )
    names = texts(areas_svg(replace(found, scores=scores), name="areas"))
    kept = [one.block for one in scores if one.block not in worse]
    assert [name for name in names if name.startswith("block")] == kept
    assert "the 60 blocks that tell best; 2 more are not drawn" in names
