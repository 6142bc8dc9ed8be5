"""The objective behind the activation against numpy, and refined factors against their start."""

from dataclasses import dataclass, replace

import numpy as np
import pytest
from examples import LINEAR, RELU, clip, conv, factor_shapes, gemm, prelu

from onnx_relusv.core.blocks import Activation, Floats, Geometry, LinearMap
from onnx_relusv.core.plans import Factors
from onnx_relusv.fitting.objectives import OwnAnswers
from onnx_relusv.fitting.refinement import LOOKS, refined
from onnx_relusv.rewrites.low_rank.forms import FORMS, double_layer
from onnx_relusv.runtime.session import CPU
from onnx_relusv.spectra.moments import shrunk_moments
from onnx_relusv.spectra.product_sums import Rows

# Float32 sums of thousands of squares, relative to numbers around 1.
ROUNDING = 2e-5
SLOPES = tuple(np.linspace(-0.2, 0.6, 6))


@dataclass(frozen=True)
class Case:
    """What is behind a linear map, and how its errors count."""

    geometry: Geometry
    form: str
    activation: Activation = RELU
    shifted: bool = False
    weighted: bool = False


CONV = conv(3, 6, (2, 3))
CASES = {
    "relu": Case(gemm(7, 6), "pair"),
    "linear": Case(gemm(7, 6), "pair", LINEAR),
    "leaky": Case(gemm(7, 6), "pair", prelu(0.3)),
    "prelu": Case(gemm(7, 6), "pair", prelu(*SLOPES)),
    "clip": Case(gemm(7, 6), "pair", clip(0.8)),
    "relu, shortcut": Case(gemm(7, 6), "pair", shifted=True),
    "relu, consumers": Case(gemm(7, 6), "pair", weighted=True),
    "prelu, shortcut, consumers": Case(gemm(7, 6), "pair", prelu(*SLOPES), True, True),
    "clip, shortcut, consumers": Case(gemm(7, 6), "pair", clip(0.8), True, True),
    "channel": Case(CONV, "channel"),
    "spatial": Case(CONV, "spatial"),
    "spatial, shortcut, consumers": Case(CONV, "spatial", RELU, True, True),
    "tucker": Case(CONV, "tucker"),
    "dense": Case(CONV, "dense"),
    "dense, groups, shortcut": Case(conv(4, 6, (3, 2), groups=2), "dense", clip(0.8), True),
    "channel, groups": Case(conv(4, 6, (3, 2), groups=2), "channel", prelu(*SLOPES)),
    "spatial, groups, shortcut": Case(conv(4, 6, (3, 2), groups=2), "spatial", RELU, True),
    "tucker, groups, shortcut": Case(conv(4, 6, (3, 2), groups=2), "tucker", RELU, True),
}


def made(case: Case, count: int, seed: int = 0) -> tuple[OwnAnswers, Factors, Rows]:
    """Factors that have nothing to do with the rows."""
    rng = np.random.default_rng(seed)
    geometry = case.geometry
    shapes = factor_shapes(case.form, geometry, 2)
    matrices = tuple(0.5 * rng.standard_normal(shape) for shape in shapes)
    factors = Factors(
        form=case.form,
        rank=2,
        matrices=matrices,
        bias=rng.standard_normal(geometry.out_channels),
    )
    answers = (geometry.groups, count, geometry.rows)
    rows = Rows(
        z=rng.standard_normal((geometry.groups, count, geometry.columns), dtype=np.float32),
        target=rng.standard_normal(answers, dtype=np.float32),
        shift=rng.standard_normal(answers, dtype=np.float32) if case.shifted else None,
    )
    root = rng.standard_normal((geometry.out_channels,) * 2)
    importance = root.T @ root / geometry.out_channels if case.weighted else None
    return (
        OwnAnswers(
            geometry=geometry, activation=case.activation, importance=importance, provider=CPU
        ),
        factors,
        rows,
    )


