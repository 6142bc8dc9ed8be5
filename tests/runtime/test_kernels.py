"""The ascents against numpy: a few steps, as long paths differ by their rounding."""

from dataclasses import dataclass, replace
from itertools import product

import numpy as np
import onnx
import pytest
from relu_maps import phi, unit_columns

from onnx_relusv.core.blocks import Activation, Floats
from onnx_relusv.runtime.kernels.ascents import Ascent, gap_kernel, width_kernel
from onnx_relusv.runtime.session import CPU, CUDA

# As in the graphs: steps get shorter along a cosine over four fifths of them.
FALLING, SHORTEST = 0.8, 0.01


@dataclass(frozen=True, eq=False)
class Case:
    """An ascent, and numbers to feed it with."""

    ascent: Ascent
    feeds: dict[str, np.ndarray]

    def value(self, name: str) -> Floats:
        return self.feeds[name].astype(np.float64)

    @property
    def activation(self) -> Activation:
        ceiling = float(self.value("ceiling").item()) if self.ascent.clipped else None
        slopes = np.zeros(1) if self.ascent.plain else self.value("slope")[:, 0]
        return Activation(kind="prelu", slopes=slopes, ceiling=ceiling)

    @property
    def offset(self) -> Floats:
        return np.zeros((1, 1)) if self.ascent.plain else self.value("offset")

    def turned(self, x: Floats) -> Floats:
        return self.value("rotation") @ x if self.ascent.nonnegative else x

    def back(self, gradient: Floats) -> Floats:
        return self.value("rotation").T @ gradient if self.ascent.nonnegative else gradient

    def derivative(self, y: Floats) -> Floats:
        activation = self.activation
        rising = np.where(y > 0, 1, activation.slopes[:, None])
        below = y < (np.inf if activation.ceiling is None else activation.ceiling)
        return np.where(below, rising, 0)

    def projected(self, x: Floats) -> Floats:
        if self.ascent.nonnegative:
            x = np.maximum(x, 0)
        if self.ascent.inside:
            return x / np.maximum(np.linalg.norm(x, axis=0, keepdims=True), 1)
        return unit_columns(x)

    def pace(self, step: int) -> float:
        angle = min(step * np.pi / (FALLING * self.ascent.iterations), np.pi)
        return max((np.cos(angle) + 1) / 2, SHORTEST)

    def run(self, kernel: object, provider: str = CPU) -> dict[str, np.ndarray]:
        return kernel(provider, self.ascent).run(self.feeds)  # type: ignore[operator,no-any-return]


def made(ascent: Ascent, seed: int) -> Case:
    rng = np.random.default_rng(seed)
    rows, columns, starts = 9, 7, 10
    sigma = np.linspace(2, 0.5, columns)
    ranks = np.repeat([0, 2, 5], [4, 3, 3])
    feeds = {
        "a": np.linalg.qr(rng.standard_normal((rows, columns)))[0] * sigma,
        "slope": rng.uniform(-0.5, 1, (rows, 1)),
        # Without a bias on the sphere: that ascent is the convex one.
        "offset": rng.uniform(-0.3, 0.3, (rows, 1)) * ascent.inside,
        "ceiling": np.full((1, 1), 0.4),
        "mask": np.arange(columns)[:, None] < ranks,
        "other": rng.standard_normal((rows, columns)) / 3,
        "rotation": np.linalg.qr(rng.standard_normal((9, columns)))[0].T,
        "scale": (sigma[ranks] ** 2)[None],
        "g": rng.standard_normal((rows, starts)),
    }
    x = rng.standard_normal((9 if ascent.nonnegative else columns, starts))
    x = unit_columns(np.abs(x) if ascent.nonnegative else x)
    feeds["x"] = x * (0.8 if ascent.inside else 1)
    return Case(ascent, {name: value.astype(np.float32) for name, value in feeds.items()})


def gap_case(ascent: Ascent, seed: int = 0) -> Case:
    case = made(ascent, seed)
    absent = {"g"} | ({"mask", "other"} - {ascent.random_factors.replace("map", "other")})
    return trimmed(case, absent)


