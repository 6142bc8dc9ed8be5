"""The examples of docs/theory.md, which show what is sharp and what does not hold."""

import math
import re
from pathlib import Path

import numpy as np
import pytest
from examples import RELU, clip, prelu
from relu_maps import phi

from onnx_relusv.core.blocks import Floats
from onnx_relusv.spectra.bounds import bracket, exact_largest, least_on_subspace
from onnx_relusv.spectra.relu_values import relu_singular_values

DOCS = Path(__file__).parents[2] / "docs"
PAGE = (DOCS / "theory.md").read_text(encoding="utf-8")
ROOT_HALF = math.sqrt(0.5)
# float64 sums and roots.
ROUNDING = 1e-12


def circle(points: int = 100_001) -> Floats:
    angle = np.linspace(0, 2 * np.pi, points)
    return np.stack([np.cos(angle), np.sin(angle)])


@pytest.mark.parametrize("size", [1, 2, 5])
def test_the_lower_end_is_attained_for_every_k(size: int) -> None:
    W = np.vstack([np.eye(size), -np.eye(size)])
    lower, _ = bracket(np.linalg.svd(W)[1], RELU)
    # No s_k exceeds s_0.
    assert np.allclose(lower, exact_largest(W), rtol=ROUNDING)


@pytest.mark.parametrize("k", [1, 2])
@pytest.mark.parametrize("large", [1.0, 3.0, 50.0])
def test_no_smaller_upper_end_will_do_for_larger_k(k: int, large: float) -> None:
    W = np.diag([*[large] * k, 1.0])
    # The branch and bound is a thousandth fine.
    assert least_on_subspace(W, np.zeros(1)) >= large / math.sqrt(1 + large**2) - 2e-3


def test_the_upper_end_of_steep_slopes_is_attained() -> None:
    lower, upper = bracket(np.ones(1), prelu(-3.0))
    assert upper[0] == abs(phi(np.array([-1.0]), prelu(-3.0))[0])
    assert lower[0] < upper[0]


def test_the_plain_bracket_fails_with_a_negative_bias() -> None:
    found = relu_singular_values(np.eye(1), np.array([-1.0]), provider="cpu")
    answers = phi(np.linspace(-1, 1, 101)[None] - 1, RELU)
    assert not answers.any()  # so s_0 is 0
    assert found.lower[0] == 0
    assert bracket(np.ones(1), RELU)[0][0] == pytest.approx(ROOT_HALF)


def test_the_half_of_a_free_bias_is_sharp() -> None:
    lower, _ = bracket(np.ones(1), RELU, free_bias=True)
    answers = phi(np.linspace(-1, 1, 101)[None], RELU)
    assert np.abs(answers - phi(np.array([[0.5]]), RELU)).max() == lower[0] == 0.5


def test_a_clip_with_a_bias_reaches_half_its_ceiling() -> None:
    ceiling, steep = 2.0, 40.0
    b = np.array([ceiling / 2])
    x = np.linspace(-1, 1, 1001)[None]
    s0 = np.abs(phi(steep * x + b, clip(ceiling)) - b).max()
    lower, _ = bracket(np.array([steep]), clip(ceiling), bias=b)
    assert lower[0] <= s0 == ceiling / 2
    assert bracket(np.array([steep]), clip(ceiling))[0][0] > s0  # without the bias, wrong here


def test_nothing_is_left_of_a_negative_map_on_non_negative_inputs() -> None:
    found = relu_singular_values(-np.eye(3), domain="nonnegative", provider="cpu")
    assert not found.lower.any()
    assert not found.upper.any()


@pytest.mark.parametrize("d", [0.01, 0.1, 0.28])
def test_averaging_beats_the_truncated_svd(d: float) -> None:
    W, x = np.diag([1 + d, 1]), circle()
    truncated, averaging = np.diag([1 + d, 0]), np.full((2, 2), 0.5)
    gaps = [
        np.linalg.norm(phi(W @ x, RELU) - phi(L @ x, RELU), axis=0).max()
        for L in (truncated, averaging)
    ]
    assert gaps[0] == pytest.approx(1, abs=1e-8)  # the grid's distance to (0, 1), squared
    assert ROOT_HALF <= gaps[1] <= ROOT_HALF + d + ROUNDING < 1


def test_the_best_map_of_rank_1_attains_the_lower_end_for_the_identity() -> None:
    x = circle()
    gap = np.linalg.norm(phi(x, RELU) - phi(np.full((2, 2), 0.5) @ x, RELU), axis=0).max()
    assert gap == pytest.approx(bracket(np.ones(2), RELU)[0][1], rel=1e-8)


def test_statements_are_numbered_one_after_the_other() -> None:
    numbers = [int(number) for number in re.findall(r"^\*\*\((\d+)\)\*\*", PAGE, re.MULTILINE)]
    assert numbers == list(range(1, len(numbers) + 1))


def test_pictures_are_small_and_the_same_at_every_run() -> None:
    linked = re.findall(r"!\[[^]]+\]\((images/[^)]+)\)", PAGE)
    readme = (DOCS.parent / "README.md").read_text(encoding="utf-8")
    elsewhere = re.findall(r"!\[[^]]+\]\(docs/(images/[^)]+)\)", readme)
    assert sorted([*linked, *elsewhere]) == sorted(
        f"images/{one.name}" for one in (DOCS / "images").iterdir()
    )
    for name in linked:
        text = (DOCS / name).read_text(encoding="utf-8")
        assert len(text) < 60_000
        assert "aria-label" in text
        assert "date" not in text.lower()