def phi(values: Floats, activation: Activation, groups: int) -> Floats:
    """(groups, n, rows) behind the activation."""
    slopes = activation.slopes
    if len(slopes) > 1:
        slopes = slopes.reshape(groups, 1, -1)
    found = np.where(values > 0, values, slopes * values)
    return np.asarray(
        found if activation.ceiling is None else np.minimum(found, activation.ceiling)
    )


def mean_error(objective: OwnAnswers, L: Floats, bias: Floats, rows: Rows) -> float:
    """The mean of e'Se, row by row, in float64."""
    groups = objective.geometry.groups
    own = np.einsum("gnc,grc->gnr", rows.z.astype(float), L) + bias.reshape(groups, 1, -1)
    if rows.shift is not None:
        own = own + rows.shift
    error = phi(own, objective.activation, groups) - phi(
        rows.target.astype(float), objective.activation, groups
    )
    S = np.eye(error.shape[2]) if objective.importance is None else objective.importance
    return float(sum(e @ S @ e for group in error for e in group)) / rows.count


def composed(objective: OwnAnswers, factors: Factors) -> Floats:
    return FORMS[factors.form].compose(objective.geometry, *factors.matrices)


@pytest.mark.parametrize("name", CASES)
def test_the_value(name: str) -> None:
    for count in (1, 60, 2500):
        objective, factors, rows = made(CASES[name], count)
        expected = mean_error(objective, composed(objective, factors), factors.bias, rows)
        assert objective.value(factors, rows) == pytest.approx(expected, rel=ROUNDING)
    # That of the right answer is zero.
    objective, factors, rows = made(CASES[name], 50)
    groups = objective.geometry.groups
    L = composed(objective, factors)
    exact = np.einsum("gnc,grc->gnr", rows.z, L) + factors.bias.reshape(groups, 1, -1)
    if rows.shift is not None:
        exact = exact + rows.shift
    right = replace(rows, target=exact.astype(np.float32))
    assert objective.value(factors, right) < 1e-12  # the square of float32 rounding
    assert objective.value(factors, rows) > 0.1


@pytest.mark.parametrize("name", CASES)
def test_the_slope_is_half_the_derivative(name: str) -> None:
    """Against central differences in float64, in every entry of the factors and b'."""
    objective, factors, rows = made(CASES[name], 60)
    chosen = slice(17, 23)
    few = replace(
        rows,
        z=rows.z[:, chosen],
        target=rows.target[:, chosen],
        shift=None if rows.shift is None else rows.shift[:, chosen],
    )
    slopes = objective.slopes(factors, rows, chosen)
    assert slopes.others == objective.others(factors, rows, rows) == ()
    values = [*factors.matrices, factors.bias]
    step = 1e-6  # no entry crosses a corner of the activation within it

    def differences(number: int) -> Floats:
        found = np.empty(values[number].size)
        for place in range(found.size):
            moved = []
            for sign in (1, -1):
                changed = [each.copy() for each in values]
                changed[number].reshape(-1)[place] += sign * step
                L = composed(objective, factors.with_matrices(changed[:-1]))
                moved.append(mean_error(objective, L, changed[-1], few))
            found[place] = (moved[0] - moved[1]) / (4 * step)
        return found.reshape(values[number].shape)

    for number, slope in enumerate((*slopes.matrices, slopes.bias)):
        expected = differences(number)
        assert slope.shape == expected.shape
        # Central differences are good to about 1e-8, the kernel to float32.
        np.testing.assert_allclose(slope, expected, rtol=1e-4, atol=1e-5)
        assert np.abs(expected).max() > 1e-2


