"""What kept units tell of all of them: against numpy, and against what there is to reach."""

from dataclasses import replace

import numpy as np
import pytest
from examples import LINEAR, RELU, clip, conv, gemm, prelu

from onnx_relusv.core.blocks import Activation, Floats, Geometry, LinearMap
from onnx_relusv.core.plans import ChannelMask, Factors
from onnx_relusv.core.reduction import masked_activation, masked_geometry
from onnx_relusv.fitting.objectives import Reproduction
from onnx_relusv.fitting.refinement import refined
from onnx_relusv.rewrites.low_rank.forms import FORMS, double_layer
from onnx_relusv.runtime.session import CPU
from onnx_relusv.spectra.product_sums import Rows

# Float32 sums of thousands of squares, relative to numbers around 1.
ROUNDING = 2e-5
UNITS = 6
KEPT = np.array([0, 2, 5])
CASES: dict[str, tuple[Geometry, str, Activation]] = {
    "relu": (gemm(7, UNITS), "dense", RELU),
    "linear": (gemm(7, UNITS), "dense", LINEAR),
    "prelu": (gemm(7, UNITS), "dense", prelu(*np.linspace(-0.2, 0.6, UNITS))),
    "clip": (gemm(7, UNITS), "dense", clip(0.8)),
    "pair": (gemm(7, UNITS), "pair", RELU),
    "conv": (conv(3, UNITS, (2, 2)), "dense", RELU),
    "conv, spatial": (conv(3, UNITS, (2, 2)), "spatial", RELU),
}


def reproduction(
    geometry: Geometry, activation: Activation, kept: Floats, importance: Floats
) -> Reproduction:
    left = ChannelMask(inputs=np.arange(geometry.in_channels), outputs=np.asarray(kept))
    return Reproduction(
        geometry=masked_geometry(geometry, left),
        activation=masked_activation(activation, left),
        whole_geometry=geometry,
        whole_activation=activation,
        kept=np.asarray(kept),
        importance=importance,
        provider=CPU,
    )


def made(name: str, count: int) -> tuple[Reproduction, Factors, Rows, tuple[Floats, Floats]]:
    """Factors that have nothing to do with the rows."""
    rng = np.random.default_rng(0)
    geometry, form, activation = CASES[name]
    root = rng.standard_normal((UNITS, UNITS))
    objective = reproduction(geometry, activation, KEPT, root.T @ root / UNITS)
    left = objective.geometry
    linear = LinearMap(rng.standard_normal((1, left.rows, left.columns)), rng.standard_normal(3))
    rank = FORMS[form].largest_rank(left)
    rows = Rows(
        z=rng.standard_normal((1, count, left.columns), dtype=np.float32),
        target=rng.standard_normal((1, count, UNITS), dtype=np.float32),
        shift=None,
    )
    # RB and Rc.
    others = rng.standard_normal((UNITS, len(KEPT))), rng.standard_normal(UNITS)
    return objective, double_layer(form, left, linear, None, rank), rows, others


def phi(values: Floats, activation: Activation) -> Floats:
    found = np.where(values > 0, values, activation.slopes * values)
    return np.asarray(
        found if activation.ceiling is None else np.minimum(found, activation.ceiling)
    )


def mean_error(
    objective: Reproduction, L: Floats, bias: Floats, B: Floats, c: Floats, rows: Rows
) -> float:
    """The mean of e'Se in float64, for B and c from RB and Rc."""
    root = np.linalg.cholesky(objective.importance).T
    B, c = np.linalg.solve(root, B), np.linalg.solve(root, c)
    own = phi(rows.z[0].astype(float) @ L[0].T + bias, objective.activation)
    error = own @ B.T + c - phi(rows.target[0].astype(float), objective.whole_activation)
    return float(np.einsum("ni,ij,nj->", error, objective.importance, error)) / rows.count


def composed(objective: Reproduction, factors: Factors) -> Floats:
    return FORMS[factors.form].compose(objective.geometry, *factors.matrices)


def test_the_value() -> None:
    for name in CASES:
        for count in (1, 2500):
            objective, factors, rows, others = made(name, count)
            L = composed(objective, factors)
            expected = mean_error(objective, L, factors.bias, *others, rows)
            found = objective.value(factors, objective.compared(rows), others)
            assert found == pytest.approx(expected, rel=ROUNDING), name


