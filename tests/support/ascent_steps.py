"""The ascents' graphs in numpy, step by step, and numbers to feed both with."""

from dataclasses import dataclass, replace

import numpy as np
from enumeration import phi
from gaps import unit_columns

from onnx_relusv.core.blocks import Activation, Floats
from onnx_relusv.runtime.kernels.ascents import Ascent
from onnx_relusv.runtime.session import CPU

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
    absent = {"g"} | ({"mask", "other"} - {ascent.stand_in.replace("map", "other")})
    return trimmed(case, absent)


def width_case(ascent: Ascent, seed: int = 0) -> Case:
    return trimmed(made(ascent, seed), {"mask", "other", "scale"})


def trimmed(case: Case, absent: set[str]) -> Case:
    ascent = case.ascent
    absent = absent | ({"slope", "offset"} if ascent.plain else set())
    absent = absent | (set() if ascent.clipped else {"ceiling"})
    absent = absent | (set() if ascent.nonnegative else {"rotation"})
    return replace(case, feeds={name: v for name, v in case.feeds.items() if name not in absent})


def stand_in(case: Case, y: Floats) -> tuple[Floats, Floats]:
    """Lx and the matrices' way back, for every column."""
    if case.ascent.stand_in == "none":
        return np.zeros((9, y.shape[1])), np.zeros_like(y)
    if case.ascent.stand_in == "map":
        return case.value("other") @ y, np.ones_like(y)
    return case.value("a") @ (case.value("mask") * y), case.value("mask")


def gap(case: Case, x: Floats) -> Floats:
    y = case.turned(x)
    whole = phi(case.value("a") @ y + case.offset, case.activation)
    return whole - phi(stand_in(case, y)[0] + case.offset, case.activation)


def gap_gradient(case: Case, x: Floats) -> Floats:
    """Of half the square."""
    y, a = case.turned(x), case.value("a")
    part, passed = stand_in(case, y)
    other = case.value("other") if case.ascent.stand_in == "map" else a
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