def width_case(ascent: Ascent, seed: int = 0) -> Case:
    return trimmed(made(ascent, seed), {"mask", "other", "scale"})


def trimmed(case: Case, absent: set[str]) -> Case:
    ascent = case.ascent
    absent = absent | ({"slope", "offset"} if ascent.plain else set())
    absent = absent | (set() if ascent.clipped else {"ceiling"})
    absent = absent | (set() if ascent.nonnegative else {"rotation"})
    return replace(case, feeds={name: v for name, v in case.feeds.items() if name not in absent})


def random_factors(case: Case, y: Floats) -> tuple[Floats, Floats]:
    """Lx and the matrices' way back, for every column."""
    if case.ascent.random_factors == "none":
        return np.zeros((9, y.shape[1])), np.zeros_like(y)
    if case.ascent.random_factors == "map":
        return case.value("other") @ y, np.ones_like(y)
    return case.value("a") @ (case.value("mask") * y), case.value("mask")


def gap(case: Case, x: Floats) -> Floats:
    y = case.turned(x)
    whole = phi(case.value("a") @ y + case.offset, case.activation)
    return whole - phi(random_factors(case, y)[0] + case.offset, case.activation)


def gap_gradient(case: Case, x: Floats) -> Floats:
    """Of half the square."""
    y, a = case.turned(x), case.value("a")
    part, passed = random_factors(case, y)
    other = case.value("other") if case.ascent.random_factors == "map" else a
    up = a.T @ (gap(case, x) * case.derivative(a @ y + case.offset))
    down = other.T @ (gap(case, x) * case.derivative(part + case.offset))
    return case.back(up - passed * down)


def steps_by_numpy(case: Case, *, widths: bool) -> tuple[Floats, Floats, Floats]:
    """The history, where the best values are met, and where the ascent ends; in float64."""
    x = at = case.value("x")
    best = np.full(x.shape[1], -np.inf)
    history = []
    for step in range(case.ascent.iterations):
        if widths:
            z = case.value("a") @ case.turned(x) + case.offset
            reached = np.sum(case.value("g") * phi(z, case.activation), axis=0)
            pull = case.value("a").T @ (case.value("g") * case.derivative(z))
            move = case.pace(step) * unit_columns(case.back(pull))
        else:
            reached = np.linalg.norm(gap(case, x), axis=0)
            pace = 1 if case.ascent.convex else case.pace(step)
            move = 4 * pace * gap_gradient(case, x) / case.value("scale")
        at = np.where(reached > best, x, at)
        best = np.maximum(best, reached)
        history.append(best[None])
        x = case.projected(x + move)
    return np.array(history), at, x


# Sums of some tens of float32 products, four steps deep.
FLOAT32 = 1e-5

FLAGS = list(product((False, True), repeat=3))
# A plain ascent has no ceiling, and stays on the sphere.
PLAIN = [(False, False, nonnegative, True) for nonnegative in (False, True)]
VARIETIES = [(*flags, False) for flags in FLAGS] + PLAIN


def named(variety: tuple[bool, ...]) -> str:
    names = ("clipped", "inside", "nonnegative", "plain")
    return "-".join(name for name, yes in zip(names, variety, strict=True) if yes) or "no flags"


def ascents(random_factors: str) -> list[object]:
    return [
        pytest.param(Ascent(4, random_factors, *variety), id=f"{random_factors}-{named(variety)}")  # type: ignore[arg-type]
        for variety in VARIETIES
    ]


STAND_INS = ("none", "mask", "map")
GAPS = [parameter for random_factors in STAND_INS for parameter in ascents(random_factors)]
WIDTHS = ascents("none")


def assert_alike(found: dict[str, np.ndarray], expected: tuple[Floats, Floats, Floats]) -> None:
    for name, values in zip(("history", "at", "last"), expected, strict=True):
        assert found[name].dtype == np.float32
        assert found[name].shape == values.shape
        assert np.allclose(found[name], values, rtol=0, atol=FLOAT32), name


@pytest.mark.parametrize("ascent", GAPS)
def test_steps_of_the_gap_s_ascent(ascent: Ascent) -> None:
    for steps in (1, 2, 4):
        case = gap_case(replace(ascent, iterations=steps), seed=steps)
        assert_alike(case.run(gap_kernel), steps_by_numpy(case, widths=False))