@pytest.mark.parametrize("name", CASES)
def test_slopes_are_half_the_derivatives(name: str) -> None:
    """Against central differences in float64, in every entry of the factors, b', RB and Rc."""
    objective, factors, rows, others = made(name, 60)
    chosen = slice(17, 23)
    few = Rows(rows.z[:, chosen], rows.target[:, chosen], None)
    values, count = [*factors.matrices, factors.bias, *others], len(factors.matrices)
    slopes = objective.slopes(factors, objective.compared(rows), chosen, others)
    step = 1e-6  # no entry crosses a corner of the activation within it
    for number, slope in enumerate((*slopes.matrices, slopes.bias, *slopes.others)):
        expected = np.empty(values[number].size)
        for place in range(expected.size):
            moved = []
            for sign in (1, -1):
                changed = [each.copy() for each in values]
                changed[number].reshape(-1)[place] += sign * step
                L = composed(objective, factors.with_matrices(changed[:count]))
                moved.append(mean_error(objective, L, *changed[count:], few))
            expected[place] = (moved[0] - moved[1]) / (4 * step)
        # Central differences are good to about 1e-8, the kernel to float32.
        np.testing.assert_allclose(slope.reshape(-1), expected, rtol=1e-4, atol=2e-5)
        assert np.abs(expected).max() > 1e-2


def network(seed: int, count: int, *, units: int = 24) -> tuple[LinearMap, Rows, Rows, Rows]:
    """A Gemm that reads correlated inputs, and rows of these with its answers, thrice."""
    rng = np.random.default_rng(seed)
    linear = LinearMap(rng.standard_normal((1, units, 10)), rng.standard_normal(units))
    mixing = rng.standard_normal((10, 10)) * 0.7 ** np.arange(10)
    parts = []
    for _ in range(3):
        z = (rng.standard_normal((1, count, 10)) @ mixing).astype(np.float32)
        target = z @ linear.weight[0].T + linear.bias
        parts.append(Rows(z, target.astype(np.float32), None))
    return linear, parts[0], parts[1], parts[2]


def restrict(linear: LinearMap, kept: Floats) -> Factors:
    weight = linear.weight[:, kept]
    rank = min(weight.shape[1:])
    return Factors(form="dense", rank=rank, matrices=(weight,), bias=linear.bias[kept])


def test_consumers_begin_with_least_squares() -> None:
    linear, rows, judging, _ = network(0, 4000)
    kept = np.arange(0, 24, 2)
    objective = reproduction(gemm(10, 24), RELU, kept, np.eye(24))
    compared = (objective.compared(each) for each in (rows, judging))
    B, c = objective.others(restrict(linear, kept), *compared)
    everything = np.maximum(rows.target[0].astype(float), 0)
    design = np.hstack([everything[:, kept], np.ones((rows.count, 1))])
    best = np.linalg.lstsq(design, everything, rcond=None)[0].T
    # The ridges are a billionth of the variance and more, and the best one is taken.
    np.testing.assert_allclose(B, best[:, :-1], atol=0.05)
    np.testing.assert_allclose(B[kept], np.eye(12), atol=1e-3)
    np.testing.assert_allclose(c[kept], 0, atol=1e-3)


@pytest.mark.parametrize("seed", range(3))
def test_kept_units_become_those_that_tell_more(seed: int) -> None:
    linear, fitting, judging, fresh = network(seed, 8000)
    kept = np.arange(0, 24, 3)
    objective = reproduction(gemm(10, 24), RELU, kept, np.eye(24))
    start = restrict(linear, kept)
    found = refined(start, objective, fitting, judging, np.random.default_rng(0))
    # What consumers can make of them by least squares, on rows that nobody ever saw.
    errors = []
    for factors in (start, found):
        own, unseen = (
            np.maximum(rows.z[0] @ factors.matrices[0][0].T + factors.bias, 0)
            for rows in (fitting, fresh)
        )
        wanted, answers = (np.maximum(rows.target[0], 0) for rows in (fitting, fresh))
        design = np.hstack([own, np.ones((len(own), 1))])
        map_of_it = np.linalg.lstsq(design, wanted, rcond=None)[0]
        reached = np.hstack([unseen, np.ones((len(unseen), 1))]) @ map_of_it
        errors.append(float(np.mean((reached - answers) ** 2)))
    assert errors[1] < 0.9 * errors[0]


@pytest.mark.parametrize("what", ["equal", "dead", "still"])
def test_where_nothing_is_lost_nothing_is_touched(what: str) -> None:
    """Units that equal kept ones, or are zero or constant, follow from those to the rounding."""
    linear, rows, judging, _ = network(1, 3000, units=12)
    weight, bias = linear.weight.copy(), linear.bias.copy()
    kept = np.arange(8)
    gone = np.arange(8, 12)
    if what == "equal":
        weight[:, gone], bias[gone] = weight[:, gone - 8], bias[gone - 8]
    else:
        weight[:, gone] = 0
        bias[gone] = -1.0 if what == "dead" else 1.0
    same = LinearMap(weight, bias)
    parts = [
        replace(part, target=(part.z @ weight[0].T + bias).astype(np.float32))
        for part in (rows, judging)
    ]
    objective = reproduction(gemm(10, 12), RELU, kept, np.eye(12))
    start = restrict(same, kept)
    assert refined(start, objective, *parts, np.random.default_rng(0)) is start
