"""The measures of activated operators on the device against numpy, value by value."""

from dataclasses import dataclass
from itertools import product

import ml_dtypes
import numpy as np
import pytest
from onnx import TensorProto

from onnx_relusv.core.blocks import Floats
from onnx_relusv.runtime.kernels.traces import FIGURES, OPEN, STEPS, trace_kernel
from onnx_relusv.runtime.session import CPU, CUDA, as_value

NO_CEILING = np.float32(np.finfo(np.float32).max)
POSITIONS = np.array([0, 3, 4])


@dataclass(frozen=True, eq=False)
class Case:
    """A batch of pre-activations, and what belongs to the units."""

    y: np.ndarray
    gram: Floats
    slope: Floats
    ceiling: float

    @property
    def is_conv(self) -> bool:
        return self.y.ndim == 4

    @property
    def split(self) -> tuple[int, int]:
        return self.gram.shape[:2]

    def rows(self) -> Floats:
        """(groups, samples * positions, units), value by value."""
        y = self.y.astype(np.float64)
        samples = len(y)
        if self.is_conv:
            y = y.reshape(samples, y.shape[1], -1).transpose(0, 2, 1)
        picked = y.reshape(samples, -1, y.shape[-1])[:, POSITIONS]
        return picked.reshape(-1, *self.split).transpose(1, 0, 2)

    def feeds(self) -> dict[str, object]:
        groups, units = self.split
        samples = len(self.y)
        shape = [samples, groups * units, -1] if self.is_conv else [samples, -1, groups * units]
        squares = np.diagonal(self.gram, axis1=1, axis2=2)
        of_units = {
            "gram": self.gram,
            "squares": squares[:, None],
            "slope": self.slope[:, None],
            "reciprocal": 1 / np.sqrt(squares)[:, None],
            "least": np.where(np.arange(units) == 1, np.inf, 0) * np.ones((groups, 1, 1)),
            "ceiling": np.array([self.ceiling]),
        }
        return {
            "y": as_value(self.y),
            "shape": np.array(shape),
            "index": POSITIONS,
            "split": np.array([-1, groups, units]),
            **{name: values.astype(np.float32) for name, values in of_units.items()},
        }

    def run(self, provider: str = CPU) -> dict[str, np.ndarray]:
        kernel = trace_kernel(provider, self.is_conv, as_value(self.y).element_type())
        found = kernel.run_on_device(self.feeds(), [*FIGURES, OPEN])
        return {name: value.numpy() for name, value in found.items()}

    def expected(self) -> dict[str, np.ndarray]:
        """The same in numpy's float64, the power steps one row after the other."""
        y = self.rows()
        is_open = (y > 0) & (y < self.ceiling)
        d = np.where(is_open, 1, self.slope[:, None])
        e = d**2
        squares = np.diagonal(self.gram, axis1=1, axis2=2)[:, None]
        steps = np.array(
            [[climbed(G, row) for row in rows] for G, rows in zip(self.gram, d, strict=True)]
        )
        gap = np.minimum(np.abs(y), np.abs(y - self.ceiling)) / np.sqrt(squares)
        gap[:, :, 1] = np.inf
        return {
            "active": (d != 0).sum(axis=(0, 2)),
            "square": (e * squares).sum(axis=(0, 2)),
            "fourth": np.einsum("gni,gij,gnj->n", e, self.gram**2, e),
            "climbed": steps[:, :, 1].max(axis=0),
            "before": steps[:, :, 0].max(axis=0),
            "single": (e * squares).max(axis=(0, 2)),
            "margin": gap.min(axis=(0, 2)),
            OPEN: is_open,
        }


def climbed(G: Floats, d: Floats) -> tuple[float, float]:
    """The values of the last two power steps."""
    u = np.abs(d)
    values = []
    for _ in range(STEPS):
        if u.any():
            u = u / np.linalg.norm(u)
        u = np.maximum(d * (G @ (d * u)), 0)
        values.append(np.linalg.norm(u))
    return values[-2], values[-1]


