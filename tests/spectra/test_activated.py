"""Activated operators of plain arrays against closed forms, enumeration and brute force."""

import math

import numpy as np
import pytest
from examples import LINEAR, RELU, clip, prelu
from hypothesis import given
from hypothesis import strategies as st
from relu_maps import exact_s0

from onnx_relusv.core.blocks import Activation, Floats
from onnx_relusv.core.errors import UsageError
from onnx_relusv.core.measures import ActivatedWidths
from onnx_relusv.spectra.activated import activated_mean_width, width_bracket
from onnx_relusv.spectra.mean_widths import width_of

ACTIVATIONS = {
    "relu": RELU,
    "clip": clip(0.8),
    "leaky": prelu(0.2),
    "prelu": prelu(0.5, -0.3, 0.0, 1.5, 0.1, -1.0),
    "none": LINEAR,
}
# What bounds give away for float32 sums over six units, twice.
ROUNDING = 2 * 28 * 2.0**-24


def derivative(y: Floats, activation: Activation) -> Floats:
    """phi', (inputs, units)."""
    ceiling = math.inf if activation.ceiling is None else activation.ceiling
    return np.where((y > 0) & (y < ceiling), 1, activation.slopes)


def made(seed: int, rank: int = 4) -> tuple[Floats, Floats, Floats]:
    """A weight of six units, a bias, and nine inputs."""
    rng = np.random.default_rng(seed)
    W = rng.standard_normal((6, rank)) @ rng.standard_normal((rank, 4))
    return W, 0.5 * rng.standard_normal(6), rng.standard_normal((9, 4))


def operators(W: Floats, b: Floats, x: Floats, activation: Activation) -> Floats:
    """The A_x, (inputs, units, columns)."""
    return derivative(x @ W.T + b, activation)[:, :, None] * W


def measured(
    name: str, seed: int = 0, *, exact: bool = False, chunk_bytes: int = 32 << 20
) -> ActivatedWidths:
    return activated_mean_width(
        *made(seed), activation=ACTIVATIONS[name], exact=exact, chunk_bytes=chunk_bytes
    )


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_widths_against_the_singular_values_of_every_operator(name: str) -> None:
    A = operators(*made(0), ACTIVATIONS[name])
    sigma = np.linalg.svd(A, compute_uv=False)
    frobenius = np.linalg.norm(sigma, axis=1)
    # Where no unit is active all of it is zero.
    moment = np.sqrt(np.maximum(frobenius**4 + 2 * (sigma**4).sum(axis=1), 1e-300))
    hoelder = frobenius**3 / moment
    found = measured(name, exact=True)
    assert np.allclose(found.upper, frobenius, rtol=ROUNDING, atol=0)
    assert np.allclose(found.lower, hoelder, rtol=4 * ROUNDING, atol=0)
    # Eigenvalues in float64; squares of zero singular values are off by 1e-16.
    assert np.allclose(found.value, [width_of(one) for one in sigma], rtol=1e-7, atol=0)
    assert np.array_equal(found.active, (A != 0).any(axis=2).sum(axis=1))
    assert np.isnan(measured(name).value).all()


# F^2 of one singular value is sigma^2, and the sum of sigma^4 its square.
BY_HAND = {
    "one unit": (np.array([[3.0, 4.0]]), RELU, 5 / math.sqrt(3), 5.0, 5 * math.sqrt(2 / math.pi)),
    "equal units": (np.ones((4, 4)), RELU, 4 / math.sqrt(3), 4.0, 4 * math.sqrt(2 / math.pi)),
    "a closed unit": (
        np.diag([2.0, -1.0]),
        RELU,
        2 / math.sqrt(3),
        2.0,
        2 * math.sqrt(2 / math.pi),
    ),
    "a slope": (np.array([[-2.0]]), prelu(0.5), 1 / math.sqrt(3), 1.0, math.sqrt(2 / math.pi)),
    "two at right angles": (np.eye(2), RELU, 1.0, math.sqrt(2), math.sqrt(math.pi / 2)),
    "above the ceiling": (np.diag([3.0, 1.0]), clip(2.0), 1 / math.sqrt(3), 1.0, None),
    "all closed": (-np.eye(2), RELU, 0.0, 0.0, 0.0),
}