def corrupted(
    geometry: Geometry, count: int, seed: int, noise: float = 0.2
) -> tuple[LinearMap, Rows, Rows, Rows]:
    """A block whose delivered input is not the original's, and what it should answer, thrice."""
    rng = np.random.default_rng(seed)
    weight = rng.standard_normal((geometry.groups, geometry.rows, geometry.columns))
    # Every other unit is hardly ever active: what it answers varies most, and matters least.
    often = np.arange(geometry.rows) % 2 == 0
    weight *= np.where(often, 1.0, 2.0)[:, None]
    bias = np.tile(np.where(often, 0.0, -12.0), geometry.groups)
    linear = LinearMap(weight, bias)
    mixing = rng.standard_normal((geometry.columns,) * 2) * 0.7 ** np.arange(geometry.columns)
    parts = []
    for _ in range(3):
        x = rng.standard_normal((geometry.groups, count, geometry.columns)) @ mixing
        z = x + noise * rng.standard_normal(x.shape)
        target = np.einsum("gnc,grc->gnr", x, weight) + bias.reshape(geometry.groups, 1, -1)
        parts.append(Rows(z.astype(np.float32), target.astype(np.float32), None))
    return linear, parts[0], parts[1], parts[2]


def started(form: str, geometry: Geometry, linear: LinearMap, rows: Rows, rank: int) -> Factors:
    """The best factors before the activation, in the metric of z."""
    z = rows.z.astype(float)
    second = z.transpose(0, 2, 1) @ z / rows.count
    seen = shrunk_moments(z.mean(axis=1), second, rows.count, 10**9)
    return double_layer(form, geometry, linear, seen, rank)


def objective_of(geometry: Geometry, activation: Activation = RELU) -> OwnAnswers:
    return OwnAnswers(geometry=geometry, activation=activation, importance=None, provider=CPU)


@pytest.mark.parametrize(
    ("geometry", "form", "rank"),
    [
        (gemm(16, 24), "pair", 5),
        (conv(4, 12, (3, 3)), "channel", 5),
        (conv(4, 12, (3, 3)), "spatial", 5),
        (conv(4, 12, (3, 3)), "tucker", 5),
        (conv(8, 12, (2, 2), groups=2), "channel", 2),
    ],
)
def test_it_gets_better_behind_the_activation(geometry: Geometry, form: str, rank: int) -> None:
    linear, fitting, judging, fresh = corrupted(geometry, 12_000, 1, noise=0.0)
    start = started(form, geometry, linear, fitting, rank)
    objective = objective_of(geometry)
    found = refined(start, objective, fitting, judging, np.random.default_rng(0))
    assert (found.form, found.rank) == (start.form, start.rank)
    assert [m.shape for m in found.matrices] == [m.shape for m in start.matrices]
    # On rows that chose, and on those that nobody ever saw.
    for rows in (judging, fresh):
        assert objective.value(found, rows) < 0.95 * objective.value(start, rows)
    if form in ("pair", "channel"):
        # Before the activation it is worse, as the start was the best there is.
        plain = objective_of(geometry, LINEAR)
        assert plain.value(found, fitting) > 1.05 * plain.value(start, fitting)


def test_it_is_never_worse_on_the_rows_that_choose() -> None:
    """Few rows to fit and other ones to choose by, so that most steps lead astray."""
    for seed in range(6):
        geometry = gemm(20, 30)
        linear, fitting, _, _ = corrupted(geometry, 25, seed, noise=1.0)
        _, judging, _, _ = corrupted(geometry, 400, seed, noise=0.1)
        start = double_layer("pair", geometry, linear, None, 19)
        objective = objective_of(geometry)
        found = refined(start, objective, fitting, judging, np.random.default_rng(seed))
        assert objective.value(found, judging) <= objective.value(start, judging)


def test_what_cannot_get_better_stays_as_it_is() -> None:
    geometry = gemm(12, 8)
    linear, rows, _, _ = corrupted(geometry, 3000, 2, noise=0.0)
    start = double_layer("pair", geometry, linear, None, 8)
    found = refined(start, objective_of(geometry), rows, rows, np.random.default_rng(0))
    assert objective_of(geometry).value(found, rows) < 1e-9