@pytest.mark.parametrize("ascent", WIDTHS)
def test_steps_of_the_width_s_ascent(ascent: Ascent) -> None:
    for steps in (1, 2, 4):
        case = width_case(replace(ascent, iterations=steps), seed=steps)
        assert_alike(case.run(width_kernel), steps_by_numpy(case, widths=True))


@pytest.mark.parametrize("ascent", GAPS)
def test_a_step_goes_along_the_slope_and_not_against_it(ascent: Ascent) -> None:
    # By differences of half the square, which does not know the gradient's formula.
    case = gap_case(replace(ascent, iterations=1))
    x, width = case.value("x"), 1e-6

    def half_squares(points: Floats) -> Floats:
        return np.sum(gap(case, points) ** 2, axis=0) / 2

    gradient = np.array(
        [
            (half_squares(x + width * unit) - half_squares(x - width * unit)) / (2 * width)
            for unit in np.eye(len(x))[:, :, None]
        ]
    )
    expected = case.projected(x + 4 * gradient / case.value("scale"))
    last = case.run(gap_kernel)["last"]
    assert np.allclose(last, expected, rtol=0, atol=FLOAT32)
    wrong = case.projected(x - 4 * gap_gradient(case, x) / case.value("scale"))
    assert np.abs(last - wrong).max() > 0.1


@pytest.mark.parametrize("ascent", GAPS)
def test_the_best_value_never_falls_and_is_met_where_it_says(ascent: Ascent) -> None:
    case = gap_case(replace(ascent, iterations=30))
    found = case.run(gap_kernel)
    assert (np.diff(found["history"], axis=0) >= 0).all()
    met = np.linalg.norm(gap(case, found["at"].astype(np.float64)), axis=0)
    assert np.allclose(met, found["history"][-1, 0], rtol=0, atol=FLOAT32)
    if ascent.convex:
        # It ends where it is best.
        last = np.linalg.norm(gap(case, found["last"].astype(np.float64)), axis=0)
        assert (last >= met - FLOAT32).all()


def test_values_below_zero_count_in_a_width() -> None:
    # With a bias, a supremum over the ball may be negative: -max(x + 2, 0) is at least -1.
    one = np.ones((1, 1), np.float32)
    feeds = {"a": one, "slope": 0 * one, "offset": 2 * one, "g": -one, "x": one}
    found = width_kernel(CPU, Ascent(20, inside=True)).run(feeds)
    assert found["history"][0].item() == -3
    assert found["history"][-1].item() == -1
    assert found["at"].item() == -1


def test_kernels_are_built_once() -> None:
    for kernel in (gap_kernel, width_kernel):
        assert kernel(CPU, Ascent(3)) is kernel(CPU, Ascent(3))
        assert kernel(CPU, Ascent(3)) is not kernel(CPU, Ascent(4))
        assert kernel(CPU, Ascent(3)) is not kernel(CPU, Ascent(3, inside=True))


def test_the_operator_set_is_17() -> None:
    for kernel in (gap_kernel, width_kernel):
        opened = kernel(CPU, Ascent(3))  # type: ignore[operator]
        model = onnx.load_from_string(opened._source.model)
        assert [(item.domain, item.version) for item in model.opset_import] == [("", 17)]
        onnx.checker.check_model(model, full_check=True)


@pytest.mark.gpu
@pytest.mark.parametrize("random_factors", STAND_INS)
def test_cuda_and_the_cpu_climb_alike(random_factors: str) -> None:
    for variety, steps in product(VARIETIES, (1, 3)):
        ascent = Ascent(steps, random_factors, *variety)  # type: ignore[arg-type]
        cases = [(gap_kernel, gap_case(ascent))]
        if random_factors == "none":
            cases.append((width_kernel, width_case(ascent)))
        for kernel, case in cases:
            answers = [case.run(kernel, provider)["history"] for provider in (CPU, CUDA)]
            # Float32 products summed in another order; TF32 would be off by 1e-3.
            assert np.allclose(*answers, rtol=0, atol=1e-5), ascent