def test_brackets_worked_out_by_hand() -> None:
    for name, (W, activation, lower, upper, exact) in BY_HAND.items():
        x = np.ones((1, W.shape[1]))
        found = activated_mean_width(W, None, x, activation=activation, exact=True)
        assert found.lower == pytest.approx([lower], rel=4 * ROUNDING, abs=0), name
        assert found.upper == pytest.approx([upper], rel=ROUNDING, abs=0), name
        if exact is not None:
            assert found.value == pytest.approx([exact], rel=1e-9), name


@given(seed=st.integers(0, 10_000), rank=st.integers(1, 4), name=st.sampled_from(list(ACTIVATIONS)))
def test_the_bracket_contains_the_width(seed: int, rank: int, name: str) -> None:
    found = activated_mean_width(*made(seed, rank), activation=ACTIVATIONS[name], exact=True)
    # No tolerance: what float32 sums may lose is given away. Nothing but zero has the width zero.
    assert (found.lower <= found.value).all()
    assert (found.value <= found.upper).all()
    # The Hoelder bound is the weakest for one singular value.
    assert (found.lower >= found.upper * (1 - 4 * ROUNDING) / math.sqrt(3)).all()


def test_the_bracket_without_the_fourth_powers_would_be_wrong() -> None:
    square, fourth = np.array([1.0]), np.array([1.0])
    width = math.sqrt(2 / math.pi)
    assert width_bracket(square, fourth, 1)[0] <= width
    assert width_bracket(square, 0 * fourth, 1)[0] > width


def test_bounds_hold_for_sums_that_were_rounded_the_wrong_way() -> None:
    # As far off as n + 8 roundings can bring them.
    for units in (1, 4096):
        rounding = (units + 8) * 2.0**-24
        square, fourth = np.array([4.0]), np.array([8.0])
        exact = 8 / math.sqrt(16 + 16)
        for sign in (-1, 1):
            rounded = square * (1 + sign * rounding), fourth * (1 - 2 * sign * rounding)
            lower, upper = width_bracket(*rounded, units)
            assert lower <= exact
            assert upper >= 2.0


def test_the_largest_value_is_found_from_below() -> None:
    for name in ("relu", "clip", "leaky", "prelu", "none"):
        shares = []
        for seed in range(5):
            A = operators(*made(seed), ACTIVATIONS[name])
            exact = np.array([exact_s0(one) for one in A])
            found = measured(name, seed)
            # Products in float32.
            assert (found.largest <= exact * (1 + 1e-6)).all(), name
            shares.append(found.largest[exact > 0] / exact[exact > 0])
        # Ten steps from one start: often exact, and never far off.
        assert np.median(np.concatenate(shares)) > 0.999, name
        assert np.concatenate(shares).min() > 0.7, name


def test_the_largest_value_says_whether_it_has_arrived() -> None:
    # Two units that nearly agree: the power method gains little from step to step, but goes on.
    slow = activated_mean_width([[1.0, 0.0], [0.0, 1.05]], None, [[1.0, 1.0]])
    assert not slow.converged.any()
    # The longer row alone is the answer here, and known at once.
    assert slow.largest == pytest.approx([1.05], rel=1e-6)
    quick = activated_mean_width([[1.0, 1.0], [1.0, 1.0]], None, [[1.0, 1.0]])
    assert quick.converged.all()
    assert quick.largest == pytest.approx([2.0], rel=1e-6)
    assert quick.iterations == slow.iterations == 10


def test_slopes_turn_a_unit_around() -> None:
    # Both units see the same input; of the operator diag(1, a) W the second one counts as a.
    W = np.array([[1.0], [-1.0]])
    for slope in (0.5, -0.5, 2.0):
        found = activated_mean_width(W, None, [[1.0]], activation=prelu(0.0, slope))
        # (1, -a): where a is positive the second entry is clipped at zero.
        expected = 1.0 if slope < 0 else max(1.0, slope)
        assert found.largest == pytest.approx([math.hypot(1, slope) if slope < 0 else expected])


@pytest.mark.parametrize("name", ["relu", "clip", "leaky", "prelu"])
def test_the_margin_is_the_nearest_change_of_a_branch(name: str) -> None:
    activation = ACTIVATIONS[name]
    W, b, x = made(0)
    knees = [0.0] if activation.ceiling is None else [0.0, activation.ceiling]
    rng = np.random.default_rng(1)
    directions = rng.standard_normal((20_000, 4))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)

    def branches(points: Floats) -> Floats:
        y = points @ W.T + b
        return sum((y > knee).astype(float) for knee in knees)

    for point, margin in zip(x, measured(name).margin, strict=True):
        here = branches(point)
        # Rounding of the margin's float32.
        assert (branches(point + margin * (1 - 1e-5) * directions) == here).all()
        # Of so many directions some are within 5 % of the nearest hyperplane's.
        assert (branches(point + margin * 1.05 * directions) != here).any()