def test_the_seed_decides() -> None:
    geometry = gemm(16, 24)
    linear, fitting, judging, _ = corrupted(geometry, 3000, 1)
    start = started("pair", geometry, linear, fitting, 4)
    objective = objective_of(geometry)
    one, again, other = (
        refined(start, objective, fitting, judging, np.random.default_rng(seed))
        for seed in (0, 0, 1)
    )
    np.testing.assert_array_equal(one.matrices[0], again.matrices[0])
    np.testing.assert_array_equal(one.bias, again.bias)
    assert np.abs(one.matrices[0] - other.matrices[0]).max() > 1e-6


@pytest.mark.parametrize("what", ["a zero map", "a dead inner unit", "one row", "constant rows"])
def test_degenerate_problems_stay_finite(what: str) -> None:
    geometry = gemm(6, 5)
    linear, rows, judging, _ = corrupted(geometry, 1 if what == "one row" else 50, 0)
    start = double_layer("pair", geometry, linear, None, 3)
    if what == "a zero map":
        start = start.with_matrices([0 * matrix for matrix in start.matrices])
    elif what == "a dead inner unit":
        dead = start.matrices[0] * np.array([1.0, 0, 1])[None, :, None]
        start = start.with_matrices([dead, start.matrices[-1]])
    elif what == "constant rows":
        rows = replace(rows, z=np.ones_like(rows.z), target=np.zeros_like(rows.target))
    found = refined(start, objective_of(geometry), rows, judging, np.random.default_rng(0))
    assert all(
        np.isfinite(each).all() for each in (found.matrices[0], found.matrices[-1], found.bias)
    )
    objective = objective_of(geometry)
    assert objective.value(found, judging) <= objective.value(start, judging)


def test_steps_that_lead_astray_are_given_up() -> None:
    """As many rows as columns, with noise: every step fits it, and what others say gets worse."""
    geometry = gemm(40, 30)
    linear, fitting, _, _ = corrupted(geometry, 40, 0, noise=1.0)
    _, judging, _, _ = corrupted(geometry, 400, 0, noise=0.1)
    start = double_layer("dense", geometry, linear, None, 30)
    looks: list[int] = []
    objective = objective_of(geometry)
    found = refined(start, objective, fitting, judging, np.random.default_rng(0), looks.append)
    assert found is start
    assert len(looks) < LOOKS
    assert sum(looks) == LOOKS  # progress is complete all the same


def test_steps_that_help_are_all_taken() -> None:
    geometry = gemm(16, 24)
    linear, fitting, judging, _ = corrupted(geometry, 6000, 1, noise=0.0)
    start = started("pair", geometry, linear, fitting, 5)
    looks: list[int] = []
    objective = objective_of(geometry)
    found = refined(start, objective, fitting, judging, np.random.default_rng(0), looks.append)
    assert found is not start
    assert looks == [1] * LOOKS


@pytest.mark.parametrize("scale", [1e-9, 1e9])
def test_the_scale_of_what_is_answered_does_not_matter(scale: float) -> None:
    """Squares of slopes would leave float32's range as they are."""
    geometry = gemm(16, 24)
    linear, *parts = corrupted(geometry, 3000, 1, noise=0.0)
    shares = []
    for factor in (1.0, scale):
        scaled = LinearMap(factor * linear.weight, factor * linear.bias)
        fitting, judging, _ = (
            replace(rows, target=np.float32(factor) * rows.target) for rows in parts
        )
        start = started("pair", geometry, scaled, fitting, 5)
        objective = objective_of(geometry)
        found = refined(start, objective, fitting, judging, np.random.default_rng(0))
        shares.append(objective.value(found, judging) / objective.value(start, judging))
    assert shares[0] < 0.95
    assert shares[1] == pytest.approx(shares[0], rel=1e-2)