def made(kind: str, dtype: object = np.float32, seed: int = 0) -> Case:
    rng = np.random.default_rng(seed)
    groups, units = (2, 5) if kind == "groups" else (1, 7)
    W = rng.standard_normal((groups, units, 4))
    G = W @ W.transpose(0, 2, 1)
    shape = (3, 5, 7) if kind == "rows" else (3, groups * units, 2, 3)
    slope = np.zeros((groups, units))
    if kind == "slopes":
        slope = rng.uniform(-0.5, 0.9, (groups, units))
    return Case(
        y=rng.standard_normal(shape).astype(dtype),
        gram=G / np.diagonal(G, axis1=1, axis2=2).max(),
        slope=slope,
        ceiling=0.7 if kind == "ceiling" else NO_CEILING,
    )


def assert_equal(found: dict[str, np.ndarray], expected: dict[str, np.ndarray]) -> None:
    assert set(found) == set(expected)
    for name, value in expected.items():
        assert found[name].shape == value.shape, name
        # Float32 sums of up to ten numbers around 1, and ten steps of them.
        assert np.allclose(found[name], value, rtol=2e-5, atol=1e-6), name


def test_every_figure() -> None:
    for kind in ("rows", "positions", "groups", "slopes", "ceiling"):
        case = made(kind)
        assert_equal(case.run(), case.expected())


def test_every_element_type() -> None:
    # The values were rounded before, to their own type.
    for kind, dtype in product(("rows", "positions"), (np.float64, np.float16, ml_dtypes.bfloat16)):
        case = made(kind, dtype)
        assert_equal(case.run(), case.expected())


def test_the_value_never_descends_and_stays_below_the_maximum() -> None:
    for seed in range(20):
        case = made("positions", seed=seed)
        found = case.run()
        d = np.where(case.expected()[OPEN][0], 1.0, 0.0)
        tops = np.linalg.eigvalsh(d[:, :, None] * case.gram[0] * d[:, None, :])[:, -1]
        # Float32 sums.
        assert (found["climbed"] >= found["before"] * (1 - 1e-6)).all()
        assert (found["climbed"] <= tops * (1 + 1e-6)).all()


def test_a_sample_without_active_units() -> None:
    case = made("rows")
    closed = Case(y=-np.abs(case.y), gram=case.gram, slope=case.slope, ceiling=case.ceiling)
    found = closed.run()
    for name in ("active", "square", "fourth", "climbed", "before", "single"):
        assert not found[name].any()
    assert (found["margin"] > 0).all()


def test_units_of_tiny_weights_climb_as_far() -> None:
    # Their squares alone would leave float32's range at the second power step.
    case = made("rows")
    tiny = Case(y=case.y, gram=case.gram * 1e-20, slope=case.slope, ceiling=case.ceiling)
    assert np.allclose(tiny.run()["climbed"], 1e-20 * case.run()["climbed"], rtol=1e-5, atol=0)


def test_a_start_that_the_operator_kills() -> None:
    # Both units are active, and their weights cancel: a single unit is all that is left.
    case = Case(
        y=np.ones((1, 5, 2), np.float32),
        gram=np.array([[[1.0, -1.0], [-1.0, 1.0]]]),
        slope=np.zeros((1, 2)),
        ceiling=NO_CEILING,
    )
    found = case.run()
    assert not found["climbed"].any()
    assert np.array_equal(found["single"], [1, 1, 1])


def test_kernels_are_built_once() -> None:
    assert trace_kernel(CPU, True, 1) is trace_kernel(CPU, True, 1)
    assert trace_kernel(CPU, True, 1) is not trace_kernel(CPU, False, 1)
    assert trace_kernel(CPU, True, 1) is not trace_kernel(CPU, True, TensorProto.DOUBLE)


@pytest.mark.gpu
@pytest.mark.parametrize("kind", ["rows", "positions", "groups", "slopes", "ceiling"])
def test_cuda_and_the_cpu_agree(kind: str) -> None:
    case = made(kind)
    assert_equal(case.run(CUDA), case.expected())