def test_units_without_weights_have_no_margin() -> None:
    W, b, x = np.array([[0.0, 0.0], [3.0, 4.0]]), np.array([1e-6, 0.0]), np.array([[1.0, 1.0]])
    found = activated_mean_width(W, b, x)
    assert found.margin == pytest.approx([7 / 5], rel=1e-6)
    # The bias alone makes the first one active, with an operator of nothing.
    assert found.active == 2
    assert activated_mean_width(0 * W, b, x, exact=True).margin == math.inf
    assert measured("none").margin.min() == math.inf


def test_the_zero_map() -> None:
    found = activated_mean_width(np.zeros((3, 2)), np.ones(3), np.ones((2, 2)), exact=True)
    assert not any(values.any() for values in (found.lower, found.value, found.largest))
    # All three units are active, and what underflows may count for that much.
    assert (found.upper < 1e-15).all()


@pytest.mark.parametrize("name", ["relu", "clip", "prelu"])
def test_measures_grow_with_the_layer(name: str) -> None:
    for scale in (1e-90, 1e-30, 1e30, 1e90):
        activation = ACTIVATIONS[name]
        W, b, x = made(0)
        ceiling = None if activation.ceiling is None else scale * activation.ceiling
        grown = Activation(kind=activation.kind, slopes=activation.slopes, ceiling=ceiling)
        once = measured(name, exact=True)
        found = activated_mean_width(scale * W, scale * b, x, activation=grown, exact=True)
        for field in ("lower", "upper", "value", "largest"):
            assert np.allclose(
                getattr(found, field) / scale, getattr(once, field), rtol=1e-6, atol=0
            )
        # The distance of an input does not depend on the units of the output.
        assert np.allclose(found.margin, once.margin, rtol=1e-6, atol=0)
        assert np.array_equal(found.active, once.active)


def test_many_inputs_are_measured_in_chunks() -> None:
    whole = measured("relu", exact=True)
    # Two inputs of six units at a time.
    parts = measured("relu", exact=True, chunk_bytes=100)
    for field in ("active", "lower", "upper", "value", "largest", "margin", "converged"):
        # Products of other shapes may round differently.
        assert np.allclose(getattr(parts, field), getattr(whole, field), rtol=1e-6, atol=0)


def test_a_run_repeats_itself() -> None:
    one, two = measured("prelu", exact=True), measured("prelu", exact=True)
    for field in ("active", "lower", "upper", "value", "largest", "margin"):
        assert np.array_equal(getattr(one, field), getattr(two, field))
    assert (one.seed, one.provider) == (0, "CPUExecutionProvider")


def test_arrays_that_do_not_fit() -> None:
    for arrays, match in (
        ((np.ones(3), None, np.ones((1, 3))), "weight has shape"),
        ((np.ones((2, 3)), np.ones(3), np.ones((1, 3))), "for 2 rows"),
        ((np.ones((2, 3)), None, np.ones((5, 4))), r"\(5, 4\); for a weight of shape \(2, 3\)"),
        ((np.ones((2, 3)), None, np.ones(3)), r"\(3,\)"),
        ((np.ones((2, 3)), None, np.ones((0, 3))), "one input at least"),
        ((np.ones((2, 3)), None, np.full((1, 3), np.nan)), "inputs holds NaN"),
        ((np.full((2, 3), np.inf), None, np.ones((1, 3))), "weight holds NaN"),
    ):
        with pytest.raises(UsageError, match=match):
            activated_mean_width(*arrays)


def test_slopes_that_do_not_fit() -> None:
    with pytest.raises(UsageError, match="3 slopes for 2 rows"):
        activated_mean_width(
            np.ones((2, 3)), None, np.ones((1, 3)), activation=prelu(0.1, 0.2, 0.3)
        )


@pytest.mark.parametrize(
    ("activation", "match"),
    [
        (Activation(kind="clip", slopes=np.zeros(1), ceiling=0.0), "ceiling 0.0: use a positive"),
        (prelu(np.inf, 0.1), "slopes holds NaN or infinite values"),
    ],
)
def test_activations_that_are_none(activation: Activation, match: str) -> None:
    with pytest.raises(UsageError, match=match):
        activated_mean_width(np.ones((2, 3)), None, np.ones((1, 3)), activation=activation)
