"""Knees: exact ones of curves whose bend is known, and none where there is no bend."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from onnx_relusv.commands.sweep_folder import LEAST_BEND, knee

SIZES = (0.1, 0.2, 0.3, 0.5, 0.9)


def test_the_corner_of_two_lines_is_the_knee() -> None:
    assert knee(SIZES, [8.0, 4.5, 1.0, 0.7, 0.1]) == 2


def test_the_knee_of_a_hyperbola_is_where_its_normalised_slope_is_minus_one() -> None:
    # 1 / x from a to 1 / a has its chord's slope, -1 in normalised axes, at x = 1.
    sizes = np.geomspace(0.1, 10, 21)
    assert knee(sizes.tolist(), (1 / sizes).tolist()) == 10


def test_a_bad_point_above_the_hull_is_passed_over() -> None:
    # The second point is farther from a chord, on its wrong side; the fourth gains nothing.
    assert knee([0.1, 0.2, 0.3, 0.35, 0.9], [8.0, 20.0, 1.0, 5.0, 0.0]) == 2


def test_a_gain_is_a_loss_below_zero() -> None:
    assert knee([0.1, 0.3, 0.9], [8.0, -0.5, -1.0]) == 1


def test_a_short_flat_straight_or_concave_curve_has_none() -> None:
    for sizes, losses in (
        ([], []),
        ([0.5], [1.0]),
        ([0.1, 0.9], [5.0, 0.0]),
        (SIZES, [2.0] * 5),
        (SIZES, [9.0 - 10 * size for size in SIZES]),
        # Concave: only the ends are on the hull.
        (SIZES, [9.0, 8.9, 8.5, 7.0, 0.0]),
        # The smallest file is the best one, too.
        (SIZES, [0.0, 1.0, 2.0, 3.0, 4.0]),
    ):
        assert knee(sizes, losses) is None


def test_a_bend_too_small_to_be_seen_is_none() -> None:
    for bend, expected in ((0.9 * LEAST_BEND, None), (1.1 * LEAST_BEND, 1)):
        assert knee([0.0, 0.5, 1.0], [1.0, 0.5 - bend, 0.0]) == expected


curves = st.lists(
    st.tuples(st.integers(1, 50), st.integers(-5, 100)), max_size=12, unique_by=lambda one: one[0]
)


@given(curves, st.randoms(use_true_random=False))
def test_order_and_units_do_not_matter(
    curve: list[tuple[int, int]], random: np.random.Generator
) -> None:
    def found(points: list[tuple[int, int]], unit: float, zero: float) -> object:
        place = knee([x / 64 for x, _ in points], [unit * y + zero for _, y in points])
        return None if place is None else points[place]

    shuffled = list(curve)
    random.shuffle(shuffled)
    # Powers of two, so that nothing is rounded and no tie is decided otherwise.
    assert found(curve, 1, 0) == found(shuffled, 4, 16)


@given(curves)
def test_no_point_is_smaller_and_loses_less_than_the_knee(curve: list[tuple[int, int]]) -> None:
    sizes, losses = [float(x) for x, _ in curve], [float(y) for _, y in curve]
    place = knee(sizes, losses)
    if place is not None:
        assert not any(x < sizes[place] and y <= losses[place] for x, y in curve)
